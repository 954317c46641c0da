from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeostat.serving.http import HEAD_LIMIT, PIPELINE, Connection, Exchange, Server

MAX_BODY = 1000


class Wire(asyncio.Transport):
    """The client's end, in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.out = b""
        self.paused = self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.out += bytes(data)

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


def echo(exchange: Exchange) -> None:
    exchange.send(200, b"%b %b %b" % (exchange.method, exchange.target, exchange.body))


def talk(*data: bytes, handle: Callable[[Exchange], None] = echo) -> Wire:
    """Feed chunks into a new connection."""
    wire = Wire()
    connection = Connection(Server(handle, lambda: None, MAX_BODY))
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
    wire = talk(b"POST /x HTTP/1.1\r\nContent-Length: 2\r\n\r\nab")
    assert wire.out.startswith(b"HTTP/1.1 200 OK\r\ndate: ")
    assert wire.out.endswith(b"content-length: 10\r\n\r\nPOST /x ab")
    assert not wire.closed


def test_chunked_bodies_are_joined() -> None:
    head = b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire = talk(head + b"2\r\nab\r\n", b"3\r\ncde\r\n0\r\n\r\n")
    assert bodies(wire) == [b"POST /x abcde"]


def test_pipelined_requests_are_answered_in_their_order() -> None:
    waiting: list[Exchange] = []
    data = b"".join(b"GET /%d HTTP/1.1\r\n\r\n" % i for i in range(5))
    wire = talk(data, handle=waiting.append)
    for exchange in reversed(waiting):
        assert wire.out == b""
        exchange.send(200, exchange.target)
    assert bodies(wire) == [b"/0", b"/1", b"/2", b"/3", b"/4"]


def test_a_client_that_does_not_wait_for_answers_is_read_more_slowly() -> None:
    waiting: list[Exchange] = []
    data = b"".join(b"GET /%d HTTP/1.1\r\n\r\n" % i for i in range(PIPELINE))
    wire = talk(data, handle=waiting.append)
    assert wire.paused
    for exchange in waiting:
        exchange.send(200, b"")
    assert not wire.paused


def test_connection_close_and_http_1_0_end_the_connection_after_the_answer() -> None:
    for request in (b"GET /a HTTP/1.1\r\nConnection: close\r\n\r\n", b"GET /a HTTP/1.0\r\n\r\n"):
        wire = talk(request + b"GET /b HTTP/1.1\r\n\r\n")
        assert statuses(wire) == [200]
        assert b"connection: close" in wire.out
        assert wire.closed


def test_head_has_the_length_and_no_body() -> None:
    wire = talk(b"HEAD /a HTTP/1.1\r\n\r\n")
    assert wire.out.endswith(b"content-length: 8\r\n\r\n")


def test_expect_continue_is_answered_before_the_body_comes() -> None:
    head = b"POST /x HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    wire = talk(head)
    assert wire.out == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert statuses(talk(head, b"ab")) == [100, 200]
    assert statuses(talk(head.replace(b": 2", b": 2000"))) == [413]
    assert statuses(talk(head.replace(b"100-c", b"200-c"))) == [417]


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET\r\n\r\n",
        b"GET /a HTTP/9.9\r\n\r\n",
        b"FOO /a HTTP/1.1\r\n\r\n",
        b"GET /a HTTP/1.1\r\nbad header\r\n\r\n",
        b"POST /a HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /a HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
        b"POST /a HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\na",
        b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_malformed_or_could_smuggle_is_refused(request_: bytes) -> None:
    wire = talk(request_)
    assert statuses(wire) == [400]
    assert b'{"error":"not a valid HTTP/1.1 request: ' in wire.out
    assert wire.closed


def test_the_answers_before_a_malformed_request_still_go_out() -> None:
    waiting: list[Exchange] = []
    wire = talk(b"GET /a HTTP/1.1\r\n\r\nnonsense\r\n\r\n", handle=waiting.append)
    assert wire.out == b""
    waiting[0].send(200, b"first")
    assert statuses(wire) == [200, 400]
    assert wire.closed


def test_bodies_over_the_limit_are_refused_whether_announced_or_chunked() -> None:
    assert statuses(talk(b"POST /a HTTP/1.1\r\nContent-Length: 1001\r\n\r\n")) == [413]
    chunk = b"200\r\n" + b"x" * 512 + b"\r\n"
    head = b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert statuses(talk(head, chunk)) == []
    assert statuses(talk(head, chunk, chunk)) == [413]
    fits = b"POST /a HTTP/1.1\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000
    assert statuses(talk(fits, fits)) == [200, 200]


def test_heads_over_the_limit_are_refused_however_they_arrive() -> None:
    long = b"GET /a HTTP/1.1\r\nx: " + b"y" * HEAD_LIMIT
    assert statuses(talk(long + b"\r\n\r\n")) == [431]
    pieces = [long[i : i + 1000] for i in range(0, len(long), 1000)]
    assert statuses(talk(*pieces, b"y" * 2000)) == [431]
    many = [b"GET /a HTTP/1.1\r\n"] + [b"x%d: y\r\n" % i for i in range(10_000)]
    assert statuses(talk(*many)) == [431]


def test_an_upgrade_is_answered_in_plain_http_or_refused() -> None:
    upgrade = b"GET /a HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"
    assert statuses(talk(upgrade)) == [200]
    body = b"POST /a HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nab"
    assert statuses(talk(body)) == [501]


def test_silent_connections_are_closed_and_unfinished_requests_told() -> None:
    server = Server(echo, lambda: None, MAX_BODY)
    for data, expected in ((b"", []), (b"GET /a HTTP/1.1\r\nx: ", [408])):
        wire, connection = Wire(), Connection(server)
        connection.connection_made(wire)
        connection.data_received(data)
        server.tick(0.0)
        assert not wire.closed
        server.tick(float("inf"))
        assert wire.closed
        assert statuses(wire) == expected


def test_draining_answers_what_arrived_and_closes_the_idle() -> None:
    waiting: list[Exchange] = []
    server = Server(waiting.append, lambda: None, MAX_BODY)
    wires = [Wire() for _ in range(3)]
    for wire, data in zip(wires, (b"", b"GET /a HTTP/1.1\r\n\r\n", b"GET /b HTT"), strict=True):
        connection = Connection(server)
        connection.connection_made(wire)
        connection.data_received(data)
        wire.connection = connection  # type: ignore[attr-defined]
    server.drain()
    assert [wire.closed for wire in wires] == [True, False, False]
    waiting[0].send(200, b"")
    assert wires[1].closed
    wires[2].connection.data_received(b"P/1.1\r\n\r\n")  # type: ignore[attr-defined]
    waiting[1].send(200, b"")
    assert b"connection: close" in wires[2].out
    assert wires[2].closed


_pieces = st.sampled_from(
    [
        b"GET /a HTTP/1.1\r\n",
        b"POST /v1/models/m:predict HTTP/1.1\r\n",
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
        b"CONNECT a:1 HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]
)


@settings(max_examples=150)
@given(chunks=st.lists(_pieces | st.binary(max_size=30), max_size=12))
def test_no_bytes_break_the_server(chunks: list[bytes]) -> None:
    wire = talk(*chunks)
    answers = statuses(wire)
    assert set(answers) <= {100, 200, 400, 408, 413, 417, 431, 501}
    # after a refusal there is nothing but the end
    refused = [i for i, status in enumerate(answers) if status >= 400]
    assert refused in ([], [len(answers) - 1])
    assert wire.closed or not refused


@given(cuts=st.lists(st.integers(0, 140), max_size=6))
def test_however_a_request_is_cut_the_answer_is_the_same(cuts: list[int]) -> None:
    whole = (
        b"POST /x HTTP/1.1\r\nHost: a\r\nX-Homeostat-Key: k\r\nContent-Length: 3\r\n\r\nabc"
        b"POST /y HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n"
    )
    edges = sorted({0, len(whole), *(c for c in cuts if c < len(whole))})
    wire = talk(*(whole[a:b] for a, b in itertools.pairwise(edges)))
    assert bodies(wire) == [b"POST /x abc", b"POST /y de"]
