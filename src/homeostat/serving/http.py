"""HTTP/1.1 on httptools: strict limits, answers in order on pipelined connections."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from time import monotonic, perf_counter
from typing import cast

import httptools
import msgspec

HEAD_LIMIT = 64 * 1024
"""Bytes of request line and headers; more is 431."""
PIPELINE = 128
"""Requests of one connection that may wait for answers before reading pauses."""
IDLE = 75.0
"""Seconds a connection may be silent between requests, and a request may take to arrive."""
LINGER = 1.0
"""Seconds for which input is still read and thrown away after a refusal, so that the client
sees the refusal and not a reset."""

JSON = b"application/json"
REASONS = {
    200: b"OK",
    400: b"Bad Request",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Content Too Large",
    417: b"Expectation Failed",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    503: b"Service Unavailable",
}
_ANSWER = b"HTTP/1.1 %d %b\r\n%b%b%bcontent-type: %b\r\ncontent-length: %d\r\n\r\n%b"
_encode = msgspec.json.Encoder().encode


class Exchange:
    """One request and its answer."""

    __slots__ = (
        "_connection", "answer", "body", "close", "head", "key", "method", "started", "target"
    )  # fmt: skip

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.started = perf_counter()
        self.method = b""
        self.target = b""
        self.key: str | None = None
        self.body = b""
        self.head = self.close = False
        self.answer: bytes | None = None

    def send(
        self, status: int, body: bytes, content_type: bytes = JSON, extra: bytes = b""
    ) -> None:
        """Answer; `extra` is more header lines, each ended."""
        self.answer = _ANSWER % (
            status,
            REASONS[status],
            self._connection.server.date,
            b"connection: close\r\n" if self.close else b"",
            extra,
            content_type,
            len(body),
            b"" if self.head else body,
        )
        self._connection.flush()

    def fail(self, status: int, message: str) -> None:
        """Answer with `{"error": message}`."""
        extra = b"retry-after: 1\r\n" if status == 503 else b""
        self.send(status, _encode({"error": message}), JSON, extra)


class Server:
    """What the connections of a worker share. handle(exchange) must answer, now or later;
    refused() is called for every request that never reached it."""

    def __init__(
        self, handle: Callable[[Exchange], None], refused: Callable[[], None], max_body: int
    ) -> None:
        self.handle, self.refused, self.max_body = handle, refused, max_body
        self.connections: set[Connection] = set()
        self.draining = False
        self.date = b""
        self.tick(0.0)

    def tick(self, now: float) -> None:
        """Once a second: the Date header, and connections that have been silent for too long."""
        self.date = f"date: {formatdate(usegmt=True)}\r\n".encode()
        for connection in list(self.connections):
            connection.check_idle(now)

    def drain(self) -> None:
        """Answer what has arrived, then close every connection."""
        self.draining = True
        for connection in list(self.connections):
            connection.drain()


class Connection(asyncio.Protocol):
    """One client. Parsing errors are answered with 400 and end the connection."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Exchange] = deque()
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None  # being received
        self._in_head = False
        self._head = 0
        self._length = self._received = 0
        self._chunks: list[bytes] = []
        self._expect = b""
        self._refused = False  # nothing more is taken from this client
        self._paused = self._full = False
        self._last = monotonic()

    # ------------------------------------------------------------ transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do what asyncio.Transport says without being one
        self._transport = cast(asyncio.Transport, transport)
        self.server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._waiting.clear()
        self.server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._last = monotonic()
        if self._refused:
            return
        was_in_head = self._in_head
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._upgrade()
        except httptools.HttpParserError as error:
            self._broken(error)
        if was_in_head and self._in_head:
            self._head += len(data)
            if self._head > HEAD_LIMIT:
                self._refuse(431, f"the head of a request is limited to {HEAD_LIMIT} bytes")

    def eof_received(self) -> bool:
        # a client that has sent all it wants still gets its answers
        self._refused = True
        if not self._waiting:
            return False
        self._waiting[-1].close = True
        return True

    def pause_writing(self) -> None:
        self._full = True
        self._throttle()

    def resume_writing(self) -> None:
        self._full = False
        self._throttle()

    def _throttle(self) -> None:
        """Read no faster than the client takes its answers."""
        want = self._full or len(self._waiting) >= PIPELINE
        if want != self._paused and self._transport is not None:
            self._paused = want
            if want:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    # ------------------------------------------------------------ parser

    def on_message_begin(self) -> None:
        self._exchange = Exchange(self)
        self._in_head = True
        self._head = self._length = self._received = 0
        self._chunks = []
        self._expect = b""

    def on_url(self, url: bytes) -> None:
        assert self._exchange is not None
        self._exchange.target += url
        self._head += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head += len(name) + len(value) + 4
        if len(name) not in _LENGTHS:
            return
        name = name.lower()
        if name == b"content-length":
            self._length = int(value)
        elif name == b"x-homeostat-key" and self._exchange is not None:
            self._exchange.key = value.decode("latin-1")
        elif name == b"expect":
            self._expect = value.lower()

    def on_headers_complete(self) -> None:
        self._in_head = False
        exchange = self._exchange
        if self._refused or exchange is None:
            return
        exchange.method = self._parser.get_method()
        exchange.head = exchange.method == b"HEAD"
        exchange.close = not self._parser.should_keep_alive()
        if self._head > HEAD_LIMIT:
            self._refuse(431, f"the head of a request is limited to {HEAD_LIMIT} bytes")
        elif self._length > self.server.max_body:
            self._too_large()
        elif self._length and self._parser.should_upgrade():
            self._refuse(501, "upgrades are not supported: send plain HTTP/1.1")
        elif self._expect:
            if self._expect != b"100-continue":
                self._refuse(417, "only `Expect: 100-continue` is understood")
            elif not self._waiting and self._transport is not None:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        if self._refused:
            return
        self._chunks.append(body)
        self._received += len(body)
        if self._received > self.server.max_body:  # chunked: known only as it comes
            self._too_large()

    def on_message_complete(self) -> None:
        exchange, self._exchange = self._exchange, None
        if self._refused or exchange is None:
            return
        chunks = self._chunks
        exchange.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks = []
        if self.server.draining:
            exchange.close = True
        self._waiting.append(exchange)
        if len(self._waiting) >= PIPELINE:
            self._throttle()
        if exchange.close:
            self._refused = True
        self.server.handle(exchange)

    # ------------------------------------------------------------ answers

    def flush(self) -> None:
        """Write the answers that are due, in the order of their requests."""
        waiting, transport = self._waiting, self._transport
        if transport is None or not waiting or waiting[0].answer is None:
            return
        if len(waiting) == 1:
            exchange = waiting.popleft()
            assert exchange.answer is not None
            transport.write(exchange.answer)
        else:
            ready = []
            while waiting and (answer := waiting[0].answer) is not None:
                exchange = waiting.popleft()
                ready.append(answer)
                if exchange.close:
                    break
            transport.write(b"".join(ready))
        self._last = monotonic()
        if exchange.close:
            waiting.clear()
            self._end()
        elif self._paused:
            self._throttle()

    def check_idle(self, now: float) -> None:
        if now - self._last < IDLE or self._waiting:
            return
        if self._exchange is not None and not self._refused:
            self._refuse(408, f"the request took longer than {IDLE:g} s to arrive")
        elif self._transport is not None:
            self._transport.close()

    def drain(self) -> None:
        if self._transport is None:
            return
        if self._waiting:
            self._waiting[-1].close = True
            self._refused = True
        elif self._exchange is None:
            self._transport.close()

    def _too_large(self) -> None:
        self._refuse(413, f"a body is limited to {self.server.max_body} bytes")

    def _upgrade(self) -> None:
        """The request asked for another protocol, and has been answered as plain HTTP/1.1."""
        self._refused = True
        if self._waiting:
            self._waiting[-1].close = True
        else:
            self._end()

    def _broken(self, error: httptools.HttpParserError) -> None:
        if self._refused:
            return
        context = error.__context__
        if context is not None and not isinstance(context, httptools.HttpParserError):
            raise context  # a mistake of ours in a callback, not the client's
        self._refuse(400, f"not a valid HTTP/1.1 request: {error}")

    def _refuse(self, status: int, message: str) -> None:
        """Answer what cannot be taken, after the answers before it, and hang up."""
        if self._refused:
            return
        self._refused = True
        self.server.refused()
        exchange = self._exchange or Exchange(self)
        self._exchange = None
        self._chunks = []
        exchange.close = True
        self._waiting.append(exchange)
        exchange.fail(status, message)

    def _end(self) -> None:
        """Send everything, then close; what still comes in is thrown away for a moment."""
        self._refused = True
        transport = self._transport
        if transport is None:
            return
        if not transport.can_write_eof() or transport.is_closing():
            transport.close()
            return
        transport.write_eof()
        if self._paused:
            self._paused = False
            transport.resume_reading()
        asyncio.get_running_loop().call_later(LINGER, transport.close)


_LENGTHS = {len(b"content-length"), len(b"x-homeostat-key"), len(b"expect")}
