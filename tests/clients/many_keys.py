"""A gateway whose API keys are in Redis, many of them: how long it takes to load them, what they take in memory, and how soon a
revoked one and a new one among them are seen.

Usage: many_keys.py [--keys N]      (TOLLGATE_BIN names another build than target/debug/tollgate)
"""

import argparse
import hashlib
import socket
import sys
import tempfile
import time
import urllib.error
import urllib.request

from fleet import Redis, read_reply
from support import BINARY, LOOPBACK, Program, free_port, wait_until

# What interface.md promises of a change.
SEEN_WITHIN_S = 1.0
CHANGES = 5
LOAD_S = 600
BATCH = 5_000

CONFIG = """
[server]
listen = "{host}:{port}"
threads = 1
[admin]
listen = "{host}:{admin}"
[auth]
store = "redis"
[upstreams.api]
servers = ["http://{host}:1"]
[store]
kind = "redis"
urls = ["{url}"]
"""


def secret(number):
    return f"sk_live_{number:048x}"


def entry(number):
    """What `tollgate keys new` writes: a field and its text."""
    field = "sha256:" + hashlib.sha256(secret(number).encode()).hexdigest()
    lines = ["[[keys]]", f'id = "key_{number}"', f'hash = "{field}"', f'account = "acct_{number}"', 'mode = "live"', 'kind = "secret"']
    return field, "\n".join(lines) + "\n"


def fill(redis, count):
    """The board, as if every key had been written by the command; its log holds the last one only."""
    board = "{tollgate:board:keys}:"
    with socket.create_connection((LOOPBACK, redis.port), LOAD_S) as connection, connection.makefile("rb") as stream:
        for begin in range(0, count, BATCH):
            entries, names = [b"HSET", board + "entries"], [b"HSET", board + "names"]
            for number in range(begin, min(begin + BATCH, count)):
                field, text = entry(number)
                entries += [field, text]
                names += [f"key_{number}", field]
            for words in (entries, names):
                parts = [word if isinstance(word, bytes) else word.encode() for word in words]
                connection.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
                read_reply(stream)
    redis.ask("LPUSH", board + "log", f"1:00:{entry(count - 1)[0]}")


class Keyed(Program):
    """A gateway that has no keys but those in Redis, and an upstream that is not there."""

    def __init__(self, folder, redis):
        self.port, self.admin = free_port(), free_port()
        self.config = f"{folder}/tollgate.toml"
        with open(self.config, "w") as file:
            file.write(CONFIG.format(host=LOOPBACK, port=self.port, admin=self.admin, url=redis.url()))
        super().__init__([str(BINARY), "run", "--config", self.config], folder, "gateway")

    def status(self, port, path, key=None):
        request = urllib.request.Request(f"http://{LOOPBACK}:{port}{path}", headers={"Authorization": f"Bearer {key}"} if key else {})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    def is_ready(self):
        self.must_live()
        return self.status(self.admin, "/readyz") == 200

    def knows(self, number):
        return self.status(self.port, "/v1/charges", secret(number)) != 401

    def memory_mib(self, what="VmRSS"):
        with open(f"/proc/{self.process.pid}/status") as file:
            return next(int(line.split()[1]) / 1024 for line in file if line.startswith(what))


def change(folder, gateway, redis, *words):
    """One change by the command, and how many seconds after it was made it is seen."""
    program = Program([str(BINARY), "keys", *words, "--config", gateway.config], folder, "keys")
    if program.wait_exit() != 0:
        raise AssertionError(program.log())


def seconds_until(condition):
    began = time.monotonic()
    wait_until("a change is seen", condition)
    return time.monotonic() - began


def measure(folder, count):
    redis = Redis(folder)
    try:
        fill(redis, count)
        began = time.monotonic()
        gateway = Keyed(folder, redis)
        try:
            wait_until("the keys are there", gateway.is_ready, LOAD_S)
            loaded = time.monotonic() - began
            if not all(gateway.knows(number) for number in (0, count // 2, count - 1)) or gateway.knows(count):
                raise AssertionError("the keys are not those that were written")
            memory, peak = gateway.memory_mib(), gateway.memory_mib("VmHWM")
            seen = []
            for number in range(CHANGES):
                change(folder, gateway, redis, "revoke", f"key_{number}")
                seen.append(seconds_until(lambda number=number: not gateway.knows(number)))
            stored = int(redis.ask("INFO", "memory").split("used_memory:")[1].split()[0]) / 2**20
            after = gateway.memory_mib()
        finally:
            gateway.close()
        print(f"{count} keys: ready after {loaded:.1f} s, {memory:.0f} MiB resident (at most {peak:.0f} MiB), {after:.0f} MiB after "
              f"{CHANGES} were revoked; {stored:.0f} MiB in Redis; a revoked key was refused after {max(seen) * 1000:.0f} ms at most")
        return max(seen) <= SEEN_WITHIN_S
    finally:
        redis.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tollgate-keys-") as folder:
        sys.exit(not measure(folder, arguments.keys))


if __name__ == "__main__":
    main()
