"""Signals, reload, drain, and the demo: the gateway as an operator sees it."""

import contextlib
import http.client
import re
import shlex
import signal
import socket
import subprocess
import threading

from support import BINARY, DEADLINE_S, LOOPBACK, Case, Program, wait_until

LIMIT = """
[[endpoints]]
match = "GET /v1/charges"
[[limits]]
name = "charges-budget"
stage = "endpoint"
rate = "{rate}/h"
burst = {burst}
when = {{ endpoint = "GET /v1/charges" }}
"""


class Lifecycle(Case):
    """One gateway in front of a scripted upstream, told things by signals and files."""

    def setUp(self):
        super().setUp()
        self.upstream = self.start_upstream()
        self.secret = self.keys.new("acct_platform")

    def start(self, limits="", **options):
        self.gateway = self.start_gateway(self.body(limits), **options)
        return self.gateway

    def body(self, limits):
        return f'[upstreams.api]\nservers = ["http://{LOOPBACK}:{self.upstream.port}"]\n' + limits

    def statuses(self, count):
        return [self.gateway.request("GET", "/v1/charges", self.secret).status for _ in range(count)]

    def reload(self, limits):
        """Writes the file anew, says SIGHUP, and waits until it is in force."""
        before = self.gateway.metric("tollgate_config_reloads_total", result="success")
        self.gateway.write(self.body(limits))
        self.gateway.signal(signal.SIGHUP)
        wait_until(
            "the reload is done", lambda: self.gateway.metric("tollgate_config_reloads_total", result="success") > before
        )

    def test_sighup_reloads_and_an_unchanged_limit_keeps_its_state(self):
        gateway = self.start(LIMIT.format(rate=2, burst=2))
        self.assertEqual(self.statuses(3), [200, 200, 429])
        before = gateway.reloads()
        gateway.signal(signal.SIGHUP)
        wait_until("the reload is counted", lambda: gateway.reloads() > before)
        self.assertEqual(self.statuses(2), [429, 429])

    def test_a_changed_limit_keeps_what_was_spent(self):
        self.start(LIMIT.format(rate=2, burst=2))
        self.assertEqual(self.statuses(3), [200, 200, 429])
        self.reload(LIMIT.format(rate=5, burst=5))
        self.assertEqual(self.statuses(4), [200, 200, 200, 429])

    def test_a_changed_file_reloads_by_itself(self):
        gateway = self.start(LIMIT.format(rate=1, burst=1))
        self.assertEqual(self.statuses(2), [200, 429])
        gateway.write(self.body(""))
        wait_until("the limit is gone", lambda: self.statuses(1) == [200])

    def test_a_bad_file_leaves_the_last_good_one(self):
        gateway = self.start(LIMIT.format(rate=2, burst=2))
        before = gateway.reloads()
        gateway.write_raw('[server]\nlisten = 5\nlisten_too = "x"\n[[limits]]\nname = "a"\nrate = "fast"\n')
        gateway.signal(signal.SIGHUP)
        wait_until("the refusal is counted", lambda: gateway.reloads() > before)
        wait_until("every mistake is told", lambda: all(one in gateway.log() for one in ("listen_too", "fast")))
        self.assertEqual(self.statuses(3), [200, 200, 429])
        self.assertTrue(gateway.is_ready())

    def test_a_reload_drops_no_connection(self):
        gateway = self.start()
        connection = http.client.HTTPConnection(LOOPBACK, gateway.port, timeout=DEADLINE_S)
        self.addCleanup(connection.close)
        headers = {"Authorization": f"Bearer {self.secret}"}
        connection.request("GET", "/v1/customers", headers=headers)
        connection.getresponse().read()
        local = connection.sock.getsockname()
        self.reload(LIMIT.format(rate=2, burst=2))
        connection.request("GET", "/v1/customers", headers=headers)
        self.assertEqual(connection.getresponse().status, 200)
        self.assertEqual(connection.sock.getsockname(), local, "the same connection serves on")

    def in_flight_request(self):
        """Sends a request that stays at the upstream; returns a function that joins it."""
        self.upstream.hold()
        answers = []

        def work():
            # The gateway may be told to stop before it has answered.
            with contextlib.suppress(OSError, http.client.HTTPException):
                answers.append(self.gateway.request("GET", "/v1/customers", self.secret))

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        wait_until("the request is upstream", lambda: self.upstream.waiting == 1)

        def result():
            thread.join(DEADLINE_S)
            return answers

        return result

    def is_closed(self):
        try:
            with socket.create_connection((LOOPBACK, self.gateway.port), 1):
                return False
        except OSError:
            return True

    def test_sigterm_drains(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number.name):
                gateway = self.start()
                result = self.in_flight_request()
                gateway.signal(number)
                wait_until("the listener is closed", self.is_closed)
                self.assertIsNone(gateway.process.poll(), "it waits for what is in flight")
                self.upstream.release()
                self.assertEqual([one.status for one in result()], [200])
                self.assertEqual(gateway.wait_exit(), 0)

    def test_idle_connections_do_not_hold_up_the_drain(self):
        gateway = self.start()
        with socket.create_connection((LOOPBACK, gateway.port), DEADLINE_S):
            gateway.signal(signal.SIGTERM)
            self.assertEqual(gateway.wait_exit(5), 0)

    def test_the_drain_is_bounded(self):
        gateway = self.start(server='drain_timeout = "300ms"')
        self.in_flight_request()
        gateway.signal(signal.SIGTERM)
        gateway.wait_exit(5)

    def test_a_second_signal_stops_at_once(self):
        gateway = self.start()
        self.in_flight_request()
        gateway.signal(signal.SIGTERM)
        wait_until("the listener is closed", self.is_closed)
        gateway.signal(signal.SIGTERM)
        gateway.wait_exit(5)

    def test_the_admin_listener_is_not_the_public_one(self):
        gateway = self.start()
        self.assertEqual(gateway.admin("/healthz")[0], 200)
        for path in ("/metrics", "/healthz", "/readyz"):
            self.assert_own_answer(gateway.request("GET", path), 401)


class Commands(Case):
    """Commands that need no gateway of the test's own."""

    def test_check_tells_every_mistake_at_once(self):
        config = f"{self.folder}/tollgate.toml"
        with open(config, "w", encoding="utf-8") as file:
            file.write('presets = ["strip"]\n[server]\nlisten = "127.0.0.1:1"\nlisten_too = 1\n[upstreams.api]\nservers = []\n')
        command = [BINARY, "check", "--config", config]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        self.assertEqual(done.returncode, 2)
        said = done.stdout + done.stderr
        for mistake in ("strip", "listen_too", "servers"):
            self.assertIn(mistake, said)
        self.assertRegex(said, r"tollgate\.toml:4:1")

    def test_the_demos_line_works(self):
        demo = self.use(Program([BINARY, "demo"], self.folder, "demo"))
        line = wait_until(
            "the demo prints a curl line",
            lambda: demo.must_live() and re.search(r"^\s*(?:\$ )?(curl .*)$", demo.log(), re.MULTILINE),
        ).group(1)
        arguments = [*shlex.split(line), "--silent", "--show-error", "--max-time", "10", "--write-out", "\n%{http_code}"]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.rsplit("\n", 1)[1], "200", done.stdout)
        demo.signal(signal.SIGINT)
        self.assertEqual(demo.wait_exit(), 0)
