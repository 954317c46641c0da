"""Hostile clients against a real server: it goes on answering the others."""

from __future__ import annotations

import random
import re
import socket
import struct
from typing import Any

import pytest

from .damage import damaged

pytestmark = pytest.mark.slow

HEAD = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: h\r\n"
BODY = b'{"id":"x","inputs":[{"name":"input","shape":[1,2],"datatype":"FP32","data":[1,2]}]}'
RAW = BODY.replace(b'"data":[1,2]', b'"parameters":{"binary_data_size":8}') + struct.pack(
    "<2f", 1, 2
)
SEEDS = [
    HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY,
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
    HEAD
    + b"Inference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n"
    % (len(RAW) - 8, len(RAW))
    + RAW,
    b"POST /v1/models/m:predict HTTP/1.1\r\nHost: h\r\nContent-Length: 21\r\n\r\n"
    b'{"instances":[[1,2]]}',
    b"GET /v2/models/m HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    b"POST /v2/repository/index HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /v1/models/m/labels HTTP/1.1\r\nHost: h\r\nContent-Length: 37\r\n\r\n"
    b'{"labels": [{"id": "none","label":1}]}',
]
TOKENS = [
    *(b"\r\n", b"\n", b" ", b":", b"\x00", b"\xff", b"-1", b"9" * 20, b"[", b"{", b'"'),
    *(b"1e999", b"null"),
    *(b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"FP64", b"BYTES", b"INT8"),
]  # fmt: skip
KNOWN = {200, 400, 404, 405, 408, 413, 414, 415, 417, 431, 501, 505}


def exchange(port: int, data: bytes) -> bytes:
    """Send everything, and read until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as raw:
        raw.sendall(data)
        raw.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := raw.recv(65536):
            received += chunk
        return received


def test_damaged_requests_never_hang_crash_or_reach_anothers_connection(one: Any) -> None:
    draw = random.Random(7)
    port = one.server.port
    pids = one.server.pids()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as steady:
        for i in range(400):
            data = damaged(draw, SEEDS, TOKENS)
            answers = exchange(port, data)
            found = [int(s) for s in re.findall(rb"HTTP/1\.1 (\d{3}) [A-Z]", answers)]
            assert set(found) - {100} <= KNOWN, data
            if i % 20 == 0:  # a connection beside them is served as ever
                steady.sendall(SEEDS[0])
                head, _, _ = steady.recv(65536).partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 OK"), data
    assert one.server.pids() == pids
    counted = one.client.get("/metrics").text
    values = dict(re.findall(r"^(homeostat_requests_\w+) (\d+)$", counted, re.M))
    ends = ("answered", "shed", "failed")
    ended = sum(int(values[f"homeostat_requests_{end}_total"]) for end in ends)
    assert int(values["homeostat_requests_total"]) == ended + 1  # this one is under way


def test_smuggled_requests_are_not_answered(one: Any) -> None:
    hidden = b"GET /v1/models/hidden HTTP/1.1\r\nHost: h\r\n\r\n"
    for first in (
        HEAD + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(hidden),
        HEAD + b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Content-Length : 0\r\n\r\n",
    ):
        answers = exchange(one.server.port, first + hidden)
        assert len(re.findall(rb"HTTP/1\.1 \d{3}", answers)) == 1
        assert b"hidden" not in answers


def test_pipelined_requests_are_answered_in_order(one: Any) -> None:
    many = [SEEDS[0].replace(b'"id":"x"', b'"id":"%d"' % (i % 10), 1) for i in range(200)]
    answers = exchange(one.server.port, b"".join(many))
    assert re.findall(rb'"id":"(\d)"', answers) == [b"%d" % (i % 10) for i in range(200)]


def test_a_client_that_never_reads_does_not_fill_the_memory(one: Any) -> None:
    """Reading from it stops once its answers are not taken."""
    much = SEEDS[4].replace(b"Connection: close\r\n", b"") * 10_000
    with socket.create_connection(("127.0.0.1", one.server.port), timeout=60) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        sent = refused = 0
        while refused < 20:  # each time the server has had more than one turn to read
            try:
                sent, refused = sent + raw.send(much[sent % len(much) :]), 0
            except BlockingIOError:
                refused += 1
            assert one.predict([1, 2]).status_code == 200
            assert sent < 200_000_000
