"""gRPC over HTTP/2: what a head asks for, the message in a body, and how calls end. Pure.

As in "gRPC over HTTP2" and "Compression" of the gRPC project's documents.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import NamedTuple

from homeostat.serving.heads import Head, field, status

CANCELLED, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = 1, 3, 4, 5
RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 8, 12, 13, 14
CODES = {
    400: INVALID_ARGUMENT,
    404: NOT_FOUND,
    408: DEADLINE_EXCEEDED,
    413: RESOURCE_EXHAUSTED,
    429: RESOURCE_EXHAUSTED,
    499: CANCELLED,
    500: INTERNAL,
    501: UNIMPLEMENTED,
    503: UNAVAILABLE,
    504: DEADLINE_EXCEEDED,
}
"""What an HTTP status is here."""
PREFIX = 5
"""Bytes before a message: whether it is compressed, and its length."""

WORDS = 500
"""Characters of an error."""

_ENCODINGS = {b"identity": 0, b"deflate": zlib.MAX_WBITS, b"gzip": zlib.MAX_WBITS | 16}
_TYPE = re.compile(rb"application/grpc(\+proto)?([ \t]*;.*)?", re.IGNORECASE | re.DOTALL)
_TIMEOUT = re.compile(rb"(\d{1,8})([HMSmun])")
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_PLAIN = status(200) + field(b"content-type", b"application/grpc")
_ACCEPTED = field(b"grpc-accept-encoding", b", ".join(_ENCODINGS))

HEAD, TRAILERS = _PLAIN, field(b"grpc-status", b"0")
"""The blocks around the message of an answer."""


class Refused(NamedTuple):
    """What is wrong with a head. status: of HTTP; spoken: whether the client speaks gRPC."""

    status: int
    message: str
    spoken: bool = True


class Asked(NamedTuple):
    """What a head says. method: after the name of the service. timeout: seconds, or None.
    window: of zlib, for a message that is compressed; 0 for none that may be."""

    method: str
    timeout: float | None
    window: int
    fields: Mapping[bytes, bytes]

    def metadata(self, name: bytes) -> str | None:
        value = self.fields.get(name)
        return None if value is None else value.decode("latin-1")


def read_head(head: Head, service: str) -> Asked | Refused:
    """What a head asks of `service`; other services have methods that nobody knows."""
    fields = head.fields
    if head.method != b"POST":
        return Refused(405, "gRPC is spoken here: only POST is possible", spoken=False)
    if _TYPE.fullmatch(fields.get(b"content-type", b"")) is None:
        return Refused(415, "gRPC is spoken here: send application/grpc", spoken=False)
    if b"te" not in fields:
        return Refused(400, "`te: trailers` is missing: something on the way cannot carry gRPC")
    window = _ENCODINGS.get(fields.get(b"grpc-encoding", b"identity"))
    if window is None:
        known = ", ".join(name.decode() for name in _ENCODINGS)
        return Refused(501, f"messages cannot be decompressed; expected grpc-encoding: {known}")
    timeout = None
    if (given := fields.get(b"grpc-timeout")) is not None:
        found = _TIMEOUT.fullmatch(given)
        if found is None:
            return Refused(400, "grpc-timeout: not a time; expected at most 8 digits and a unit")
        timeout = int(found[1]) * _UNITS[found[2]]
    path = head.path.decode("latin-1")
    return Asked(path.removeprefix(f"/{service}/"), timeout, window, fields)


def announced(body: bytes | bytearray) -> int:
    """Bytes that the message at the beginning of a body has, as it says; 0 when it does not say."""
    return int.from_bytes(body[1:PREFIX], "big") if len(body) >= PREFIX else 0


def message(body: bytes | bytearray, window: int, most: int) -> bytes:
    """The one message of a call, decompressed. Raises NoMessage."""
    if len(body) < PREFIX:
        raise NoMessage(400, f"no message that could be read; found {len(body)} bytes")
    size, there = announced(body), len(body) - PREFIX
    if size != there:
        raise NoMessage(400, f"not one message; expected {size} bytes; found {there}")
    packed = body[0]
    if not packed:
        return body[PREFIX:] if isinstance(body, bytes) else bytes(memoryview(body)[PREFIX:])
    if packed != 1 or not window:
        raise NoMessage(500, "a message is compressed, and grpc-encoding does not say how")
    machine = zlib.decompressobj(window)
    try:
        found = machine.decompress(memoryview(body)[PREFIX:], most + 1)
    except zlib.error as error:
        raise NoMessage(400, f"a message cannot be decompressed; found {error}") from error
    if len(found) > most:
        raise NoMessage(413, f"a message is limited to {most} bytes, also when it is decompressed")
    if not machine.eof or machine.unused_data:
        raise NoMessage(400, "a message cannot be decompressed; found no one stream of bytes")
    return found


class NoMessage(Exception):
    """What came is no message of a call. status: of HTTP."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def answer(said: bytes) -> bytes:
    """A message as a body has it."""
    return b"\0" + len(said).to_bytes(4, "big") + said


def error(code: int, why: str) -> bytes:
    """The block of a call that ends without a message; it fits into a frame."""
    if len(why) > WORDS:
        why = f"{why[: WORDS - 3]}..."
    block = _PLAIN + field(b"grpc-status", b"%d" % code) + field(b"grpc-message", _percent(why))
    return block + _ACCEPTED if code == UNIMPLEMENTED else block


def no_grpc(code: int) -> bytes:
    """The block for a client that speaks HTTP/2, but not gRPC."""
    return status(code) + (field(b"allow", b"POST") if code == 405 else b"")


def _percent(text: str) -> bytes:
    """What is not printable ASCII, and the percent sign, as %XX of its UTF-8."""
    raw = text.encode(errors="replace")
    return b"".join(_ESCAPED[byte] for byte in raw)


_ESCAPED = [
    bytes([byte]) if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte
    for byte in range(256)
]
