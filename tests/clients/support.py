"""What the client tests share: programs under test, a scripted upstream, raw requests, metrics.

Every wait is a poll with a deadline, every port is loopback and picked by the system, and every process started here
is ended here, by its own id.
"""

import contextlib
import dataclasses
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import stripe

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("TOLLGATE_BIN", str(ROOT / "target/debug/tollgate"))
NODE_MODULES = os.environ.get("TOLLGATE_NODE_MODULES", str(ROOT / "target/clients/node/node_modules"))
DEADLINE_S = 20.0
LOOPBACK = "127.0.0.1"

# Every program that runs now, for the watchdog of run.py.
RUNNING = set()


def wait_until(what, condition, deadline_s=DEADLINE_S):
    """Polls `condition` until it is true and returns its value; fails after `deadline_s` seconds."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s} s: {what}")
        time.sleep(0.005)


def free_port():
    """A port that was free a moment ago; whoever binds it must be ready to try another."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]


class Program:
    """A child process whose output goes to a file, ended by its own id at `close`. `options` may take its pipes instead."""

    def __init__(self, arguments, folder, name, **options):
        self.name = name
        self.log_path = pathlib.Path(folder) / f"{name}.log"
        self._log = open(self.log_path, "wb")
        streams = {"stdout": self._log, "stderr": self._log}
        self.process = subprocess.Popen(arguments, start_new_session=True, **(streams | options))
        RUNNING.add(self)

    def log(self):
        return self.log_path.read_text(errors="replace")

    def must_live(self):
        code = self.process.poll()
        if code is not None:
            raise AssertionError(f"{self.name} ended with {code}:\n{self.log()[-4000:]}")
        return True

    def signal(self, number):
        if self.process.poll() is None:
            self.process.send_signal(number)

    def wait_exit(self, deadline_s=DEADLINE_S):
        try:
            return self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {deadline_s} s") from None

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._log.close()
        RUNNING.discard(self)

    def close(self):
        self.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.kill()


class StatefulMock(Program):
    """stripe-stateful-mock on loopback."""

    def __init__(self, folder):
        script = str(pathlib.Path(__file__).with_name("upstream.cjs"))
        super().__init__(["node", script, NODE_MODULES], folder, "stateful-mock", stdin=subprocess.PIPE)
        found = wait_until("the mock listens", lambda: self.must_live() and re.search(r"listening (\d+)", self.log()))
        self.port = int(found.group(1))

    def create_account(self, account):
        """Makes a connected account of a chosen id, without passing through the gateway."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=DEADLINE_S)
        headers = {"Authorization": "Bearer sk_test_setup", "Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/v1/accounts", f"type=custom&id={account}", headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        if answer.status != 200:
            raise AssertionError(f"cannot create {account}: {answer.status} {body!r}")


class Keys:
    """A keys file, written by `tollgate keys`."""

    def __init__(self, folder):
        self.path = pathlib.Path(folder) / "keys.toml"
        self.secrets = []

    def new(self, account, *, mode="test", key_id=None, connected=(), allow=(), kind=None):
        arguments = [BINARY, "keys", "new", "--file", str(self.path), "--account", account, "--mode", mode]
        arguments += ["--kind", kind] if kind else []
        arguments += ["--id", key_id] if key_id else []
        for name in connected:
            arguments += ["--connected-accounts", name]
        for name in allow:
            arguments += ["--allow", name]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        if done.returncode != 0:
            raise AssertionError(f"keys new failed with {done.returncode}: {done.stderr}")
        found = re.search(r"\b[srp]k_(?:live|test)_[A-Za-z0-9_]+", done.stdout)
        if not found:
            raise AssertionError("keys new printed no secret on its standard output")
        self.secrets.append(found.group(0))
        return found.group(0)

    def revoke(self, key_id):
        arguments = [BINARY, "keys", "revoke", "--file", str(self.path), key_id]
        subprocess.run(arguments, capture_output=True, text=True, timeout=DEADLINE_S, check=True)


class Gateway(Program):
    """`tollgate run` with a configuration of the test's own.

    `body` is TOML: limits, endpoints, upstreams. The servers' addresses and the keys file are added here.
    """

    def __init__(self, folder, keys, body, *, top="", server=""):
        self.folder = pathlib.Path(folder)
        self.config_path = self.folder / "tollgate.toml"
        self.keys = keys
        self.top, self.server = top, server
        for attempt in range(3):
            self.port, self.admin_port = free_port(), free_port()
            self.write(body)
            try:
                self.run()
                return
            except AssertionError:
                lost_the_port = "in use" in self.log()
                self.kill()
                if attempt == 2 or not lost_the_port:
                    raise

    def run(self):
        super().__init__([BINARY, "run", "--config", str(self.config_path)], self.folder, "gateway")
        wait_until("the gateway is ready", lambda: self.must_live() and self.is_ready())

    def kill_and_run(self):
        """Ends the process as a power cut would, and starts it again on the same ports. Its log begins anew."""
        self.kill()
        self.run()

    def write(self, body):
        """Replaces the configuration in one step, so that nobody reads half a file."""
        text = "\n".join(
            [
                self.top,
                f'[server]\nlisten = "{LOOPBACK}:{self.port}"\n{self.server}',
                f'[admin]\nlisten = "{LOOPBACK}:{self.admin_port}"',
                f'[auth]\nkeys_file = "{self.keys.path.name}"',
                body,
            ]
        )
        self.write_raw(text)

    def write_raw(self, text):
        partial = self.config_path.with_suffix(".partial")
        partial.write_text(text)
        os.replace(partial, self.config_path)

    def is_ready(self):
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.admin("/readyz")[0] == 200
        return False

    def admin(self, path):
        connection = http.client.HTTPConnection(LOOPBACK, self.admin_port, timeout=DEADLINE_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def metric(self, name, **labels):
        """The sum of all series of this name whose labels include these."""
        status, text = self.admin("/metrics")
        if status != 200:
            raise AssertionError(f"/metrics answered {status}")
        return sum(value for series, value in parse_metrics(text, name) if labels.items() <= series.items())

    def in_flight(self):
        return self.metric("tollgate_in_flight")

    def resident_bytes(self):
        """Memory that the process has in use."""
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def reloads(self):
        return self.metric("tollgate_config_reloads_total")

    def client(self, secret, **options):
        """The official SDK, pointed at this gateway. No retries of its own unless asked."""
        url = f"http://{LOOPBACK}:{self.port}"
        bases = {"api": url, "files": url, "connect": url, "meter_events": url}
        return stripe.StripeClient(secret, base_addresses=bases, **options)

    def request(self, method, path, secret=None, body=None, headers=None):
        """One request on a connection of its own, through Python's plain client."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=DEADLINE_S)
        try:
            sent = {"Authorization": f"Bearer {secret}"} if secret else {}
            connection.request(method, path, body, sent | (headers or {}))
            return Answer.read(connection.getresponse())
        finally:
            connection.close()

    def raw(self, data, method="GET"):
        """Sends these bytes and reads one answer; `None` when the connection is closed without any."""
        with socket.create_connection((LOOPBACK, self.port), DEADLINE_S) as connection:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(data)
            answer = http.client.HTTPResponse(connection, method=method)
            try:
                answer.begin()
                return Answer.read(answer)
            except (http.client.BadStatusLine, ConnectionResetError):
                return None

    def curl(self, *arguments, path="/v1/charges"):
        """Runs curl against this gateway and returns its answer."""
        command = ["curl", "--silent", "--show-error", "--include", "--path-as-is", "--max-time", str(int(DEADLINE_S))]
        command += [*arguments, f"http://{LOOPBACK}:{self.port}{path}"]
        done = subprocess.run(command, capture_output=True, timeout=2 * DEADLINE_S, check=False)
        if done.returncode != 0:
            raise AssertionError(f"curl ended with {done.returncode}: {done.stderr.decode()}")
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
        return Answer(int(lines[0].split()[1]), headers, body)


def parse_metrics(text, name):
    """The series of one metric in Prometheus text: pairs of labels and value."""
    for line in text.splitlines():
        found = re.fullmatch(re.escape(name) + r"(?:\{(.*)\})? (\S+)", line)
        if found:
            labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', found.group(1) or ""))
            yield labels, float(found.group(2))


@dataclasses.dataclass
class Answer:
    """One HTTP answer, read to its end."""

    status: int
    headers: list
    body: bytes

    @classmethod
    def read(cls, response):
        return cls(response.status, response.getheaders(), response.read())

    def header(self, name):
        """The value of a header that may come once at most."""
        values = [value for known, value in self.headers if known.lower() == name.lower()]
        if len(values) > 1:
            raise AssertionError(f"{name} came {len(values)} times")
        return values[0] if values else None

    def error(self):
        return json.loads(self.body)["error"]


@dataclasses.dataclass
class Received:
    """One request as it reached the scripted upstream."""

    method: str
    target: str
    headers: dict
    body: bytes


class ScriptedUpstream:
    """An upstream that does what the test says, one thread per connection.

    `behavior(request, connection)` returns the bytes to answer with, or `None` to close the connection. `hold()` makes
    every answer wait for `release()`, at most the deadline.
    """

    def __init__(self, behavior=None):
        self.behavior = behavior or (lambda request, connection: answer_bytes(200, {"object": "list", "data": []}))
        self.received = []
        self.waiting = 0
        self.accepted = 0
        self._lock = threading.Lock()
        self._open = threading.Event()
        self._open.set()
        self._connections = set()
        self._listener = socket.create_server((LOOPBACK, 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self):
        self._open.clear()

    def release(self):
        self._open.set()

    def wait_open(self):
        """Blocks a behavior until `release()`; counted in `waiting` meanwhile."""
        with self._lock:
            self.waiting += 1
        self._open.wait(2 * DEADLINE_S)
        with self._lock:
            self.waiting -= 1

    def close(self):
        self.release()
        self._listener.close()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.accepted += 1
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with contextlib.suppress(OSError, ValueError), connection, connection.makefile("rb") as stream:
            while request := read_request(stream):
                with self._lock:
                    self.received.append(request)
                if not self._open.is_set():
                    self.wait_open()
                answer = self.behavior(request, connection)
                if answer is None:
                    break
                connection.sendall(answer)
        with self._lock:
            self._connections.discard(connection)


def read_request(stream):
    """The next request of a connection, or `None` at its end."""
    line = stream.readline(65536).decode("latin-1").split()
    if len(line) != 3:
        return None
    headers = {}
    for text in iter(lambda: stream.readline(65536).decode("latin-1").rstrip("\r\n"), ""):
        name, _, value = text.partition(":")
        headers.setdefault(name.lower(), value.strip())
    body = b""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int(stream.readline(100).split(b";")[0], 16):
            body += stream.read(size)
            stream.readline(100)
        while stream.readline(65536).strip():
            pass
    else:
        body = stream.read(int(headers.get("content-length", "0")))
    return Received(line[0], line[1], headers, body)


def answer_bytes(status, value):
    """A JSON answer as bytes."""
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Case(unittest.TestCase):
    """A test with a folder of its own and everything it started closed at its end."""

    def setUp(self):
        self.folder = self.use(tempfile.TemporaryDirectory(prefix="tollgate-clients-"), lambda it: it.cleanup()).name
        self.keys = Keys(self.folder)

    def use(self, thing, close=lambda it: it.close()):
        self.addCleanup(close, thing)
        return thing

    def start_mock(self):
        return self.use(StatefulMock(self.folder))

    def start_upstream(self, behavior=None):
        return self.use(ScriptedUpstream(behavior))

    def start_gateway(self, body, **options):
        gateway = self.use(Gateway(self.folder, self.keys, body, **options), self._close_gateway)
        return gateway

    def _close_gateway(self, gateway):
        gateway.close()
        self.assert_no_secret(gateway.log(), "the gateway's log")
        self.assertNotIn("panicked", gateway.log())

    def assert_no_secret(self, text, where):
        for secret in self.keys.secrets:
            self.assertNotIn(secret, text, f"a secret stands in {where}")

    def assert_own_answer(self, answer, status):
        """An answer of the gateway's own, as every one of them must look. `status` is one code or several."""
        self.assertIsNotNone(answer, "the connection was closed without an answer")
        allowed = (status,) if isinstance(status, int) else status
        self.assertIn(answer.status, allowed, answer.body)
        self.assertEqual(answer.header("content-type").split(";")[0], "application/json")
        self.assertEqual(answer.header("cache-control"), "no-store")
        self.assertRegex(answer.header("request-id") or "", r"^req_\w+$")
        if answer.body:
            self.assertEqual(set(json.loads(answer.body)), {"error"})
            self.assertTrue(answer.error()["message"])
            self.assertIn(answer.error()["type"], ("invalid_request_error", "api_error"))
        return answer

    def assert_limited(self, answer, reason, limit, retry_after=True):
        """A 429 of the gateway's own, in Stripe's shape, with the reason readable."""
        self.assert_own_answer(answer, 429)
        error = answer.error()
        self.assertEqual(list(error), ["code", "doc_url", "message", "type"])
        self.assertEqual(answer.body, json.dumps({"error": error}, separators=(",", ":"), ensure_ascii=False).encode())
        self.assertEqual(error["code"], "rate_limit")
        self.assertEqual(error["type"], "invalid_request_error")
        self.assertRegex(error["doc_url"], r"^https://stripe\.com/docs/error-codes/rate-limit$")
        self.assertIn(limit, error["message"])
        self.assertEqual(answer.header("stripe-rate-limited-reason"), reason)
        self.assertIsNone(answer.header("stripe-should-retry"))
        if retry_after:
            self.assertRegex(answer.header("retry-after") or "", r"^[1-9]\d*$")
