"""Many gateways, one limit: short runs of `bound.py` and `faults.py` (their flags make long ones), and the cluster example on one machine."""

import os
import subprocess
import unittest

import bound
import faults
from support import BINARY, ROOT

SECONDS = "6"


class OneLimit(unittest.TestCase):
    """What the upstream gets from a fleet is what one limit says."""

    def assert_holds(self, *words):
        for result in bound.run(["--seconds", SECONDS, *words]):
            self.assertEqual(result.wrong, [], f"{result.name}: {result.figures}")

    def test_a_hot_account_gets_what_is_due_and_not_more(self):
        self.assert_holds("--gateways", "4", "--case", "100-skewed")

    def test_never_one_slot_too_many_and_a_dead_gateways_slots_come_back(self):
        self.assert_holds("--gateways", "4", "--case", "slots", "--case", "kill")


class RedisOutOfOrder(unittest.TestCase):
    """What callers and the upstream see of a Redis that fails."""

    def assert_holds(self, *words):
        for result in faults.run(["--seconds", "8", "--gateways", "3", "--rate", "40", *words]):
            self.assertEqual(result.wrong, [], f"{result.name}: {result.figures}")

    def test_leases_outlast_a_redis_that_is_killed_and_one_that_is_stopped(self):
        self.assert_holds("--fault", "killed", "--fault", "stopped")

    def test_exact_counts_outlast_a_cluster_that_loses_a_primary(self):
        self.assert_holds("--mode", "exact", "--fault", "lost-primary")


class ClusterExample(unittest.TestCase):
    """examples/cluster/show says so itself when something is not as it should be."""

    def test_it_shows_what_it_says(self):
        done = subprocess.run([str(ROOT / "examples/cluster/show")], env=os.environ | {"TOLLGATE": BINARY}, timeout=180,
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
