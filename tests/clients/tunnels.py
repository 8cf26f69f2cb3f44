"""WebSocket through the upgrade path: an echo server, Autobahn's cases with and without the gateway, and a few of our own."""

import asyncio
import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import threading

import websockets.asyncio.client
import websockets.asyncio.server
import websockets.exceptions

from support import DEADLINE_S, LOOPBACK

MOST_BYTES = 32 << 20


class Echo:
    """Sends every message back, on a thread of its own."""

    def __enter__(self):
        ready = threading.Event()
        self._loop = asyncio.new_event_loop()

        async def serve():
            self._over = asyncio.Event()
            async with websockets.asyncio.server.serve(self._echo, LOOPBACK, 0, max_size=MOST_BYTES) as server:
                self.port = server.sockets[0].getsockname()[1]
                ready.set()
                await self._over.wait()

        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(serve(),), daemon=True)
        self._thread.start()
        ready.wait(DEADLINE_S)
        return self

    def __exit__(self, *error):
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(DEADLINE_S)

    async def _echo(self, connection):
        try:
            async for message in connection:
                await connection.send(message)
        except websockets.exceptions.ConnectionClosed:
            pass


class Splice:
    """Passes connections on with an API key in their head, for clients that cannot send one."""

    def __init__(self, port, secret):
        self.target, self.line = port, f"Authorization: Bearer {secret}\r\n".encode()

    def __enter__(self):
        self._listener = socket.create_server((LOOPBACK, 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error):
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client):
        with client, socket.create_connection((LOOPBACK, self.target)) as server:
            first = client.recv(65536)
            line, _, rest = first.partition(b"\r\n")
            server.sendall(line + b"\r\n" + self.line + rest)
            back = threading.Thread(target=copy, args=(server, client), daemon=True)
            back.start()
            copy(client, server)
            back.join()


def copy(source, sink):
    try:
        while piece := source.recv(65536):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        # Whoever reads the other end sees it too.
        for one in (source, sink):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def plain_cases(port, secret):
    """Texts and bytes of every length that framing treats differently, fragments, pings, compression, both ends' goodbyes."""
    lengths = (0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20, 8 << 20)
    uri, headers = f"ws://{LOOPBACK}:{port}/v1/socket", {"Authorization": f"Bearer {secret}"}

    async def talk(compression):
        options = {"additional_headers": headers, "max_size": MOST_BYTES, "compression": compression}
        async with websockets.asyncio.client.connect(uri, **options) as connection:
            for length in lengths:
                for message in ("é" * (length // 2), os.urandom(length)):
                    await connection.send(message)
                    assert await connection.recv() == message, f"{length} bytes"
            await connection.send(["in ", "three ", "pieces"])
            assert await connection.recv() == "in three pieces"
            await asyncio.wait_for(await connection.ping(), DEADLINE_S)
        assert connection.close_code == 1000, connection.close_code
        return 2 * len(lengths) + 3

    async def both():
        return [await asyncio.wait_for(talk(compression), 120) for compression in (None, "deflate")]

    try:
        return f"the `websockets` client: {sum(asyncio.run(both()))} cases good"
    except (AssertionError, OSError, websockets.exceptions.WebSocketException) as error:
        return f"! the `websockets` client: {error!r}"


def autobahn_command():
    """Autobahn's program and its environment, or `None` where no Python 2.7 with it is at hand: it runs on nothing newer."""
    folder = pathlib.Path("target/conformance/autobahn").resolve()
    names = [os.environ.get("PYTHON2", ""), "python2.7", *map(str, pathlib.Path.home().glob(".pyenv/versions/2.7*/bin/python"))]
    for python in filter(None, map(shutil.which, filter(None, names))):
        works = subprocess.run([python, "--version"], capture_output=True, timeout=60, check=False).returncode == 0
        if not works:
            continue
        if not (folder / "autobahntestsuite").exists():
            install = [python, "-m", "pip", "install", "--quiet", "--target", str(folder), "autobahntestsuite==0.8.2"]
            if subprocess.run(install, capture_output=True, timeout=600, check=False).returncode != 0:
                continue
        # Its libraries share the package `zope`, which a plain path does not put together.
        start = "import site, sys; site.addsitedir(sys.argv.pop(1)); from autobahntestsuite.wstest import run; run()"
        return [python, "-c", start, str(folder)], os.environ
    return None


def verdict(case):
    """How a case ended. "NON-STRICT" passes too: whether an echo comes before the goodbye depends on what arrived in one read."""
    if case is None:
        return "not run"
    return ("OK" if case["behavior"] == "NON-STRICT" else case["behavior"], case["behaviorClose"])


def compare_with_autobahn(direct_port, gateway_port, outputs, *, quick):
    """Every case against the echo server alone and through the gateway: what differs is the gateway's."""
    found = autobahn_command()
    if found is None:
        return "Autobahn was not run: it needs Python 2.7"
    command, environment = found
    reports = outputs / "autobahn"
    shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir(parents=True)
    # Those of compression are between the two ends: to a tunnel their messages are bytes like others, and they take hours.
    excluded = ["9.*", "12.*", "13.*"] if quick else ["12.*", "13.*"]
    agents = {"direct": direct_port, "through": gateway_port}
    spec = {
        "outdir": str(reports),
        "servers": [{"agent": name, "url": f"ws://{LOOPBACK}:{port}/v1/socket"} for name, port in agents.items()],
        "cases": ["*"],
        "exclude-cases": excluded,
        "exclude-agent-cases": {},
    }
    path = reports / "spec.json"
    path.write_text(json.dumps(spec))
    with open(outputs / "autobahn.txt", "wb") as log:
        options = {"stdout": log, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL, "timeout": 3000, "check": False}
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run([*command, "-m", "fuzzingclient", "-s", str(path)], env=environment, **options)
    try:
        index = json.loads((reports / "index.json").read_text())
        direct, through = index["direct"], index["through"]
    except (OSError, ValueError, KeyError) as error:
        return f"! Autobahn left no report: {error!r}"
    differ = [name for name in direct if verdict(direct[name]) != verdict(through.get(name))]
    if differ:
        shown = [f"{name}: {verdict(direct[name])} alone, {verdict(through.get(name))} through" for name in differ[:5]]
        return f"! Autobahn: {len(differ)} of {len(direct)} cases end otherwise: {'; '.join(shown)}"
    kinds = {}
    for case in through.values():
        kinds[case["behavior"]] = kinds.get(case["behavior"], 0) + 1
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return f"Autobahn: all of {len(direct)} cases but those of compression end as they do without the gateway ({told})"
