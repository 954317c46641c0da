"""One HTTP request and its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import msgspec

from homeostat.core.errors import BadInput
from homeostat.serving.admission import Bodies
from homeostat.serving.spec import BODIES

JSON = b"application/json"
BINARY = b"application/octet-stream"
REASONS = {
    200: b"OK",
    400: b"Bad Request",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    415: b"Unsupported Media Type",
    417: b"Expectation Failed",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}
RETRY = frozenset({429, 503})
"""Statuses that say when to come again: it is the server that could not, not the request."""

NO_HEADERS: Mapping[bytes, bytes] = MappingProxyType({})
_ANSWER = b"HTTP/1.1 %d %b\r\n%b%b%bcontent-type: %b\r\ncontent-length: %d\r\n\r\n%b"
_encode = msgspec.json.Encoder().encode


class Front:
    """What all connections of a worker share: in their answers the Date header's line (and what
    comes before the length of a plain answer with it), and `ended`, which is told the status of
    each answer before it is written; and the room for `bodies`."""

    __slots__ = ("bodies", "date", "ended", "plain")

    def __init__(self, ended: Callable[[int], None], bodies: int = BODIES) -> None:
        self.date = self.plain = b""
        self.ended, self.bodies = ended, Bodies(bodies)

    def dated(self, date: str) -> None:
        self.date = f"date: {date}\r\n".encode()
        self.plain = b"HTTP/1.1 200 OK\r\n%bcontent-type: %b\r\ncontent-length: " % (
            self.date,
            JSON,
        )


class Exchange(msgspec.Struct, eq=False):
    """One request and its answer.

    flush: writes the answers that are due. headers: those that the server acts on, names in lower
    case (`http.KEPT`). started: when the whole request was there, by `perf_counter`; slow clients
    do not count as slow answers. client: the address it comes from. held: bytes of the body that
    `Front.bodies` knows of. id, key, deadline: as in `jobs.Request`, once they have been read.
    """

    front: Front
    flush: Callable[[], None]
    client: str = ""
    method: bytes = b""
    target: bytes = b""
    body: bytes = b""
    started: float = 0.0
    headers: Mapping[bytes, bytes] = NO_HEADERS
    held: int = 0
    head: bool = False
    close: bool = False
    answer: bytes | None = None
    id: str = ""
    key: str | None = None
    deadline: float | None = None

    @property
    def trace(self) -> str | None:
        """The caller's W3C `traceparent`."""
        value = self.headers.get(b"traceparent")
        return None if value is None else value.decode("latin-1")

    def read_headers(self) -> None:
        """key and deadline, from `x-homeostat-key` and `x-homeostat-deadline-ms`. Raises
        BadInput."""
        key = self.headers.get(b"x-homeostat-key")
        if key is not None:
            self.key = key.decode("latin-1")
        value = self.headers.get(b"x-homeostat-deadline-ms")
        if value is None:
            return
        try:
            milliseconds = float(value)
        except ValueError:
            milliseconds = -1.0
        if not 0 <= milliseconds < 1e9:
            raise BadInput(
                "not a deadline",
                path="x-homeostat-deadline-ms",
                expected="milliseconds from now",
                found=repr(value.decode("latin-1")),
            )
        self.deadline = self.started + milliseconds / 1000

    def send(
        self, status: int, body: bytes, content_type: bytes = JSON, extra: bytes = b""
    ) -> None:
        """Count the answer and write it; `extra` is more header lines, each ended."""
        self.front.ended(status)
        self.write(self.framed(status, body, content_type, extra))

    def write(self, answer: bytes) -> None:
        """Write what `framed` made, and what has been counted."""
        self.answer = answer
        if self.held:
            self.let_go()
        self.flush()

    def let_go(self) -> None:
        """Nobody needs the body any more."""
        self.front.bodies.give(self.held)
        self.held, self.body = 0, b""

    def framed(
        self, status: int, body: bytes, content_type: bytes = JSON, extra: bytes = b""
    ) -> bytes:
        """The bytes of an answer."""
        front = self.front
        if status == 200 and content_type is JSON and not (self.close or self.head or extra):
            return b"%b%d\r\n\r\n%b" % (front.plain, len(body), body)
        return _ANSWER % (
            status,
            REASONS[status],
            front.date,
            b"connection: close\r\n" if self.close else b"",
            extra,
            content_type,
            len(body),
            b"" if self.head else body,
        )

    def fail(self, status: int, message: str) -> None:
        """Answer with `{"error": message}`."""
        extra = b"retry-after: 1\r\n" if status in RETRY else b""
        self.send(status, _encode({"error": message}), JSON, extra)
