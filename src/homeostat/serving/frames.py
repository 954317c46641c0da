"""Frames of HTTP/2 as bytes, and what is wrong with one (RFC 9113, sections 4, 6 and 7). Pure."""

from __future__ import annotations

import struct
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER = 9
"""Bytes before the payload of a frame."""
SIZE = 16_384
"""Bytes of a payload: the least that both sides have to take, and the most that we do."""
WINDOW = 65_535
"""Bytes that may be sent before anything else has been agreed on."""
LARGEST = 2**31 - 1
"""Of a window, and of the number of a stream."""

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 5, 6, 7, 8, 9
ACK, END_STREAM, END_HEADERS, PADDED, PRIORITIZED = 0x1, 0x1, 0x4, 0x8, 0x20

ENABLE_PUSH, STREAMS, INITIAL_WINDOW, FRAME_SIZE, HEADER_LIST = 2, 3, 4, 5, 6
"""Settings: ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE and
MAX_HEADER_LIST_SIZE."""


class Code(IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class Broken(Exception):
    """The connection cannot go on."""

    def __init__(self, code: Code, why: str) -> None:
        super().__init__(why)
        self.code, self.why = code, why


class Malformed(Exception):
    """A stream cannot go on; the connection can."""


_HEAD = struct.Struct(">IBI")
_SETTING = struct.Struct(">HI")
_NUMBER = struct.Struct(">I")
_TWO = struct.Struct(">II")
unpack = _HEAD.unpack_from
"""-> the length of the payload << 8 | the type, flags, the number of the stream."""


def header(kind: int, flags: int, stream: int, size: int) -> bytes:
    return _HEAD.pack(size << 8 | kind, flags, stream)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return _HEAD.pack(len(payload) << 8 | kind, flags, stream) + payload


def reset(stream: int, code: Code) -> bytes:
    return frame(RST_STREAM, 0, stream, _NUMBER.pack(code))


def grow(stream: int, more: int) -> bytes:
    """A WINDOW_UPDATE; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream, _NUMBER.pack(more))


def goaway(last: int, code: Code, why: str = "") -> bytes:
    return frame(GOAWAY, 0, 0, _TWO.pack(last, code) + why.encode())


def settings(values: dict[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*one) for one in values.items()))


def read_settings(payload: bytes) -> dict[int, int]:
    """The values of the settings that are known here; of one that comes twice the last. Raises
    Broken."""
    if len(payload) % _SETTING.size:
        raise Broken(Code.FRAME_SIZE_ERROR, "SETTINGS of no whole number of settings")
    found = {}
    for name, value in _SETTING.iter_unpack(payload):
        if name == ENABLE_PUSH and value > 1:
            raise Broken(Code.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1")
        if name == INITIAL_WINDOW and value > LARGEST:
            raise Broken(Code.FLOW_CONTROL_ERROR, "a window of more than 2^31-1 bytes")
        if name == FRAME_SIZE and not SIZE <= value < 2**24:
            raise Broken(Code.PROTOCOL_ERROR, "MAX_FRAME_SIZE is 16384 to 16777215")
        found[name] = value
    return found


def read_number(payload: bytes, what: str) -> int:
    """The 32 bits of a RST_STREAM or a WINDOW_UPDATE (31 of them). Raises Broken."""
    if len(payload) != _NUMBER.size:
        raise Broken(Code.FRAME_SIZE_ERROR, f"{what} has 4 bytes")
    return int(_NUMBER.unpack(payload)[0]) & LARGEST


def unpadded(flags: int, payload: bytes) -> bytes:
    """The payload of a DATA or HEADERS frame without padding and priority. Raises Broken."""
    start, end = 0, len(payload)
    if flags & PADDED:
        if not payload:
            raise Broken(Code.FRAME_SIZE_ERROR, "no length of the padding")
        start, end = 1, end - payload[0]
    if flags & PRIORITIZED:
        start += 5
    if start > end:
        raise Broken(Code.PROTOCOL_ERROR, "more padding than payload")
    return payload[start:end]
