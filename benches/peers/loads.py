"""The load generators. Each runs on the second core, for a bounded time, and gives what it saw: requests done and refused,
errors, the rate, and waits in microseconds."""
import json
import pathlib
import re
import subprocess

from contenders import free_port, scheduled, wait_for

HERE = pathlib.Path(__file__).resolve().parent
SECRET = "sk_live_" + "0" * 48
HEADERS = [f"Authorization: Bearer {SECRET}", "Accept: application/json", "User-Agent: Stripe/v1 PythonBindings/12.0.0"]
PATH = "/v1/charges?limit=3"
PINNED = ["taskset", "-c", "1"]


def wrk(contender, connections, seconds, script=None, argument=None):
    """A closed loop over HTTP/1.1."""
    scheme = "https" if contender.tls else "http"
    command = PINNED + ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "--latency"]
    for header in HEADERS:
        command += ["-H", header]
    if script:
        command += ["-s", str(HERE / script)]
    command += [f"{scheme}://127.0.0.1:{contender.port}{PATH}"] + (["--", str(argument)] if argument is not None else [])
    text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 120).stdout
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    errors = re.search(r"Socket errors: (.*)", text)
    return {"requests": int(re.search(r"(\d+) requests in", text).group(1)),
            "rate": float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1)),
            "refused": int(refused.group(1)) if refused else 0, "errors": errors.group(1) if errors else None,
            "p50": microseconds(re.search(r"\s50%\s+(\S+)", text).group(1)),
            "p99": microseconds(re.search(r"\s99%\s+(\S+)", text).group(1))}


def h2load(contender, connections, streams, seconds):
    """A closed loop over HTTP/2."""
    scheme = "https" if contender.tls else "http"
    command = PINNED + ["h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-D{seconds}"]
    for header in HEADERS:
        command += ["-H", header]
    text = subprocess.run(command + [f"{scheme}://127.0.0.1:{contender.port}{PATH}"], check=True, capture_output=True, text=True,
                          timeout=seconds + 60).stdout
    done, failed = (int(n) for n in re.search(r"(\d+) succeeded, (\d+) failed", text).groups())
    refused = int(re.search(r"(\d+) 4xx", text).group(1))
    mean = microseconds(re.search(r"time for request:\s+\S+\s+\S+\s+(\S+)", text).group(1))
    return {"requests": done, "rate": done / seconds, "refused": refused, "errors": f"{failed} failed" if failed else None,
            "p50": mean, "p99": float("nan")}


def closed(contender, bench, connections, seconds, accounts, seed):
    """A closed loop over HTTP/1.1, each request by one of many accounts (`helper/closed.rs`)."""
    command = PINNED + [bench.helper, "closed", f"127.0.0.1:{contender.port}", str(seconds), str(connections), str(accounts), str(seed)]
    out = subprocess.run(command + HEADERS, check=True, capture_output=True, text=True, timeout=seconds + 60).stdout
    seen = json.loads(out)
    return {"errors": f"{seen['other']} other answers" if seen["other"] else None, **seen}


class OpenLoop:
    """An open loop over HTTP/1.1 that is the upstream as well, while this is (`helper/open.rs`)."""

    def __init__(self, bench):
        self.port = free_port()
        command = PINNED + [bench.helper, "open", f"127.0.0.1:{self.port}"] + HEADERS
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        wait_for(self.port, self.process, "open loop")
        return self

    def run(self, port, rate, connections, seconds):
        """A load on that port, which may be its own."""
        self.process.stdin.write(f"127.0.0.1:{port} {rate} {seconds} {connections}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the open loop ended")
        seen = json.loads(line)
        return {"rate": seen["requests"] / seconds, "refused": 0, "errors": None, **seen}

    def waited_seconds(self):
        return scheduled(self.process.pid)[1]

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(30)


def pace(contender, bench, rate, connections, seconds):
    """An open loop over HTTP/1.1 that leaves its core to others (`helper/pace.rs`)."""
    command = PINNED + [bench.helper, "pace", f"127.0.0.1:{contender.port}", str(rate), str(seconds), str(connections)]
    out = subprocess.run(command + HEADERS, check=True, capture_output=True, text=True, timeout=seconds + 60).stdout
    seen = json.loads(out)
    return {"rate": seen["requests"] / seconds, "refused": 0, "errors": None, **seen}


class Held:
    """Connections that are open and do nothing while this is."""

    def __init__(self, contender, bench, count):
        command = PINNED + [bench.helper, "hold", f"127.0.0.1:{contender.port}", str(count)] + HEADERS
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        if self.process.stdout.readline() != "ready\n":
            raise SystemExit("the connections to hold could not be made")
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(30)


def microseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(number) * {"us": 1, "ms": 1e3, "s": 1e6, "m": 6e7}[unit]
