"""A short soak; `soak.py --minutes 30` makes a long one."""

import unittest

from soak import soak

SECONDS = 40


class ShortSoak(unittest.TestCase):
    """Everything at once."""

    def test_good_clients_notice_nothing_and_nothing_is_left(self):
        wrong, report = soak(SECONDS)
        self.assertEqual(wrong, [], report)
