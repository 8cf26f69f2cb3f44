"""Random requests over HTTP/2 through the gateway to a strict origin of HTTP/1: what it gets is what was meant, or nothing.

`TOLLGATE_DIFFERENTIAL_CASES` connections (2,000 unless told), from the seed `TOLLGATE_DIFFERENTIAL_SEED`, as for HTTP/1.
"""

import contextlib
import socket

import hpack
from hyperframe.frame import ContinuationFrame, DataFrame, Frame, GoAwayFrame, HeadersFrame, RstStreamFrame, SettingsFrame

from http2_load import FRAME_HEAD_BYTES, PREFACE
from http2_streams import LEFT_OUT, NAMELESS, REFUSED, Stream
from support import DEADLINE_S, LOOPBACK, wait_until
from test_differential import CASES, OWN, SEED, OriginCase, in_threads, is_own

# Fields of a request that may be left out on the way, besides the gateway's own.
DROPPED = OWN | {b"expect", b"http2-settings", b"forwarded", b"cookie"}
# Trailers that the origin may never get: they would frame, route or authenticate.
NEVER_TRAILERS = (b"authorization", b"host", b"content-length", b"transfer-encoding", b"connection", b"cookie")


class Exchange:
    """One connection: what became of each of its requests. A status, `reset`, or `closed`."""

    def __init__(self, port, stream):
        self.outcomes, self.decoder = {}, hpack.Decoder()
        encoder, dice = hpack.Encoder(), stream.dice
        sent = [PREFACE, SettingsFrame().serialize()]
        for nth, request in enumerate(stream.requests):
            sent += frames(2 * nth + 1, request, encoder, dice)
        self.waiting = {2 * nth + 1: request.name for nth, request in enumerate(stream.requests)}
        with socket.create_connection((LOOPBACK, port), DEADLINE_S) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(b"".join(sent))
            with contextlib.suppress(ConnectionResetError):
                while self.waiting and self._take(connection):
                    pass
        self.outcomes |= dict.fromkeys(self.waiting.values(), "closed")

    def _take(self, connection):
        head = exactly(connection, FRAME_HEAD_BYTES)
        if head is None:
            return False
        frame, size = Frame.parse_frame_header(memoryview(head))
        payload = exactly(connection, size)
        if payload is None:
            return False
        frame.parse_body(memoryview(payload))
        name = self.waiting.get(frame.stream_id)
        if isinstance(frame, HeadersFrame):
            status = dict(self.decoder.decode(frame.data, raw=True)).get(b":status", b"")
            # The answer behind an interim one counts.
            if name and not status.startswith(b"1") and status:
                self.outcomes[name] = int(status)
        elif isinstance(frame, RstStreamFrame) and name:
            # Behind an answer it only says that the rest of the body is not wanted.
            self.outcomes.setdefault(name, "reset")
            del self.waiting[frame.stream_id]
            return True
        elif isinstance(frame, GoAwayFrame) and frame.error_code:
            return False
        if "END_STREAM" in frame.flags:
            self.waiting.pop(frame.stream_id, None)
        return True


def exactly(connection, count):
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            return None
        data += piece
    return data


def frames(stream_id, request, encoder, dice):
    """A request's frames: heads in one or several, data with and without padding."""
    ends = not request.pieces and not request.trailers
    sent = head_frames(stream_id, request.head(), ends, encoder, dice)
    request.is_cut = len(sent) > 1
    for nth, piece in enumerate(request.pieces):
        last = nth == len(request.pieces) - 1 and not request.trailers
        frame = DataFrame(stream_id, piece, flags=["END_STREAM"] if last else [])
        if dice.random() < 0.2:
            frame.flags.add("PADDED")
            frame.pad_length = dice.randint(0, 20)
        sent.append(frame.serialize())
    if request.trailers:
        sent += head_frames(stream_id, request.trailers, True, encoder, dice)
    return sent


def head_frames(stream_id, fields, ends, encoder, dice):
    block = encoder.encode(fields, huffman=dice.random() < 0.5)
    cut = dice.randint(0, len(block)) if dice.random() < 0.3 else len(block)
    first = HeadersFrame(stream_id, block[:cut], flags=["END_STREAM"] if ends else [])
    rest = [block[cut:]] if cut < len(block) else []
    if not rest:
        first.flags.add("END_HEADERS")
    return [first.serialize(), *[ContinuationFrame(stream_id, piece, flags=["END_HEADERS"]).serialize() for piece in rest]]


def differences(meant, got):
    """How a request that the origin got differs from the one that was meant."""
    found = []
    [method], [path], [authority] = (meant.values(name) for name in (b":method", b":path", b":authority"))
    if got.first != method:
        found.append(f"method {method!r} became {got.first!r}")
    # The library cuts a fragment off before anybody sees it.
    path = path.partition(b"#")[0]
    is_plain = not any(mark in path.partition(b"?")[0] for mark in (b"..", b'"', b"//"))
    if is_plain and got.second != path:
        found.append(f"path {path!r} became {got.second!r}")
    if got.values(b"host") != [authority]:
        found.append(f"authority {authority!r} became {got.values(b'host')}")
    if got.body != meant.body:
        found.append(f"body {meant.body[:80]!r} became {got.body[:80]!r}")
    if got.values(b"content-length") not in ([], [b"%d" % len(meant.body)]):
        found.append(f"a body of {len(meant.body)} bytes has the length {got.values(b'content-length')}")
    theirs = [field for field in meant.fields if field[0] not in DROPPED and not is_own(field[0])]
    cookies = meant.values(b"cookie")
    theirs += [(b"cookie", b"; ".join(cookies))] if cookies else []
    ours = [field for field in got.fields if not is_own(field[0])]
    if sorted(theirs) != sorted(ours):
        found.append(f"fields {theirs} became {ours}")
    strange = [field for field in got.trailers if field not in meant.trailers or field[0] in NEVER_TRAILERS]
    if strange:
        found.append(f"trailers {meant.trailers} became {got.trailers}")
    return found


class Http2Streams(OriginCase):
    """The gateway between a client of HTTP/2 that may do anything and an origin of HTTP/1 that forgives nothing."""

    def test_what_the_origin_gets_is_what_was_meant_over_http2(self):
        failures, counts = [], {}

        def one(number):
            stream = Stream(SEED, number)
            exchange = Exchange(self.gateway.port, stream)
            failures.extend(f"{SEED}/{number}, {stream.mutation}: {text}" for text in self.judge(stream, exchange, counts))

        in_threads(one, range(CASES), failures)
        self.assertEqual([one[:500] for one in failures[:5]], [], f"{len(failures)} in all")
        self.assertEqual(self.origin.faults, [], "the origin got what it cannot be sure of")
        self.assertEqual(self.origin.of("smuggled"), [])
        # Both of both kinds are there, so the generator still does its work.
        self.assertGreater(counts["good", "served"], CASES // 3)
        self.assertGreater(counts["bad", "refused"], CASES // 5)
        wait_until("everything has ended", lambda: self.gateway.in_flight() == 0)
        admitted = self.gateway.metric("tollgate_decisions_total", limit="all", verdict="admit")
        self.assertLessEqual(self.origin.heads, admitted, "a request was executed that no limit has counted")

    def judge(self, stream, exchange, counts):
        """What is wrong with how the gateway dealt with a connection."""
        wrong = []
        executed = self.origin.of(str(stream.number))
        # What one request does to its connection takes the others along; a name of no letters leaves the compression in doubt.
        closes = stream.mutation == NAMELESS or (stream.mutation and "closed" in exchange.outcomes.values())
        for request in stream.requests:
            outcome = exchange.outcomes[request.name]
            got = [one for one in executed if one.value(b"x-case") == request.name]
            is_spoilt = request is stream.spoilt
            served = outcome == 200
            counts["bad" if is_spoilt else "good", "served" if served else "refused"] = (
                counts.get(("bad" if is_spoilt else "good", "served" if served else "refused"), 0) + 1
            )
            if len(got) > 1 or (served and not got):
                wrong.append(f"{request.name!r} was executed {len(got)} times and answered with {outcome}")
            if is_spoilt and request.is_cut and stream.mutation in LEFT_OUT and got:
                wrong += [f"{request.name!r}: {text}" for text in differences(request.lenient(), got[0])]
            elif is_spoilt and stream.mutation in REFUSED and (got or served):
                wrong.append(f"{request.name!r} was executed: {got}, {outcome}")
            elif got:
                wrong += [f"{request.name!r}: {text}" for text in differences(request, got[0])]
            if not is_spoilt and not served and not closes:
                wrong.append(f"{request.name!r} was good, and became {outcome}")
            if isinstance(outcome, int) and outcome >= 500 and outcome not in (501, 505):
                wrong.append(f"{request.name!r}: {outcome}")
        return wrong
