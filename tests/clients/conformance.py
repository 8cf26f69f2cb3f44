"""Third-party tools against the built gateway; `scripts/conformance` installs them and runs this.

Each tool is a function that returns what it found, in a few lines, and raises `Finding` for what is wrong. What a tool reports and is
right all the same stands in `EXPLAINED`, with the reason.
"""

import argparse
import contextlib
import dataclasses
import datetime
import http.client
import os
import pathlib
import re
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from support import BINARY, DEADLINE_S, LOOPBACK, ROOT, Gateway, Keys, Program, ScriptedUpstream, answer_bytes, free_port, wait_until
from tunnels import Echo, Splice, compare_with_autobahn, plain_cases

OUTPUTS = ROOT / "target/conformance/outputs"
TOOLS = pathlib.Path(sys.executable).parent
BIG = answer_bytes(200, {"object": "x" * (4 << 20)})

# Lines of a tool's output that look like findings and are none, and why.
EXPLAINED = {
    "sslyze": [
        (r"certificate_path_validation|CERT|[Cc]ertificate.*(trust|valid|hostname|lifespan|days)|Must-Staple",
         "the certificate is the test's own: signed by itself and short-lived"),
    ],
    "testssl": [
        (r"FIXME|Client-Initiated Renegotiation|secure_client_renego",
         "openssl waits for a renegotiation that the server has declined, until the tool ends it; "
         "sslyze makes the same check and finds it declined"),
    ],
}


class Finding(Exception):
    """Something that a tool found and nobody has explained."""


@dataclasses.dataclass
class Bench:
    """A gateway with everything that the tools need in front of and behind it."""

    folder: str
    quick: bool
    keys: Keys
    upstream: ScriptedUpstream
    plain: Gateway
    secure: Gateway
    secret: str

    @property
    def url(self):
        return f"http://{LOOPBACK}:{self.plain.port}/v1/charges"

    def authorization(self):
        return f"Authorization: Bearer {self.secret}"


def run(name, command, timeout_s, **options):
    """Runs a tool, keeps all that it says below target/conformance, and returns that."""
    OUTPUTS.mkdir(parents=True, exist_ok=True)
    path = OUTPUTS / f"{name}.txt"
    with open(path, "wb") as file:
        try:
            done = subprocess.run(
                command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=timeout_s, check=False, **options
            )
            code = done.returncode
        except subprocess.TimeoutExpired:
            code = None
    text = re.sub(r"\x1b\[[0-9;]*m", "", path.read_text(errors="replace"))
    path.write_text(text)
    return code, text


class GoodClient:
    """Asks once every 20 ms while a tool does its worst."""

    def __init__(self, bench):
        self.bench = bench
        self.times_ms, self.failures = [], []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._over.set()
        self._thread.join(30)

    def _ask(self):
        while not self._over.wait(0.02):
            began = time.monotonic()
            try:
                status = self.bench.plain.request("GET", "/v1/charges", self.bench.secret).status
                if status != 200:
                    self.failures.append(status)
            except OSError as error:
                self.failures.append(repr(error))
            self.times_ms.append((time.monotonic() - began) * 1000)

    def figures(self):
        if self.failures or len(self.times_ms) < 20:
            raise Finding(f"of {len(self.times_ms)} good requests {len(self.failures)} failed: {self.failures[:3]}")
        late = statistics.quantiles(self.times_ms, n=100)[98]
        return f"{len(self.times_ms)} good requests meanwhile, none failed, p99 {late:.0f} ms on connections of their own"


def slow(bench, name, options):
    """800 slow connections; a good client is served meanwhile, and the slow ones are closed before the tool ends.

    How many are open is asked of the gateway: a tool that reads slowly is slow to see an end, too.
    """
    seconds, count = (25, 200) if bench.quick else (45, 800)
    hidden = f"a=b\r\n{bench.authorization()}"
    command = ["slowhttptest", *options, "-c", str(count), "-r", "400", "-l", str(seconds), "-j", hidden]
    over, opened = threading.Event(), []

    def watch():
        while not over.wait(0.25):
            opened.append(int(bench.plain.metric("tollgate_connections")))

    watching = threading.Thread(target=watch, daemon=True)
    with GoodClient(bench) as good:
        watching.start()
        _, text = run(f"slowhttptest-{name}", command, seconds + 60)
        over.set()
        watching.join(30)
    left = opened[-1]
    ending = re.search(r"Exit status:\s*(.+)", text)
    told = ending.group(1).strip() if ending else "no exit status"
    if max(opened) < count * 0.9 or (left > count * 0.05 and told != "No open connections left"):
        raise Finding(f"of {count} connections {max(opened)} were open at once, {left} at the end: {told}")
    return f"{max(opened)} connections open at once, {left} when the tool ended (\"{told}\"); {good.figures()}"


def slow_heads(bench):
    return slow(bench, "H", ["-H", "-i", "2", "-u", bench.url])


def slow_bodies(bench):
    return slow(bench, "B", ["-B", "-i", "2", "-s", "8192", "-u", bench.url])


def slow_reads(bench):
    options = ["-X", "-w", "512", "-y", "1024", "-n", "5", "-z", "32", "-k", "3"]
    return slow(bench, "X", [*options, "-u", f"http://{LOOPBACK}:{bench.plain.port}/v1/big"])


def explained(tool, lines):
    """The lines that are left when those with an explanation are taken out; the explanations that were used."""
    left, used = [], []
    for line in lines:
        reason = next((reason for pattern, reason in EXPLAINED.get(tool, []) if re.search(pattern, line)), None)
        if reason is None:
            left.append(line.strip())
        elif reason not in used:
            used.append(reason)
    return left, used


def testssl(bench):
    command = ["testssl", "--warnings", "off", "--quiet", "--color", "0", "--openssl-timeout", "3", "-p", "-U"]
    _, text = run("testssl", [*command, f"{LOOPBACK}:{bench.secure.port}"], 200 if bench.quick else 560)
    if "TLS 1.3" not in text:
        raise Finding("it did not get as far as the protocols")
    bad = [line for line in text.splitlines() if re.search(r"NOT ok|VULNERABLE|FIXME", line) and "not vulnerable" not in line]
    left, used = explained("testssl", bad)
    if left:
        raise Finding("; ".join(left))
    good = len(re.findall(r"not vulnerable \(OK\)|not offered \(OK\)|supported \(OK\)", text))
    return f"{good} checks OK, none not ok{''.join(f'. Explained: {one}' for one in used)}"


def sslyze(bench):
    command = [str(TOOLS / "sslyze"), "--mozilla_config=intermediate", f"{LOOPBACK}:{bench.secure.port}"]
    _, text = run("sslyze", command, 240)
    compliance = text.split("COMPLIANCE AGAINST", 1)[-1]
    if "COMPLIANCE AGAINST" not in text:
        raise Finding("it did not get as far as the comparison")
    bad = [line for line in compliance.splitlines() if re.match(r"\s+\* ", line)]
    left, used = explained("sslyze", bad)
    if left:
        raise Finding("; ".join(left))
    verdict = "compliant" if not bad else f"{len(bad)} line(s) explained: {'; '.join(used)}"
    return f"against Mozilla's intermediate profile: {verdict}"


def handshakes(bench):
    """Whole handshakes as fast as two clients make them, and begun ones that are left, while a connection made before is served."""
    seconds = 5 if bench.quick else 20
    address = (LOOPBACK, bench.secure.port)
    command = ["openssl", "s_time", "-new", "-time", str(seconds), "-connect", f"{LOOPBACK}:{bench.secure.port}"]
    context = ssl.create_default_context(cafile=f"{bench.folder}/cert.pem")
    hello = client_hello(context)
    asking, times_ms, left = http.client.HTTPSConnection(*address, timeout=DEADLINE_S, context=context), [], 0
    headers = {"Authorization": f"Bearer {bench.secret}"}
    before = bench.secure.resident_bytes()
    flood = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    while any(one.poll() is None for one in flood):
        with socket.create_connection(address, DEADLINE_S) as leaving:
            leaving.sendall(hello)
        left += 1
        began = time.monotonic()
        asking.request("GET", "/v1/charges", headers=headers)
        answer = asking.getresponse()
        answer.read()
        times_ms.append((time.monotonic() - began) * 1000)
        if answer.status != 200:
            raise Finding(f"a good request during the flood: {answer.status}")
    asking.close()
    made = [re.search(r"(\d+) connections in [\d.]+ real seconds", one.communicate()[0]) for one in flood]
    if not all(made) or len(times_ms) < 20:
        raise Finding(f"no handshakes, or too few requests: {made}, {len(times_ms)}")
    wait_until("nobody is left", lambda: bench.secure.metric("tollgate_connections") == 0)
    whole, late = sum(int(one.group(1)) for one in made), statistics.quantiles(times_ms, n=100)[98]
    grown = (bench.secure.resident_bytes() - before) / 2**20
    return (f"{whole} whole handshakes ({whole / seconds:.0f} a second, clients on the same cores) and {left} left after their first "
            f"message; on an open connection {len(times_ms)} good requests meanwhile, p99 {late:.0f} ms; memory grew by {grown:.1f} MiB")


def client_hello(context):
    """The first message of a handshake."""
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=LOOPBACK).do_handshake()
    return outgoing.read()


def h2load(bench):
    told = []
    count = "5000" if bench.quick else "50000"
    for name, options, url in (
        ("HTTP/1.1", ["--h1", "-m1"], bench.url),
        ("HTTP/2", ["-m10"], bench.url),
        ("HTTP/2 over TLS", ["-m10"], f"https://{LOOPBACK}:{bench.secure.port}/v1/charges"),
        ("HTTP/1.1 over TLS", ["--h1", "-m1"], f"https://{LOOPBACK}:{bench.secure.port}/v1/charges"),
    ):
        command = ["h2load", "-n", count, "-c", "50", "-H", bench.authorization(), *options, url]
        _, text = run(f"h2load-{name.replace('/', '').replace(' ', '-')}", command, 300)
        found = re.search(r"finished in .*? ([\d.]+) req/s", text)
        whole = re.search(rf"{count} succeeded, 0 failed, 0 errored, 0 timeout", text)
        if not found or not whole:
            raise Finding(f"{name}: {text[-600:]}")
        told.append(f"{name}: {count} of {count} succeeded, {float(found.group(1)):.0f} a second")
    return "; ".join(told)


def nghttp(bench):
    told = []
    body = pathlib.Path(bench.folder, "body")
    body.write_bytes(b"a=" + b"x" * 300_000)
    for name, options, want in (
        ("GET", [], 200),
        ("POST of 300 KB", ["-d", str(body)], 200),
        ("20 at once", ["-m", "20"], 200),
        ("without a key", [], 401),
    ):
        for url in (bench.url, f"https://{LOOPBACK}:{bench.secure.port}/v1/charges"):
            key = [] if want == 401 else ["-H", bench.authorization()]
            _, text = run("nghttp", ["nghttp", "-v", "-n", "--timeout=10", *key, *options, url], 60)
            statuses = re.findall(r":status: (\d+)", text)
            if not statuses or set(statuses) != {str(want)} or "RST_STREAM" in text.split("recv", 1)[-1]:
                raise Finding(f"{name}: {statuses} {text[-400:]}")
        told.append(f"{name}: {want}")
    return "plain and over TLS: " + ", ".join(told)


def schemathesis(bench):
    examples = "20" if bench.quick else "200"
    command = [str(TOOLS / "schemathesis"), "run", str(ROOT / "docs/admin-openapi.json"), "--url",
               f"http://{LOOPBACK}:{bench.plain.admin_port}", "--max-examples", examples, "--seed", "4", "--no-color",
               # The description says what is read, not all that is refused: figures and limits must fit the configuration.
               "--exclude-checks", "positive_data_acceptance"]
    code, text = run("schemathesis", command, 500)
    cases = re.search(r"(\d+) generated", text)
    if code != 0:
        raise Finding(text[-1500:])
    return f"{cases.group(1) if cases else 'all'} generated cases, no failure"


def websocket(bench):
    with contextlib.ExitStack() as stack:
        echo = stack.enter_context(Echo())
        keys = f'[upstreams.api]\nservers = ["http://{LOOPBACK}:{echo.port}"]\n'
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        shutil.copy(bench.keys.path, folder)
        gateway = stack.enter_context(contextlib.closing(Gateway(folder, bench.keys, keys)))
        told = [plain_cases(gateway.port, bench.secret)]
        splice = stack.enter_context(Splice(gateway.port, bench.secret))
        told.append(compare_with_autobahn(echo.port, splice.port, OUTPUTS, quick=bench.quick))
        wait_until("nothing is in flight", lambda: gateway.in_flight() == 0)
    if any(one.startswith("!") for one in told):
        raise Finding("; ".join(told))
    return "; ".join(told)


def differential(bench):
    count = "2000" if bench.quick else "20000"
    environment = os.environ | {"TOLLGATE_DIFFERENTIAL_CASES": count, "TOLLGATE_DIFFERENTIAL_SEED": f"conformance-{count}"}
    command = [sys.executable, "tests/clients/run.py", "--deadline", "1700", "-k", "differential", "-k", "Answers"]
    code, text = run("differential", command, 1800, env=environment, cwd=ROOT)
    if code != 0:
        raise Finding(text[-1500:])
    return f"{count} random streams each: {text.strip().splitlines()[-1]}"


ALL = [slow_heads, slow_bodies, slow_reads, testssl, sslyze, handshakes, h2load, nghttp, schemathesis, websocket, differential]
NOT_RUN = """- h2spec: it is a Go program that neither Debian nor PyPI has. In its place `tests/it/gateway/http2.rs`, `http2_floods.rs` and
  `http2_slots.rs` send raw frames, and an ALPN-chosen or prior-knowledge connection is read by nothing but HTTP/2."""


def certificate(folder):
    """A certificate for this machine, signed by itself."""
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "60"]
    command += ["-subj", "/CN=localhost", "-addext", names, "-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


@contextlib.contextmanager
def bench(quick):
    """The gateways, plain and secure, in front of the mock, and of a large answer at `/v1/big`."""
    # Longer than a busy machine takes to open all connections, shorter than the tools wait.
    times = 'header_timeout = "12s"\nbody_timeout = "12s"\nwrite_timeout = "12s"\nthreads = 2\n'
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tollgate-conformance-"))
        certificate(folder)
        mock_port = free_port()
        stack.enter_context(contextlib.closing(Program([BINARY, "mock", "--listen", f"{LOOPBACK}:{mock_port}"], folder, "mock")))
        upstream = stack.enter_context(contextlib.closing(ScriptedUpstream(lambda request, connection: BIG)))
        keys = Keys(folder)
        secret = keys.new("acct_good", mode="live")
        body = (
            f'[upstreams.api]\nservers = ["http://{LOOPBACK}:{mock_port}"]\n[upstreams.big]\nservers = ["http://{LOOPBACK}:{upstream.port}"]\n'
            '[[routes]]\npath_prefix = "/v1/big"\nupstream = "big"\n[[routes]]\nupstream = "api"\n'
            '[[limits]]\nname = "all"\nstage = "global"\nrate = "1000000/s"\n[addresses]\nexempt = ["127.0.0.0/8"]\n'
        )
        plain = stack.enter_context(contextlib.closing(Gateway(folder, keys, body, server=times)))
        other = pathlib.Path(folder, "secure")
        other.mkdir()
        for name in ("keys.toml", "cert.pem", "key.pem"):
            shutil.copy(pathlib.Path(folder, name), other)
        tls = times + 'tls = { certificate = "cert.pem", private_key = "key.pem" }\n'
        secure = stack.enter_context(contextlib.closing(Gateway(other, keys, body, server=tls)))
        yield Bench(folder, quick, keys, upstream, plain, secure, secret)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter runs, and nothing is kept under docs")
    parser.add_argument("tools", nargs="*", help=", ".join(tool.__name__ for tool in ALL))
    options = parser.parse_args()
    chosen = [tool for tool in ALL if not options.tools or tool.__name__ in options.tools]
    failed = 0
    OUTPUTS.mkdir(parents=True, exist_ok=True)
    with bench(options.quick) as shared:
        for tool in chosen:
            print(f"== {tool.__name__}", file=sys.stderr, flush=True)
            try:
                line = f"- **{tool.__name__}**: {tool(shared)}"
                if not options.quick:
                    line_of(tool).write_text(line)
            except Finding as finding:
                failed += 1
                line = f"- **{tool.__name__}: FOUND** {finding}"
                line_of(tool).unlink(missing_ok=True)
            print(line, flush=True)
    if not options.quick and not failed:
        keep()
    print(f"{len(chosen) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


def line_of(tool):
    """What the last whole run of a tool said, where it found nothing."""
    return OUTPUTS / f"{tool.__name__}.line"


def keep():
    """Writes the page, once there is a whole run of each tool that found nothing."""
    lines = [line_of(tool).read_text() for tool in ALL if line_of(tool).exists()]
    if len(lines) < len(ALL):
        return
    today = datetime.date.today().isoformat()
    version = subprocess.run([BINARY, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    machine = f"{os.cpu_count()} cores, load average {os.getloadavg()[1]:.0f} at the end"
    page = f"# Third-party tools, {today}\n\n{version}, {machine}. `scripts/conformance` repeats it.\n\n"
    page += "\n".join(lines) + "\n\nNot run:\n\n" + NOT_RUN + "\n"
    kept = ROOT / "docs/conformance" / today
    kept.mkdir(parents=True, exist_ok=True)
    (kept / "README.md").write_text(page)


if __name__ == "__main__":
    main()
