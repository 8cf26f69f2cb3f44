"""What hostile clients do for a moment, one function each: `attack(port, secret, over)`. They end soon after `over` is set."""

import contextlib
import socket
import struct

from hyperframe.frame import DataFrame, HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame
import hpack

from support import LOOPBACK

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PATIENCE_S = 3.0


def connect(port):
    return socket.create_connection((LOOPBACK, port), PATIENCE_S)


def head(secret, method="GET", path="/v1/charges", lines=""):
    return f"{method} {path} HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer {secret}\r\n{lines}\r\n".encode()


def reset(stream):
    """The next close is a reset."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def read_all(stream, most=1 << 20):
    got = 0
    while got < most:
        piece = stream.recv(65536)
        if not piece:
            break
        got += len(piece)


def garbage(port, secret, over):
    with connect(port) as stream:
        stream.sendall(bytes(range(256)) * 40)
        read_all(stream)


def smuggling(port, secret, over):
    for lines in ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\n"):
        with connect(port) as stream:
            stream.sendall(head(secret, "POST", lines=lines) + b"0x3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n")
            read_all(stream)


def slow_heads(port, secret, over):
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(connect(port)) for _ in range(20)]
        for letter in head(secret)[:6]:
            for stream in streams:
                stream.sendall(bytes([letter]))
            if over.wait(0.3):
                return


def half_bodies(port, secret, over):
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stream = stack.enter_context(connect(port))
            lines = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 50000\r\n"
            stream.sendall(head(secret, "POST", lines=lines) + b"customer=cus_1&pad=" + b"x" * 20_000)
        over.wait(1.0)


def slow_readers(port, secret, over):
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            stream = stack.enter_context(connect(port))
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            with contextlib.suppress(TimeoutError):
                stream.settimeout(0.2)
                stream.sendall(head(secret) * 200)
        over.wait(1.0)


def leaving(port, secret, over):
    for nth in range(20):
        with connect(port) as stream:
            stream.sendall(head(secret) * (nth % 5 + 1))
            if nth % 2:
                reset(stream)


def unknown_keys(port, secret, over):
    with connect(port) as stream:
        for nth in range(50):
            stream.sendall(head(f"sk_live_{nth:040}"))
            stream.recv(4096)


def refused_by_limits(port, secret, over):
    with connect(port) as stream:
        for _ in range(50):
            stream.sendall(head(secret, path="/v1/few"))
            stream.recv(65536)


def lock_queues(port, secret, over):
    with contextlib.ExitStack() as stack:
        for _ in range(30):
            stream = stack.enter_context(connect(port))
            lines = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 12\r\n"
            stream.sendall(head(secret, "POST", "/v1/payment_intents/pi_hot", lines) + b"customer=a&b")


def http2(port):
    stream = connect(port)
    stream.sendall(PREFACE + SettingsFrame().serialize())
    return stream


def request_block(encoder, secret):
    fields = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/v1/charges")]
    return encoder.encode([*fields, ("authorization", f"Bearer {secret}")])


def rapid_resets(port, secret, over):
    with http2(port) as stream:
        encoder = hpack.Encoder()
        for nth in range(1_000):
            frame = HeadersFrame(2 * nth + 1, request_block(encoder, secret), flags=["END_HEADERS", "END_STREAM"])
            stream.sendall(frame.serialize() + RstStreamFrame(2 * nth + 1, error_code=8).serialize())
        read_all(stream)


def pings(port, secret, over):
    with http2(port) as stream:
        stream.sendall(PingFrame(opaque_data=b"12345678").serialize() * 20_000)
        read_all(stream)


def closed_windows(port, secret, over):
    with http2(port) as stream:
        stream.sendall(SettingsFrame(settings={SettingsFrame.INITIAL_WINDOW_SIZE: 0}).serialize())
        encoder = hpack.Encoder()
        for nth in range(50):
            block = request_block(encoder, secret)
            stream.sendall(HeadersFrame(2 * nth + 1, block, flags=["END_HEADERS", "END_STREAM"]).serialize())
        over.wait(1.0)


def endless_uploads(port, secret, over):
    with http2(port) as stream:
        fields = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/v1/charges")]
        block = hpack.Encoder().encode([*fields, ("authorization", f"Bearer {secret}")])
        stream.sendall(HeadersFrame(1, block, flags=["END_HEADERS"]).serialize())
        stream.sendall(DataFrame(1, b"").serialize() * 5_000)
        read_all(stream)


HOSTILE = [
    garbage,
    smuggling,
    slow_heads,
    half_bodies,
    slow_readers,
    leaving,
    unknown_keys,
    refused_by_limits,
    lock_queues,
    rapid_resets,
    pings,
    closed_windows,
    endless_uploads,
]
