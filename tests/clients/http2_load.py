"""Clients of HTTP/2 that keep asking, and do about a GOAWAY what the protocol says: finish what was taken, send the rest again.

Frames by hand: the usual library takes nothing more from a connection that has said goodbye.
"""

import socket
import threading

import hpack
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from support import DEADLINE_S, LOOPBACK

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEAD_BYTES = 9
MAX_FAILURES = 100


class Http2Load:
    """So many connections with so many streams at once each, until the end of the `with` block.

    `failures` holds what went wrong, at most a hundred entries; a stream above a GOAWAY's last one is no failure.
    """

    def __init__(self, port, secret, *, connections, streams, path="/v1/charges"):
        self.port, self.streams = port, streams
        self.fields = [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "api.test"),
            (":path", path),
            ("authorization", f"Bearer {secret}"),
        ]
        self.succeeded, self.goodbyes, self.failures = 0, 0, []
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._client, daemon=True) for _ in range(connections)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self.over.set()
        for thread in self._threads:
            thread.join(DEADLINE_S)
        if any(thread.is_alive() for thread in self._threads):
            self.fail("a client did not come to its end")

    def fail(self, what):
        with self._lock:
            self.failures = [*self.failures, what][:MAX_FAILURES]

    def end(self, status):
        if status != b"200":
            self.fail(f"status {status!r}")
            return
        with self._lock:
            self.succeeded += 1

    def goodbye(self):
        with self._lock:
            self.goodbyes += 1

    def _client(self):
        while not self.over.is_set():
            try:
                with socket.create_connection((LOOPBACK, self.port), DEADLINE_S) as stream:
                    Conversation(self, stream).run()
            except (OSError, ValueError, hpack.HPACKError) as error:
                self.fail(repr(error))


class Conversation:
    """One connection: keeps its streams busy until it is asked to leave, or the load is over."""

    def __init__(self, load, stream):
        self.load, self.stream = load, stream
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        # Status by stream, `None` until it is known.
        self.open = {}
        self.next_id, self.leaving = 1, False

    def run(self):
        self.stream.sendall(PREFACE + SettingsFrame().serialize())
        self._ask()
        while self.open:
            frame = self._frame()
            if frame is None:
                self.load.fail(f"closed with {len(self.open)} requests open, after a goodbye: {self.leaving}")
                return
            self._take(frame)
            self.leaving = self.leaving or self.load.over.is_set()
            self._ask()

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            piece = self.stream.recv(count - len(data))
            if not piece:
                return None
            data += piece
        return data

    def _frame(self):
        head = self._exactly(FRAME_HEAD_BYTES)
        if head is None:
            return None
        frame, length = Frame.parse_frame_header(memoryview(head))
        body = self._exactly(length)
        if body is None:
            return None
        frame.parse_body(memoryview(body))
        return frame

    def _take(self, frame):
        if isinstance(frame, HeadersFrame):
            fields = dict(self.decoder.decode(frame.data, raw=True))
            self.open[frame.stream_id] = fields.get(b":status", self.open.get(frame.stream_id))
        elif isinstance(frame, DataFrame) and frame.flow_controlled_length:
            self.stream.sendall(WindowUpdateFrame(0, window_increment=frame.flow_controlled_length).serialize())
        elif isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
            self.stream.sendall(SettingsFrame(flags=["ACK"]).serialize())
        elif isinstance(frame, PingFrame) and "ACK" not in frame.flags:
            self.stream.sendall(PingFrame(opaque_data=frame.opaque_data, flags=["ACK"]).serialize())
        elif isinstance(frame, RstStreamFrame):
            if self.open.pop(frame.stream_id, None) is not None:
                self.load.fail(f"a stream was reset: {frame.error_code}")
        elif isinstance(frame, GoAwayFrame):
            self._leave(frame)
        if "END_STREAM" in frame.flags:
            self.load.end(self.open.pop(frame.stream_id))

    def _leave(self, frame):
        self.leaving = True
        self.load.goodbye()
        if frame.error_code != 0:
            self.load.fail(f"GOAWAY with {frame.error_code}")
        # What the server has not begun is asked for again, on another connection.
        self.open = {stream: status for stream, status in self.open.items() if stream <= frame.last_stream_id}

    def _ask(self):
        asked = []
        while not self.leaving and len(self.open) < self.load.streams:
            frame = HeadersFrame(self.next_id, self.encoder.encode(self.load.fields), flags=["END_HEADERS", "END_STREAM"])
            self.open[self.next_id] = None
            self.next_id += 2
            asked.append(frame.serialize())
        if asked:
            self.stream.sendall(b"".join(asked))
