"""The load generator: what it sends, what it counts, and what it never hides."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from benchmarks.serving import load, payloads, wire
from tritonclient.grpc import service_pb2

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
REQUEST = b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n"


@pytest.fixture
def answering() -> Iterator[Callable[[Callable[[int], bytes | None]], int]]:
    """Start a server that answers request k with what a function gives (None: hang up)."""
    listeners = []

    def start(answer: Callable[[int], bytes | None]) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threading.Thread(target=_serve, args=(listener, answer), daemon=True).start()
        return int(listener.getsockname()[1])

    yield start
    for listener in listeners:
        listener.close()


def _serve(listener: socket.socket, answer: Callable[[int], bytes | None]) -> None:
    """One connection after the other: enough for a generator with a single one."""
    k = 0
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        with client:
            while client.recv(4096):
                k += 1
                said = answer(k)
                if said is None:
                    break
                client.sendall(said)


def http(_: int) -> wire.Http1:
    return wire.Http1([REQUEST])


def test_an_open_loop_counts_the_requests_that_a_stall_kept_waiting(answering) -> None:
    def stalls_once(k: int) -> bytes:
        if k == 50:
            time.sleep(0.2)
        return ANSWER

    sample = load.opened(answering(stalls_once), http, rate=500, seconds=0.6, pool_size=1)
    assert sample.failed == 0
    assert sample.answered == 300
    # 100 of 300 requests were due during the stall: they waited 0 to 200 ms, not only one did
    assert sample.worst >= 190
    assert sample.p99 >= 150


def test_a_closed_loop_asks_again_as_soon_as_it_is_answered(answering) -> None:
    sample = load.closed(answering(lambda k: ANSWER), http, connections=1, seconds=0.2)
    assert sample.failed == 0
    assert sample.answered > 100
    assert sample.rate == pytest.approx(sample.answered / 0.2, rel=0.2)


def test_an_answer_that_is_no_success_is_a_failure(answering) -> None:
    refusal = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
    port = answering(lambda k: ANSWER if k % 2 else refusal)
    sample = load.opened(port, http, rate=200, seconds=0.1, pool_size=1)
    assert (sample.answered, sample.failed) == (10, 10)


def test_a_connection_that_breaks_is_a_failure_and_is_replaced(answering) -> None:
    port = answering(lambda k: None if k == 3 else ANSWER)
    sample = load.opened(port, http, rate=100, seconds=0.1, pool_size=1)
    assert (sample.answered, sample.failed) == (9, 1)


def test_what_is_never_answered_fails_and_weighs_on_the_percentiles(
    answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "PATIENCE", 0.2)
    port = answering(lambda k: b"" if k > 5 else ANSWER)
    sample = load.opened(port, http, rate=100, seconds=0.1, pool_size=1)
    assert (sample.answered, sample.failed) == (5, 5)
    assert sample.p99 >= 200


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_answer_is_whole_when_its_last_byte_has_come(size: int) -> None:
    spoken = wire.Http1([REQUEST])
    parts = [ANSWER[i : i + size] for i in range(0, len(ANSWER), size)]
    outcomes = [spoken.feed(part) for part in parts]
    assert outcomes == [wire.PENDING] * (len(parts) - 1) + [wire.ANSWERED]
    assert spoken.feed(ANSWER.replace(b"200", b"500")) == wire.FAILED


def test_a_chunked_answer_ends_with_the_empty_chunk() -> None:
    spoken = wire.Http1([REQUEST])
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    assert spoken.feed(head + b"2\r\nok\r\n") == wire.PENDING
    assert spoken.feed(b"0\r\n\r\n") == wire.ANSWERED


def test_a_grpc_answer_is_a_message_and_trailers_and_an_error_only_trailers() -> None:
    spoken = wire.Grpc("/service/method", [b"message"])
    assert spoken.opening().startswith(b"PRI * HTTP/2.0")
    assert b"message" in spoken.request()
    trailers = wire.frame(wire.HEADERS, 0x5, 1, b"\x88")
    data = wire.frame(wire.DATA, 0, 1, b"\x00\x00\x00\x00\x00")
    assert spoken.feed(data + trailers[:4]) == wire.PENDING
    assert spoken.feed(trailers[4:]) == wire.ANSWERED
    spoken.request()
    assert spoken.feed(trailers) == wire.FAILED
    assert spoken.feed(wire.frame(wire.PING, 0, 0, b"12345678")) == wire.PENDING
    assert spoken.reply == wire.frame(wire.PING, 1, 0, b"12345678")


def test_a_grpc_request_waits_for_room_in_the_servers_window() -> None:
    spoken = wire.Grpc("/service/method", [b"x" * 16_000])
    sent = [spoken.request() for _ in range(5)]
    assert [bool(data) for data in sent] == [True] * 4 + [False]  # 65,535 bytes at first
    assert spoken.feed(wire.frame(wire.WINDOW_UPDATE, 0, 0, struct.pack(">I", 65_535))) == 0
    assert len(spoken.reply) > 16_000


def test_grpc_messages_are_those_of_the_protocol() -> None:
    x = payloads.batches(3)[0]
    request = service_pb2.ModelInferRequest.FromString(payloads.grpc_message("mlp", x))
    assert (request.model_name, request.inputs[0].datatype) == ("mlp", "FP32")
    assert list(request.inputs[0].shape) == [3, 30]
    assert np.array_equal(np.frombuffer(request.raw_input_contents[0], "<f4"), x.ravel())


@pytest.mark.parametrize("raw", [True, False])
def test_scores_are_read_from_grpc_answers_raw_or_typed(raw: bool) -> None:
    answer = service_pb2.ModelInferResponse(model_name="mlp")
    output = answer.outputs.add(name="score", datatype="FP32", shape=[2, 2])
    if raw:
        answer.raw_output_contents.append(struct.pack("<4f", 0.75, 0.25, 0.5, 0.5))
    else:
        output.contents.fp32_contents.extend([0.75, 0.25, 0.5, 0.5])
    assert payloads.read_grpc(answer.SerializeToString()) == [0.25, 0.5]
