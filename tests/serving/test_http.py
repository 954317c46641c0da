from __future__ import annotations

import asyncio
import itertools
import random
import re
from collections.abc import Callable
from time import monotonic

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeostat.serving.exchange import Exchange
from homeostat.serving.http import HEADS, PIPELINE, QUIET, Connection, Head, Limits, Server

from .damage import damaged

LIMITS = Limits(body=1000)


class Wire(asyncio.Transport):
    """The client's end, in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.out = b""
        self.paused = self.closed = self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.out += bytes(data)

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


def echo(exchange: Exchange) -> None:
    exchange.send(200, b"%b %b %b" % (exchange.method, exchange.target, exchange.body))


def talk(
    *data: bytes,
    handle: Callable[[Exchange], None] = echo,
    refused: Callable[[], None] = lambda: None,
) -> Wire:
    """Feed chunks into a new connection."""
    wire = Wire()
    connection = Connection(Server(lambda *_: handle, refused, LIMITS))
    connection.connection_made(wire)
    for chunk in data:
        if not wire.closed:
            connection.data_received(chunk)
    return wire


def statuses(wire: Wire) -> list[int]:
    return [int(s) for s in re.findall(rb"HTTP/1.1 (\d+) [A-Z]", wire.out)]


def bodies(wire: Wire) -> list[bytes]:
    return re.findall(rb"content-length: \d+\r\n\r\n([^H]*)", wire.out)


def test_a_request_is_answered_and_the_connection_stays() -> None:
    wire = talk(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab")
    assert wire.out.startswith(b"HTTP/1.1 200 OK\r\ndate: ")
    assert wire.out.endswith(b"content-length: 10\r\n\r\nPOST /x ab")
    assert not wire.closed


def test_chunked_bodies_are_joined() -> None:
    head = b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire = talk(head + b"2\r\nab\r\n", b"3\r\ncde\r\n0\r\n\r\n")
    assert bodies(wire) == [b"POST /x abcde"]


def test_pipelined_requests_are_answered_in_their_order() -> None:
    waiting: list[Exchange] = []
    data = b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % i for i in range(5))
    wire = talk(data, handle=waiting.append)
    for exchange in reversed(waiting):
        assert wire.out == b""
        exchange.send(200, exchange.target)
    assert bodies(wire) == [b"/0", b"/1", b"/2", b"/3", b"/4"]


def test_many_small_heads_are_not_one_long_one_wherever_what_comes_is_cut() -> None:
    request = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n"
    many = request * (2 * LIMITS.head // len(request))
    assert len(many) > LIMITS.head
    wire = talk(request[:9], request[9:] + many + request[:9], request[9:])
    assert set(statuses(wire)) == {200}
    assert not wire.closed


def test_a_client_that_does_not_wait_for_answers_is_read_more_slowly() -> None:
    waiting: list[Exchange] = []
    data = b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % i for i in range(PIPELINE))
    wire = talk(data, handle=waiting.append)
    assert wire.paused
    for exchange in waiting:
        exchange.send(200, b"")
    assert not wire.paused


def test_connection_close_and_http_1_0_end_the_connection_after_the_answer() -> None:
    for request in (
        b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        b"GET /a HTTP/1.0\r\n\r\n",
        b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",  # it would wait to be told so
    ):
        wire = talk(request + b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n")
        assert statuses(wire) == [200]
        assert b"connection: close" in wire.out
        assert wire.closed


def test_head_has_the_length_and_no_body() -> None:
    wire = talk(b"HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n")
    assert wire.out.endswith(b"content-length: 8\r\n\r\n")


def test_expect_continue_is_answered_before_the_body_comes() -> None:
    head = b"POST /x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    wire = talk(head)
    assert wire.out == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert statuses(talk(head, b"ab")) == [100, 200]
    assert statuses(talk(head.replace(b": 2", b": 2000"))) == [413]
    assert statuses(talk(head.replace(b"100-c", b"200-c"))) == [417]


def post(*lines: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    head = [b"POST /x HTTP/" + version, b"Host: h", *lines]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


CHUNKED = b"Transfer-Encoding: chunked"
MALFORMED = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "no target": b"GET\r\n\r\n",
    "lines that end in LF": b"GET /x HTTP/1.1\nHost: h\n\n",
    "a head that ends in LF": b"GET /x HTTP/1.1\r\nHost: h\r\n\n",
    "a bare CR": b"GET /x HTTP/1.1\r\nHost: h\rX: y\r\n\r\n",
    "an unknown version": b"GET /x HTTP/9.9\r\n\r\n",
    "an unknown method": b"FOO /x HTTP/1.1\r\nHost: h\r\n\r\n",
    "a method in lower case": b"get /x HTTP/1.1\r\nHost: h\r\n\r\n",
    "a control character in the target": b"GET /\x01 HTTP/1.1\r\nHost: h\r\n\r\n",
    "no colon": post(b"bad header"),
    "no name": post(b": value"),
    "space before the colon": post(b"Content-Length : 1", body=b"a"),
    "space before the first header": b"GET /x HTTP/1.1\r\n Host: h\r\n\r\n",
    "a folded line": post(b"X: y", b" z"),
    "NUL in a value": post(b"X: y\x00z"),
    "a control character in a value": post(b"X: y\x01z"),
    "an invalid name": post(b"X(y): z"),
    "a negative length": post(b"Content-Length: -1"),
    "a length with a sign": post(b"Content-Length: +1", body=b"a"),
    "a hexadecimal length": post(b"Content-Length: 0x1", body=b"a"),
    "a length with an underscore": post(b"Content-Length: 1_0", body=b"a" * 10),
    "a list of lengths": post(b"Content-Length: 1, 1", body=b"a"),
    "an empty length": post(b"Content-Length:"),
    "a length beyond 64 bits": post(b"Content-Length: 99999999999999999999"),
    "differing lengths": post(b"Content-Length: 1", b"Content-Length: 2", body=b"a"),
    "repeated lengths": post(b"Content-Length: 1", b"Content-Length: 1", body=b"a"),
    "a length and chunks": post(b"Content-Length: 1", CHUNKED, body=b"0\r\n\r\n"),
    "chunks and a length": post(CHUNKED, b"Content-Length: 1", body=b"0\r\n\r\n"),
    "chunked twice": post(CHUNKED, CHUNKED, body=b"0\r\n\r\n"),
    "chunked in a list twice": post(CHUNKED + b", chunked", body=b"0\r\n\r\n"),
    "chunked and then another": post(CHUNKED + b", identity", body=b"a"),
    "an empty transfer coding": post(b"Transfer-Encoding:", body=b"a"),
    "chunks in HTTP/1.0": post(CHUNKED, body=b"0\r\n\r\n", version=b"1.0"),
    "a chunk size that is none": post(CHUNKED, body=b"zz\r\n"),
    "a chunk size with a sign": post(CHUNKED, body=b"+1\r\na\r\n0\r\n\r\n"),
    "a chunk size with a prefix": post(CHUNKED, body=b"0x1\r\na\r\n0\r\n\r\n"),
    "a chunk size and a space": post(CHUNKED, body=b"1 \r\na\r\n0\r\n\r\n"),
    "a chunk size that ends in LF": post(CHUNKED, body=b"1\na\r\n0\r\n\r\n"),
    "a chunk extension that ends in LF": post(CHUNKED, body=b"1;b\na\r\n0\r\n\r\n"),
    "a chunk longer than its size": post(CHUNKED, body=b"1\r\nab\r\n0\r\n\r\n"),
    "a chunk size beyond 64 bits": post(CHUNKED, body=b"f" * 17 + b"\r\na"),
    "a length in a trailer": post(CHUNKED, body=b"0\r\nContent-Length: 1\r\n\r\n"),
    "no host": b"GET /x HTTP/1.1\r\n\r\n",
    "two hosts": post(b"Host: h"),
    "two hosts in HTTP/1.0": b"GET /x HTTP/1.0\r\nHost: h\r\nHost: i\r\n\r\n",
    "a host that is none": b"GET /x HTTP/1.1\r\nHost: h/i\r\n\r\n",
    "a key twice": post(b"X-Homeostat-Key: a", b"X-Homeostat-Key: b"),
}


@pytest.mark.parametrize("request_", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_malformed_or_could_smuggle_is_refused(request_: bytes) -> None:
    handled: list[Exchange] = []
    refused: list[int] = []
    wire = talk(
        request_ + b"GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n",
        handle=handled.append,
        refused=lambda: refused.append(1),
    )
    assert (statuses(wire), handled, refused) == ([400], [], [1])
    assert b"connection: close" in wire.out
    assert wire.closed


HIDDEN = b"21\r\nGET /hidden HTTP/1.1\r\nHost: h\r\n\r\n\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /x HTTP/2.0\r\nHost: h\r\n\r\n", 505),
        (b"GET /x\r\n\r\n", 505),
        (post(b"Transfer-Encoding: gzip", body=b"a"), 501),
        (post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), 501),
        (post(b"Content-Encoding: gzip", b"Content-Length: 1", body=b"a"), 415),
        (post(b"Expect: 200-ok"), 417),
        (post(b"Upgrade: h2c", b"Connection: Upgrade", CHUNKED, body=HIDDEN), 501),
        (post(CHUNKED, b"Connection: Upgrade", b"Upgrade: h2c", body=HIDDEN), 501),
        (b"GET /" + b"x" * LIMITS.target + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
        (post(*(b"X%d: y" % i for i in range(LIMITS.headers))), 431),
        (post(CHUNKED, body=b"0\r\n" + b"x: y\r\n" * LIMITS.headers + b"\r\n"), 431),
    ],
)  # fmt: skip
def test_what_is_not_understood_or_too_much_says_so(request_: bytes, status: int) -> None:
    wire = talk(request_)
    assert statuses(wire) == [status]
    assert wire.closed


def test_the_fields_of_a_trailer_are_not_headers() -> None:
    seen: list[Exchange] = []
    talk(post(CHUNKED, body=b"1\r\na\r\n0\r\nX-Homeostat-Key: k\r\n\r\n"), handle=seen.append)
    assert [(exchange.body, dict(exchange.headers)) for exchange in seen] == [(b"a", {})]


def test_the_answers_before_a_malformed_request_still_go_out() -> None:
    waiting: list[Exchange] = []
    wire = talk(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nnonsense\r\n\r\n", handle=waiting.append)
    assert wire.out == b""
    waiting[0].send(200, b"first")
    assert statuses(wire) == [200, 400]
    assert wire.closed


def test_bodies_over_the_limit_are_refused_whether_announced_or_chunked() -> None:
    assert statuses(talk(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1001\r\n\r\n")) == [413]
    chunk = b"200\r\n" + b"x" * 512 + b"\r\n"
    head = b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert statuses(talk(head, chunk)) == []
    assert statuses(talk(head, chunk, chunk)) == [413]
    fits = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000
    assert statuses(talk(fits, fits)) == [200, 200]


def test_heads_over_the_limit_are_refused_however_they_arrive() -> None:
    long = b"GET /a HTTP/1.1\r\nHost: h\r\nx: " + b"y" * LIMITS.head
    assert statuses(talk(long + b"\r\n\r\n")) == [431]
    pieces = [long[i : i + 1000] for i in range(0, len(long), 1000)]
    assert statuses(talk(*pieces, b"y" * 2000)) == [431]
    many = [b"GET /a HTTP/1.1\r\nHost: h\r\n"] + [b"x%d: y\r\n" % i for i in range(10_000)]
    assert statuses(talk(*many)) == [431]


@pytest.mark.parametrize(
    "begun",
    [
        post(CHUNKED, body=b"1\r\na\r\n0\r\nX: "),
        post(CHUNKED, body=b"1\r\na\r\n0\r\n"),
        post(CHUNKED, body=b"1\r\na\r\n1;x="),
        post(CHUNKED, body=b'1;x="'),
    ],
    ids=["a field of a trailer", "its name", "a chunk's extension", "a quoted one"],
)
def test_a_line_that_never_ends_is_refused_also_after_the_head(begun: bytes) -> None:
    piece = b"y" * 1000
    pieces = [piece] * (LIMITS.head // len(piece))
    assert statuses(talk(begun, *pieces)) == []
    assert statuses(talk(begun, *pieces, piece)) == [431]


UPGRADE = b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk"


@given(cuts=st.lists(st.integers(0, 700), max_size=6))
def test_who_offers_another_protocol_is_answered_in_this_one(cuts: list[int]) -> None:
    get = b"GET /a HTTP/1.1\r\nHost: h\r\n" + UPGRADE + b"\r\n\r\n"
    whole = get * 2 + post(UPGRADE, b"Content-Length: 2", body=b"ab") * 2 + get
    edges = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    wire = talk(*(whole[a:b] for a, b in itertools.pairwise(edges)))
    assert statuses(wire) == [200] * 5
    assert bodies(wire) == [b"GET /a ", b"GET /a ", b"POST /x ab", b"POST /x ab", b"GET /a "]
    assert not wire.closed


def test_a_body_after_an_offer_is_held_to_the_limits_of_all() -> None:
    head = post(UPGRADE, b"Content-Length: 1000")
    wire = talk(head, b"x" * 400, b"x" * 599)
    assert wire.out == b""
    wire = talk(head, b"x" * 400, b"x" * 600 + head[:9], head[9:] + b"x" * 1000)
    assert bodies(wire) == [b"POST /x " + b"x" * 1000] * 2
    assert statuses(talk(post(UPGRADE, b"Content-Length: 1001", body=b"x" * 1001))) == [413]
    expected = post(UPGRADE, b"Expect: 100-continue", b"Content-Length: 2")
    assert statuses(talk(expected)) == [100]
    assert statuses(talk(expected, b"a", b"b")) == [100, 200]


def test_after_a_tunnel_was_asked_for_nothing_is_a_request() -> None:
    tunnel = b"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n"
    wire = talk(tunnel + b"GET /b HTTP/1.1\r\nHost: h\r\n\r\n")
    assert statuses(wire) == [200]
    assert b"connection: close" in wire.out
    assert wire.closed


def opened(server: Server) -> tuple[Wire, Connection]:
    wire, connection = Wire(), Connection(server)
    connection.connection_made(wire)
    return wire, connection


@pytest.mark.parametrize(
    ("data", "allowed", "expected"),
    [
        (b"", LIMITS.idle, []),
        (b"\r\n" * 50, LIMITS.idle, []),
        (b"GET /a HTTP/1.1\r\nHost: h\r\nx: yyyyyyyyyyyy", LIMITS.head_time, [408]),
        (post(b"Content-Length: 90", body=b"x" * 50), LIMITS.arrival, [408]),
        (post(CHUNKED, body=b"1\r\nx\r\n" * 9), LIMITS.arrival, [408]),
    ],
)
def test_a_client_that_trickles_has_as_long_as_one_that_is_silent(
    data: bytes, allowed: float, expected: list[int]
) -> None:
    server = Server(lambda *_: echo, lambda: None, LIMITS)
    wire, connection = opened(server)
    begun = monotonic()
    for byte in data:
        connection.data_received(bytes([byte]))
        server.tick(begun + LIMITS.head_time - 1.0)
        assert not wire.closed
    server.tick(begun + allowed - 1.0)
    assert not wire.closed
    server.tick(monotonic() + allowed)
    assert wire.closed
    assert statuses(wire) == expected


ROOM = Limits(body=20_000, bodies=50_000)


def test_bodies_beyond_the_room_for_all_are_shed_and_those_that_had_room_are_answered() -> None:
    waiting: list[Exchange] = []
    ended: list[int] = []
    server = Server(lambda *_: waiting.append, lambda: None, ROOM, ended.append)
    clients = [opened(server) for _ in range(4)]
    for _, connection in clients:
        connection.data_received(post(b"Content-Length: 20000", body=b"x" * 15_000))
    assert [statuses(wire) for wire, _ in clients] == [[], [], [], [503]]
    assert b"\r\nretry-after: 1\r\n" in clients[3][0].out
    clients[0][1].connection_lost(None)  # what it had sent leaves room
    for _, connection in clients[1:3]:
        connection.data_received(b"x" * 5_000)
    connection = opened(server)[1]
    connection.data_received(post(CHUNKED, body=b"2710\r\n" + b"x" * 10_000))
    assert server.bodies.held == 50_000
    connection.data_received(b"\r\n0\r\n\r\n")
    for exchange in waiting:
        exchange.send(200, b"")
    assert (ended, server.bodies.held) == ([503, 200, 200, 200], 0)


def test_what_is_only_announced_takes_no_room() -> None:
    server = Server(lambda *_: echo, lambda: None, ROOM)
    for _ in range(100):
        opened(server)[1].data_received(post(b"Content-Length: 20000", body=b"x"))
    assert server.bodies.held == 0


def test_who_leaves_before_the_answer_holds_its_room_until_it_is_computed() -> None:
    waiting: list[Exchange] = []
    server = Server(lambda *_: waiting.append, lambda: None, ROOM)
    connection = opened(server)[1]
    connection.data_received(post(b"Content-Length: 20000", body=b"x" * 20_000))
    connection.connection_lost(None)
    assert server.bodies.held == 20_000
    waiting[0].send(200, b"")
    assert server.bodies.held == 0


def test_a_client_that_takes_no_answers_is_parted_with() -> None:
    server = Server(lambda *_: echo, lambda: None, LIMITS)
    wire, connection = opened(server)
    connection.data_received(post())
    connection.pause_writing()
    server.tick(monotonic())
    assert wire.paused
    connection.resume_writing()
    server.tick(monotonic() + LIMITS.stall)
    assert (wire.paused, wire.closed) == (False, False)
    connection.pause_writing()
    server.tick(monotonic() + LIMITS.stall)
    assert wire.aborted


def test_waiting_for_a_slow_answer_is_no_fault_of_the_client() -> None:
    waiting: list[Exchange] = []
    server = Server(lambda *_: waiting.append, lambda: None, LIMITS)
    wire, connection = opened(server)
    connection.data_received(post())
    server.tick(float("inf"))
    assert not wire.closed
    waiting[0].send(200, b"late")
    assert bodies(wire) == [b"late"]


def test_continue_comes_after_the_answers_before_it() -> None:
    waiting: list[Exchange] = []
    wire = talk(post() + post(b"Expect: 100-continue", b"Content-Length: 1"), handle=waiting.append)
    assert wire.out == b""
    waiting[0].send(200, b"")
    assert statuses(wire) == [200, 100]


def test_draining_answers_what_arrived_and_closes_the_idle() -> None:
    """Also what is on its way to a connection that was just used."""
    waiting: list[Exchange] = []
    server = Server(lambda *_: waiting.append, lambda: None, LIMITS)
    wires = [Wire() for _ in range(3)]
    for wire, data in zip(
        wires, (b"", b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n", b"GET /b HTT"), strict=True
    ):
        connection = Connection(server)
        connection.connection_made(wire)
        connection.data_received(data)
        wire.connection = connection  # type: ignore[attr-defined]
    server.drain(monotonic())
    assert [wire.closed for wire in wires] == [False, False, False]
    server.drain(monotonic() + QUIET)
    assert [wire.closed for wire in wires] == [True, False, False]
    waiting[0].send(200, b"")
    assert wires[1].closed
    wires[2].connection.data_received(b"P/1.1\r\nHost: h\r\n\r\n")  # type: ignore[attr-defined]
    waiting[1].send(200, b"")
    assert b"connection: close" in wires[2].out
    assert wires[2].closed


_pieces = st.sampled_from(
    [
        b"GET /a HTTP/1.1\r\nHost: h\r\n",
        b"POST /v1/models/m:predict HTTP/1.1\r\nHost: h\r\n",
        b"Content-Length: 3\r\n",
        b"Content-Length: 99999999999999999999\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
        b"Expect: 100-continue\r\n",
        b"X-Homeostat-Key: \xff\r\n",
        b"\r\n",
        b"abc",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"\x00",
        b"CONNECT a:1 HTTP/1.1\r\nHost: h\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]
)


@settings(max_examples=150)
@given(chunks=st.lists(_pieces | st.binary(max_size=30), max_size=12))
def test_no_bytes_break_the_server(chunks: list[bytes]) -> None:
    wire = talk(*chunks)
    answers = statuses(wire)
    assert set(answers) <= {100, 200, 400, 413, 414, 415, 417, 431, 501, 505}
    # after a refusal there is nothing but the end
    refused = [i for i, status in enumerate(answers) if status >= 400]
    assert refused in ([], [len(answers) - 1])
    assert wire.closed or not refused


@given(cuts=st.lists(st.integers(0, 140), max_size=6))
def test_however_a_request_is_cut_the_answer_is_the_same(cuts: list[int]) -> None:
    whole = (
        b"POST /x HTTP/1.1\r\nHost: h\r\nX-Homeostat-Key: k\r\nContent-Length: 3\r\n\r\nabc"
        b"POST /y HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n"
    )
    edges = sorted({0, len(whole), *(c for c in cuts if c < len(whole))})
    wire = talk(*(whole[a:b] for a, b in itertools.pairwise(edges)))
    assert bodies(wire) == [b"POST /x abc", b"POST /y de"]


def test_a_head_that_comes_again_is_not_parsed_again() -> None:
    server = Server(lambda *_: echo, lambda: None, LIMITS)
    head = post(b"Content-Length: 2")
    wire, connection = opened(server)
    connection.data_received(head + b"ab")
    assert server.heads == {head: Head(b"POST", b"/x", 2, echo)}
    server.heads[head] = Head(b"POST", b"/remembered", 2, echo)
    connection.data_received(head + b"cd")
    assert bodies(wire) == [b"POST /x ab", b"POST /remembered cd"]


def test_only_so_many_heads_are_remembered_and_only_short_ones() -> None:
    server = Server(lambda *_: echo, lambda: None, LIMITS)
    _, connection = opened(server)
    for i in range(HEADS + 5):
        connection.data_received(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % i)
    assert len(server.heads) == HEADS
    assert b"GET /4 HTTP/1.1\r\nHost: h\r\n\r\n" not in server.heads
    before = dict(server.heads)
    connection.data_received(post(b"X: " + b"y" * 2000))
    assert server.heads == before


SEEN = [
    b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET /a HTTP/1.0\r\n\r\n",
    b"HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    post(b"Content-Length: 4", body=b"\r\n\r\n"),
    post(b"Content-Length: 2", body=b"ab"),
    post(b"Content-Length: 2", b"X-Homeostat-Key: k", body=b"ab"),
    post(b"Content-Length: 2", b"Expect: 100-continue", body=b"ab"),
    post(b"Content-Length: 2", b"Connection: close", body=b"ab"),
    post(CHUNKED, body=b"2\r\nab\r\n0\r\n\r\n"),
    post(b"Content-Length: 2", b"Content-Length: 2", body=b"ab"),
    b"\r\n",
    b"\r",
]


def heard(chunks: list[bytes], *, remember: bool) -> tuple[list[Exchange], bytes, bool]:
    """What a server handles, writes, and whether it hangs up."""
    handled: list[Exchange] = []

    def take(exchange: Exchange) -> None:
        handled.append(exchange)
        echo(exchange)

    server = Server(lambda *_: take, lambda: None, LIMITS)
    if remember:
        for request in SEEN:
            opened(server)[1].data_received(request)
        handled.clear()
    wire, connection = opened(server)
    for chunk in chunks:
        if not remember:
            server.heads.clear()
        if not wire.closed:
            connection.data_received(chunk)
    return handled, re.sub(rb"date: [^\r]*", b"", wire.out), wire.closed


@settings(max_examples=300)
@given(
    requests=st.lists(st.sampled_from(SEEN), max_size=6),
    cuts=st.lists(st.integers(0, 400), max_size=4),
    whole=st.booleans(),
)
def test_a_remembered_head_means_what_it_means_to_the_parser(
    requests: list[bytes], cuts: list[int], whole: bool
) -> None:
    stream = b"".join(requests)
    edges = sorted({0, len(stream), *(c for c in cuts if c < len(stream))})
    cut = [stream[a:b] for a, b in itertools.pairwise(edges)]
    chunks = requests if whole else cut
    known, new = heard(chunks, remember=True), heard(chunks, remember=False)
    assert known[1:] == new[1:]
    for one, other in zip(known[0], new[0], strict=True):
        for field in ("method", "target", "headers", "body", "head", "close"):
            assert getattr(one, field) == getattr(other, field)


SEEDS = [
    b"GET /v2/health/live HTTP/1.1\r\nHost: localhost:8080\r\nAccept: */*\r\n\r\n",
    post(b"Content-Length: 5", b"X-Homeostat-Key: k", body=b"hello"),
    post(CHUNKED, body=b"5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\nTrailer: x\r\n\r\n"),
    post(b"Expect: 100-continue", b"Content-Length: 3", body=b"abc"),
    b"GET http://h/a?b=c HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    post(b"Connection: Upgrade", b"Upgrade: websocket"),
]
TOKENS = [
    *(b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b";", b",", b"\x00", b"\xff", b"0", b"0\r\n\r\n"),
    *(b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: i\r\n", b"chunked"),
    *(b"HTTP/1.0", b"HTTP/1.1", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", b"ffffffff\r\n", b"+", b"0x"),
]  # fmt: skip


Request = tuple[bytes, bytes, bytes]


def as_h11_reads_it(data: bytes) -> tuple[list[Request], bool]:
    """The requests in `data` as another parser sees them, and whether it went on to the end."""
    parser, found = h11.Connection(h11.SERVER), []
    parser.receive_data(data)
    try:
        while True:
            event = parser.next_event()
            if isinstance(event, h11.Request):
                found.append((event.method, event.target, b""))
            elif isinstance(event, h11.Data):
                method, target, body = found[-1]
                found[-1] = (method, target, body + bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                parser.send(h11.Response(status_code=200, headers=[]))
                parser.send(h11.EndOfMessage())
                parser.start_next_cycle()
            else:
                return found, True
    except (h11.RemoteProtocolError, h11.LocalProtocolError):
        return found, False


def test_what_is_accepted_of_damaged_requests_means_the_same_to_another_parser() -> None:
    draw = random.Random(11)
    agreed = 0
    for _ in range(3000):
        data, seen = damaged(draw, SEEDS, TOKENS), []

        def take(exchange: Exchange, seen: list[Exchange] = seen) -> None:
            seen.append(exchange)
            exchange.send(200, b"")

        cut = draw.randrange(len(data) + 1)
        wire = talk(data[:cut], data[cut:], handle=take)
        answers = [status for status in statuses(wire) if status != 100]
        assert answers[: len(seen)] == [200] * len(seen), data
        assert len(answers) <= len(seen) + 1, data
        assert wire.closed or len(answers) == len(seen), data
        theirs, _ = as_h11_reads_it(data)
        for exchange, other in zip(seen, theirs, strict=False):
            assert (exchange.method, exchange.target, exchange.body) == other, data
            agreed += 1
    assert agreed > 1000
