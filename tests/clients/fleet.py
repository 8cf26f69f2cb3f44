"""Many gateways on one Redis, one upstream that counts, and load that does not wait for answers.

Everything is driven by one event loop, so that a few hundred requests a second leave at their moments whatever the answers do.
"""

import asyncio
import contextlib
import dataclasses
import pathlib
import re
import shutil
import socket
import time

from support import DEADLINE_S, LOOPBACK, Gateway, Program, free_port, wait_until

# A request that has not been answered by then is lost.
ANSWER_S = 30.0
# Ports are picked by asking for a free one, which somebody else may take first.
TRIES = 5
# Of a cluster's keys.
SLOTS = 16384


class Redis(Program):
    """redis-server on loopback, with nothing kept on disk."""

    def __init__(self, folder, name="redis", lines=()):
        if not shutil.which("redis-server"):
            raise AssertionError("redis-server is missing: install Debian's package of that name")
        self.folder, self.label, self.lines = pathlib.Path(folder), name, list(lines)
        for _ in range(TRIES):
            self.port = free_port()
            with contextlib.suppress(AssertionError):
                self.run()
                return
        raise AssertionError("redis-server does not start")

    def run(self):
        directory = self.folder / self.label
        directory.mkdir(exist_ok=True)
        lines = [f"port {self.port}", f"bind {LOOPBACK}", "save \"\"", "appendonly no", f"dir {directory}", *self.lines]
        (directory / "redis.conf").write_text("\n".join(lines) + "\n")
        super().__init__(["redis-server", str(directory / "redis.conf")], self.folder, self.label)
        wait_until("Redis answers", lambda: self.must_live() and self.answers())

    def answers(self):
        with contextlib.suppress(OSError):
            return f"process_id:{self.process.pid}\r" in str(self.ask("INFO", "server"))
        return False

    def restart(self):
        self.kill()
        wait_until("Redis starts again", self._starts)

    def _starts(self):
        with contextlib.suppress(AssertionError):
            self.run()
            return True
        return False

    def ask(self, *words):
        """One command and its answer, as Redis's protocol has it: numbers, texts, lists, `None`."""
        with socket.create_connection((LOOPBACK, self.port), DEADLINE_S) as connection:
            parts = [str(word).encode() for word in words]
            request = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
            connection.sendall(b"*%d\r\n" % len(parts) + request)
            with connection.makefile("rb") as stream:
                return read_reply(stream)

    topology = "single"

    def url(self):
        return f"redis://{LOOPBACK}:{self.port}"

    def urls(self):
        return [self.url()]

    def bring_back(self):
        """Starts it if it does not run."""
        if self.process.poll() is not None:
            self.restart()

    def calls(self):
        """How often scripts were run: what gateways call for limits."""
        stats = str(self.ask("INFO", "commandstats"))
        return sum(int(count) for count in re.findall(r"cmdstat_(?:evalsha|fcall):calls=(\d+)", stats))


class Cluster:
    """Three primaries of Redis Cluster, each with a replica that takes over when it is lost."""

    topology = "cluster"

    def __init__(self, folder):
        self.nodes = []
        try:
            for number in range(6):
                lines = ["cluster-enabled yes", f"cluster-port {free_port()}", "cluster-node-timeout 1000",
                         "cluster-require-full-coverage no", "cluster-replica-validity-factor 0"]
                self.nodes.append(Redis(folder, f"node-{number}", lines))
            self.primaries, self.replicas = self.nodes[:3], self.nodes[3:]
            self._join()
        except BaseException:
            self.close()
            raise

    def _join(self):
        for number, primary in enumerate(self.primaries):
            primary.ask("CLUSTER", "ADDSLOTSRANGE", SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1)
            primary.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        first = self.nodes[0]
        bus = next(line.split()[1] for line in first.lines if line.startswith("cluster-port"))
        for node in self.nodes[1:]:
            node.ask("CLUSTER", "MEET", LOOPBACK, first.port, bus)
        for primary, replica in zip(self.primaries, self.replicas):
            name = primary.ask("CLUSTER", "MYID")
            # Refused until the replica has heard of its primary.
            wait_until("a replica takes its place", lambda: replica.ask("CLUSTER", "REPLICATE", name) == "OK")
        for node in self.nodes:
            wait_until("the cluster agrees", lambda: self._agrees(node.ask("CLUSTER", "INFO")))
        for replica in self.replicas:
            wait_until("a replica is in step", lambda: "master_link_status:up" in replica.ask("INFO", "replication"))

    def _agrees(self, info):
        return all(f"{line}\r" in info for line in ("cluster_state:ok", f"cluster_slots_ok:{SLOTS}", "cluster_known_nodes:6"))

    def urls(self):
        return [primary.url() for primary in self.primaries]

    def bring_back(self):
        """Who was lost stays lost: a replica has taken over."""

    def close(self):
        for node in self.nodes:
            node.close()


def read_reply(stream):
    line = stream.readline().rstrip(b"\r\n")
    kind, rest = line[:1], line[1:]
    if kind == b"$":
        return None if rest == b"-1" else stream.read(int(rest) + 2)[:-2].decode()
    if kind == b"*":
        return None if rest == b"-1" else [read_reply(stream) for _ in range(int(rest))]
    return int(rest) if kind == b":" else rest.decode()


class Member(Gateway):
    """One gateway of a fleet, in a folder of its own with the keys of all."""

    def __init__(self, folder, keys, body, name):
        self.name_of_it = name
        own = pathlib.Path(folder) / name
        own.mkdir()
        shutil.copy(keys.path, own / keys.path.name)
        super().__init__(own, keys, body, server="threads = 1")


class Fleet:
    """`count` gateways with the same configuration."""

    def __init__(self, folder, keys, upstream_port, store, limits, count):
        body = f'[upstreams.api]\nservers = ["http://{LOOPBACK}:{upstream_port}"]\n[store]\n{store}\n{limits}'
        self.members = []
        try:
            for number in range(count):
                self.members.append(Member(folder, keys, body, f"gateway-{number}"))
        except BaseException:
            self.close()
            raise

    def close(self):
        for member in self.members:
            member.close()


class CountingUpstream:
    """Answers every request after `hold_s` and counts: how many, when, and how many at once."""

    def __init__(self, hold_s=0.0):
        self.hold_s, self.moments, self.at_once, self.most_at_once = hold_s, [], 0, 0

    async def start(self):
        self.server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self.port = self.server.sockets[0].getsockname()[1]

    async def _serve(self, reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.moments.append(time.monotonic())
                self.at_once += 1
                self.most_at_once = max(self.most_at_once, self.at_once)
                try:
                    if self.hold_s:
                        await asyncio.sleep(self.hold_s)
                finally:
                    # Before the answer leaves: the gateway may give the place to another as soon as it has it.
                    self.at_once -= 1
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
                await writer.drain()
        writer.close()

    def close(self):
        self.server.close()


@dataclasses.dataclass
class Seen:
    """What became of the requests."""

    sent: int = 0
    statuses: dict = dataclasses.field(default_factory=dict)
    lost: int = 0
    seconds: list = dataclasses.field(default_factory=list)

    def note(self, status, seconds):
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.seconds.append(seconds)

    @property
    def slowest_s(self):
        return max(self.seconds, default=0.0)

    def count(self, status):
        return self.statuses.get(status, 0)

    def failures(self):
        """Answers that neither an API nor a limit gives."""
        return {status: count for status, count in self.statuses.items() if status not in (200, 429)}


class Client:
    """Connections to one gateway, as many as are needed at once."""

    def __init__(self, port, secret):
        self.port, self.idle = port, []
        self.request = f"GET /v1/charges HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer {secret}\r\n\r\n".encode()

    async def ask(self, seen):
        began = time.monotonic()
        seen.sent += 1
        try:
            status = await asyncio.wait_for(self._once(), ANSWER_S)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, ValueError):
            seen.lost += 1
            return
        seen.note(status, time.monotonic() - began)

    async def _once(self):
        reader, writer = self.idle.pop() if self.idle else await asyncio.open_connection(LOOPBACK, self.port)
        try:
            writer.write(self.request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = re.search(r"\r\ncontent-length: *(\d+)", head)
            await reader.readexactly(int(length.group(1)) if length else 0)
        except BaseException:
            writer.close()
            raise
        self.idle.append((reader, writer))
        return int(head.split(" ", 2)[1])

    def close(self):
        for _, writer in self.idle:
            writer.close()


async def flood(ports, secret, rate, seconds, share_of_first=None):
    """`rate` requests a second for so long, spread evenly over the gateways or so much of them at the first."""
    clients, seen, tasks = [Client(port, secret) for port in ports], Seen(), set()
    start, number = time.monotonic(), 0
    while True:
        due = start + number / rate
        if due >= start + seconds:
            break
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        task = asyncio.ensure_future(clients[choose(number, len(clients), share_of_first)].ask(seen))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        number += 1
    if tasks:
        await asyncio.wait(tasks)
    for client in clients:
        client.close()
    return seen


def choose(number, count, share_of_first):
    """The gateway of the request with this number: the same in every run."""
    if share_of_first is None or count == 1:
        return number % count
    tenth = round(share_of_first * 10)
    if number % 10 < tenth:
        return 0
    # The others in turn.
    return 1 + (number // 10 * (10 - tenth) + number % 10 - tenth) % (count - 1)


def most_in_window(moments, window_s):
    """The most requests that reached the upstream within any span of this length."""
    most, first = 0, 0
    for last, moment in enumerate(moments):
        while moment - moments[first] >= window_s:
            first += 1
        most = max(most, last - first + 1)
    return most
