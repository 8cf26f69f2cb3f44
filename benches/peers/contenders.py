"""The processes that are compared: how each is configured, started, measured and stopped."""
import contextlib
import os
import pathlib
import re
import resource
import socket
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
FORWARDING = {"RATE": "1000000", "BURST": "1000000", "SLOTS": "60000"}
REFUSING = {"RATE": "1", "BURST": "1", "SLOTS": "1"}
TLS = {"HAPROXY_TLS": "ssl crt @DIR@/both.pem alpn h2,http/1.1", "NGINX_TLS": "ssl http2",
       "NGINX_CERTIFICATE": "ssl_certificate @DIR@/cert.pem; ssl_certificate_key @DIR@/key.pem; ssl_protocols TLSv1.3;",
       "TOLLGATE_TLS": 'tls = { certificate = "@DIR@/cert.pem", private_key = "@DIR@/key.pem" }'}
PLAIN = dict.fromkeys(TLS, "")
# HAProxy will not start where it could not have two descriptors for each connection.
MAX_CONNECTIONS = min(10_200, resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 2 - 60)
TICK = os.sysconf("SC_CLK_TCK")


class Bench:
    """Where everything of one run lives."""

    def __init__(self, directory, helper, tollgate):
        self.directory, self.helper, self.tollgate = directory, helper, tollgate
        self.upstream_port, self.upstream, self.count = 0, None, 0

    def start_upstream(self):
        self.upstream_port = free_port()
        self.upstream = subprocess.Popen(["taskset", "-c", "1", self.helper, "upstream", f"127.0.0.1:{self.upstream_port}"])
        wait_for(self.upstream_port, self.upstream, "upstream")

    def stop_upstream(self):
        if self.upstream:
            self.upstream.terminate()
            self.upstream.wait()

    @contextlib.contextmanager
    def upstream_at(self, port):
        """Contenders that start meanwhile forward to that port."""
        own, self.upstream_port = self.upstream_port, port
        try:
            yield
        finally:
            self.upstream_port = own

    def keys(self):
        """A keys file of the account that all loads but one use."""
        file = self.directory / "keys.toml"
        if not file.exists():
            subprocess.run([self.helper, "keys", str(file)], check=True)
        return file

    def certificate(self):
        if not (self.directory / "both.pem").exists():
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                            "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                            "-keyout", "key.pem", "-out", "cert.pem"], check=True, cwd=self.directory, capture_output=True)
            both = (self.directory / "cert.pem").read_text() + (self.directory / "key.pem").read_text()
            (self.directory / "both.pem").write_text(both)


class Contender:
    """One process: its name, its command with places to fill in, its configuration."""

    def __init__(self, name, command, template=None, *, refuses=False, tls=False, threads=1, accounts=None, label=None):
        self.kind, self.name, self.command, self.template = name, label or name, command, template
        self.refuses, self.tls, self.threads = refuses, tls, threads
        self.accounts, self.passthrough = accounts or 1, accounts is not None
        self.port, self.process = 0, None

    def start(self, bench):
        self.port, bench.count = free_port(), bench.count + 1
        if self.tls:
            bench.certificate()
        values = {**(REFUSING if self.refuses else FORWARDING), **(TLS if self.tls else PLAIN),
                  "LISTEN": f"127.0.0.1:{self.port}", "ADMIN": f"127.0.0.1:{free_port()}", "THREADS": str(self.threads),
                  "UPSTREAM": f"127.0.0.1:{bench.upstream_port}", "DIR": str(bench.directory), "HELPER": bench.helper,
                  "TOLLGATE": bench.tollgate, "MAXCONN": str(MAX_CONNECTIONS), "NUMBER": str(bench.count), "KEYS": str(bench.keys()),
                  # A keys file holds some 400,000 keys at most. Without one, every key is an account of its own.
                  "AUTH": 'mode = "passthrough"' if self.passthrough else 'keys_file = "@KEYS@"'}
        if self.template:
            values["CONFIG"] = str(bench.directory / f"{bench.count}-{self.template}")
            pathlib.Path(values["CONFIG"]).write_text(fill((HERE / self.template).read_text(), values))
        cores = "0" if self.threads == 1 else f"0-{self.threads - 1}"
        log = open(bench.directory / f"{bench.count}.log", "w")
        self.process = subprocess.Popen(["taskset", "-c", cores] + [fill(word, values) for word in self.command],
                                        stdout=log, stderr=log, cwd=bench.directory)
        wait_for(self.port, self.process, self.name)

    def processor_seconds(self):
        """User and system time of the process and its children, at the resolution of the kernel's run queue."""
        return sum(scheduled(pid)[0] for pid in family(self.process.pid))

    def waited_seconds(self):
        """How long it could have gone on but for others on its core."""
        return sum(scheduled(pid)[1] for pid in family(self.process.pid))

    def system_share(self):
        """Ticks of user and of system time so far."""
        stats = [pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in family(self.process.pid)]
        return sum(int(stat[11]) for stat in stats) / TICK, sum(int(stat[12]) for stat in stats) / TICK

    def resident_kib(self):
        """Memory in use, what processes share counted once."""
        total = 0
        for pid in family(self.process.pid):
            text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += int(re.search(r"^Pss:\s+(\d+)", text, re.M).group(1))
        return total

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def raw_forwarder(**options):
    return Contender("raw forwarder", ["@HELPER@", "forward", "@LISTEN@", "@UPSTREAM@"], **options)


def haproxy(**options):
    return Contender("haproxy", ["haproxy", "-db", "-f", "@CONFIG@"], "haproxy.cfg", **options)


def nginx(**options):
    return Contender("nginx", ["nginx", "-c", "@CONFIG@", "-p", "@DIR@"], "nginx.conf", **options)


def tollgate(name="tollgate", binary="@TOLLGATE@", template=None, **options):
    template = template or ("tollgate-refusing.toml" if options.get("refuses") else "tollgate.toml")
    return Contender(name, [binary, "run", "--config", "@CONFIG@"], template, **options)


def family(pid):
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid] + [one for child in children for one in family(int(child))]


def scheduled(pid):
    """Seconds on a processor and seconds waiting for one, summed over threads."""
    tasks = [(task / "schedstat").read_text().split() for task in pathlib.Path(f"/proc/{pid}/task").iterdir()]
    return sum(int(task[0]) for task in tasks) / 1e9, sum(int(task[1]) for task in tasks) / 1e9


def fill(text, values):
    # Twice: what is filled in may have places of its own.
    for _ in range(2):
        text = re.sub(r"@([A-Z_]+)@", lambda place: values[place.group(1)], text)
    return text


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port, process, name):
    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit(f"{name} ended at once")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"{name} does not listen")
