"""Random HTTP/1 requests, good ones and ones with a single thing wrong, from a seed: the same seed, the same bytes."""

import random
import re

SECRET = b"sk_test_" + b"d" * 40
NASTY = [b"\0", b"\t", b"\n", b"\r", b"\r\n", b" ", b":", b";", b",", b"\x0b", b"\x7f", b"\x80", b"\xff", b"0", b"-", b"_"]
SMUGGLED = b"GET /v1/smuggled HTTP/1.1\r\nHost: api.test\r\nX-Case: smuggled\r\n\r\n"


class Request:
    """A request in the making: lines that are joined only in the end, so that a mutation can spoil any of them."""

    def __init__(self, method, target, version, lines, body):
        self.method, self.target, self.version = method, target, version
        self.lines = lines
        # The framing's own line, and the body as it goes over the wire.
        self.framing, self.wire_body = None, b""
        self.body = body
        self.line_end = b"\r\n"
        self.prefix = b""
        self.gap = b" "

    def with_length(self):
        self.framing, self.wire_body = b"Content-Length: %d" % len(self.body), self.body
        return self

    def with_chunks(self, chunks, trailers=()):
        self.framing = b"Transfer-Encoding: chunked"
        self.wire_body = b"".join(chunks) + b"0\r\n" + b"".join(line + b"\r\n" for line in trailers) + b"\r\n"
        return self

    def to_bytes(self):
        first = self.gap.join(part for part in (self.method, self.target, self.version) if part is not None)
        lines = [first, *self.lines, *([self.framing] if self.framing is not None else [])]
        return self.prefix + self.line_end.join(lines) + 2 * self.line_end + self.wire_body


class Stream:
    """One connection's bytes, cut into pieces, and what was done to them (`None`: nothing)."""

    def __init__(self, number, data, mutation, pieces):
        self.number, self.data, self.mutation, self.pieces = number, data, mutation, pieces


class Generator:
    """Streams by number."""

    def __init__(self, seed):
        self.seed = seed

    def stream(self, number, mutation=None):
        """The stream of this number. Two of five are good. `mutation`: one request, in which nothing else is unusual."""
        dice = random.Random(f"{self.seed}/{number}")
        count = 1 if mutation else dice.randint(1, 4)
        requests = [self.request(dice, number, nth, is_plain=bool(mutation)) for nth in range(count)]
        if mutation is None and dice.random() < 0.6:
            mutation = dice.choice(sorted(MUTATIONS))
        if mutation:
            chosen = dice.choice(requests)
            MUTATIONS[mutation](chosen, dice)
        data = b"".join(request.to_bytes() for request in requests)
        if mutation == "a nasty byte":
            spoilt = spoil(data, dice)
            # By its name a request is found again.
            data = spoilt if names(spoilt) == names(data) else data
        return Stream(number, data, mutation, cut(data, dice))

    @staticmethod
    def request(dice, number, nth, is_plain):
        method = dice.choice([b"GET", b"GET", b"POST", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"PURGE"])
        path = b"/v1/" + b"/".join(dice.choice([b"charges", b"a;b=c", b"ch_%d" % number, b"x~y", b"%C3%A9"]) for _ in range(3))
        target = path + dice.choice([b"", b"?a=b&c[]=d", b"?", b"?x=%zz/../;"])
        body = bytes(dice.choice(b"abc\r\n0 :\x00\xff5;") for _ in range(dice.choice([0, 1, 5, 40, 300])))
        if dice.random() < 0.1:
            body = SMUGGLED
        lines = [
            b"Host: api.test" if is_plain else dice.choice([b"Host: api.test", b"host:api.test", b"HOST: \tapi.test \t"]),
            b"Authorization: Bearer " + SECRET,
            b"X-Case: %d-%d" % (number, nth),
            *[b"X-%d: %s" % (n, dice.choice([b"", b"a", b"a, b", b"\xe9\t\xff", b"\"q\\", b"x" * 50])) for n in range(dice.randint(0, 3))],
        ]
        dice.shuffle(lines)
        request = Request(method, target, b"HTTP/1.1", lines, body)
        if method in (b"GET", b"OPTIONS") and dice.random() < 0.8:
            request.body = b""
            return request
        return request.with_length() if dice.random() < 0.5 else request.with_chunks(chunks_of(body, dice))


def names(data):
    return re.findall(rb"X-Case: (\S*)\r\n", data)


def chunks_of(body, dice):
    chunks = []
    while body:
        size = dice.randint(1, len(body))
        digits = dice.choice([b"%x", b"%X", b"0%x"]) % size
        chunks.append(digits + dice.choice([b"", b"", b";a=b", b";q=\"x;y\""]) + b"\r\n" + body[:size] + b"\r\n")
        body = body[size:]
    return chunks


def cut(data, dice):
    """One piece, a few, or byte by byte at first."""
    kind = dice.randint(0, 3)
    if kind < 2:
        return [data]
    places = sorted({0, len(data), *(dice.randint(0, len(data)) for _ in range(dice.randint(1, 6)))})
    return [data[start:end] for start, end in zip(places, places[1:])]


def spoil(data, dice):
    """One byte goes, comes or changes."""
    at = dice.randrange(len(data))
    return data[:at] + dice.choice([b"", dice.choice(NASTY)]) + data[at + dice.randint(0, 1) :]


MUTATIONS = {}


def mutation(name):
    def note(change):
        MUTATIONS[name] = change
        return change

    return note


def add_line(*lines):
    def change(request, dice):
        for line in lines:
            request.lines.insert(dice.randint(0, len(request.lines)), line)

    return change


def frame(line, body=None):
    """Another framing for a request with a body, as a line of its own. `body`: what goes over the wire then."""

    def change(request, dice):
        request.body = request.body or b"0123456789"
        request.with_length()
        request.framing = line.replace(b"LENGTH", b"%d" % len(request.body))
        if body is not None:
            request.wire_body = body

    return change


def chunked(body):
    def change(request, dice):
        request.method = b"POST"
        request.framing, request.wire_body = b"Transfer-Encoding: chunked", body

    return change


def first_line(**parts):
    def change(request, dice):
        for name, value in parts.items():
            setattr(request, name, value(getattr(request, name)) if callable(value) else value)

    return change


def host(*lines):
    def change(request, dice):
        request.lines = [line for line in request.lines if not line.lower().startswith(b"host:")]
        request.lines += lines

    return change


EMPTY_CHUNKS = b"0\r\n\r\n"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"

MUTATIONS |= {
    # Two framings, or one that can be read in two ways.
    "length and chunked": frame(b"Content-Length: LENGTH\r\nTransfer-Encoding: chunked", EMPTY_CHUNKS + SMUGGLED),
    "chunked and length": frame(b"Transfer-Encoding: chunked\r\nContent-Length: LENGTH", EMPTY_CHUNKS + SMUGGLED),
    "two lengths": frame(b"Content-Length: LENGTH\r\nContent-Length: 0"),
    "the length twice": frame(b"Content-Length: LENGTH\r\nContent-Length: LENGTH"),
    "a list of lengths": frame(b"Content-Length: LENGTH, LENGTH"),
    "a signed length": frame(b"Content-Length: +LENGTH"),
    "a negative length": frame(b"Content-Length: -LENGTH"),
    "a hex length": frame(b"Content-Length: 0xA"),
    "an empty length": frame(b"Content-Length: "),
    "a length with zeros": frame(b"Content-Length: 00LENGTH"),
    "a length beyond 64 bits": frame(b"Content-Length: 18446744073709551626"),
    "a length with a blank": frame(b"Content-Length: 1 0"),
    "a length with a comma": frame(b"Content-Length: LENGTH,"),
    "a length too small": frame(b"Content-Length: 3"),
    "a length too large": frame(b"Content-Length: 5000"),
    "a length with a vertical tab": frame(b"Content-Length: \x0bLENGTH"),
    "a length with underscore": frame(b"Content_Length: LENGTH", b""),
    "a coding with underscore": frame(b"Transfer_Encoding: chunked", EMPTY_CHUNKS),
    "chunked twice": frame(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", HELLO),
    "chunked, chunked": frame(b"Transfer-Encoding: chunked, chunked", HELLO),
    "gzip, chunked": frame(b"Transfer-Encoding: gzip, chunked", HELLO),
    "chunked, gzip": frame(b"Transfer-Encoding: chunked, gzip", HELLO),
    "identity": frame(b"Transfer-Encoding: identity"),
    "identity and length": frame(b"Transfer-Encoding: identity\r\nContent-Length: LENGTH"),
    "xchunked": frame(b"Transfer-Encoding: xchunked", HELLO),
    ",chunked": frame(b"Transfer-Encoding: ,chunked", HELLO),
    "chunked;q": frame(b"Transfer-Encoding: chunked;q=1", HELLO),
    "quoted chunked": frame(b'Transfer-Encoding: "chunked"', HELLO),
    "chunked with a vertical tab": frame(b"Transfer-Encoding: \x0bchunked", HELLO),
    "chunked with a NUL": frame(b"Transfer-Encoding: chunked\0", HELLO),
    "chunked before the colon": frame(b"Transfer-Encoding : chunked", HELLO),
    "chunked on a fold": frame(b"Transfer-Encoding:\r\n chunked", HELLO),
    "Chunked": frame(b"Transfer-Encoding: ChunKed ", HELLO),
    "chunked behind a tab": frame(b"Transfer-Encoding: \tchunked", HELLO),
    "chunked in 1.0": lambda request, dice: (
        frame(b"Transfer-Encoding: chunked\r\nConnection: keep-alive", HELLO)(request, dice),
        first_line(version=b"HTTP/1.0")(request, dice),
    ),
    # Chunks.
    "chunk: 0x": chunked(b"0x5\r\nhello\r\n0\r\n\r\n"),
    "chunk: minus": chunked(b"-5\r\nhello\r\n0\r\n\r\n"),
    "chunk: plus": chunked(b"+5\r\nhello\r\n0\r\n\r\n"),
    "chunk: blank before": chunked(b" 5\r\nhello\r\n0\r\n\r\n"),
    "chunk: blank behind": chunked(b"5 \r\nhello\r\n0\r\n\r\n"),
    "chunk: tab behind": chunked(b"5\t\r\nhello\r\n0\r\n\r\n"),
    "chunk: no size": chunked(b"\r\nhello\r\n0\r\n\r\n"),
    "chunk: semicolon only": chunked(b";a\r\nhello\r\n0\r\n\r\n"),
    "chunk: not a digit": chunked(b"g\r\nhello\r\n0\r\n\r\n"),
    "chunk: underscore": chunked(b"0_5\r\nhello\r\n0\r\n\r\n"),
    "chunk: 17 digits": chunked(b"00000000000000005\r\nhello\r\n0\r\n\r\n"),
    "chunk: wraps to 5": chunked(b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    "chunk: LF": chunked(b"5\nhello\r\n0\r\n\r\n"),
    "chunk: LF behind data": chunked(b"5\r\nhello\n0\r\n\r\n"),
    "chunk: CR only": chunked(b"5\rhello\r\n0\r\n\r\n"),
    "chunk: too short": chunked(b"4\r\nhello\r\n0\r\n\r\n"),
    "chunk: too long": chunked(b"6\r\nhello\r\n0\r\n\r\n"),
    "chunk: LF in an extension": chunked(b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    "chunk: CR in an extension": chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
    "chunk: NUL in an extension": chunked(b"5;a\0b\r\nhello\r\n0\r\n\r\n"),
    "chunk: extension": chunked(b"5;a=\"\\\"\"\r\nhello\r\n0;b\r\n\r\n"),
    "chunk: last with LF": chunked(b"5\r\nhello\r\n0\n\r\n"),
    "chunk: end with LF": chunked(b"5\r\nhello\r\n0\r\n\n"),
    "chunk: 000 ends": chunked(b"5\r\nhello\r\n000\r\n\r\n"),
    "chunk: cut": chunked(b"5\r\nhel"),
    "trailer": chunked(b"0\r\nX-T: 1\r\n\r\n"),
    "trailer: Host": chunked(b"0\r\nHost: evil\r\n\r\n"),
    "trailer: Content-Length": chunked(b"0\r\nContent-Length: 50\r\n\r\n"),
    "trailer: Transfer-Encoding": chunked(b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "trailer: Authorization": chunked(b"0\r\nAuthorization: Bearer x\r\n\r\n"),
    "trailer: no colon": chunked(b"0\r\nGET /v1/smuggled HTTP/1.1\r\n\r\n"),
    "trailer: LF": chunked(b"0\r\nX-T: 1\n\r\n"),
    "trailer: fold": chunked(b"0\r\nX-T: 1\r\n 2\r\n\r\n"),
    # Header lines.
    "a fold": add_line(b"X-Fold: a\r\n b"),
    "a fold with a tab": add_line(b"X-Fold: a\r\n\tb"),
    "an empty fold": add_line(b"X-Fold: a\r\n "),
    "blank before the first line": lambda request, dice: request.lines.insert(0, b" X-Blank: a"),
    "blank before the colon": add_line(b"X-Blank : a"),
    "tab before the colon": add_line(b"X-Blank\t: a"),
    "no colon": add_line(b"nothing"),
    "an empty name": add_line(b": a"),
    "a name that is no token": add_line(b"X(y): a"),
    "a name with a NUL": add_line(b"X\0y: a"),
    "a name beyond ASCII": add_line(b"X\xe9: a"),
    "NUL in a value": add_line(b"X-Nul: a\0b"),
    "bare CR in a value": add_line(b"X-Cr: a\rb"),
    "bare CR at the end": add_line(b"X-Cr: a\r"),
    "LF in a value": add_line(b"X-Lf: a\nX-More: b"),
    "two LF in a value": add_line(b"X-Lf: a\n\n" + SMUGGLED.replace(b"\r\n", b"\n")),
    "CR CR LF": add_line(b"X-Cr: a\r\r\nX-B: b"),
    "a control byte in a value": add_line(b"X-Bel: a\x07"),
    "DEL in a value": add_line(b"X-Del: a\x7f"),
    "bytes beyond ASCII": add_line(b"X-High: \x80\xff"),
    "bare line feeds": first_line(line_end=b"\n"),
    "bare carriage returns": first_line(line_end=b"\r"),
    "Authorization twice": add_line(b"Authorization: Bearer other"),
    "Content-Type twice": add_line(b"Content-Type: a/b", b"Content-Type: a/c"),
    "Idempotency-Key twice": add_line(b"Idempotency-Key: a", b"Idempotency-Key: b"),
    "Expect": add_line(b"Expect: 200-ok"),
    "Connection names the length": add_line(b"Connection: Content-Length, Transfer-Encoding, Host"),
    "Upgrade: h2c": add_line(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"),
    "Tollgate-Account": add_line(b"Tollgate-Account: evil", b"tollgate_account: evil"),
    # The request line.
    "two blanks": first_line(gap=b"  "),
    "tabs": first_line(gap=b"\t"),
    "form feed": first_line(gap=b"\x0c"),
    "blank behind": first_line(version=b"HTTP/1.1 "),
    "a word more": first_line(version=b"HTTP/1.1 x"),
    "blank before": first_line(prefix=b" "),
    "an empty line before": first_line(prefix=b"\r\n"),
    "three empty lines before": first_line(prefix=b"\r\n\r\n\r\n"),
    "an LF before": first_line(prefix=b"\n"),
    "no version": first_line(version=None),
    "HTTP/1.2": first_line(version=b"HTTP/1.2"),
    "HTTP/2.0": first_line(version=b"HTTP/2.0"),
    "HTTP/1.10": first_line(version=b"HTTP/1.10"),
    "http/1.1": first_line(version=b"http/1.1"),
    "HTTP /1.1": first_line(version=b"HTTP /1.1"),
    "lower case method": first_line(method=lambda method: method.lower()),
    "a method that is no token": first_line(method=b"G{T"),
    "a long method": first_line(method=b"G" * 5000),
    "CONNECT": first_line(method=b"CONNECT", target=b"api.test:80"),
    "TRACE": first_line(method=b"TRACE"),
    # Targets.
    "absolute-form": first_line(target=lambda target: b"http://api.test" + target),
    "absolute-form elsewhere": first_line(target=lambda target: b"http://evil.test" + target),
    "absolute-form with user": first_line(target=lambda target: b"http://u@api.test" + target),
    "authority-form": first_line(target=b"api.test:80"),
    "star": first_line(method=b"GET", target=b"*"),
    "a fragment": first_line(target=b"/v1/charges#x"),
    "a NUL in the target": first_line(target=b"/v1/\0charges"),
    "a blank in the target": first_line(target=b"/v1/ charges"),
    "an encoded NUL": first_line(target=b"/v1/%00"),
    "an encoded slash": first_line(target=b"/v1%2fcharges"),
    "a backslash": first_line(target=b"/v1\\charges"),
    "a bad escape": first_line(target=b"/v1/%zz"),
    "dots above the root": first_line(target=b"/../../v1/charges"),
    "bytes beyond ASCII in the target": first_line(target=b"/v1/\xc3\xa9"),
    "a target in quotes": first_line(target=b'/v1/"x"'),
    "no slash": first_line(target=b"v1/charges"),
    "a long target": first_line(target=b"/v1/" + b"a" * 9000),
    # Hosts.
    "no host": host(),
    "two hosts": host(b"Host: api.test", b"Host: evil.test"),
    "the host twice": host(b"Host: api.test", b"Host: api.test"),
    "tabs around the host": host(b"Host: \tapi.test\t"),
    "an empty host": host(b"Host: "),
    "a host with a path": host(b"Host: api.test/../b?x"),
    "a host with a blank": host(b"Host: api.test evil.test"),
    "a host list": host(b"Host: api.test, evil.test"),
    "a host with user": host(b"Host: u@api.test"),
    "a bad port": host(b"Host: api.test:99999"),
    "a host in brackets": host(b"Host: [::1"),
    # Anything, anywhere; the stream does it.
    "a nasty byte": lambda request, dice: None,
}
