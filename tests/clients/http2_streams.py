"""Random HTTP/2 requests, good ones and ones with a single thing wrong, from a seed: the same seed, the same fields.

A request is lists of fields and pieces of a body; how they are cut into frames is chance too. Nothing here knows what the gateway
refuses: `REFUSED` are the mutations that no reader may take for a request (RFC 9113 section 8, RFC 9110), and of all others what is
served must be what was meant.
"""

import copy
import random

from streams import NASTY, SECRET

PSEUDO = (b":method", b":scheme", b":authority", b":path")
SMUGGLED = b"HTTP/1.1\r\nHost: api.test\r\nX-Case: smuggled\r\n\r\nGET /v1/smuggled HTTP/1.1\r\nX-Case: smuggled\r\nX: "


class Request:
    """One stream: pseudo-headers, fields, pieces of a body, trailers."""

    def __init__(self, name, dice):
        self.name = name
        method = dice.choice([b"GET", b"GET", b"POST", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"PURGE"])
        path = b"/v1/" + b"/".join(dice.choice([b"charges", b"a;b=c", b"ch_1", b"x~y", b"%C3%A9"]) for _ in range(3))
        path += dice.choice([b"", b"?a=b&c[]=d", b"?", b"?x=%zz/../;"])
        self.pseudo = [(b":method", method), (b":scheme", b"http"), (b":authority", b"api.test"), (b":path", path)]
        dice.shuffle(self.pseudo)
        values = [b"", b"a", b"a, b", b"\xe9\t\xff", b'"q\\', b"x" * 50]
        self.fields = [
            (b"authorization", b"Bearer " + SECRET),
            (b"x-case", name),
            *[(b"x-%d" % nth, dice.choice(values)) for nth in range(dice.randint(0, 3))],
            *dice.choice([[], [], [(b"te", b"trailers")], [(b"cookie", b"a=1"), (b"cookie", b"b=2")], [(b"host", b"api.test")]]),
        ]
        dice.shuffle(self.fields)
        has_body = method not in (b"GET", b"OPTIONS") or dice.random() < 0.2
        body = bytes(dice.choice(b"abc\r\n0 :\x00\xff5;") for _ in range(dice.choice([0, 1, 5, 40, 300])))
        self.pieces = [body[at : at + 40] for at in range(0, len(body), 40)] if has_body else []
        if has_body and dice.random() < 0.5:
            self.fields.append((b"content-length", b"%d" % len(body)))
        self.trailers = [(b"x-t", b"1")] if self.pieces and dice.random() < 0.2 else []
        # Whether its head goes out in several frames.
        self.is_cut = False

    @property
    def body(self):
        return b"".join(self.pieces)

    def head(self):
        return self.pseudo + self.fields

    def values(self, name):
        return [value for known, value in self.head() if known == name]

    def lenient(self):
        """What is left of it for a reader that leaves out what no request may have, and takes the first of what may come once."""
        kept = copy.copy(self)
        seen = dict(reversed([field for field in self.pseudo if field[0] in PSEUDO]))
        kept.pseudo = list(seen.items())
        of_connection = (b"connection", b"transfer-encoding", b"upgrade", b"keep-alive", b"proxy-connection")
        kept.fields = [field for field in self.fields if field[0] and field[0] not in of_connection and field != (b"te", b"gzip")]
        return kept

    def without(self, *names):
        self.pseudo = [field for field in self.pseudo if field[0] not in names]
        self.fields = [field for field in self.fields if field[0] not in names]


class Stream:
    """The requests of one connection, and what was done to one of them (`None`: nothing)."""

    def __init__(self, seed, number):
        self.number, self.dice = number, random.Random(f"{seed}/{number}")
        count = self.dice.randint(1, 3)
        self.requests = [Request(b"%d-%d" % (number, nth), self.dice) for nth in range(count)]
        self.mutation = self.dice.choice(sorted(REFUSED | OPEN)) if self.dice.random() < 0.6 else None
        self.spoilt = self.dice.choice(self.requests) if self.mutation else None
        if self.mutation:
            MUTATIONS[self.mutation](self.spoilt, self.dice)


MUTATIONS, REFUSED, OPEN = {}, set(), set()
# What is refused in one frame, and left out where the head is cut: see docs/hardening.md.
LEFT_OUT = set()
NAMELESS = "a field without a name"


def refused(name, change):
    """No reader may take this for a request."""
    MUTATIONS[name] = change
    REFUSED.add(name)


def left_out(name, change):
    """No reader may take this for a request, but one that reads the head frame by frame may not see it."""
    refused(name, change)
    LEFT_OUT.add(name)


def left_open(name, change):
    """A reader may take it, for what it says, or refuse it."""
    MUTATIONS[name] = change
    OPEN.add(name)


def pseudo(name, value):
    def change(request, dice):
        request.pseudo = [(known, value if known == name else old) for known, old in request.pseudo]

    return change


def no_pseudo(name):
    return lambda request, dice: request.without(name, b"host") if name == b":authority" else request.without(name)


def more_pseudo(name, value):
    return lambda request, dice: request.pseudo.insert(dice.randint(0, len(request.pseudo)), (name, value))


def more(*fields):
    def change(request, dice):
        for field in fields:
            request.fields.insert(dice.randint(0, len(request.fields)), field)

    return change


def length(value):
    def change(request, dice):
        request.without(b"content-length")
        request.pieces, request.trailers = [b"0123", b"4567"], []
        request.fields.append((b"content-length", value))

    return change


def trailer(*fields):
    def change(request, dice):
        request.without(b"content-length")
        request.pieces, request.trailers = [b"body"], list(fields)

    return change


def late_pseudo(request, dice):
    request.fields.append(request.pseudo.pop())


def nasty_byte(request, dice):
    """One byte comes somewhere in a name or a value."""
    lists = [request.pseudo, request.fields]
    chosen = dice.choice(lists)
    nth = dice.randrange(len(chosen))
    field = list(chosen[nth])
    if field[0] == b"x-case":
        return
    part = dice.randint(0, 1)
    at = dice.randint(0, len(field[part]))
    field[part] = field[part][:at] + dice.choice(NASTY) + field[part][at:]
    chosen[nth] = tuple(field)


for without in (b":method", b":scheme", b":path", b":authority"):
    refused(f"no {without.decode()}", no_pseudo(without))
for twice in ((b":method", b"GET"), (b":path", b"/v1/smuggled"), (b":authority", b"evil.test"), (b":scheme", b"https")):
    left_out(f"{twice[0].decode()} twice", more_pseudo(*twice))
refused("an unknown pseudo-header", more_pseudo(b":unknown", b"x"))
refused("an answer's pseudo-header", more_pseudo(b":status", b"200"))
left_out("a pseudo-header behind a field", late_pseudo)
for target in (b"", b"x", b"*", b"/a b", b"/a\tb", b"/v1 " + SMUGGLED, b"/a\0b", b"/v1/%2f", b"/v1\\x", b"http://evil.test/", b"\x7f/"):
    refused(f"the path {target[:12]!r}", pseudo(b":path", target))
for method in (b"", b"get", b"GET /v1/smuggled " + SMUGGLED, b"G T", b"G{T", b"CONNECT", b"TRACE", b"G" * 500):
    refused(f"the method {method[:12]!r}", pseudo(b":method", method))
for authority in (b"", b"u@api.test", b"api.test, evil.test", b"api.test\r\nX: y", b"api.test/x", b"api test", b"[::1", b"evil.test\0"):
    refused(f"the authority {authority[:20]!r}", pseudo(b":authority", authority))
refused("CONNECT for another protocol", lambda request, dice: (
    pseudo(b":method", b"CONNECT")(request, dice), more_pseudo(b":protocol", b"websocket")(request, dice)))
refused("another host", lambda request, dice: (request.without(b"host"), more((b"host", b"evil.test"))(request, dice)))
refused("the host twice", lambda request, dice: (
    request.without(b"host"), more((b"host", b"api.test"), (b"host", b"api.test"))(request, dice)))
for field in (
    (b"connection", b"close"), (b"transfer-encoding", b"chunked"), (b"upgrade", b"h2c"), (b"keep-alive", b"1"),
    (b"proxy-connection", b"close"), (b"te", b"gzip"),
):
    left_out(f"the field {field[0]!r}: {field[1][:8]!r}", more(field))
left_out(NAMELESS, more((b"", b"a")))
for field in (
    (b"X-Upper", b"a"), (b"x:y", b"a"), (b"x y", b"a"),
    (b"x\r\ny", b"a"), (b"x\0", b"a"), (b"x-cr", b"a\rb"), (b"x-lf", b"a\nx-more: b"), (b"x-nul", b"a\0b"),
    (b"x-crlf", b"a\r\n\r\nGET /v1/smuggled " + SMUGGLED), (b"x-blank", b" a"), (b"x-blank", b"a "), (b"x-tab", b"\ta"),
    (b"content_length", b"0"), (b"x_forwarded_for", b"a"), (b"tollgate_account", b"a"), (b"authorization", b"Bearer x"),
    (b"expect", b"200-ok"),
):
    refused(f"the field {field[0]!r}: {field[1][:8]!r}", more(field))
refused("Content-Type twice", more((b"content-type", b"a/b"), (b"content-type", b"a/c")))
refused("Idempotency-Key twice", more((b"idempotency-key", b"a"), (b"idempotency-key", b"b")))
refused("lengths that differ", lambda request, dice: (length(b"8")(request, dice), more((b"content-length", b"9"))(request, dice)))
for value in (b"x", b"-8", b"0x8", b"", b"7", b"9", b"8, 8", b"8 8", b"18446744073709551624"):
    refused(f"the length {value!r}", length(value))
refused("too many fields", lambda request, dice: request.fields.extend([(b"x-many", b"a")] * 150))
left_open("a signed length", length(b"+8"))
left_open("a length with zeros", length(b"008"))
left_open("the length twice", lambda request, dice: (length(b"8")(request, dice), more((b"content-length", b"8"))(request, dice)))
left_open("a fragment", pseudo(b":path", b"/v1/charges#x"))
left_open("a nasty byte", nasty_byte)
left_open("a control byte", more((b"x-bel", b"a\x07b")))
left_open("DEL", more((b"x-del", b"a\x7fb")))
left_open("an odd scheme", pseudo(b":scheme", b"gopher"))
left_open("a scheme that is a URL", pseudo(b":scheme", b"http://evil.test/?"))
left_open("expect", more((b"expect", b"100-continue")))
left_open("the gateway's own", more((b"tollgate-account", b"evil"), (b"x-forwarded-host", b"evil"), (b"forwarded", b"for=evil")))
left_open("HTTP2-Settings", more((b"http2-settings", b"AAMAAABk")))
left_open("bytes beyond ASCII in the path", pseudo(b":path", b"/v1/\xc3\xa9"))
for field in (
    (b"x-t", b"1"), (b"authorization", b"Bearer x"), (b"host", b"evil"), (b"content-length", b"9"), (b"transfer-encoding", b"chunked"),
    (b"connection", b"close"), (b":path", b"/v1/smuggled"), (b"X-T", b"1"), (b"x-t", b"1\r\nx: y"), (b"tollgate-account", b"evil"),
    (b"x_t", b"1"), (b"cookie", b"a=1"),
):
    left_open(f"the trailer {field[0]!r}: {field[1][:6]!r}", trailer(field))
