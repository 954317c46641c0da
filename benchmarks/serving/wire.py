"""What one connection of the load generator speaks: HTTP/1.1, or gRPC on HTTP/2.

A wire has one request in flight. It knows just enough of its protocol to send bytes that were
made beforehand and to see where an answer ends; a real client has checked the answers before.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from typing import Protocol

PENDING, ANSWERED, FAILED = 0, 1, -1


class Wire(Protocol):
    """reply: bytes that have to be sent now, besides requests; the caller empties it."""

    reply: bytes

    def opening(self) -> bytes:
        """What is sent on a new connection."""

    def request(self) -> bytes:
        """The next request."""

    def feed(self, data: bytes) -> int:
        """PENDING, or how the request has ended."""


class Http1:
    """requests: whole requests, sent in turn."""

    __slots__ = ("_buffer", "_next", "reply")

    def __init__(self, requests: Sequence[bytes], first: int = 0) -> None:
        first %= len(requests)
        self._next = itertools.cycle([*requests[first:], *requests[:first]]).__next__
        self._buffer = b""
        self.reply = b""

    def opening(self) -> bytes:
        self._buffer = b""
        return b""

    def request(self) -> bytes:
        return self._next()

    def feed(self, data: bytes) -> int:
        if self._buffer:
            data = self._buffer + data
        body = data.find(b"\r\n\r\n") + 4
        if body < 4 or not self._whole(data, body):
            self._buffer = data
            return PENDING
        self._buffer = b""
        return ANSWERED if data[9:12] == b"200" else FAILED

    @staticmethod
    def _whole(data: bytes, body: int) -> bool:
        head = data[:body].lower()
        at = head.find(b"content-length:")
        if at >= 0:
            return len(data) - body >= int(head[at + 15 : head.find(b"\r", at)])
        if b"transfer-encoding: chunked" in head:
            return data.endswith(b"\r\n0\r\n\r\n") or data[body:] == b"0\r\n\r\n"
        return True  # neither: there is no body


DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_WINDOW = 1 << 30


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """RFC 9113, section 4.1."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def head(path: str, authority: str) -> bytes:
    """The header block of a gRPC call, in literals that no table remembers (RFC 7541, 6.2.2)."""

    def text(value: str) -> bytes:
        raw = value.encode()
        assert len(raw) < 127
        return bytes([len(raw)]) + raw

    return (
        b"\x83\x86"  # :method POST, :scheme http
        + (b"\x04" + text(path))
        + (b"\x01" + text(authority))
        + (b"\x0f\x10" + text("application/grpc"))
        + (b"\x00" + text("te") + text("trailers"))
    )


class Grpc:
    """A unary method, called again and again. messages: serialized requests, sent in turn."""

    __slots__ = ("_block", "_buffer", "_data", "_held", "_next", "_room", "_stream", "reply")

    def __init__(
        self, path: str, messages: Sequence[bytes], authority: str = "localhost", first: int = 0
    ) -> None:
        if max(map(len, messages)) + 5 > 16_384:
            raise ValueError("a message has to fit into one frame of 16 KiB")
        self._block = head(path, authority)
        bodies = [b"\x00" + struct.pack(">I", len(m)) + m for m in messages]
        first %= len(bodies)
        self._next = itertools.cycle([*bodies[first:], *bodies[:first]]).__next__
        self.reply = b""
        self.opening()

    def opening(self) -> bytes:
        self._buffer = self._held = self.reply = b""
        self._stream, self._data, self._room = -1, False, 65_535
        settings = struct.pack(">HIHI", 2, 0, 4, _WINDOW)  # no push; a large window per stream
        grow = struct.pack(">I", _WINDOW)
        return _PREFACE + frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, grow)

    def request(self) -> bytes:
        body = self._next()
        self._stream += 2
        self._data = False
        data = frame(HEADERS, 0x4, self._stream, self._block) + frame(DATA, 1, self._stream, body)
        self._room -= len(body)
        if self._room < 0:  # the server has not yet said that it takes more
            self._held = data
            return b""
        return data

    def feed(self, data: bytes) -> int:
        buffer = self._buffer + data
        outcome, at, end = PENDING, 0, len(buffer)
        while end - at >= 9:
            size = int.from_bytes(buffer[at : at + 3], "big")
            if end - at - 9 < size:
                break
            kind, flags = buffer[at + 3], buffer[at + 4]
            payload = buffer[at + 9 : at + 9 + size]
            at += 9 + size
            if kind == DATA:
                self._data = True
            elif kind == HEADERS and flags & 1:
                outcome = ANSWERED if self._data else FAILED  # without a message: an error
            elif kind == RST_STREAM:
                outcome = FAILED
            elif kind == GOAWAY:
                raise ConnectionError(f"the server hung up: {payload[8:].decode('latin-1')}")
            else:
                self._control(kind, flags, payload, buffer[at - size - 4 : at - size])
        self._buffer = buffer[at:]
        return outcome

    def _control(self, kind: int, flags: int, payload: bytes, stream: bytes) -> None:
        if kind == SETTINGS and not flags & 1:
            self.reply += frame(SETTINGS, 1, 0, b"")
        elif kind == PING and not flags & 1:
            self.reply += frame(PING, 1, 0, payload)
        elif kind == WINDOW_UPDATE and stream == b"\0\0\0\0":
            self._room += int.from_bytes(payload, "big")
            if self._held and self._room >= 0:
                self.reply += self._held
                self._held = b""
