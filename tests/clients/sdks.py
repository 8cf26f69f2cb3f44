"""The SDKs under test behind one interface: `send` makes a call from another thread and gives a future of its outcome.

Calls are named as Python's SDK names them, `payment_intents.update`, with the ids first and the parameters last.
"""

import concurrent.futures
import dataclasses
import http.client
import itertools
import json
import pathlib
import subprocess
import threading

import stripe

from support import DEADLINE_S, LOOPBACK, NODE_MODULES, ROOT, Program, ScriptedUpstream

RUST_CLIENT = ROOT / "target/clients/rust/debug/tollgate-rust-client"
# Headers that a recorder must not hand on: its own two ends frame the messages anew.
OF_ONE_CONNECTION = ("connection", "content-length", "date", "keep-alive", "transfer-encoding")


@dataclasses.dataclass
class Outcome:
    """How one call ended, retries included. `headers` is empty where the SDK does not show an error's."""

    id: str | None = None
    kind: str | None = None
    status: int | None = None
    code: str | None = None
    message: str | None = None
    headers: dict = dataclasses.field(default_factory=dict)

    @classmethod
    def of_answer(cls, answer):
        """From a driver's line: `{"value": …}` or `{"error": …}`."""
        outcome = cls(**(answer.get("value") or answer["error"]))
        outcome.headers = {name.lower(): value for name, value in outcome.headers.items()}
        return outcome


class Sdk:
    """One SDK with one key, pointed at one port of this machine."""

    # What an SDK does of itself: whether an error shows its headers, and whether it retries a plain 429.
    shows_headers = True
    retries_any_429 = False

    def __init__(self, case, secret):
        self.case, self.secret = case, secret
        pool = concurrent.futures.ThreadPoolExecutor(16)
        case.addCleanup(pool.shutdown)
        self.pool = pool

    def send(self, port, operation, *arguments, retries=0):
        return self.pool.submit(self.call, port, operation, *arguments, retries=retries)

    def call(self, port, operation, *arguments, retries=0):
        raise NotImplementedError


class PythonSdk(Sdk):
    """The official SDK for Python, in this process."""

    def call(self, port, operation, *arguments, retries=0):
        url = f"http://{LOOPBACK}:{port}"
        bases = {"api": url, "files": url, "connect": url, "meter_events": url}
        found = stripe.StripeClient(self.secret, base_addresses=bases, max_network_retries=retries).v1
        for name in operation.split("."):
            found = getattr(found, name)
        try:
            return Outcome(id=getattr(found(*arguments), "id", None))
        except stripe.StripeError as error:
            headers = {name.lower(): value for name, value in (error.headers or {}).items()}
            kind = f"Stripe{type(error).__name__}"
            code = error.error.code if error.error else None
            return Outcome(None, kind, error.http_status, code, error.user_message, headers)


class NodeSdk(Sdk):
    """The official SDK for Node, in a driver that runs as long as the test."""

    def __init__(self, case, secret):
        super().__init__(case, secret)
        script = str(pathlib.Path(__file__).with_name("sdk_driver.cjs"))
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.driver = Program(["node", script, NODE_MODULES], case.folder, "node-driver", **pipes)
        self.numbers, self.waiting, self.lock = itertools.count(), {}, threading.Lock()
        reader = threading.Thread(target=self.read, daemon=True)
        case.addCleanup(reader.join, DEADLINE_S)
        reader.start()
        # Cleanups run backwards: the driver ends first, and with it what is read here.
        case.addCleanup(self.driver.close)

    def read(self):
        with self.driver.process.stdout as lines:
            for line in lines:
                answer = json.loads(line)
                self.waiting.pop(answer.pop("id")).set_result(Outcome.of_answer(answer))
        with self.lock:
            for left in self.waiting.values():
                left.set_exception(AssertionError(f"the driver ended:\n{self.driver.log()}"))

    def call(self, port, operation, *arguments, retries=0):
        done, number = concurrent.futures.Future(), next(self.numbers)
        call = {"id": number, "settings": {"key": self.secret, "port": port, "retries": retries}}
        call |= {"operation": ".".join(map(camel_case, operation.split("."))), "arguments": arguments}
        with self.lock:
            self.waiting[number] = done
            self.driver.process.stdin.write(json.dumps(call).encode() + b"\n")
            self.driver.process.stdin.flush()
        return done.result(2 * DEADLINE_S)


def camel_case(name):
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


class RustSdk(Sdk):
    """async-stripe: a process for each call, its key on standard input. Its retry strategy is `Retry`, which does not wait."""

    shows_headers = False
    retries_any_429 = True
    PATHS = {
        "billing.meter_events.create": "/billing/meter_events",
        "invoices.create": "/invoices",
        "payment_intents.update": "/payment_intents/{}",
        "payouts.create": "/payouts",
        "subscriptions.update": "/subscriptions/{}",
        "subscription_items.update": "/subscription_items/{}",
    }

    def call(self, port, operation, *arguments, retries=0):
        *ids, form = arguments
        return self.post(port, self.PATHS[operation].format(*ids), form, retries)

    def post(self, port, path, form, retries=0, kind=None):
        """`kind` is the library's type that the answer is read as; without one it may be anything."""
        call = {"port": port, "key": self.secret, "attempts": retries + 1, "path": path, "form": form, "type": kind}
        done = subprocess.run(
            [str(RUST_CLIENT)], input=json.dumps(call).encode(), capture_output=True, timeout=2 * DEADLINE_S, check=False
        )
        if done.returncode != 0:
            raise AssertionError(f"the Rust client ended with {done.returncode}: {done.stderr.decode()}")
        return Outcome.of_answer(json.loads(done.stdout))


class Recorder(ScriptedUpstream):
    """Stands between an SDK and the gateway and keeps what is sent: every attempt, those that are refused too.

    `before_answer(status, body)` runs before an answer goes to the SDK, which is how a test acts between two attempts.
    """

    def __init__(self, gateway, before_answer=lambda status, body: None):
        self.gateway_port, self.before_answer = gateway.port, before_answer
        super().__init__(self.forward)

    def forward(self, request, _connection):
        onward = http.client.HTTPConnection(LOOPBACK, self.gateway_port, timeout=2 * DEADLINE_S)
        try:
            headers = {name: value for name, value in request.headers.items() if name not in OF_ONE_CONNECTION}
            onward.request(request.method, request.target, request.body, headers)
            answer = onward.getresponse()
            body = answer.read()
        finally:
            onward.close()
        self.before_answer(answer.status, body)
        fields = [one for one in answer.getheaders() if one[0].lower() not in OF_ONE_CONNECTION]
        lines = [f"{name}: {value}\r\n" for name, value in [*fields, ("Content-Length", len(body))]]
        return f"HTTP/1.1 {answer.status} X\r\n{''.join(lines)}\r\n".encode("latin-1") + body
