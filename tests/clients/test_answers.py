"""Random answers of an upstream through the gateway: the client reads what the upstream meant, a 502, or a broken answer.

`TOLLGATE_DIFFERENTIAL_CASES` and `TOLLGATE_DIFFERENTIAL_SEED` as in `test_differential.py`; of the cases one in four.
"""

import contextlib
import random
import socket
import threading

import strict
from streams import chunks_of
from support import DEADLINE_S, LOOPBACK, Case, wait_until
from test_differential import CASES, SEED, in_threads

# Requests on one connection of a client.
ROW = 5

# What is done to the head, the framing and the body of an answer; each keeps the first two or changes them.
FRAMINGS = {
    "both framings": (b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"0\r\n\r\n"),
    "two lengths": (b"Content-Length: 5\r\nContent-Length: 6", b"helloo"),
    "a list of lengths": (b"Content-Length: 5, 5", b"hello"),
    "a signed length": (b"Content-Length: +5", b"hello"),
    "a negative length": (b"Content-Length: -5", b"hello"),
    "a length that is no number": (b"Content-Length: five", b"hello"),
    "a short body": (b"Content-Length: 500", b"hello"),
    "gzip, chunked": (b"Transfer-Encoding: gzip, chunked", b"5\r\nhello\r\n0\r\n\r\n"),
    "chunked twice": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n"),
    "a bad chunk": (b"Transfer-Encoding: chunked", b"5\r\nhello\r\nzz\r\n"),
    "a signed chunk": (b"Transfer-Encoding: chunked", b"+5\r\nhello\r\n0\r\n\r\n"),
    "a chunk too long": (b"Transfer-Encoding: chunked", b"6\r\nhello\r\n0\r\n\r\n"),
    "chunks without an end": (b"Transfer-Encoding: chunked", b"5\r\nhello\r\n"),
    "an enormous chunk": (b"Transfer-Encoding: chunked", b"ffffffffffffffff\r\nhello"),
    "a cut chunk": (b"Transfer-Encoding: chunked", b"5\r\nhel"),
    "a fold": (b"X-Fold: a\r\n b\r\nContent-Length: 5", b"hello"),
    "no colon": (b"nothing\r\nContent-Length: 5", b"hello"),
    "NUL in a value": (b"X-Nul: a\0b\r\nContent-Length: 5", b"hello"),
    "bare CR in a value": (b"X-Cr: a\rb\r\nContent-Length: 5", b"hello"),
    "a blank before the colon": (b"X-Blank : a\r\nContent-Length: 5", b"hello"),
    "a second answer": (b"Content-Length: 5", b"helloHTTP/1.1 200 OK\r\nX-Case: evil\r\nContent-Length: 4\r\n\r\nevil"),
    "a half answer behind": (b"Content-Length: 5", b"helloHTTP/1.1 200 OK\r\nX-Ca"),
}
FIRST_LINES = {
    "a status of two digits": b"HTTP/1.1 99 Low",
    "a status of four digits": b"HTTP/1.1 1000 High",
    "another protocol": b"ICY 200 OK",
    "no status": b"HTTP/1.1",
    "HTTP/2": b"HTTP/2.0 200 OK",
    "unasked 101": b"HTTP/1.1 101 Switching Protocols",
    "nothing": b"",
}


class Scripted:
    """The answer of one case: its bytes, what was done to it, and whether the upstream closes behind it."""

    def __init__(self, number):
        dice = random.Random(f"{SEED}/answers/{number}")
        self.number, self.mutation = number, None
        self.method = dice.choice(["GET", "GET", "POST", "HEAD"])
        status = dice.choice([200, 200, 201, 204, 304, 400, 404, 429, 500])
        body = b"" if status in (204, 304) else bytes(dice.choice(b"abc\r\n0 \xff") for _ in range(dice.choice([0, 1, 50, 3000])))
        first = b"HTTP/1.1 %d Some Words" % status
        kind = dice.choice(["length", "chunks", "until the end"]) if status not in (204, 304) else "none"
        self.closes = kind == "until the end" or dice.random() < 0.2
        framing, wire = {
            "none": (b"X-None: 1", b""),
            "length": (b"Content-Length: %d" % len(body), body),
            "chunks": (b"Transfer-Encoding: chunked", b"".join(chunks_of(body, dice)) + b"0\r\nX-T: 1\r\n\r\n"),
            "until the end": (b"Connection: close", body),
        }[kind]
        if dice.random() < 0.5:
            self.mutation = dice.choice(sorted(FRAMINGS | FIRST_LINES))
            first = FIRST_LINES.get(self.mutation, b"HTTP/1.1 200 OK")
            framing, wire = FRAMINGS.get(self.mutation, (b"Content-Length: 5", b"hello"))
            self.method, self.closes = dice.choice(["GET", "POST"]), True
        if self.method == "HEAD":
            wire = b""
        lines = [first, b"X-Case: %d" % number, b"X-Random: %d" % dice.randint(0, 9), framing]
        self.data = b"\r\n".join(lines) + b"\r\n\r\n" + wire

    def meant(self):
        """What the upstream meant, if that can be told and came whole."""
        with contextlib.suppress(strict.Bad, strict.Incomplete):
            answer, _ = strict.read_answer(self.data, self.method.encode(), True)
            return answer if answer.second != b"101" else None
        return None


class Upstream:
    """Sends each case's bytes, whatever they are."""

    def __init__(self):
        self._listener = socket.create_server((LOOPBACK, 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    @staticmethod
    def _serve(connection):
        data = b""
        with contextlib.suppress(OSError), connection:
            while piece := connection.recv(65536):
                data += piece
                with contextlib.suppress(strict.Incomplete):
                    request, length = strict.read_request(data)
                    data = data[length:]
                    scripted = Scripted(int(request.value(b"x-number")))
                    connection.sendall(scripted.data)
                    if scripted.closes:
                        connection.shutdown(socket.SHUT_WR)


class Answers(Case):
    """The gateway between a good client and an upstream that may answer anything."""

    def test_what_the_client_reads_is_what_the_upstream_meant(self):
        upstream = self.use(Upstream())
        secret = self.keys.new("acct_platform")
        gateway = self.start_gateway(f'[upstreams.api]\nservers = ["http://{LOOPBACK}:{upstream.port}"]\n')
        failures, outcomes = [], {}

        def row(start):
            for number, outcome, wrong in read_row(gateway.port, secret, range(start, start + ROW)):
                outcomes[outcome] = outcomes.get(outcome, 0) + 1
                failures.extend([f"{SEED}/answers/{number}, {Scripted(number).mutation}: {wrong}"] if wrong else [])

        in_threads(row, range(0, max(CASES // 4, 100), ROW), failures)
        self.assertEqual(failures[:5], [], f"{len(failures)} in all")
        for outcome in ("whole", "502", "broken"):
            self.assertGreater(outcomes.get(outcome, 0), 10, outcomes)
        self.assertLess(outcomes.get("raced", 0), 5 + sum(outcomes.values()) // 100, outcomes)
        wait_until("everything has ended", lambda: gateway.in_flight() == 0)


def read_row(port, secret, numbers):
    """Asks for some cases, on one connection as long as it lives: number, outcome, and what is wrong with it."""
    connection = None
    for number in numbers:
        scripted = Scripted(number)
        connection = connection or socket.create_connection((LOOPBACK, port), DEADLINE_S)
        head = f"{scripted.method} /v1/x HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer {secret}\r\nX-Number: {number}\r\n"
        connection.sendall(head.encode() + (b"Content-Length: 0\r\n\r\n" if scripted.method == "POST" else b"\r\n"))
        answer, is_over, wrong = read_one(connection, scripted.method.encode())
        outcome, different = judge(scripted, answer)
        yield number, outcome, wrong or different
        if is_over or answer is None or answer.closes():
            connection.close()
            connection = None
    if connection:
        connection.close()


def read_one(connection, method):
    """One answer (`None` where it breaks off), whether the connection is at its end, and what is wrong with the bytes."""
    data, is_over = b"", False
    while True:
        piece = b""
        with contextlib.suppress(ConnectionResetError):
            piece = connection.recv(65536)
        data, is_over = data + piece, not piece
        try:
            answer, length = strict.read_answer(data, method, is_over)
            return answer, is_over, f"more behind it: {data[length:][:100]!r}" if data[length:] else None
        except strict.Bad as bad:
            return None, True, f"{bad}: {data[:300]!r}"
        except strict.Incomplete:
            if is_over:
                return None, True, None


def judge(scripted, answer):
    meant = scripted.meant()
    if answer is None:
        return "broken", None if meant is None else "broke off, and the upstream had sent it whole"
    if answer.value(b"x-case") is None:
        if answer.second not in (b"502", b"504") or b"api_error" not in answer.body and scripted.method != "HEAD":
            return "other", f"neither an upstream's answer nor a 502: {answer}"
        # The connection it went out on may have been closed at that moment, unannounced, and a write is never written twice.
        is_race = scripted.method == "POST" and b"is unknown" in answer.body
        if is_race and not scripted.mutation:
            return "raced", None
        return "502", None if scripted.mutation else f"refused: {scripted.data[:200]!r}"
    if meant is None:
        return "whole", f"whole, and the upstream's was not: {answer}"
    different = [
        what
        for what, theirs, ours in (
            ("status", meant.second, answer.second),
            ("body", meant.body, answer.body),
            ("case", meant.values(b"x-case"), answer.values(b"x-case")),
            ("field", meant.values(b"x-random"), answer.values(b"x-random")),
        )
        if theirs != ours
    ]
    return "whole", f"{different}: {meant} became {answer}" if different else None
