"""HTTP/1.1 on httptools: strict, with limits on everything a client can send or hold up.

llhttp, strict by default, refuses most of what two parsers could read in two ways (bare CR or
LF, folded lines, repeated or contradicting lengths, odd chunk sizes). What it lets through and
this server does not: RFC 9112 sections 2.3, 3.2, 6.1 and 7.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from time import monotonic, perf_counter
from typing import NamedTuple, cast

import httptools
import msgspec

from homeostat.serving.exchange import Exchange, Front
from homeostat.serving.spec import BODIES

PIPELINE = 128
"""Requests of one connection that may wait for answers before reading pauses."""
SMALL = 4096
"""Bytes of a body that are not counted among those that a worker holds: a request weighs as much
without one."""
HEADS, HEAD = 1000, 1024
"""How many heads are remembered, the oldest forgotten first, and the bytes that one may have."""
LINGER = 1.0
"""Seconds for which input is still read and thrown away after a refusal, so that the client
sees the refusal and not a reset."""

QUIET = 0.1
"""Seconds of silence after which a server that drains hangs up."""

KEPT = frozenset(
    {
        b"x-homeostat-key",
        b"x-homeostat-deadline-ms",
        b"inference-header-content-length",
        b"traceparent",
    }
)
"""Headers that are kept for the endpoints."""
_CHECKED = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"content-encoding", b"expect"}
)
_LENGTHS = frozenset(map(len, KEPT | _CHECKED))
_KNOWN = {spelt: name for name in KEPT | _CHECKED for spelt in (name, name.title())}
"""Lower case by the usual spellings; others are lowered first."""
_END = b"\r\n\r\n"
_HOST = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]*")


class Limits(msgspec.Struct, frozen=True):
    """Bytes of a body, of a head (request line and headers), of a target, and of the bodies of all
    connections together; number of headers.

    Seconds: idle, between requests; head and arrival, for a request's head and for all of it
    from its first byte on, however it trickles; stall, for a client that takes no answers.
    """

    body: int
    head: int = 64 * 1024
    target: int = 8 * 1024
    headers: int = 100
    bodies: int = BODIES
    idle: float = 75.0
    head_time: float = 10.0
    arrival: float = 60.0
    stall: float = 30.0


class Head(NamedTuple):
    """What the parser made of a head, and what answers it. length: of the body after it."""

    method: bytes
    target: bytes
    length: int
    handle: Callable[[Exchange], None]


class Server(Front):
    """What the connections of a worker share. find(method, target) is what answers such requests,
    now or later; refused() is called for every request that never reached it; ended(status) for
    both, once the answer is known and before it is written. heads: by their bytes, those that a
    client may send again to the letter: they are parsed once.
    """

    __slots__ = ("connections", "draining", "find", "heads", "limits", "refused")

    def __init__(
        self,
        find: Callable[[bytes, bytes], Callable[[Exchange], None]],
        refused: Callable[[], None],
        limits: Limits,
        ended: Callable[[int], None] = lambda status: None,
    ) -> None:
        super().__init__(ended, limits.bodies)
        self.find, self.refused, self.limits = find, refused, limits
        self.connections: set[Connection] = set()
        self.heads: dict[bytes, Head] = {}
        self.draining = False
        self.tick(0.0)

    def tick(self, now: float) -> None:
        """Once a second, with the monotonic time: the Date header, and clients that take too
        long."""
        self.dated(formatdate(usegmt=True))
        for connection in list(self.connections):
            connection.check(now)

    def remember(self, head: bytes, meaning: Head) -> None:
        """What a head means that can be taken as it is."""
        if len(self.heads) >= HEADS:
            del self.heads[next(iter(self.heads))]
        self.heads[head] = meaning

    def drain(self, now: float) -> None:
        """Part with the clients, each between two requests; call it until none is left."""
        self.draining = True
        for connection in list(self.connections):
            connection.drain(now)


class Connection(asyncio.Protocol):
    """One client. What cannot be taken is answered with an error, which ends the connection."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Exchange] = deque()
        self._transport: asyncio.Transport | None = None
        self._client = ""
        self._flush = self.flush  # bound once
        self._exchange: Exchange | None = None  # being received
        self._fresh = b""  # what is being parsed, where a request begins with it
        self._in_head = False
        self._head = self._fed = self._headers = 0
        self._length = 0
        self._body: bytes | bytearray = b""
        self._hosts = 0
        self._host = b""  # the last one that was looked at
        self._fault: tuple[int, str] | None = None  # found in a header, told after the head
        self._expect = b""
        self._chunked = False
        self._owed = 0  # bytes of the body that are still to come and that the parser leaves to us
        self._continue = False  # 100 is due after the answers before it
        self._refused = False  # nothing more is taken from this client
        self._paused = self._full = False
        self._began = self._idle_since = monotonic()
        self._stuck_since: float | None = None

    # ------------------------------------------------------------ transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do what asyncio.Transport says without being one
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._client = str(peer[0]) if isinstance(peer, tuple) else ""
        self.server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._waiting.clear()
        if self._exchange is not None:
            self._exchange.let_go()
        self.server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._exchange is None:
            # between two requests the parser knows nothing: the same bytes mean the same again
            end = data.find(_END) + len(_END)
            known = self.server.heads.get(data[:end])
            if known is not None and len(data) == end + known.length:
                exchange = Exchange(
                    self.server, self._flush, self._client, known.method, known.target, data[end:]
                )
                self._take(exchange, known.handle)
                return
            self._fresh = data
        else:
            self._fresh = b""
        receiving, size = self._exchange, len(self._body)
        self._feed(data)
        if receiving is not None and receiving is self._exchange and size == len(self._body):
            # a line of a head, of a trailer or about a chunk, that never ends, is told to nobody
            self._fed += len(data)
            if self._fed > self.server.limits.head:
                self._long_head()

    def _feed(self, data: bytes | memoryview) -> None:
        """Let the parser read. After a head that offers another protocol it stops, and takes all
        that follows for that protocol: we stay with this one (RFC 9110, section 7.8)."""
        try:
            while data and not self._refused:
                if self._owed:
                    body, data = data[: self._owed], data[self._owed :]
                    self._owed -= len(body)
                    self.on_body(bytes(body))
                    if not self._owed:
                        self.on_message_complete()
                    continue
                try:
                    self._parser.feed_data(data)
                    return
                except httptools.HttpParserUpgrade as stopped:
                    data, self._fresh = memoryview(data)[stopped.args[0] :], b""
        except httptools.HttpParserError as error:
            self._broken(error)

    def eof_received(self) -> bool:
        # a client that has sent all it wants still gets its answers (TLS ends as a whole)
        self._refused = True
        if not self._waiting or self._transport is None or not self._transport.can_write_eof():
            return False
        self._waiting[-1].close = True
        return True

    def pause_writing(self) -> None:
        self._full = True
        self._stuck_since = monotonic()
        self._throttle()

    def resume_writing(self) -> None:
        self._full = False
        self._stuck_since = None
        self._throttle()

    def _throttle(self) -> None:
        """Read no faster than the client takes its answers."""
        want = self._full or len(self._waiting) >= PIPELINE
        if want != self._paused and self._transport is not None:
            self._paused = want
            if want:
                self._transport.pause_reading()
            else:
                self._began = monotonic()  # while we did not read, the client was not late
                self._transport.resume_reading()

    # ------------------------------------------------------------ parser

    def on_message_begin(self) -> None:
        self._exchange = Exchange(self.server, self._flush, self._client)
        self._began = monotonic()
        self._in_head = True
        self._head = self._fed = self._headers = self._length = self._hosts = 0
        self._body = self._expect = b""
        self._chunked = False
        self._owed = 0
        self._fault = None

    def on_url(self, url: bytes) -> None:
        assert self._exchange is not None
        self._exchange.target += url
        self._head += len(url)
        if self._head > self.server.limits.target:
            limit = self.server.limits.target
            self._refuse(414, f"the target of a request is limited to {limit} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head += len(name) + len(value) + 4
        self._headers += 1
        if not self._in_head:  # a trailer: nothing is taken from it
            if self._over():
                self._long_head()
            return
        if len(name) not in _LENGTHS:
            return
        known = _KNOWN.get(name) or _KNOWN.get(name.lower())
        if known == b"content-length":  # llhttp has seen to it that it is one number
            self._length = int(value)
        elif known == b"host":
            self._hosts += 1
            if value != self._host:
                self._check_host(value.rstrip(b" \t"))
                self._host = value
        elif known in KEPT:
            self._keep(known, value.rstrip(b" \t"))
        elif known is not None:
            self._check_header(known, value.rstrip(b" \t").lower())

    def _keep(self, name: bytes, value: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        if name in exchange.headers:
            self._fault = (400, f"the header {name.decode()} came twice")
        exchange.headers = {**exchange.headers, name: value}

    def _check_host(self, value: bytes) -> None:
        if _HOST.fullmatch(value) is None:
            self._fault = (400, "the header Host is not a host")

    def _check_header(self, name: bytes, value: bytes) -> None:
        if name == b"expect":
            self._expect = value
        elif name == b"content-encoding" and value not in (b"", b"identity"):
            self._fault = (415, "compressed bodies are not understood: send it as it is")
        elif name == b"transfer-encoding" and value != b"chunked":
            self._fault = (501, "the only transfer coding that is understood is `chunked`")
        elif name == b"transfer-encoding":
            self._chunked = True
            if self._parser.get_http_version() != "1.1":
                self._fault = (400, "a transfer coding needs HTTP/1.1")

    def on_headers_complete(self) -> None:
        self._in_head = False
        exchange = self._exchange
        if self._refused or exchange is None:
            return
        parser = self._parser
        method, version = parser.get_method(), parser.get_http_version()
        exchange.method, exchange.head = method, method == b"HEAD"
        # what we say does not tell a client of HTTP/1.0 that the connection stays
        exchange.close = not parser.should_keep_alive() or version == "1.0" or method == b"CONNECT"
        if fault := self._refusal(version):
            self._refuse(*fault)
            return
        if self._length and parser.should_upgrade():
            self._owed = self._length
        if self._expect:
            self._hundred()

    def _refusal(self, version: str) -> tuple[int, str] | None:
        """What is wrong with a head; None when nothing is."""
        if version != "1.1" and version != "1.0":
            return 505, f"HTTP/{version} is not spoken here: send HTTP/1.1"
        if self._over():
            return 431, self._long()
        if self._hosts != 1 and (self._hosts or version == "1.1"):
            return 400, f"expected one Host header, found {self._hosts}"
        if self._fault is not None:
            return self._fault
        if self._length > self.server.limits.body:
            return 413, large(self.server.limits.body)
        if self._chunked and self._parser.should_upgrade():
            return 501, "upgrades are not supported: send chunks without offering one"
        if self._expect not in (b"", b"100-continue"):
            return 417, "only `Expect: 100-continue` is understood"
        return None

    def _hundred(self) -> None:
        if self._parser.get_http_version() == "1.0":
            return  # such a client cannot know what it asked for
        if self._waiting:
            self._continue = True
        elif self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        if self._refused:
            return
        if not self._body:
            self._body = body
        else:
            # one growing buffer: a body in a million chunks must not become a million objects
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += body
        size = len(self._body)
        if size > self.server.limits.body:  # chunked: known only as it comes
            self._refuse(413, large(self.server.limits.body))
        elif size > SMALL:
            self._hold(size)

    def _hold(self, size: int) -> None:
        """Find room for a body as it comes: what is only announced takes nobody's."""
        exchange, bodies = self._exchange, self.server.bodies
        assert exchange is not None
        if bodies.take(size - exchange.held):
            exchange.held = size
        else:
            self._refuse(503, bodies.full)

    def on_message_complete(self) -> None:
        if self._owed:
            return
        exchange, self._exchange = self._exchange, None
        if self._refused or exchange is None:
            return
        body, self._body = self._body, b""
        exchange.body = body if isinstance(body, bytes) else bytes(body)
        handle = self.server.find(exchange.method, exchange.target)
        if self._fresh:
            self._learn(exchange, handle)
        self._continue = False
        self._take(exchange, handle)

    def _learn(self, exchange: Exchange, handle: Callable[[Exchange], None]) -> None:
        """Remember the head of a request that came in one piece and by itself, unless there is
        more to its head than whom it asks for what."""
        data, self._fresh = self._fresh, b""
        end, length = data.find(_END) + len(_END), len(exchange.body)
        alone = len(_END) <= end <= HEAD and length <= SMALL and len(data) == end + length
        special = exchange.close or exchange.head or exchange.headers or self._expect
        if alone and not special and not self._parser.should_upgrade():
            meaning = Head(exchange.method, exchange.target, length, handle)
            self.server.remember(data[:end], meaning)

    def _take(self, exchange: Exchange, handle: Callable[[Exchange], None]) -> None:
        """A request is there."""
        exchange.started = perf_counter()
        if self.server.draining:
            exchange.close = True
        self._waiting.append(exchange)
        if len(self._waiting) >= PIPELINE:
            self._throttle()
        if exchange.close:
            self._refused = True
        handle(exchange)

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
        self._idle_since = monotonic()
        if exchange.close:
            waiting.clear()
            self._end()
            return
        if self._continue and not waiting:
            self._continue = False
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._paused:
            self._throttle()

    def check(self, now: float) -> None:
        """Part with a client that takes too long to ask, or to take its answers."""
        limits, transport = self.server.limits, self._transport
        if transport is None:
            return
        if self._stuck_since is not None and now - self._stuck_since >= limits.stall:
            transport.abort()
        elif self._exchange is not None and not self._refused:
            allowed = limits.head_time if self._in_head else limits.arrival
            if now - self._began >= allowed and not self._paused:
                what = "the head of the request" if self._in_head else "the request"
                self._refuse(408, f"{what} took longer than {allowed:g} s to arrive")
        elif not self._waiting and now - self._idle_since >= limits.idle:
            transport.close()

    def drain(self, now: float) -> None:
        """Close after the answers that are due, or when the client has been silent for a moment:
        what it may be sending just now would be lost."""
        if self._transport is None:
            return
        if self._waiting:
            self._waiting[-1].close = True
            self._refused = True
        elif self._exchange is None and now - self._idle_since >= QUIET:
            self._transport.close()

    # ------------------------------------------------------------ refusals

    def _over(self) -> bool:
        limits = self.server.limits
        return self._head > limits.head or self._headers > limits.headers

    def _long(self) -> str:
        limits = self.server.limits
        return f"the head of a request is limited to {limits.head} bytes in {limits.headers} lines"

    def _long_head(self) -> None:
        self._refuse(431, self._long())

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
        exchange = self._exchange or Exchange(self.server, self._flush, self._client)
        self._exchange = None
        self._body = b""
        exchange.close = True
        self._waiting.append(exchange)
        exchange.fail(status, message)

    def _end(self) -> None:
        """Send everything, then close; what still comes in is thrown away for a moment."""
        self._refused = True
        transport = self._transport
        if transport is None:
            return
        if self._stuck_since is None:
            self._stuck_since = monotonic()  # closing must not take for ever either
        if hang_up(transport) and self._paused:
            self._paused = False
            transport.resume_reading()


def hang_up(transport: asyncio.Transport) -> bool:
    """Send everything, then close; -> whether what still comes in is thrown away for a moment, so
    that the client sees what was sent and not a reset."""
    if not transport.can_write_eof() or transport.is_closing():
        transport.close()
        return False
    transport.write_eof()
    asyncio.get_running_loop().call_later(LINGER, transport.close)
    return True


def large(most: int) -> str:
    """What is said of a body that is too large."""
    return f"a body is limited to {most} bytes"
