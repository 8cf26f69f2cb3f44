"""Good and hostile clients at once, upstreams that die and come back, and a reload every five seconds.

Usage: soak.py [--minutes N]     (TOLLGATE_BIN names another build than target/debug/tollgate)

Asserted at the end: no good request failed, but writes and broken answers whose upstream was killed while they ran; memory grew by
at most a tenth after the warm-up; descriptors, connections and every gauge of what is in flight are where they began.
"""

import argparse
import contextlib
import dataclasses
import http.client
import os
import random
import re
import signal
import statistics
import sys
import tempfile
import threading
import time

from hostile_clients import HOSTILE
from http2_load import Http2Load
from support import BINARY, DEADLINE_S, LOOPBACK, Gateway, Keys, Program, free_port, parse_metrics, wait_until

RELOAD_S = 5.0
# An upstream lives for about so long, and is gone for about so long.
LIFE_S, GONE_S = 6.0, 1.5
# What belongs to a kill: connections that break a moment after it.
AFTER_KILL_S = 1.0
GROWTH = 1.10
# What the process may map once without it being a leak: a thread's stack that is touched late, an arena.
SLACK_BYTES = 1 << 20
READERS, WRITERS, HOSTILE_THREADS = 3, 2, 4

CONFIG = """
[upstreams.api]
servers = [{servers}]
idle_timeout = "1s"
[addresses]
exempt = ["127.0.0.0/8"]
[[endpoints]]
match = "GET /v1/few"
name = "few"
[[endpoints]]
match = "POST /v1/payment_intents/{{intent}}"
name = "intents.update"
lock = {{ per = ["path.intent"], wait = "5s" }}
[[limits]]
name = "all"
stage = "global"
rate = "1000000/s"
burst = {burst}
[[limits]]
name = "at-once"
stage = "global"
concurrency = {slots}
[[limits]]
name = "few"
stage = "endpoint"
rate = "5/s"
when = {{ endpoint = "few" }}
[[limits]]
name = "by-customer"
stage = "resource"
rate = "100000/s"
when = {{ access = "write" }}
per = ["form.customer"]
"""

# Short ones, so that a minute holds many of each.
SERVER = """threads = 2
header_timeout = "2s"
body_timeout = "2s"
write_timeout = "2s"
idle_timeout = "5s"
"""


@dataclasses.dataclass
class Failure:
    """A good request that failed, and when it ran."""

    what: str
    began: float
    ended: float
    excusable: bool


class Mock:
    """The mock API at one address, killed and started again."""

    def __init__(self, folder, name):
        self.folder, self.name, self.port = folder, name, free_port()
        self.kills = []
        self.start()

    def start(self):
        address = f"{LOOPBACK}:{self.port}"
        self.program = Program([BINARY, "mock", "--listen", address, "--latency", "lognormal:2ms,20ms"], self.folder, self.name)
        wait_until("the mock listens", lambda: self.program.must_live() and re.search(rf":{self.port}\b", self.program.log()))

    def die(self):
        began = time.monotonic()
        self.program.kill()
        self.kills.append((began, time.monotonic() + AFTER_KILL_S))

    def close(self):
        self.program.close()


class Good:
    """Clients that follow the rules: how many of their requests were answered, and which were not."""

    def __init__(self, soak):
        self.soak = soak
        self.answered, self.failures = 0, []
        self._lock = threading.Lock()

    def note(self, failure=None):
        with self._lock:
            if failure:
                self.failures.append(failure)
            else:
                self.answered += 1

    def reader(self):
        self._ask(lambda turn: ("GET", f"/v1/charges?limit={turn % 90 + 1}", None))

    def writer(self):
        body = f"customer=cus_{threading.get_ident() % 1000}&amount="
        self._ask(lambda turn: ("POST", f"/v1/payment_intents/pi_{turn % 50}", body + "1" * (turn % 2_000 + 1)))

    def _ask(self, request):
        connection, turn = None, 0
        while not self.soak.over.is_set():
            turn += 1
            method, path, body = request(turn)
            began = time.monotonic()
            try:
                if connection is None or turn % 500 == 0:
                    connection = self._connect(connection)
                connection.request(method, path, body, self._headers(body))
                answer = connection.getresponse()
                text = answer.read()
                if answer.status == 200:
                    self.note()
                else:
                    excusable = method == "POST" and answer.status == 502 and b"unknown" in text
                    what = f"{method} {path}: {answer.status} {text[:300]!r}"
                    self.note(Failure(what, began, time.monotonic(), excusable))
            except (OSError, http.client.HTTPException) as error:
                self.note(Failure(f"{method} {path}: {error!r}", began, time.monotonic(), True))
                connection = self._connect(connection)
        if connection:
            connection.close()

    def _headers(self, body):
        kind = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
        return {"Authorization": f"Bearer {self.soak.secret}"} | kind

    def _connect(self, connection):
        if connection:
            connection.close()
        return http.client.HTTPConnection(LOOPBACK, self.soak.gateway.port, timeout=DEADLINE_S)


class Soak:
    """One run, from its start to what is wrong at its end."""

    def __init__(self, folder, seconds):
        self.folder, self.seconds = folder, seconds
        self.over = threading.Event()
        self.keys = Keys(folder)
        self.secret = self.keys.new("acct_good", mode="live")
        self.samples, self.hostile, self.reloads = [], {}, 0
        self.errors = []
        with contextlib.ExitStack() as started:
            self.mocks = [started.enter_context(contextlib.closing(Mock(folder, f"mock{nth}"))) for nth in range(2)]
            self.gateway = started.enter_context(contextlib.closing(Gateway(folder, self.keys, self.config(0), server=SERVER)))
            self.programs = started.pop_all()

    def config(self, turn):
        servers = ", ".join(f'"http://{LOOPBACK}:{mock.port}"' for mock in self.mocks)
        return CONFIG.format(servers=servers, burst=10_000_000 + turn % 7, slots=2_000 + turn % 3)

    def close(self):
        self.over.set()
        self.programs.close()

    def run(self):
        """What is wrong, in words; nothing where all is well."""
        self.good = Good(self)
        # Whatever is made once is made before anything is counted.
        self.gateway.request("GET", "/v1/charges", self.secret)
        wait_until("it is idle", lambda: not any(self.gauges().values()))
        self.before, self.gauges_before = self.descriptors(), self.gauges()
        jobs = [self.good.reader] * READERS + [self.good.writer] * WRITERS + [self.attack] * HOSTILE_THREADS
        jobs += [self.kill_upstreams, self.reload, self.measure]
        threads = [threading.Thread(target=self._guarded, args=(job,), daemon=True) for job in jobs]
        with Http2Load(self.gateway.port, self.secret, connections=2, streams=4) as self.http2:
            for thread in threads:
                thread.start()
            self.over.wait(self.seconds)
            self.over.set()
            for thread in threads:
                thread.join(2 * DEADLINE_S)
        return self.errors + self.failed() + self.grown() + self.left()

    def _guarded(self, job):
        try:
            job()
        except Exception as error:  # pylint: disable=broad-except
            self.errors.append(f"{job.__name__}: {error!r}")
            self.over.set()

    # What happens meanwhile.

    def kill_upstreams(self):
        dice = random.Random(4)
        while not self.over.wait(LIFE_S * dice.uniform(0.7, 1.3)):
            mock = dice.choice(self.mocks)
            mock.die()
            self.over.wait(GONE_S * dice.uniform(0.3, 1.5))
            mock.start()

    def reload(self):
        while not self.over.wait(RELOAD_S):
            self.reloads += 1
            self.gateway.write(self.config(self.reloads))
            self.gateway.signal(signal.SIGHUP)

    def attack(self):
        dice = random.Random(threading.get_ident())
        while not self.over.is_set():
            attack = dice.choice(HOSTILE)
            with contextlib.suppress(OSError):
                attack(self.gateway.port, self.secret, self.over)
            self.hostile[attack.__name__] = self.hostile.get(attack.__name__, 0) + 1

    def measure(self):
        while not self.over.wait(0.5):
            self.gateway.must_live()
            self.samples.append((time.monotonic(), self.gateway.resident_bytes(), self.descriptors()))

    # What is looked at.

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.gateway.process.pid}/fd"))

    def gauges(self):
        """Every gauge of what is held right now, but the admin connection that asks."""
        status, text = self.gateway.admin("/metrics")
        assert status == 200, status
        # The bounds beside them never change.
        kinds = re.findall(r"^# TYPE ((?!tollgate_max_)\w+) gauge$", text, re.MULTILINE)
        held = [kind for kind in kinds if re.search(r"in_flight|connections|waiters|held|pending|buffer", kind)]
        return {kind: sum(value for _, value in parse_metrics(text, kind)) for kind in held}

    # What is asserted.

    def failed(self):
        kills = [kill for mock in self.mocks for kill in mock.kills]

        def excused(one):
            return one.excusable and any(one.began <= after and one.ended >= before for before, after in kills)

        self.excused = sum(excused(one) for one in self.good.failures)
        wrong = [one.what for one in self.good.failures if not excused(one)]
        found = [f"{len(wrong)} good requests failed, such as {wrong[:5]}"] if wrong else []
        found += [f"HTTP/2: {self.http2.failures[:5]}"] if self.http2.failures else []
        if self.good.answered < 100 or self.http2.succeeded < 100:
            found.append(f"too little was asked: {self.good.answered} and {self.http2.succeeded}")
        missed = [attack.__name__ for attack in HOSTILE if not self.hostile.get(attack.__name__)]
        return found + ([f"never tried: {missed}"] if missed else [])

    def grown(self):
        quarter = len(self.samples) // 4
        if quarter < 8:
            return [f"only {len(self.samples)} samples of memory"]
        sizes = [size for _, size, _ in self.samples]
        self.warm, self.late = statistics.median(sizes[quarter : 2 * quarter]), statistics.median(sizes[-quarter:])
        if self.late > self.warm * GROWTH + SLACK_BYTES:
            return [f"memory grew from {self.warm / 2**20:.1f} to {self.late / 2**20:.1f} MiB"]
        return []

    def left(self):
        found = []
        for what, now, before in (
            ("gauges", self.gauges, self.gauges_before),
            ("descriptors", lambda: {"open": self.descriptors()}, {"open": self.before}),
        ):
            with contextlib.suppress(AssertionError):
                wait_until(what, lambda now=now, before=before: all(count <= before.get(name, 0) for name, count in now().items()))
                continue
            found.append(f"{what}: {now()}, at the beginning {before}")
        panics = self.gateway.metric("tollgate_panics_total")
        failed = self.gateway.metric("tollgate_config_reloads_total", result="failure")
        if panics or failed:
            found.append(f"{panics} panics, {failed} failed reloads")
        if any(secret in self.gateway.log() for secret in self.keys.secrets):
            found.append("a secret stands in the log")
        return found

    def report(self):
        kills = sum(len(mock.kills) for mock in self.mocks)
        peak = max(size for _, size, _ in self.samples) / 2**20
        most = max(count for _, _, count in self.samples)
        return "\n".join(
            [
                f"{self.seconds:.0f} s: {self.good.answered} good requests over HTTP/1.1, {self.http2.succeeded} over HTTP/2",
                f"{self.excused} failed with their upstream, {kills} upstreams killed, {self.reloads} reloads",
                f"hostile: {', '.join(f'{name} {count}' for name, count in sorted(self.hostile.items()))}",
                f"memory: {self.warm / 2**20:.1f} MiB warm, {self.late / 2**20:.1f} MiB late, {peak:.1f} MiB at most",
                f"descriptors: {self.before} at first, {most} at most, {self.descriptors()} at last",
            ]
        )


def soak(seconds):
    """Runs for so long; what is wrong, and the figures."""
    with tempfile.TemporaryDirectory(prefix="tollgate-soak-") as folder:
        run = Soak(folder, seconds)
        try:
            wrong = run.run()
            return wrong, run.report() if run.samples else "no samples"
        finally:
            run.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    options = parser.parse_args()
    wrong, report = soak(options.minutes * 60)
    print(report)
    for one in wrong:
        print(f"wrong: {one}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
