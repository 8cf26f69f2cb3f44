"""A reader of HTTP/1 messages that knows RFC 9112 only and takes nothing that it does not allow.

It reads what a client meant, and what an origin got. Written apart from the gateway, so that the two can disagree.
"""

import dataclasses
import re

TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
TARGET = re.compile(rb"[^\x00-\x20\x7f]+")
VALUE = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")
SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})((?:;[^\x00-\x08\x0a-\x1f\x7f]*)?)")


class Bad(Exception):
    """Something that no message may have."""


class Incomplete(Exception):
    """The bytes end within a message. `head` is the message's head, if that was whole."""

    def __init__(self, head=None):
        super().__init__("incomplete")
        self.head = head


@dataclasses.dataclass
class Message:
    """A request (`first` is its method, `second` its target) or an answer (`second` is its status)."""

    first: bytes
    second: bytes
    version: bytes
    fields: list
    body: bytes = b""
    trailers: list = dataclasses.field(default_factory=list)

    def values(self, name):
        return [value for known, value in self.fields if known == name]

    def value(self, name):
        values = self.values(name)
        return values[0] if values else None

    def closes(self):
        """Whether no request follows this one on its connection."""
        words = [word.strip().lower() for value in self.values(b"connection") for word in value.split(b",")]
        return b"close" in words or (self.version == b"HTTP/1.0" and b"keep-alive" not in words)


def read_request(data):
    """The first request of `data` and how many bytes it takes. `None` where there are none but blank lines."""
    start = 0
    while data.startswith(b"\r\n", start):
        start += 2
    if data[start:] in (b"", b"\r"):
        return None
    message, at = read_head(data, start)
    if not TOKEN.fullmatch(message.first) or not TARGET.fullmatch(message.second):
        raise Bad("method or target")
    hosts = message.values(b"host")
    if len(hosts) > 1 or (not hosts and message.version == b"HTTP/1.1"):
        raise Bad("host")
    if message.version == b"HTTP/1.0" and message.values(b"transfer-encoding"):
        raise Bad("Transfer-Encoding in HTTP/1.0")
    return message, read_body(message, data, at, 0)


def read_all(data):
    """The whole requests of a connection, and how it ends: `clean`, `incomplete`, or `bad: …`."""
    requests, at = [], 0
    while True:
        try:
            found = read_request(data[at:])
        except Bad as bad:
            return requests, f"bad: {bad}"
        except Incomplete:
            return requests, "incomplete"
        if found is None:
            return requests, "clean"
        requests.append(found[0])
        at += found[1]
        if found[0].closes():
            return requests, "clean"


def read_answer(data, method, is_over):
    """The first answer of `data` to a request of this method, and how many bytes it takes. `is_over`: no more will come."""
    message, at = read_head(data, 0, is_answer=True)
    if not re.fullmatch(rb"[1-5][0-9][0-9]", message.second):
        raise Bad("status")
    if method == b"HEAD" or message.second[:1] == b"1" or message.second in (b"204", b"304"):
        return message, at
    framed = message.values(b"content-length") or message.values(b"transfer-encoding")
    if framed:
        return message, read_body(message, data, at, None)
    if not is_over:
        raise Incomplete(message)
    message.body = data[at:]
    return message, len(data)


def read_head(data, start, is_answer=False):
    end = data.find(b"\r\n\r\n", start)
    if end < 0:
        raise Incomplete()
    lines = data[start:end].split(b"\r\n")
    if any(b"\r" in line or b"\n" in line for line in lines):
        raise Bad("a bare CR or LF")
    words = lines[0].split(b" ", 2) if is_answer else lines[0].split(b" ")
    if len(words) != 3:
        raise Bad("not three words")
    fields = [read_field(line) for line in lines[1:]]
    if is_answer:
        words = [b"", words[1], words[0]]
    if words[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise Bad("version")
    return Message(*words, fields), end + 4


def read_field(line):
    name, colon, value = line.partition(b":")
    if not colon or not TOKEN.fullmatch(name) or not VALUE.fullmatch(value):
        raise Bad("a field")
    return name.lower(), value.strip(b" \t")


def read_body(message, data, at, without):
    """Reads the body that begins at `at` and answers where it ends."""
    lengths, codings = message.values(b"content-length"), message.values(b"transfer-encoding")
    if not lengths and not codings:
        return at + without
    if not lengths and len(codings) == 1 and codings[0].lower() == b"chunked":
        return read_chunks(message, data, at)
    if codings or len(lengths) != 1 or not re.fullmatch(rb"[0-9]{1,19}", lengths[0]):
        raise Bad("the framing")
    end = at + int(lengths[0])
    message.body = data[at:end]
    if len(data) < end:
        raise Incomplete(message)
    return end


def read_chunks(message, data, at):
    while True:
        line, at = read_line(message, data, at)
        size = SIZE.fullmatch(line)
        if not size:
            raise Bad("a chunk's size")
        length = int(size.group(1), 16)
        if length == 0:
            break
        message.body += data[at : at + length]
        at += length
        if len(data) < at + 2:
            # One wrong byte is enough.
            if data[at : at + 1] not in (b"", b"\r"):
                raise Bad("a chunk's end")
            raise Incomplete(message)
        if data[at : at + 2] != b"\r\n":
            raise Bad("a chunk's end")
        at += 2
    while True:
        line, at = read_line(message, data, at)
        if not line:
            return at
        message.trailers.append(read_field(line))


def read_line(message, data, at):
    end = data.find(b"\r\n", at)
    if end < 0:
        raise Incomplete(message)
    return data[at:end], end + 2
