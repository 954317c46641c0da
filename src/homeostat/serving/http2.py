"""HTTP/2: frames from clients to requests, and answers to frames. Strict, with limits on everything
a client can send, hold up or make us keep (RFC 9113; priorities are ignored, nothing is pushed).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from time import monotonic
from typing import cast

from homeostat.serving import frames
from homeostat.serving.admission import Bodies, Bucket
from homeostat.serving.frames import LARGEST, Broken, Code, Malformed
from homeostat.serving.heads import LIST, Blocks, check_trailers
from homeostat.serving.http import SMALL, Limits, hang_up, large
from homeostat.serving.streams import Application, Stream

STREAMS = 256
"""Requests of one connection at a time; the others wait at the client."""
ROOM = 1 << 20
"""Bytes that may come on a stream before we say that more may. What has come is taken at once, so
that there is always room for some: how much is kept is limited by that of bodies."""
ROOM_FOR_ALL = 1 << 24
"""The same for a connection."""
BLOCK = 64 * 1024
"""Bytes of a header block and of the frames that it comes in."""
OWED = 1 << 24
"""Bytes of answers that a client may leave untaken before new requests of it are refused. Those
of all clients count as bodies do: an answer for which there is no room is given up."""
PACE = 16 * 1024
"""Bytes of an answer for which a client that takes it slowly gets another second."""
CALM = 1000.0
"""Requests taken back, and settings changed, per second, beyond which a client is parted with."""
HEARD = 5.0
"""Seconds that a client has to hear that it should go; what it sent before is answered."""
REMEMBERED = STREAMS
"""Streams that have ended of which a connection knows how."""
_PARTING = b"parting!"
_GREETING = frames.settings(
    {
        frames.STREAMS: STREAMS,
        frames.INITIAL_WINDOW: ROOM,
        frames.HEADER_LIST: LIST,
    }
) + frames.grow(0, ROOM_FOR_ALL - frames.WINDOW)
_ACK = frames.frame(frames.SETTINGS, frames.ACK, 0)


class Server:
    """What the connections of a worker share."""

    __slots__ = ("application", "bodies", "connections", "limits")

    def __init__(self, application: Application, limits: Limits, bodies: Bodies) -> None:
        self.application, self.limits, self.bodies = application, limits, bodies
        self.connections: set[Connection] = set()

    def tick(self, now: float) -> None:
        """Once a second, with the monotonic time: clients that take too long."""
        for connection in list(self.connections):
            connection.check(now)

    def drain(self, now: float) -> None:
        """Part with the clients, each when it knows; call it until none is left."""
        for connection in list(self.connections):
            connection.drain(now)


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, server: Server) -> None:
        self.server, self.client = server, ""
        self._transport: asyncio.Transport | None = None
        self._blocks = Blocks(server.application.meaning)
        self._streams: dict[int, Stream] = {}
        self._ended: dict[int, bool] = {}  # stream -> whether we cut it short, in this order
        self._last = 0
        self._computing = 0  # requests that were taken back while they were handled
        self._rest = b""  # the beginning of a frame
        self._greeted = self._settled = self._agreed = False
        self._block: bytearray | None = None  # a header block that is not whole
        self._block_of = self._block_flags = self._block_cost = 0
        self._taken = 0  # bytes that came since the client was given room for more
        self._window = self._first_window = frames.WINDOW
        self._blocked: dict[int, Stream] = {}  # whose answers wait for room
        self._ready: OrderedDict[int, Stream] = OrderedDict()  # for room on the connection only
        self._owed = 0
        self._calm = Bucket(CALM, 0.0)
        self._made = self._idle_since = self._block_since = monotonic()
        self._full = self._over = self._ending = False
        self._stuck_since: float | None = None
        self._told: float | None = None  # when the client was asked to go
        self._parting = False  # it knows: what it opens from now on is not taken

    # ------------------------------------------------------------ transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do what asyncio.Transport says without being one
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.client = str(peer[0]) if isinstance(peer, tuple) else ""
        self.server.connections.add(self)
        self._write(_GREETING)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._over = True
        self.server.connections.discard(self)
        self._abandon()

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        if self._rest:
            data = self._rest + data
        try:
            self._rest = self._read(data)
        except Broken as broken:
            self._break(broken)

    def eof_received(self) -> bool:
        # a client that has sent all it wants still gets its answers (TLS ends as a whole)
        for stream in [stream for stream in self._streams.values() if not stream.handled]:
            self._drop(stream)
        self._over = self._parting = True
        return bool(self._streams and self._transport and self._transport.can_write_eof())

    def pause_writing(self) -> None:
        self._full = True
        self._stuck_since = monotonic()
        if self._transport is not None:
            self._transport.pause_reading()  # read no faster than the client takes its answers

    def resume_writing(self) -> None:
        self._full, self._stuck_since = False, None
        if self._transport is not None:
            self._transport.resume_reading()
        now = monotonic()
        for stream in self._streams.values():
            if not stream.whole:
                stream.began = now  # while we did not read, the client was not late
        self._pump()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    # ------------------------------------------------------------ frames

    def _read(self, data: bytes) -> bytes:
        """Take all whole frames; -> what is left. Raises Broken."""
        at, end = 0, len(data)
        if not self._greeted:
            begun = data[: len(frames.PREFACE)]
            if not frames.PREFACE.startswith(begun):
                raise Broken(Code.PROTOCOL_ERROR, "this is no HTTP/2")
            if len(begun) < len(frames.PREFACE):
                return data
            self._greeted, at = True, len(begun)
        while end - at >= frames.HEADER:
            about, flags, id = frames.unpack(data, at)
            size = about >> 8
            if size > frames.SIZE:
                raise Broken(Code.FRAME_SIZE_ERROR, f"frames are limited to {frames.SIZE} bytes")
            start, at = at, at + frames.HEADER + size
            if at > end:
                return data[start:]
            self._frame(about & 0xFF, flags, id & LARGEST, data[start + frames.HEADER : at])
            if self._over:
                return b""
        return data[at:]

    def _frame(self, kind: int, flags: int, id: int, payload: bytes) -> None:
        if self._block is not None and (kind != frames.CONTINUATION or id != self._block_of):
            raise Broken(Code.PROTOCOL_ERROR, "a header block is not whole")
        if not self._settled and kind != frames.SETTINGS:
            raise Broken(Code.PROTOCOL_ERROR, "the first frame is SETTINGS")
        if kind == frames.HEADERS:
            self._headers(flags, id, payload)
        elif kind == frames.DATA:
            self._data(flags, id, payload)
        elif kind == frames.WINDOW_UPDATE:
            self._window_update(id, payload)
        elif kind == frames.PING:
            self._ping(flags, id, payload)
        elif kind == frames.SETTINGS:
            self._settings(flags, id, payload)
        elif kind == frames.RST_STREAM:
            self._rst_stream(id, payload)
        elif kind == frames.CONTINUATION:
            self._continuation(flags, payload)
        elif kind == frames.PRIORITY:
            self._priority(id, payload)
        elif kind == frames.GOAWAY:
            self._goaway(id, payload)
        elif kind == frames.PUSH_PROMISE:
            raise Broken(Code.PROTOCOL_ERROR, "a client pushes nothing")

    def _headers(self, flags: int, id: int, payload: bytes) -> None:
        if id % 2 == 0:
            raise Broken(Code.PROTOCOL_ERROR, "a client's streams have odd numbers")
        if flags & (frames.PADDED | frames.PRIORITIZED):
            payload = frames.unpadded(flags, payload)
        if flags & frames.END_HEADERS:
            self._whole_block(flags, id, payload)
            return
        self._block, self._block_of, self._block_flags = bytearray(payload), id, flags
        self._block_cost, self._block_since = len(payload), monotonic()

    def _continuation(self, flags: int, payload: bytes) -> None:
        if self._block is None:
            raise Broken(Code.PROTOCOL_ERROR, "there is nothing to continue")
        self._block_cost += frames.HEADER + len(payload)
        if self._block_cost > BLOCK:
            raise Broken(Code.ENHANCE_YOUR_CALM, f"a header block is limited to {BLOCK} bytes")
        self._block += payload
        if flags & frames.END_HEADERS:
            block, self._block = bytes(self._block), None
            self._whole_block(self._block_flags, self._block_of, block)

    def _whole_block(self, flags: int, id: int, block: bytes) -> None:
        whole = bool(flags & frames.END_STREAM)
        stream = self._streams.get(id)
        if stream is not None:
            self._trailers(stream, block, whole=whole)
        elif id > self._last:
            self._open(id, block, whole=whole)
        elif self._ended.get(id):  # it may not know yet
            self._blocks.fields(block)
        elif id in self._ended:
            raise Broken(Code.STREAM_CLOSED, f"stream {id} has ended")
        else:
            raise Broken(Code.PROTOCOL_ERROR, "the numbers of streams only grow")

    def _open(self, id: int, block: bytes, *, whole: bool) -> None:
        """A new request."""
        if self._parting:  # the client knows that it will not be answered
            self._blocks.fields(block)
            return
        application = self.server.application
        self._last = id
        try:
            head = self._blocks.read(block)
        except Malformed:
            application.refused(400)
            self._cut(id, Code.PROTOCOL_ERROR, whole=whole)
            return
        except Broken:
            application.refused(400)
            raise
        if len(self._streams) + self._computing >= STREAMS:
            application.refused(503)
            self._cut(id, Code.REFUSED_STREAM, whole=whole)
            return
        stream = self._streams[id] = Stream(self, id, head)
        stream.whole = whole
        application.opened(stream)
        if stream.answered:
            return
        if self._owed > OWED:
            application.fail(stream, 503, "take the answers that are there first")
        elif whole:
            self._handle(stream)

    def _trailers(self, stream: Stream, block: bytes, *, whole: bool) -> None:
        """The end of a request; nothing is taken from its fields."""
        fields = self._blocks.fields(block)
        if stream.whole:
            self._reset(stream, Code.STREAM_CLOSED)
            return
        try:
            check_trailers(fields)
        except Malformed:
            whole = False
        if not whole:
            self._reset(stream, Code.PROTOCOL_ERROR)
            return
        stream.whole = True
        self._handle(stream)

    def _data(self, flags: int, id: int, payload: bytes) -> None:
        size = len(payload)
        self._taken += size
        if self._taken >= ROOM_FOR_ALL // 2:
            self._write(frames.grow(0, self._taken))
            self._taken = 0
        if flags & frames.PADDED:
            payload = frames.unpadded(flags & frames.PADDED, payload)
        stream = self._streams.get(id)
        if stream is None:
            self._late(id)
        elif stream.whole:
            self._reset(stream, Code.STREAM_CLOSED)
        else:
            stream.whole = bool(flags & frames.END_STREAM)
            self._take(stream, payload, size)

    def _late(self, id: int) -> None:
        """DATA of a stream that is not there. Raises Broken unless the client could not know."""
        if id % 2 == 0 or (id > self._last and not self._parting):
            raise Broken(Code.PROTOCOL_ERROR, f"stream {id} has not begun")
        if id <= self._last and not self._ended.get(id):
            raise Broken(Code.STREAM_CLOSED, f"stream {id} has ended")

    def _take(self, stream: Stream, payload: bytes, size: int) -> None:
        """More of a request's body, in a frame of `size` bytes."""
        stream.taken += size
        stream.take(payload)
        length = len(stream.body)
        server = self.server
        if length > server.limits.body:
            server.application.fail(stream, 413, large(server.limits.body))
            return
        if (length > SMALL or not stream.whole) and length > stream.held:
            # a small one that comes at once weighs as much as its request does without it
            if not server.bodies.take(length - stream.held):
                server.application.fail(stream, 503, server.bodies.full)
                return
            stream.held = length
        if stream.whole:
            self._handle(stream)
            return
        server.application.grown(stream)
        if stream.taken >= ROOM // 2 and not stream.answered:
            self._write(frames.grow(stream.id, stream.taken))
            stream.taken = 0

    def _handle(self, stream: Stream) -> None:
        announced = stream.head.length
        if announced is not None and announced != len(stream.body):
            self._reset(stream, Code.PROTOCOL_ERROR)
            return
        stream.handled = True
        self.server.application.handle(stream)

    def _window_update(self, id: int, payload: bytes) -> None:
        more = frames.read_number(payload, "WINDOW_UPDATE")
        if id == 0:
            if not more:
                raise Broken(Code.PROTOCOL_ERROR, "a window grows by 1 or more")
            self._window += more
            if self._window > LARGEST:
                raise Broken(Code.FLOW_CONTROL_ERROR, "a window of more than 2^31-1 bytes")
        else:
            stream = self._streams.get(id)
            if stream is None:
                self._known(id)
                return
            stream.credit += more
            if not more:
                self._reset(stream, Code.PROTOCOL_ERROR)
            elif self._first_window + stream.credit > LARGEST:
                self._reset(stream, Code.FLOW_CONTROL_ERROR)
            self._wait(stream)
        self._pump()

    def _rst_stream(self, id: int, payload: bytes) -> None:
        frames.read_number(payload, "RST_STREAM")
        stream = self._streams.get(id)
        if stream is None:
            self._known(id)
            return
        self._restrain("requests are taken back")
        self._drop(stream)

    def _settings(self, flags: int, id: int, payload: bytes) -> None:
        if id:
            raise Broken(Code.PROTOCOL_ERROR, "SETTINGS are the connection's")
        if flags & frames.ACK:
            if payload:
                raise Broken(Code.FRAME_SIZE_ERROR, "an acknowledgement has no settings")
            if not self._settled:
                raise Broken(Code.PROTOCOL_ERROR, "the first frame is SETTINGS")
            self._agreed = True
            return
        values = frames.read_settings(payload)
        self._restrain("settings are changed")
        self._settled = True
        first = values.get(frames.INITIAL_WINDOW)
        if first is not None:
            self._first_window = first
            if any(first + stream.credit > LARGEST for stream in self._streams.values()):
                raise Broken(Code.FLOW_CONTROL_ERROR, "a window of more than 2^31-1 bytes")
            for stream in self._blocked.values():
                self._wait(stream)
        self._write(_ACK)
        self._pump()

    def _restrain(self, what: str) -> None:
        """Raises Broken when a client does too often what costs us more than it."""
        if not self._calm.take(monotonic()):
            raise Broken(Code.ENHANCE_YOUR_CALM, f"{what} more than {CALM:g} times a second")

    def _ping(self, flags: int, id: int, payload: bytes) -> None:
        if id:
            raise Broken(Code.PROTOCOL_ERROR, "PING is the connection's")
        if len(payload) != 8:
            raise Broken(Code.FRAME_SIZE_ERROR, "PING has 8 bytes")
        if not flags & frames.ACK:
            self._write(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif payload == _PARTING and self._told is not None:
            self._part()

    def _priority(self, id: int, payload: bytes) -> None:
        if not id:
            raise Broken(Code.PROTOCOL_ERROR, "PRIORITY is a stream's")
        if len(payload) != 5:
            raise Broken(Code.FRAME_SIZE_ERROR, "PRIORITY has 5 bytes")

    def _goaway(self, id: int, payload: bytes) -> None:
        if id:
            raise Broken(Code.PROTOCOL_ERROR, "GOAWAY is the connection's")
        if len(payload) < 8:
            raise Broken(Code.FRAME_SIZE_ERROR, "GOAWAY has 8 bytes or more")
        # it opens no streams any more; those that are there are answered
        self._part()

    def _known(self, id: int) -> None:
        """Raises Broken for a stream that has not begun. One that has ended may be spoken of."""
        if id % 2 == 0 or (id > self._last and not self._parting):
            raise Broken(Code.PROTOCOL_ERROR, f"stream {id} has not begun")

    # ------------------------------------------------------------ answers

    def answer(self, stream: Stream, head: bytes, body: bytes, trailers: bytes) -> None:
        """What `Stream.send` sends."""
        if stream.closed:
            if stream.handled:
                self._computing -= 1
                self._left()
            return
        id, size = stream.id, len(body)
        make = frames.header
        if not trailers:
            flags = frames.END_HEADERS | frames.END_STREAM
            self._write(make(frames.HEADERS, flags, id, len(head)) + head)
            self._finish(stream)
            return
        begin = make(frames.HEADERS, frames.END_HEADERS, id, len(head)) + head
        room = min(self._window, self._first_window + stream.credit, frames.SIZE)
        if not size or (size <= room and not self._ready):
            flags = frames.END_HEADERS | frames.END_STREAM
            data = make(frames.DATA, 0, id, size)
            end = make(frames.HEADERS, flags, id, len(trailers))
            self._window -= size
            self._write(b"".join((begin, data, body, end, trailers)))
            self._finish(stream)
            return
        self._write(begin)
        if not self.server.bodies.take(size):
            self._reset(stream, Code.ENHANCE_YOUR_CALM)
            return
        stream.rest, stream.trailers = memoryview(body), trailers
        stream.due = monotonic() + self.server.limits.stall
        self._owed += size
        self._blocked[id] = stream
        self._wait(stream)
        self._pump()

    def _wait(self, stream: Stream) -> None:
        """Where an answer that is not sent waits: for the connection, or for its own stream."""
        if not stream.rest or self._first_window + stream.credit <= 0:
            self._ready.pop(stream.id, None)
        elif stream.id not in self._ready:
            self._ready[stream.id] = stream

    def _pump(self) -> None:
        """Send what there is room for, a frame of each answer in turn."""
        while self._ready and self._window > 0 and not self._full:
            id, stream = self._ready.popitem(last=False)
            size = min(
                len(stream.rest), self._window, self._first_window + stream.credit, frames.SIZE
            )
            part, stream.rest = stream.rest[:size], stream.rest[size:]
            stream.credit -= size
            self._window -= size
            self._pay(size)
            stream.due += size / PACE
            self._write(frames.frame(frames.DATA, 0, id, bytes(part)))
            if stream.rest:
                self._wait(stream)
            else:
                del self._blocked[id]
                flags = frames.END_HEADERS | frames.END_STREAM
                self._write(frames.frame(frames.HEADERS, flags, id, stream.trailers))
                self._finish(stream)

    def _pay(self, size: int) -> None:
        """So much of an answer is not kept any more."""
        self._owed -= size
        self.server.bodies.give(size)

    def _finish(self, stream: Stream) -> None:
        """It has been answered; what may still come of the request is not waited for."""
        id = stream.id
        del self._streams[id]
        stream.closed = True
        if not stream.whole:
            self._write(frames.reset(id, Code.NO_ERROR))
        self._remember(id, cut=not stream.whole)
        self._left()

    def _cut(self, id: int, code: Code, *, whole: bool) -> None:
        """End a stream that never became a request."""
        self._remember(id, cut=not whole)
        self._write(frames.reset(id, code))

    def _reset(self, stream: Stream, code: Code) -> None:
        """End a stream whose client does what it must not, or takes no answer."""
        self._write(frames.reset(stream.id, code))
        self._drop(stream)
        self._ended[stream.id] = True

    def _drop(self, stream: Stream) -> None:
        """Nobody waits for the answer."""
        id = stream.id
        del self._streams[id]
        stream.closed = True
        self._remember(id, cut=False)
        if self._blocked.pop(id, None) is not None:
            self._ready.pop(id, None)
            self._pay(len(stream.rest))
            stream.rest = memoryview(b"")
        elif stream.answered:
            pass  # there was no room to keep the answer
        elif not stream.handled:
            stream.let_go()
            self.server.application.gone(stream)
        else:
            self._computing += 1  # until it is computed all the same
            if stream.left is not None:
                stream.left()
        self._left()

    def _remember(self, id: int, *, cut: bool) -> None:
        self._ended[id] = cut
        if len(self._ended) > REMEMBERED:
            del self._ended[next(iter(self._ended))]

    # ------------------------------------------------------------ the end

    def check(self, now: float) -> None:
        """Part with a client that takes too long to ask, or to take its answers."""
        limits, transport = self.server.limits, self._transport
        if transport is None:
            return
        if self._stuck_since is not None and now - self._stuck_since >= limits.stall:
            transport.abort()
            return
        if not self._over:
            try:
                self._check_beginning(now)
            except Broken as broken:
                self._break(broken)
                return
        for stream in list(self._streams.values()):
            if stream.id in self._blocked:
                if now >= stream.due:
                    self._reset(stream, Code.CANCEL)
            elif not stream.handled and not self._full and now - stream.began >= limits.arrival:
                why = f"the request took longer than {limits.arrival:g} s to arrive"
                self.server.application.fail(stream, 408, why)
        idle = not self._streams and not self._computing and now - self._idle_since >= limits.idle
        if idle or self._told is not None:
            self.drain(now)

    def _check_beginning(self, now: float) -> None:
        """Raises Broken."""
        allowed = self.server.limits.head_time
        if not self._settled and now - self._made >= allowed:
            raise Broken(Code.PROTOCOL_ERROR, f"no SETTINGS within {allowed:g} s")
        if not self._agreed and now - self._made >= allowed:
            raise Broken(Code.SETTINGS_TIMEOUT, f"settings not acknowledged within {allowed:g} s")
        if self._block is not None and not self._full and now - self._block_since >= allowed:
            raise Broken(Code.PROTOCOL_ERROR, f"a header block took longer than {allowed:g} s")

    def drain(self, now: float) -> None:
        """Ask the client to go (RFC 9113, 6.8): first that it should open no more streams, and
        when it has heard so, or had the time to, which was the last that is answered. Close after
        the last answer."""
        if self._over:
            return
        if self._told is None:
            self._told = now
            parting = frames.frame(frames.PING, 0, 0, _PARTING)
            self._write(frames.goaway(LARGEST, Code.NO_ERROR) + parting)
        elif now - self._told >= (HEARD if self._settled else 1.0):
            self._part()

    def _part(self) -> None:
        if not self._parting:
            self._parting = True
            self._write(frames.goaway(self._last, Code.NO_ERROR))
            self._left()

    def _left(self) -> None:
        """A stream has ended, or none may begin any more."""
        if self._streams or self._computing:
            return
        self._idle_since = monotonic()
        if self._parting:
            self._end()

    def _break(self, broken: Broken) -> None:
        self._over = True
        self._write(frames.goaway(self._last, broken.code, broken.why))
        self._abandon()
        self._end()

    def _abandon(self) -> None:
        for stream in list(self._streams.values()):
            self._drop(stream)

    def _end(self) -> None:
        """Send everything, then close; what still comes in is thrown away for a moment, so that
        the client sees what was sent and not a reset."""
        transport = self._transport
        if transport is None or self._ending:
            return
        self._over, self._ending, self._rest = True, True, b""
        if self._stuck_since is None:
            self._stuck_since = monotonic()  # closing must not take for ever either
        if hang_up(transport) and self._full:
            transport.resume_reading()
