"""Random streams of requests through the gateway to a strict origin: what it gets is what the client meant, or nothing.

`TOLLGATE_DIFFERENTIAL_CASES` streams (2,000 unless told), from the seed `TOLLGATE_DIFFERENTIAL_SEED`. A failure names seed and
number, and a run with both repeats it. nginx and HAProxy, side by side, are the second opinion on what to refuse.
"""

import contextlib
import hashlib
import os
import shutil
import socket
import threading

import strict
from streams import MUTATIONS, SECRET, Generator
from support import DEADLINE_S, LOOPBACK, Case, Program, free_port, wait_until

CASES = int(os.environ.get("TOLLGATE_DIFFERENTIAL_CASES", "2000"))
SEED = os.environ.get("TOLLGATE_DIFFERENTIAL_SEED", "tollgate")
THREADS = 4
PEERS_PATIENCE_S = 2.0
UNKNOWN_KEY = 401

# What the gateway may add to a request, or change in one.
OWN = {b"host", b"content-length", b"transfer-encoding", b"via", b"request-id", b"traceparent", b"te", b"authorization"}
OWN_FAMILIES = (b"x-forwarded-", b"tollgate-")
# What it may leave out.
DROPPED = OWN | {b"connection", b"upgrade", b"http2-settings", b"expect"}


class StrictOrigin:
    """An origin that takes nothing it is not sure of, and remembers everything."""

    def __init__(self):
        self._lock = threading.Lock()
        # Whole requests by the text before the dash of their X-Case, in order of arrival.
        self.requests = {}
        # Every head that was understood, those whose body never ended too.
        self.heads = 0
        self.faults = []
        self._listener = socket.create_server((LOOPBACK, 0), backlog=256)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.close()

    def of(self, case):
        with self._lock:
            return list(self.requests.get(case, ()))

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        data, half = b"", None
        with contextlib.suppress(OSError), connection:
            while piece := connection.recv(65536):
                data += piece
                while data:
                    try:
                        found = strict.read_request(data)
                    except strict.Incomplete as incomplete:
                        half = incomplete.head
                        break
                    except strict.Bad as bad:
                        self._fault(f"{bad} in {data[:400]!r}")
                        return
                    if found is None:
                        self._fault(f"blank lines: {data[:100]!r}")
                        return
                    half = None
                    self._note(found[0])
                    data = data[found[1] :]
                    body = found[0].value(b"x-case") or b"?"
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        if half is not None:
            with self._lock:
                self.heads += 1

    def _fault(self, text):
        with self._lock:
            self.faults.append(text)

    def _note(self, request):
        case = (request.value(b"x-case") or b"?").split(b"-")[0].decode("latin-1")
        with self._lock:
            self.heads += 1
            self.requests.setdefault(case, []).append(request)


class Exchange:
    """What became of one stream: the answers, and whether the connection was closed behind them."""

    def __init__(self, port, stream, patience_s=DEADLINE_S):
        self.meant, self.end = strict.read_all(stream.data)
        self.statuses, self.is_closed, self.garbage = [], False, None
        with socket.create_connection((LOOPBACK, port), patience_s) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for piece in stream.pieces:
                    connection.sendall(piece)
            self._read(connection)

    def _read(self, connection):
        data = b""
        while not self._is_done():
            try:
                piece = connection.recv(65536)
            except ConnectionResetError:
                piece = b""
            data += piece
            while data:
                nth = len(self.statuses)
                method = self.meant[nth].first if nth < len(self.meant) else b"GET"
                try:
                    answer, length = strict.read_answer(data, method, not piece)
                except strict.Incomplete:
                    break
                except strict.Bad as bad:
                    self.garbage = f"{bad}: {data[:200]!r}"
                    return
                data = data[length:]
                if answer.second != b"100":
                    self.statuses.append(int(answer.second))
            if not piece:
                self.is_closed = True
                self.garbage = repr(data[:200]) if data else None
                return

    def _is_done(self):
        """A stream that ends well or in the midst of a request leaves nothing to wait for; anything else ends with a close."""
        refused = any(status >= 400 and status != UNKNOWN_KEY for status in self.statuses)
        return not refused and len(self.statuses) >= len(self.meant) and not self.end.startswith("bad")


def is_own(name):
    return name in OWN or name.startswith(OWN_FAMILIES)


def differences(meant, got):
    """How a request that the origin got differs from the one that the client meant."""
    found = []
    if got.first != meant.first:
        found.append(f"method {meant.first!r} became {got.first!r}")
    target = meant.second
    if target.startswith(b"http://"):
        target = b"/" + target[7:].partition(b"/")[2]
    # What is made canonical on the way is the path fuzzer's matter.
    is_plain = not any(mark in target.partition(b"?")[0] for mark in (b"..", b'"', b"//"))
    if is_plain and got.second != target:
        found.append(f"target {target!r} became {got.second!r}")
    if got.body != meant.body:
        found.append(f"body {meant.body[:80]!r} became {got.body[:80]!r}")
    named = {name.strip().lower() for value in meant.values(b"connection") for name in value.split(b",")}
    theirs = [field for field in meant.fields if field[0] not in DROPPED | named and not is_own(field[0])]
    ours = [field for field in got.fields if not is_own(field[0])]
    if sorted(theirs) != sorted(ours):
        found.append(f"fields {theirs} became {ours}")
    return found


class OriginCase(Case):
    """A gateway in front of a strict origin."""

    def setUp(self):
        super().setUp()
        self.origin = self.use(StrictOrigin())
        # A key that the generator knows.
        self.keys.new("acct_platform")
        hashed = hashlib.sha256(SECRET).hexdigest()
        entry = f'\n[[keys]]\nid = "key_streams"\nhash = "sha256:{hashed}"\naccount = "acct_streams"\nmode = "test"\n'
        self.keys.path.write_text(self.keys.path.read_text() + entry)
        self.gateway = self.start_gateway(
            f'[upstreams.api]\nservers = ["http://{LOOPBACK}:{self.origin.port}"]\n'
            '[[limits]]\nname = "all"\nstage = "global"\nrate = "1000000/s"\nburst = 1000000\n'
        )


class Streams(OriginCase):
    """The gateway between a client that may do anything and an origin that forgives nothing."""

    def test_what_the_origin_gets_is_what_the_client_meant(self):
        generator, failures, counts = Generator(SEED), [], {}
        in_bodies = [0]

        def one(number):
            stream = generator.stream(number)
            exchange = Exchange(self.gateway.port, stream)
            wrong = self.judge(stream, exchange)
            if exchange.end != "clean" or stream.mutation in FAULTY_BODIES:
                in_bodies[0] += 1
            outcome = "refused" if any(status >= 400 for status in exchange.statuses) else "served"
            kind = "good" if stream.mutation is None else "bad"
            counts[kind, outcome] = counts.get((kind, outcome), 0) + 1
            failures.extend(f"{SEED}/{number}, {stream.mutation}: {text}" for text in wrong)

        in_threads(one, range(CASES), failures)
        self.assertEqual(failures[:5], [], f"{len(failures)} in all")
        self.assertEqual(self.origin.faults, [], "the origin got what it cannot be sure of")
        self.assertEqual(self.origin.of("smuggled"), [])
        self.assertEqual(self.origin.of("?"), [])
        # Both of both kinds are there, so the generator still does its work.
        self.assertGreater(counts["good", "served"], CASES // 5)
        self.assertGreater(counts["bad", "refused"], CASES // 5)
        self.assertEqual(counts.get(("good", "refused"), 0), 0)
        wait_until("everything has ended", lambda: self.gateway.in_flight() == 0)
        admitted = self.gateway.metric("tollgate_decisions_total", limit="all", verdict="admit")
        # A request whose body turns out to be bad may end before anything of it was sent.
        self.assertLessEqual(self.origin.heads, admitted, "a request was executed that no limit has counted")
        self.assertLessEqual(admitted, self.origin.heads + in_bodies[0], "requests were counted that never came")

    def judge(self, stream, exchange):
        """What is wrong with how the gateway dealt with a stream."""
        wrong = []
        got = self.origin.of(str(stream.number))
        # A key that was spoilt ends nothing: the framing is not in doubt, and the requests behind it are served.
        keyless = {nth for nth, status in enumerate(exchange.statuses) if status == UNKNOWN_KEY}
        meant = [request for nth, request in enumerate(exchange.meant) if nth not in keyless]
        statuses = [status for status in exchange.statuses if status != UNKNOWN_KEY]
        if exchange.garbage:
            wrong.append(f"an answer that cannot be read: {exchange.garbage}")
        if len(got) > len(meant):
            wrong.append(f"{len(got)} requests were executed and {len(meant)} were meant")
        for nth, (own, theirs) in enumerate(zip(meant, got)):
            wrong += [f"request {nth}: {text}" for text in differences(own, theirs)]
        served = len([status for status in statuses if status < 400])
        if served != len(got):
            wrong.append(f"{served} answers for {len(got)} requests executed: {statuses}")
        refused = len(statuses) > served
        if refused and (statuses[-1] < 400 or len(statuses) - served != 1 or statuses[-1] >= 500 and statuses[-1] not in (501, 505)):
            wrong.append(f"answers {statuses}")
        if refused and not exchange.is_closed:
            wrong.append("refused, and the connection stays open")
        if not refused and (exchange.end.startswith("bad") or len(got) < len(meant)):
            wrong.append(f"neither served nor refused ({exchange.end}): {statuses}, {len(got)} of {len(meant)}")
        return wrong

    def test_nothing_passes_that_other_proxies_refuse(self):
        """Every disagreement with nginx or HAProxy where they refuse and we pass has its reason."""
        peers = {"nginx": self.use(Nginx(self.folder)), "HAProxy": self.use(HaProxy(self.folder))}
        generator, seen, failures = Generator(SEED + " alone"), {}, []
        names = sorted(set(MUTATIONS) - {"a nasty byte"})

        def compare(number):
            stream = generator.stream(number, names[number])
            Exchange(self.gateway.port, stream)
            if not self.origin.of(str(number)):
                return
            for peer_name, peer in peers.items():
                # What a peer neither answers nor closes, it does not refuse.
                with contextlib.suppress(TimeoutError):
                    theirs = Exchange(peer.port, stream, PEERS_PATIENCE_S)
                    if not peer.origin.of(str(number)) and theirs.statuses and theirs.statuses[-1] >= 400:
                        seen.setdefault(names[number], set()).add(peer_name)

        in_threads(compare, range(len(names)), failures)
        self.assertEqual(failures, [])
        unexplained = {name: sorted(peers) for name, peers in seen.items() if name not in PASSED_ON_PURPOSE}
        self.assertEqual(unexplained, {}, "refused by others, passed by us")
        gone = sorted(name for name in PASSED_ON_PURPOSE if name not in seen)
        self.assertEqual(gone, [], "no disagreement any more: take it off the list")


# Faults that show only when the head has been admitted.
FAULTY_BODIES = {name for name in MUTATIONS if name.startswith(("chunk:", "trailer"))} | {"a nasty byte"}

# What nginx or HAProxy refuses and we pass, and why.
PASSED_ON_PURPOSE = {
    "chunked behind a tab": "as with the host: the coding is read trimmed, and is never sent on as it came",
    "dots above the root": "the path ends at the root, as RFC 3986 section 5.2.4 has it, and goes on in that form",
    "tabs around the host": "a tab is a blank around any value (RFC 9110 section 5.6.3), and goes on trimmed",
}


def in_threads(work, items, failures):
    """Does `work` for each item on a few threads; what raises is a failure."""
    items, lock = iter(items), threading.Lock()

    def run():
        while True:
            with lock:
                item = next(items, None)
            if item is None or len(failures) > 50:
                return
            try:
                work(item)
            except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to this item
                failures.append(f"{item}: {error!r}")

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def program(name):
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if not found:
        raise AssertionError(f"{name} is not installed; scripts/test installs it")
    return found


class Peer(Program):
    """Another proxy in front of a strict origin of its own."""

    def __init__(self, arguments, folder, name):
        super().__init__(arguments, folder, name)
        wait_until(f"{name} listens", lambda: self.must_live() and self._listens())

    def _listens(self):
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, self.port), 1):
            return True
        return False

    def close(self):
        super().close()
        self.origin.close()


NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr crit;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/nginx-1; proxy_temp_path {folder}/nginx-2; fastcgi_temp_path {folder}/nginx-3;
    uwsgi_temp_path {folder}/nginx-4; scgi_temp_path {folder}/nginx-5;
    server {{
        listen {host}:{port};
        location / {{ proxy_pass http://{host}:{origin}; proxy_http_version 1.1; proxy_request_buffering off; }}
    }}
}}
"""


class Nginx(Peer):
    """nginx as it comes."""

    def __init__(self, folder):
        self.origin, self.port = StrictOrigin(), free_port()
        path = os.path.join(folder, "nginx.conf")
        with open(path, "w") as file:
            file.write(NGINX.format(folder=folder, host=LOOPBACK, port=self.port, origin=self.origin.port))
        super().__init__([program("nginx"), "-p", folder, "-c", path], folder, "nginx")


HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend f
    bind {host}:{port}
    default_backend b
backend b
    server s {host}:{origin}
"""


class HaProxy(Peer):
    """HAProxy as it comes."""

    def __init__(self, folder):
        self.origin, self.port = StrictOrigin(), free_port()
        path = os.path.join(folder, "haproxy.cfg")
        with open(path, "w") as file:
            file.write(HAPROXY.format(host=LOOPBACK, port=self.port, origin=self.origin.port))
        super().__init__([program("haproxy"), "-db", "-f", path], folder, "haproxy")
