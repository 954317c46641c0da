"""One request over HTTP/2 and its answer."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from homeostat.serving.heads import Head

if TYPE_CHECKING:
    from homeostat.serving.http2 import Connection


class Application(Protocol):
    """What HTTP/2 carries. Statuses are those of HTTP. Each request that was `opened` ends by one
    of the others, or by the application itself."""

    def meaning(self, head: Head) -> object:
        """What a head says (`Head.meaning`), worked out once for heads that come again."""

    def opened(self, stream: Stream) -> None:
        """A request begins; it can be answered before the rest of it has come."""

    def grown(self, stream: Stream) -> None:
        """Some of its body has come, and more will; it can be answered before that."""

    def handle(self, stream: Stream) -> None:
        """It is there, whole. Call `stream.send` now or later, also when the client has left."""

    def fail(self, stream: Stream, status: int, message: str) -> None:
        """Answer what cannot be taken, with an error."""

    def gone(self, stream: Stream) -> None:
        """The client left before its request was there."""

    def refused(self, status: int) -> None:
        """A request that never became one ends at once."""


class Stream:
    """began: when its head was there, by `monotonic`. body: what has come of it. held: bytes of
    that which `Bodies` knows of. left: called when the client goes after the request was handled.

    whole: the client has sent everything. handled: given to the application. answered: `send` was
    called. closed: nobody listens any more.
    """

    __slots__ = (
        "answered", "began", "body", "closed", "connection", "credit", "due", "handled", "head",
        "held", "id", "left", "rest", "taken", "trailers", "whole"
    )  # fmt: skip

    def __init__(self, connection: Connection, id: int, head: Head) -> None:
        self.connection, self.id, self.head = connection, id, head
        self.began = monotonic()
        self.body: bytes | bytearray = b""
        self.held = 0
        self.left: Callable[[], object] | None = None
        self.whole = self.handled = self.answered = self.closed = False
        self.taken = 0  # bytes that came since the client was given room for more
        self.credit = 0  # bytes that may be sent beyond the client's first window
        self.rest = memoryview(b"")  # of the answer, for which the client has given no room
        self.trailers = b""
        self.due = 0.0  # when the rest is given up, by `monotonic`; later as some of it is taken

    @property
    def client(self) -> str:
        """The address it comes from."""
        return self.connection.client

    def take(self, data: bytes) -> None:
        """More of the body."""
        if not self.body:
            self.body = data
        else:
            # one growing buffer: a body in a million frames must not become a million objects
            if isinstance(self.body, bytes):
                self.body = bytearray(self.body)
            self.body += data

    def send(self, head: bytes, body: bytes = b"", trailers: bytes = b"") -> None:
        """The answer, once: the blocks of its head and trailers, and what is between them. Without
        trailers there is no body either."""
        self.answered = True
        self.let_go()
        self.connection.answer(self, head, body, trailers)

    def let_go(self) -> None:
        """Nobody needs the body any more."""
        if self.held:
            self.connection.server.bodies.give(self.held)
            self.held = 0
        self.body = b""
