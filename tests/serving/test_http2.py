"""HTTP/2 frame by frame, in memory: RFC 9113, and what a client may cost."""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, NamedTuple

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import pytest
from hpack import Encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from homeostat.serving import frames, heads, http2
from homeostat.serving.admission import Bodies
from homeostat.serving.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW,
    WINDOW_UPDATE,
    Code,
    frame,
    grow,
)
from homeostat.serving.http import Limits
from homeostat.serving.http2 import BLOCK, HEARD, OWED, PACE, ROOM, ROOM_FOR_ALL, STREAMS
from homeostat.serving.streams import Stream

from .damage import damaged
from .test_http import Wire

LIMITS = Limits(body=3 * ROOM, bodies=8 * ROOM)
HELLO = PREFACE + frames.settings({})
ACKED = frame(SETTINGS, ACK, 0)
POST = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/x"), (b":authority", b"h")]


def plain(*fields: tuple[bytes, bytes]) -> bytes:
    """A header block that no table remembers."""
    return b"".join(heads.field(*one) for one in fields)


BLOCKED = plain(*POST)


def request(id: int, body: bytes | None = b"body", block: bytes = BLOCKED) -> bytes:
    if body is None:
        return frame(HEADERS, END_HEADERS | END_STREAM, id, block)
    return frame(HEADERS, END_HEADERS, id, block) + frame(DATA, END_STREAM, id, body)


def setting(name: int, value: int) -> bytes:
    return struct.pack(">HI", name, value)


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes


def parsed(data: bytes) -> list[Frame]:
    found, at = [], 0
    while at < len(data):
        about, flags, stream = frames.unpack(data, at)
        at += 9 + (about >> 8)
        assert at <= len(data)
        found.append(Frame(about & 0xFF, flags, stream, data[at - (about >> 8) : at]))
    return found


class Echo:
    """An application that says again what it was told, at once or when it is told to, and keeps
    accounts."""

    def __init__(self, *, later: bool = False, much: int = 0) -> None:
        self.later, self.much = later, much
        self.streams: list[Stream] = []
        self.begun = 0
        self.ended: list[int] = []

    def meaning(self, head: heads.Head) -> object:
        return head.path

    def opened(self, stream: Stream) -> None:
        self.begun += 1

    def grown(self, stream: Stream) -> None:
        if bytes(stream.body[:7]) == b"refuse!":
            self.fail(stream, 400, "as it wished")

    def handle(self, stream: Stream) -> None:
        self.streams.append(stream)
        if not self.later:
            self.answer(stream)

    def answer(self, stream: Stream) -> None:
        self.ended.append(200)
        body = bytes(self.much) or bytes(stream.body) or b"-"
        stream.send(heads.status(200), body, plain((b"end", b"1")))

    def fail(self, stream: Stream, status: int, message: str) -> None:
        self.ended.append(status)
        stream.send(heads.status(status) + plain((b"why", message.encode())))

    def gone(self, stream: Stream) -> None:
        self.ended.append(499)

    def refused(self, status: int) -> None:
        self.begun += 1
        self.ended.append(status)


class Talk:
    """One connection."""

    def __init__(self, *data: bytes, limits: Limits = LIMITS, app: Echo | None = None) -> None:
        self.app = app or Echo()
        self.wire = Wire()
        self.server = http2.Server(self.app, limits, Bodies(limits.bodies))
        self.connection = http2.Connection(self.server)
        self.connection.connection_made(self.wire)
        self.say(*data)

    def say(self, *data: bytes) -> None:
        for chunk in data:
            if not self.wire.closed:
                self.connection.data_received(chunk)

    @property
    def said(self) -> list[Frame]:
        return parsed(self.wire.out)

    def of(self, kind: int, stream: int | None = None) -> list[Frame]:
        return [f for f in self.said if f.kind == kind and stream in (None, f.stream)]

    def body(self, stream: int) -> bytes:
        return b"".join(f.payload for f in self.of(DATA, stream))

    def is_answered(self, stream: int) -> bool:
        return any(f.flags & END_STREAM for f in self.of(HEADERS, stream))

    def statuses(self) -> dict[int, int]:
        decoder = heads.Blocks(lambda head: None)
        found = {}
        for f in self.of(HEADERS):
            said = dict(decoder.fields(f.payload))
            if b":status" in said:
                found[f.stream] = int(said[b":status"])
        return found

    def resets(self) -> dict[int, int]:
        return {f.stream: int.from_bytes(f.payload, "big") for f in self.of(RST_STREAM)}

    def goaway(self) -> tuple[int, int] | None:
        """Of the last one: the last stream and the code."""
        said = self.of(GOAWAY)
        return struct.unpack(">II", said[-1].payload[:8]) if said else None

    def balanced(self) -> bool:
        """Nothing under way, nothing counted twice, no room kept."""
        return self.app.begun == len(self.app.ended) and self.server.bodies.held == 0


def test_a_request_is_answered_and_the_connection_stays() -> None:
    talk = Talk(HELLO, request(1), request(3, b"other"))
    assert (talk.body(1), talk.body(3)) == (b"body", b"other")
    assert talk.statuses() == {1: 200, 3: 200}
    assert talk.is_answered(1)
    assert not talk.wire.closed
    assert talk.balanced()


def test_both_sides_greet_and_settings_are_acknowledged() -> None:
    talk = Talk()
    first, second = talk.said
    assert (first.kind, first.flags, first.stream) == (SETTINGS, 0, 0)
    assert struct.unpack(">HIHIHI", first.payload) == (3, STREAMS, 4, ROOM, 6, heads.LIST)
    assert second == (WINDOW_UPDATE, 0, 0, struct.pack(">I", ROOM_FOR_ALL - WINDOW))
    talk.say(HELLO)
    assert talk.said[2:] == [Frame(SETTINGS, ACK, 0, b"")]


def test_ping_is_answered_and_an_answered_ping_is_not() -> None:
    talk = Talk(HELLO, frame(PING, 0, 0, b"12345678"), frame(PING, ACK, 0, b"87654321"))
    assert talk.of(PING) == [Frame(PING, ACK, 0, b"12345678")]


def test_a_header_block_may_come_in_pieces_and_with_padding_and_priority() -> None:
    padded = frame(HEADERS, PADDED | PRIORITIZED, 1, b"\3" + bytes(5) + BLOCKED[:9] + b"pad")
    talk = Talk(
        HELLO,
        padded,
        frame(CONTINUATION, 0, 1, BLOCKED[9:20]),
        frame(CONTINUATION, 0, 1, b""),
        frame(CONTINUATION, END_HEADERS, 1, BLOCKED[20:]),
        frame(DATA, PADDED, 1, b"\2abxx"),
        frame(DATA, PADDED | END_STREAM, 1, b"\0cd"),
    )
    assert talk.body(1) == b"abcd"


def test_what_is_not_known_and_priorities_are_ignored() -> None:
    talk = Talk(
        HELLO,
        frame(0xFA, 0xFF, 7, b"?" * 99),
        frame(SETTINGS, 0, 0, setting(0xFF, 7) + setting(1, 0)),
        frame(PRIORITY, 0, 9, bytes(5)),
        request(1),
        frame(PRIORITY, 0, 1, bytes(5)),
        frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 5)),
        frame(RST_STREAM, 0, 1, bytes(4)),
    )
    assert talk.body(1) == b"body"
    assert (talk.goaway(), talk.resets(), talk.balanced()) == (None, {}, True)


def test_trailers_end_a_request() -> None:
    trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, plain((b"x", b"y")))
    talk = Talk(HELLO, request(1)[: -9 - 4], frame(DATA, 0, 1, b"ab"), trailers)
    assert talk.body(1) == b"ab"


OPEN = frame(HEADERS, END_HEADERS, 1, BLOCKED)
BROKEN: dict[str, tuple[bytes, Code]] = {
    "HTTP/1": (b"GET / HTTP/1.1\r\n\r\n", Code.PROTOCOL_ERROR),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Code.PROTOCOL_ERROR),
    "no settings first": (PREFACE + frame(PING, 0, 0, bytes(8)), Code.PROTOCOL_ERROR),
    "an acknowledgement first": (PREFACE + ACKED, Code.PROTOCOL_ERROR),
    "settings of a stream": (HELLO + frame(SETTINGS, 0, 1), Code.PROTOCOL_ERROR),
    "half a setting": (HELLO + frame(SETTINGS, 0, 0, b"123"), Code.FRAME_SIZE_ERROR),
    "settings in an acknowledgement": (
        HELLO + frame(SETTINGS, ACK, 0, setting(3, 1)),
        Code.FRAME_SIZE_ERROR,
    ),
    "push of 2": (HELLO + frame(SETTINGS, 0, 0, setting(2, 2)), Code.PROTOCOL_ERROR),
    "a window too large": (
        HELLO + frame(SETTINGS, 0, 0, setting(4, 2**31)),
        Code.FLOW_CONTROL_ERROR,
    ),
    "frames too small": (HELLO + frame(SETTINGS, 0, 0, setting(5, 16_383)), Code.PROTOCOL_ERROR),
    "frames too large": (HELLO + frame(SETTINGS, 0, 0, setting(5, 2**24)), Code.PROTOCOL_ERROR),
    "a frame too large": (HELLO + frame(0xFA, 0, 0, bytes(16_385)), Code.FRAME_SIZE_ERROR),
    "an even stream": (HELLO + request(2), Code.PROTOCOL_ERROR),
    "stream 0": (HELLO + request(0), Code.PROTOCOL_ERROR),
    "a smaller number": (HELLO + request(5) + request(3), Code.PROTOCOL_ERROR),
    "a stream twice": (HELLO + request(1) + request(1), Code.STREAM_CLOSED),
    "data of the connection": (HELLO + frame(DATA, 0, 0, b"a"), Code.PROTOCOL_ERROR),
    "data before the head": (HELLO + frame(DATA, 0, 1, b"a"), Code.PROTOCOL_ERROR),
    "data after the end": (HELLO + request(1) + frame(DATA, 0, 1, b"a"), Code.STREAM_CLOSED),
    "data of a skipped stream": (HELLO + request(5) + frame(DATA, 0, 3, b"a"), Code.STREAM_CLOSED),
    "padding of all": (HELLO + OPEN + frame(DATA, PADDED, 1, b"\5abcd"), Code.PROTOCOL_ERROR),
    "no padding": (HELLO + OPEN + frame(DATA, PADDED, 1, b""), Code.FRAME_SIZE_ERROR),
    "a head all padding": (HELLO + frame(HEADERS, 12, 1, b"\5abcd"), Code.PROTOCOL_ERROR),
    "a head too short": (HELLO + frame(HEADERS, 36, 1, b"1234"), Code.PROTOCOL_ERROR),
    "no index 0": (HELLO + frame(HEADERS, 4, 1, b"\x80"), Code.COMPRESSION_ERROR),
    "no such index": (HELLO + frame(HEADERS, 4, 1, b"\xff\x7f"), Code.COMPRESSION_ERROR),
    "a literal cut short": (HELLO + frame(HEADERS, 4, 1, b"\x00\x05ab"), Code.COMPRESSION_ERROR),
    "a number without end": (HELLO + frame(HEADERS, 4, 1, b"\xff" * 99), Code.COMPRESSION_ERROR),
    "no Huffman": (HELLO + frame(HEADERS, 4, 1, b"\x00\x81\xff\x01a"), Code.COMPRESSION_ERROR),
    "a table changed three times": (
        HELLO + frame(HEADERS, 5, 1, b"\x20\x3f\xe1\x1f\x20" + BLOCKED),
        Code.COMPRESSION_ERROR,
    ),
    "a table too large": (HELLO + frame(HEADERS, 4, 1, b"\x3f\xff\x7f"), Code.COMPRESSION_ERROR),
    "fields too large": (
        HELLO + frame(HEADERS, 4, 1, b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000 + b"\xbe" * 9),
        Code.ENHANCE_YOUR_CALM,
    ),
    "a head in the middle of another": (
        HELLO + frame(HEADERS, 0, 1, BLOCKED) + request(3),
        Code.PROTOCOL_ERROR,
    ),
    "another's continuation": (
        HELLO + frame(HEADERS, 0, 1, BLOCKED) + frame(CONTINUATION, 4, 3),
        Code.PROTOCOL_ERROR,
    ),
    "an unknown frame in a head": (
        HELLO + frame(HEADERS, 0, 1, BLOCKED) + frame(0xFA, 0, 1),
        Code.PROTOCOL_ERROR,
    ),
    "nothing to continue": (HELLO + frame(CONTINUATION, 4, 1, BLOCKED), Code.PROTOCOL_ERROR),
    "a push": (HELLO + frame(PUSH_PROMISE, 4, 1, bytes(4)), Code.PROTOCOL_ERROR),
    "priority of the connection": (HELLO + frame(PRIORITY, 0, 0, bytes(5)), Code.PROTOCOL_ERROR),
    "a priority too short": (HELLO + frame(PRIORITY, 0, 1, bytes(4)), Code.FRAME_SIZE_ERROR),
    "a ping of a stream": (HELLO + frame(PING, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
    "a ping too short": (HELLO + frame(PING, 0, 0, bytes(7)), Code.FRAME_SIZE_ERROR),
    "a goaway of a stream": (HELLO + frame(GOAWAY, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
    "a goaway too short": (HELLO + frame(GOAWAY, 0, 0, bytes(7)), Code.FRAME_SIZE_ERROR),
    "a reset of the connection": (HELLO + frame(RST_STREAM, 0, 0, bytes(4)), Code.PROTOCOL_ERROR),
    "a reset before the head": (HELLO + frame(RST_STREAM, 0, 1, bytes(4)), Code.PROTOCOL_ERROR),
    "a reset too long": (HELLO + OPEN + frame(RST_STREAM, 0, 1, bytes(5)), Code.FRAME_SIZE_ERROR),
    "room of 0": (HELLO + grow(0, 0), Code.PROTOCOL_ERROR),
    "room of 3 bytes": (HELLO + frame(WINDOW_UPDATE, 0, 0, b"123"), Code.FRAME_SIZE_ERROR),
    "room without end": (HELLO + grow(0, 2**31 - 1), Code.FLOW_CONTROL_ERROR),
    "room for no stream": (HELLO + grow(1, 1), Code.PROTOCOL_ERROR),
    "a first window beyond a stream's": (
        HELLO + OPEN + grow(1, 2**30) + frame(SETTINGS, 0, 0, setting(4, 2**31 - 1)),
        Code.FLOW_CONTROL_ERROR,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_an_error_of_the_connection_ends_it_with_its_code(name: str) -> None:
    data, code = BROKEN[name]
    talk = Talk(data + frame(PING, 0, 0, b"is there"))
    last, said = talk.goaway() or (0, None)
    assert said == code
    assert talk.wire.closed
    assert not talk.of(PING)
    assert talk.balanced()
    assert last <= 5


def test_a_head_that_cannot_be_decoded_is_a_request_that_failed() -> None:
    talk = Talk(*BROKEN["no such index"][:1])
    assert (talk.app.begun, talk.app.ended) == (1, [400])


def without(name: bytes) -> bytes:
    return plain(*(one for one in POST if one[0] != name))


MALFORMED: dict[str, bytes] = {
    "no method": without(b":method"),
    "no scheme": without(b":scheme"),
    "no path": without(b":path"),
    "an empty path": plain(*POST[:2], (b":path", b"")),
    "a path that is none": plain(*POST[:2], (b":path", b"x")),
    "a method twice": plain(POST[0], *POST),
    "an unknown pseudo-field": plain(*POST, (b":x", b"y")),
    "a status": plain(*POST, (b":status", b"200")),
    "a pseudo-field late": plain(POST[0], POST[1], (b"x", b"y"), POST[2]),
    "upper case": plain(*POST, (b"X", b"y")),
    "no name": plain(*POST, (b"", b"y")),
    "a space in a name": plain(*POST, (b"a b", b"y")),
    "a line end in a value": plain(*POST, (b"x", b"a\r\nb: c")),
    "NUL in a value": plain(*POST, (b"x", b"a\0b")),
    "a line end in the path": plain(*POST[:2], (b":path", b"/x\r\ny: z")),
    "space around a value": plain(*POST, (b"x", b" y")),
    "connection": plain(*POST, (b"connection", b"close")),
    "transfer-encoding": plain(*POST, (b"transfer-encoding", b"chunked")),
    "te": plain(*POST, (b"te", b"gzip")),
    "a type twice": plain(*POST, (b"content-type", b"a"), (b"content-type", b"b")),
    "another host": plain(*POST, (b"host", b"i")),
    "a length that is none": plain(*POST, (b"content-length", b"+4")),
    "a length that is wrong": plain(*POST, (b"content-length", b"5")),
    "two lengths": plain(*POST, (b"content-length", b"4"), (b"content-length", b"4")),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_ends_its_stream_and_no_other(name: str) -> None:
    talk = Talk(HELLO, request(1, block=MALFORMED[name]), request(3))
    assert talk.resets() == {1: Code.PROTOCOL_ERROR}
    assert talk.body(3) == b"body"
    assert len(talk.app.ended) == 2
    assert talk.balanced()


TRAILERS = frame(HEADERS, END_HEADERS, 1, plain((b"x", b"y")))
PATH = frame(HEADERS, END_HEADERS | END_STREAM, 1, plain((b":path", b"/")))
STREAM_ERRORS: dict[str, tuple[bytes, Code]] = {
    "trailers that do not end": (OPEN + TRAILERS, Code.PROTOCOL_ERROR),
    "trailers with a path": (OPEN + PATH, Code.PROTOCOL_ERROR),
    "room of 0": (OPEN + grow(1, 0), Code.PROTOCOL_ERROR),
    "room without end": (OPEN + grow(1, 2**31 - 1), Code.FLOW_CONTROL_ERROR),
}


@pytest.mark.parametrize("name", STREAM_ERRORS)
def test_an_error_of_a_stream_ends_it_and_no_other(name: str) -> None:
    data, code = STREAM_ERRORS[name]
    talk = Talk(HELLO, data, frame(DATA, END_STREAM, 1, b"late"), request(3))
    assert talk.resets() == {1: code}
    assert talk.body(3) == b"body"
    assert talk.app.ended == [499, 200]
    assert talk.balanced()


@pytest.mark.parametrize("late", [frame(DATA, 0, 1, b"a"), frame(HEADERS, 5, 1, b"")])
def test_more_of_a_request_that_was_whole_ends_it(late: bytes) -> None:
    app = Echo(later=True)
    talk = Talk(HELLO, request(1), late, request(3), app=app)
    assert talk.resets() == {1: Code.STREAM_CLOSED}
    for stream in app.streams:
        app.answer(stream)
    assert (talk.body(1), talk.body(3)) == (b"", b"body")
    assert talk.balanced()


def test_a_request_may_be_answered_before_it_is_whole_and_the_rest_is_not_read() -> None:
    talk = Talk(HELLO, OPEN, frame(DATA, 0, 1, b"refuse!"))
    talk.say(frame(DATA, 0, 1, b"more"), frame(HEADERS, 5, 1, b""), request(3))
    assert talk.statuses() == {1: 400, 3: 200}
    assert talk.resets() == {1: Code.NO_ERROR}
    assert talk.balanced()


# ---------------------------------------------------------------- flow control


def test_an_answer_waits_for_room_on_its_stream_and_on_the_connection() -> None:
    talk = Talk(PREFACE + frames.settings({4: 10}), request(1), app=Echo(much=100_000))
    assert len(talk.body(1)) == 10
    talk.say(grow(1, 5))
    assert len(talk.body(1)) == 15
    talk.say(grow(1, 200_000))
    assert len(talk.body(1)) == WINDOW
    assert not talk.is_answered(1)
    talk.say(grow(0, 200_000))
    assert len(talk.body(1)) == 100_000
    assert talk.is_answered(1)
    assert max(len(f.payload) for f in talk.of(DATA)) <= 16_384
    assert talk.balanced()


def test_an_answer_without_room_of_its_own_holds_up_no_other() -> None:
    talk = Talk(PREFACE + frames.settings({4: 0}), app=Echo(much=100))
    talk.say(request(1), request(3), grow(3, 100))
    assert (len(talk.body(1)), talk.is_answered(3)) == (0, True)
    talk.say(frames.settings({4: 100}), request(5))
    assert talk.is_answered(1)
    assert talk.is_answered(5)
    assert talk.balanced()


def test_a_first_window_that_shrinks_takes_room_away_and_one_that_grows_gives_it() -> None:
    talk = Talk(PREFACE + frames.settings({4: 10}), request(1), app=Echo(much=100))
    talk.say(frames.settings({4: 0}), grow(1, 10))
    assert len(talk.body(1)) == 10
    talk.say(grow(1, 1))
    assert len(talk.body(1)) == 11
    talk.say(frames.settings({4: 1000}))
    assert len(talk.body(1)) == 100
    assert talk.is_answered(1)


def test_answers_that_wait_take_turns() -> None:
    talk = Talk(PREFACE + frames.settings({4: 0}), app=Echo(much=100_000))
    talk.say(request(1), request(3), grow(0, 10**6), frames.settings({4: 10**6}))
    assert [f.stream for f in talk.of(DATA)][:6] == [1, 3, 1, 3, 1, 3]
    assert len(talk.body(1)) == len(talk.body(3)) == 100_000


def test_answers_that_nobody_takes_are_given_up() -> None:
    talk = Talk(PREFACE + frames.settings({4: 0}) + ACKED, request(1), app=Echo(much=100))
    now = monotonic()
    talk.server.tick(now + LIMITS.stall - 1)
    assert not talk.resets()
    talk.server.tick(now + LIMITS.stall + 1)
    assert talk.resets() == {1: Code.CANCEL}
    talk.say(frames.settings({4: 100}), request(3))
    assert talk.is_answered(3)
    assert talk.balanced()


def test_a_client_that_takes_an_answer_byte_by_byte_has_as_long_as_one_that_takes_nothing() -> None:
    size = 20 * PACE
    talk = Talk(PREFACE + frames.settings({4: 0}) + ACKED, app=Echo(much=size))
    talk.say(request(1), request(3), grow(0, size), grow(3, 10 * PACE))
    now = monotonic()
    for second in range(int(LIMITS.stall)):
        talk.say(grow(1, 1))
        talk.server.tick(now + second)
        assert not talk.resets()
    talk.server.tick(now + LIMITS.stall + 1)
    assert talk.resets() == {1: Code.CANCEL}
    talk.server.tick(now + LIMITS.stall + 11)
    assert talk.resets() == {1: Code.CANCEL, 3: Code.CANCEL}
    assert talk.balanced()


def test_who_takes_no_answers_is_answered_nothing_more_beyond_a_limit() -> None:
    size = OWED // 4
    limits = Limits(body=100, bodies=10 * size)
    talk = Talk(PREFACE + frames.settings({4: 0}), app=Echo(much=size), limits=limits)
    talk.say(*(request(id) for id in range(1, 21, 2)))
    assert sorted(set(talk.app.ended)) == [200, 503]
    assert talk.app.ended.count(200) * size <= OWED + size
    talk.say(*(frame(RST_STREAM, 0, id, bytes(4)) for id in range(1, 21, 2)))
    talk.say(request(21))
    assert talk.app.ended[-1] == 200


def test_answers_for_which_there_is_no_room_are_given_up() -> None:
    limits = Limits(body=1000, bodies=1000)
    talk = Talk(PREFACE + frames.settings({4: 0}), limits=limits, app=Echo(much=600))
    talk.say(request(1), request(3))
    assert talk.resets() == {3: Code.ENHANCE_YOUR_CALM}
    talk.say(grow(1, 1000))
    assert len(talk.body(1)) == 600
    assert talk.balanced()


def test_a_body_is_given_room_as_it_comes() -> None:
    part = bytes(16_384)
    talk = Talk(HELLO, OPEN)
    for _ in range(2 * ROOM // len(part)):
        talk.say(frame(DATA, 0, 1, part))
    given = sum(int.from_bytes(f.payload, "big") for f in talk.of(WINDOW_UPDATE, 1))
    assert given >= ROOM
    assert talk.server.bodies.held == 2 * ROOM
    talk.say(frame(DATA, END_STREAM, 1, b""))
    talk.say(grow(1, 10**8), grow(0, 10**8))
    assert len(talk.body(1)) == 2 * ROOM
    assert talk.balanced()


def test_bodies_over_the_limit_are_refused_as_they_come() -> None:
    limits = Limits(body=1000)
    talk = Talk(HELLO, request(1, bytes(1000)), request(3, bytes(1001)), limits=limits)
    talk.say(frame(HEADERS, END_HEADERS, 5, BLOCKED), frame(DATA, 0, 5, bytes(900)))
    talk.say(frame(DATA, 0, 5, bytes(101)), frame(DATA, END_STREAM, 5, bytes(99)))
    assert talk.statuses() == {1: 200, 3: 413, 5: 413}
    assert talk.resets() == {5: Code.NO_ERROR}
    assert talk.balanced()


def test_bodies_beyond_the_room_for_all_are_shed_and_those_that_had_room_are_answered() -> None:
    limits = Limits(body=20_000, bodies=50_000)
    app = Echo(later=True)
    talk = Talk(HELLO, limits=limits, app=app)
    for id in (1, 3, 5, 7):
        talk.say(frame(HEADERS, END_HEADERS, id, BLOCKED), frame(DATA, 0, id, bytes(15_000)))
    assert talk.statuses() == {7: 503}
    talk.say(frame(RST_STREAM, 0, 1, bytes(4)))  # what it had sent leaves room
    talk.say(*(frame(DATA, END_STREAM, id, bytes(5000)) for id in (3, 5)))
    assert talk.server.bodies.held == 40_000
    for stream in app.streams:
        app.answer(stream)
    assert sorted(app.ended) == [200, 200, 499, 503]
    assert talk.balanced()


def test_small_bodies_that_come_at_once_take_no_room_and_those_that_trickle_do() -> None:
    app = Echo(later=True)
    talk = Talk(HELLO, request(1, bytes(4000)), app=app)
    assert talk.server.bodies.held == 0
    talk.say(frame(HEADERS, END_HEADERS, 3, BLOCKED), frame(DATA, 0, 3, b"a"))
    assert talk.server.bodies.held == 1


# ---------------------------------------------------------------- what a client may cost


@pytest.mark.parametrize("piece", [b"", b"x", bytes(16_384)])
def test_a_header_block_without_end_is_ended(piece: bytes) -> None:
    talk = Talk(HELLO, frame(HEADERS, 0, 1, BLOCKED))
    for _ in range(BLOCK):
        if talk.wire.closed:
            break
        talk.say(frame(CONTINUATION, 0, 1, piece))
        assert len(talk.connection._block or b"") <= BLOCK
    assert talk.goaway() == (0, Code.ENHANCE_YOUR_CALM)
    assert talk.balanced()


def test_requests_beyond_those_that_may_be_under_way_are_refused_and_may_come_again() -> None:
    app = Echo(later=True)
    talk = Talk(HELLO, *(request(2 * k + 1) for k in range(STREAMS + 2)), app=app)
    refused = {2 * STREAMS + 1, 2 * STREAMS + 3}
    assert talk.resets() == dict.fromkeys(refused, Code.REFUSED_STREAM)
    for stream in app.streams:
        app.answer(stream)
    assert app.ended == [503] * 2 + [200] * STREAMS
    talk.say(request(9999))
    assert talk.balanced() is False
    app.answer(app.streams[-1])
    assert talk.balanced()


def test_requests_that_are_taken_back_count_until_they_are_computed() -> None:
    """Or a client could have us compute without a limit (CVE-2023-44487)."""
    app = Echo(later=True)
    talk = Talk(HELLO, app=app)
    for k in range(2 * STREAMS):
        id = 2 * k + 1
        talk.say(request(id) + frame(RST_STREAM, 0, id, struct.pack(">I", Code.CANCEL)))
    assert len(app.streams) == STREAMS
    assert talk.resets().keys() == {2 * k + 1 for k in range(STREAMS, 2 * STREAMS)}
    for stream in app.streams:
        app.answer(stream)
    assert not talk.of(DATA)
    assert talk.balanced()
    talk.say(request(9999))
    assert len(app.streams) == STREAMS + 1


def taken_back(id: int) -> bytes:
    return frame(HEADERS, END_HEADERS, id, BLOCKED) + frame(RST_STREAM, 0, id, bytes(4))


@pytest.mark.parametrize("what", [taken_back, lambda id: frames.settings({4: id})])
def test_who_takes_back_or_sets_again_and_again_is_parted_with(
    what: Callable[[int], bytes],
) -> None:
    talk = Talk(HELLO)
    for id in range(1, 20_001, 2):
        talk.say(what(id))
    assert (talk.goaway() or (0, 0))[1] == Code.ENHANCE_YOUR_CALM
    assert talk.wire.closed
    assert talk.balanced()


def test_only_so_many_blocks_are_remembered_and_only_short_ones() -> None:
    talk = Talk(HELLO)
    blocks = talk.connection._blocks
    for k in range(3 * heads.BLOCKS):
        talk.say(request(2 * k + 1, block=plain(*POST, (b"x", b"%d" % k))))
        assert len(blocks._known) <= heads.BLOCKS
    before = dict(blocks._known)
    talk.say(request(9999, block=plain(*POST, (b"x", b"y" * heads.BLOCK))))
    assert blocks._known == before
    assert all(status == 200 for status in talk.statuses().values())


def test_a_block_that_comes_again_is_not_decoded_again_unless_the_table_has_changed() -> None:
    meant: list[bytes] = []

    class Meaning(Echo):
        def meaning(self, head: heads.Head) -> object:
            meant.append(head.fields.get(b"x", b""))
            return None

    begin = b"\x83\x86\x84"  # POST, http, /

    def new(value: bytes) -> bytes:
        return begin + b"\x40\x01x\x01" + value

    last = begin + b"\xbe"  # with the newest of the table
    talk = Talk(HELLO, request(1, block=new(b"1")), app=Meaning())
    talk.say(request(3, block=last), request(5, block=last), request(7, block=last))
    assert meant == [b"1", b"1"]
    talk.say(request(9, block=new(b"2")), request(11, block=last), request(13, block=last))
    assert meant[2:] == [b"2", b"2"]
    talk.say(request(15, block=b"\x20" + begin))  # a table of no size
    talk.say(request(17, block=last))
    assert (talk.goaway() or (0, 0))[1] == Code.COMPRESSION_ERROR


# ---------------------------------------------------------------- time


def test_a_client_that_says_nothing_or_half_of_something_is_parted_with() -> None:
    for data, allowed, code in (
        (b"", LIMITS.head_time, Code.PROTOCOL_ERROR),
        (PREFACE[:10], LIMITS.head_time, Code.PROTOCOL_ERROR),
        (HELLO, LIMITS.head_time, Code.SETTINGS_TIMEOUT),
        (HELLO + ACKED + frame(HEADERS, 0, 1, BLOCKED), LIMITS.head_time, Code.PROTOCOL_ERROR),
    ):
        talk = Talk(data)
        talk.server.tick(monotonic() + allowed - 1)
        assert not talk.wire.closed
        talk.server.tick(monotonic() + allowed)
        assert talk.wire.closed
        assert (talk.goaway() or (0, 0))[1] == code


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    talk = Talk(HELLO + ACKED, OPEN, frame(DATA, 0, 1, b"a"))
    talk.server.tick(monotonic() + LIMITS.arrival - 1)
    assert talk.statuses() == {}
    talk.server.tick(monotonic() + LIMITS.arrival)
    assert talk.statuses() == {1: 408}
    assert not talk.wire.closed
    assert talk.balanced()


def test_waiting_for_a_slow_answer_is_no_fault_of_the_client() -> None:
    app = Echo(later=True)
    talk = Talk(HELLO + ACKED, request(1), app=app)
    talk.server.tick(float("inf"))
    app.answer(app.streams[0])
    assert talk.body(1) == b"body"
    assert not talk.wire.closed


def test_a_connection_without_requests_is_asked_to_go() -> None:
    talk = Talk(HELLO + ACKED, request(1))
    talk.server.tick(monotonic() + LIMITS.idle - 1)
    assert talk.goaway() is None
    talk.server.tick(monotonic() + LIMITS.idle)
    assert talk.goaway() == (2**31 - 1, Code.NO_ERROR)
    talk.say(request(3))  # it was on its way
    assert talk.body(3) == b"body"
    talk.say(frame(PING, ACK, 0, talk.of(PING)[0].payload))
    assert talk.goaway() == (3, Code.NO_ERROR)
    assert talk.wire.closed


def test_a_client_that_takes_no_bytes_is_parted_with() -> None:
    talk = Talk(HELLO + ACKED, request(1))
    talk.connection.pause_writing()
    assert talk.wire.paused
    talk.server.tick(monotonic() + 1)
    talk.connection.resume_writing()
    assert not talk.wire.paused
    talk.server.tick(monotonic() + LIMITS.stall)
    assert not talk.wire.aborted
    talk.connection.pause_writing()
    talk.server.tick(monotonic() + LIMITS.stall)
    assert talk.wire.aborted


# ---------------------------------------------------------------- the end


def test_draining_refuses_nothing_that_was_sent_before_the_client_knew() -> None:
    app = Echo(later=True)
    talk = Talk(HELLO + ACKED, request(1), app=app)
    now = monotonic()
    talk.server.drain(now)
    talk.server.drain(now)
    assert talk.goaway() == (2**31 - 1, Code.NO_ERROR)
    talk.say(request(3), frame(HEADERS, END_HEADERS, 5, BLOCKED))  # they were on their way
    talk.say(frame(PING, ACK, 0, talk.of(PING)[0].payload))
    assert talk.goaway() == (5, Code.NO_ERROR)
    talk.say(request(7), frame(DATA, END_STREAM, 5, b"end"))  # it should know better
    for stream in app.streams:
        assert not talk.wire.closed
        app.answer(stream)
    assert (talk.body(1), talk.body(3), talk.body(5), talk.body(7)) == (
        b"body",
        b"body",
        b"end",
        b"",
    )
    assert talk.wire.closed
    assert app.begun == 3
    assert talk.balanced()


def test_a_client_that_does_not_say_that_it_has_heard_has_a_moment_to_hear() -> None:
    talk, mute = Talk(HELLO + ACKED), Talk()
    now = monotonic()
    for one in (talk, mute):
        one.server.drain(now)
        one.server.drain(now + 0.9)
        assert not one.wire.closed
        one.server.drain(now + 1.1)
    assert [talk.wire.closed, mute.wire.closed] == [False, True]
    talk.server.drain(now + HEARD)
    assert talk.wire.closed


def test_a_client_that_goes_is_answered_before() -> None:
    app = Echo(later=True)
    talk = Talk(HELLO, request(1), frame(GOAWAY, 0, 0, bytes(8)), app=app)
    assert not talk.wire.closed
    app.answer(app.streams[0])
    assert talk.body(1) == b"body"
    assert talk.wire.closed


def test_who_leaves_in_the_middle_is_counted_and_what_it_sent_let_go() -> None:
    app = Echo(later=True)
    talk = Talk(HELLO, OPEN, frame(DATA, 0, 1, bytes(9000)), request(3, bytes(9000)), app=app)
    left: list[int] = []
    app.streams[0].left = lambda: left.append(3)
    talk.connection.connection_lost(None)
    assert (app.ended, left) == ([499], [3])
    assert talk.server.bodies.held == 9000  # until it is computed
    app.answer(app.streams[0])
    assert talk.balanced()


# ---------------------------------------------------------------- whatever comes

STREAM = HELLO + request(1) + request(3, None) + frame(PING, 0, 0, b"12345678")
STREAM += frame(HEADERS, 0, 5, BLOCKED[:7]) + frame(CONTINUATION, END_HEADERS, 5, BLOCKED[7:])
STREAM += frame(DATA, PADDED, 5, b"\1ab") + frame(DATA, END_STREAM, 5, b"cd")


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_however_the_bytes_are_cut_they_mean_the_same(cuts: list[int]) -> None:
    edges = sorted({0, len(STREAM), *cuts})
    talk = Talk(*(STREAM[a:b] for a, b in itertools.pairwise(edges)))
    assert talk.wire.out == Talk(STREAM).wire.out
    assert [talk.body(id) for id in (1, 3, 5)] == [b"body", b"-", b"acd"]


def test_also_byte_by_byte() -> None:
    talk = Talk(*(bytes([byte]) for byte in STREAM))
    assert talk.wire.out == Talk(STREAM).wire.out


_ids = st.sampled_from([0, 1, 2, 3, 5, 7])
_blocks = st.sampled_from([BLOCKED, b"\x82\x86\x84", b"\xbe", b"", plain((b"x", b"y"))])
_frames = st.one_of(
    st.builds(request, _ids.filter(bool), st.sampled_from([None, b"", b"abc"]), _blocks),
    st.builds(
        frame,
        st.integers(0, 10),
        st.sampled_from([0, 1, 4, 5, 8, 9, 12, 13, 32, 36, 44, 0xFF]),
        _ids,
        st.binary(max_size=12) | _blocks,
    ),
    st.builds(grow, _ids, st.sampled_from([0, 1, 1000, 2**31 - 1])),
    st.sampled_from([frames.settings({4: 0}), frames.settings({4: 99}), ACKED]),
)


@settings(max_examples=400)
@given(
    hello=st.sampled_from([HELLO, HELLO, PREFACE, b""]),
    sent=st.lists(_frames | st.binary(max_size=40), max_size=14),
    later=st.booleans(),
)
def test_no_frames_break_the_server_or_its_accounts(
    hello: bytes, sent: Sequence[bytes], later: bool
) -> None:
    app = Echo(later=later, much=300)
    talk = Talk(hello, *sent, app=app)
    goaway = talk.goaway()
    assert talk.wire.closed or goaway is None or goaway[1] == 0
    for stream in app.streams if later else ():
        app.answer(stream)
    talk.connection.connection_lost(None)
    assert talk.balanced()
    assert talk.connection._computing == talk.connection._owed == 0


SEEDS = [
    STREAM[len(HELLO) :],
    request(7, b"x" * 3000) + frame(RST_STREAM, 0, 7, bytes(4)),
    frame(HEADERS, 4, 9, Encoder().encode([*POST, (b"content-type", b"application/grpc")])),
    frames.settings({3: 9, 4: 99, 5: 20_000}) + grow(0, 9) + frame(PRIORITY, 0, 1, bytes(5)),
]
TOKENS = [
    *(b"\0", b"\xff", b"\0\0", b"\0\0\0\1", b"\x40", b"\x82", b"\xbe", b"\x3f\xe1\x1f", b"\x20"),
    *(frame(DATA, 1, 1, b"abc"), frame(HEADERS, 5, 11, BLOCKED), frame(CONTINUATION, 4, 5, b"")),
    *(frame(GOAWAY, 0, 0, bytes(8)), frame(RST_STREAM, 0, 5, bytes(4)), grow(5, 2**31 - 1)),
]


def test_damaged_bytes_break_neither_the_server_nor_its_accounts() -> None:
    draw = random.Random(11)
    answered = 0
    for _ in range(3000):
        data = HELLO + damaged(draw, SEEDS, TOKENS)
        cut = draw.randrange(len(data) + 1)
        app = Echo(later=draw.random() < 0.5, much=draw.choice([0, 100_000]))
        talk = Talk(data[:cut], data[cut:], app=app)
        for stream in app.streams if app.later else ():
            app.answer(stream)
        assert len(talk.said) >= 2  # whole frames, whatever happened
        answered += app.ended.count(200)
        talk.connection.connection_lost(None)
        assert talk.balanced(), data
    assert answered > 1000


# ---------------------------------------------------------------- another implementation


class Client:
    """The client of `h2`, which complains of everything that is not as it should be."""

    def __init__(self, app: Echo) -> None:
        self.talk = Talk(app=app)
        config = h2.config.H2Configuration(client_side=True, header_encoding=None)
        self.machine = h2.connection.H2Connection(config)
        self.machine.initiate_connection()
        self.heard: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.turn()

    def turn(self) -> None:
        """All that either has to say."""
        while True:
            said = self.machine.data_to_send()
            self.talk.say(said)
            out, self.talk.wire.out = self.talk.wire.out, b""
            if not said and not out:
                return
            for event in self.machine.receive_data(out):
                self.take(event)

    def take(self, event: Any) -> None:
        if isinstance(event, h2.events.DataReceived):
            self.heard[event.stream_id] = self.heard.get(event.stream_id, b"") + event.data
            self.machine.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.ended.add(event.stream_id)
        assert not isinstance(event, h2.events.ConnectionTerminated)

    def ask(self, body: bytes) -> int:
        id = self.machine.get_next_available_stream_id()
        self.machine.send_headers(id, POST)
        left = memoryview(body)
        while True:
            room = min(self.machine.local_flow_control_window(id), 16_384, len(left))
            self.machine.send_data(id, bytes(left[:room]), end_stream=room == len(left))
            left = left[room:]
            self.turn()
            if not left:
                return id


@settings(max_examples=20, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 16_383, 16_385, 70_000, ROOM + 5]), max_size=5),
    window=st.sampled_from([None, 100, 65_535]),
)
def test_another_implementation_hears_what_it_said(sizes: list[int], window: int | None) -> None:
    client = Client(Echo())
    sizes = sizes if window != 100 else [size // 50 for size in sizes]
    if window is not None:
        client.machine.update_settings({4: window})
        client.turn()
    said = {client.ask(random.Random(size).randbytes(size)): size for size in sizes}
    client.turn()
    assert client.ended == said.keys()
    for id, size in said.items():
        assert client.heard[id] == (random.Random(size).randbytes(size) or b"-")
    assert client.talk.balanced()
