"""Reloads and restarts under load from wrk and h2load, over HTTP/1.1 and HTTP/2: no request fails."""

import re
import signal
import socket
import time

from http2_load import Http2Load
from support import BINARY, LOOPBACK, Case, Gateway, Program, wait_until

SECONDS = 3
# How long the load lasts at least before the first change, and between two.
PAUSE_S = 0.4

BODY = """
[upstreams.api]
servers = ["http://{mock}"]
[[limits]]
name = "all"
stage = "global"
rate = "1000000/s"
burst = {burst}
"""


class SocketGateway(Gateway):
    """A gateway that is given its socket, as systemd gives it; the socket stays open from one process to the next."""

    def __init__(self, *arguments, listening, **options):
        self.listening = listening
        super().__init__(*arguments, **options)

    def write(self, body):
        self.port = self.listening.getsockname()[1]
        super().write(body)

    def run(self):
        # The shell keeps its process id when it becomes the gateway; its standard input becomes descriptor 3.
        become = 'exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'
        command = ["sh", "-c", become, "sh", BINARY, "run", "--config", str(self.config_path)]
        Program.__init__(self, command, self.folder, "gateway", stdin=self.listening)
        wait_until("the gateway is ready", lambda: self.must_live() and self.is_ready())

    def restart(self):
        """Ends the process as `systemctl restart` does, and starts the next one on the same socket."""
        self.signal(signal.SIGTERM)
        if self.wait_exit() != 0:
            raise AssertionError(f"the gateway did not drain:\n{self.log()[-4000:]}")
        self.kill()
        self.run()


class UnderLoad(Case):
    """One gateway in front of the mock, and what clients meet while it changes under them."""

    def setUp(self):
        super().setUp()
        mock = self.use(Program([BINARY, "mock", "--listen", f"{LOOPBACK}:0"], self.folder, "mock"))
        found = wait_until("the mock listens", lambda: mock.must_live() and re.search(rf"{LOOPBACK}:(\d+)", mock.log()))
        self.mock = found.group(0)
        self.secret = self.keys.new("acct_platform", mode="live")
        self.listening = self.use(socket.create_server((LOOPBACK, 0), backlog=1024))
        self.gateway = self.use(
            SocketGateway(self.folder, self.keys, self.body(0), listening=self.listening, server="threads = 2"),
            self._close_gateway,
        )
        self.url = f"http://{LOOPBACK}:{self.gateway.port}/v1/charges"

    def body(self, turn):
        return BODY.format(mock=self.mock, burst=100_000 + turn)

    def while_loaded(self, command, change):
        """Runs the load, changes something every so often, and returns what the load said, and how often that was."""
        load = self.use(Program(command, self.folder, "load"))
        turns = 0
        time.sleep(PAUSE_S)
        while load.process.poll() is None:
            change(turns)
            turns += 1
            time.sleep(PAUSE_S)
        self.assertEqual(load.wait_exit(), 0, load.log())
        self.assertGreaterEqual(turns, 2, "it was changed while it was under load")
        return load.log()

    def reload(self, turn):
        before = self.gateway.metric("tollgate_config_reloads_total", result="success")
        self.gateway.write(self.body(turn + 1))
        self.gateway.signal(signal.SIGHUP)
        wait_until(
            "it is reloaded", lambda: self.gateway.metric("tollgate_config_reloads_total", result="success") > before
        )

    def restart(self, turn):
        self.gateway.restart()

    def wrk(self, change):
        command = ["wrk", "-t1", "-c16", f"-d{SECONDS}s", "-H", f"Authorization: Bearer {self.secret}", self.url]
        said = self.while_loaded(command, change)
        self.assertGreater(int(re.search(r"(\d+) requests in", said).group(1)), 100, said)
        for failure in ("Socket errors", "Non-2xx"):
            self.assertNotIn(failure, said)

    def h2load(self, change, *options):
        command = ["h2load", "-c8", "-m4", "-D", str(SECONDS), "-H", f"Authorization: Bearer {self.secret}", *options, self.url]
        said = self.while_loaded(command, change)
        counts = dict((name, int(count)) for count, name in re.findall(r"(\d+) (succeeded|failed|errored|timeout)", said))
        self.assertGreater(counts["succeeded"], 100, said)
        self.assertEqual((counts["failed"], counts["errored"], counts["timeout"]), (0, 0, 0), said)
        self.assertRegex(said, r"status codes: \d+ 2xx, 0 3xx, 0 4xx, 0 5xx")

    def test_reloads_under_load(self):
        for name, load in (
            ("wrk", lambda: self.wrk(self.reload)),
            ("h2load, HTTP/1.1", lambda: self.h2load(self.reload, "--h1")),
            ("h2load, HTTP/2", lambda: self.h2load(self.reload)),
        ):
            with self.subTest(name):
                load()

    def test_restarts_under_load(self):
        with self.subTest("wrk"):
            self.wrk(self.restart)
        with self.subTest("HTTP/2"):
            # h2load counts what a GOAWAY leaves undone as failed instead of asking again, so this is a client of our own.
            load = Http2Load(self.gateway.port, self.secret, connections=4, streams=8)
            with load:
                for turn in range(4):
                    before = load.succeeded
                    wait_until("requests are served", lambda: load.succeeded > before + 100)
                    self.restart(turn)
                before = load.succeeded
                wait_until("requests are served", lambda: load.succeeded > before + 100)
            self.assertEqual(load.failures, [])
            self.assertGreater(load.goodbyes, 0, "connections were asked to leave")
