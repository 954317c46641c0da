"""Workers that are told to end, with clients of both protocols in the middle of something."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np
import pytest
import uvloop

from homeostat.core.route import Route, Servable
from homeostat.serving import oip
from homeostat.serving.counters import total
from homeostat.serving.listener import emptied, listen

from .conftest import Load, Plane, metric, two_outputs, wait_for

pytestmark = pytest.mark.slow


def worker(plane: Plane, slot: int = 0) -> Any:
    """The process of a worker."""
    assert plane.server is not None
    return plane.server._children[slot].process


def refuses(plane: Plane) -> bool:
    """Nobody listens any more: the drain has begun."""
    assert plane.server is not None
    try:
        socket.create_connection(("127.0.0.1", plane.server.port), timeout=60).close()
    except ConnectionRefusedError:
        return True
    return False


def under_way(plane: Plane) -> int:
    sums = total(plane.layout.metrics).globals
    return sums["requests"] - sums["answered"] - sums["shed"] - sums["failed"]


class Calls:
    """gRPC clients that call without pause, each on a connection of its own."""

    def __init__(self, port: int, clients: int) -> None:
        self.port, self.stop = port, threading.Event()
        self.acknowledged: list[str] = []
        self.pool = ThreadPoolExecutor(clients)
        self.threads = [self.pool.submit(self._ask, k) for k in range(clients)]

    def __enter__(self) -> Calls:
        wait_for(lambda: len(self.acknowledged) > 50, "the calls")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.result()  # raises what a call raised

    def _ask(self, k: int) -> None:
        import grpc

        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"127.0.0.1:{self.port}", options) as channel:
            call = channel.unary_unary(f"/{oip.SERVICE}/ModelInfer")
            n = 0
            while not self.stop.is_set():
                n += 1
                message = oip.message("ModelInferRequest")(model_name="m", id=f"grpc-{k}-{n}")
                message.inputs.add(name="input", datatype="FP32", shape=(1, 2))
                message.raw_input_contents.append(np.float32([1, 2]).tobytes())
                said = call(message.SerializeToString(), timeout=60)
                self.acknowledged.append(oip.message("ModelInferResponse").FromString(said).id)


def test_a_worker_that_is_replaced_fails_no_request_of_either_protocol(served: Plane) -> None:
    served.publish(served.model("1"))
    served.start(workers=2, grpc=True)
    assert served.server is not None
    assert served.server.grpc_port is not None
    with Load(served, 2) as load, Calls(served.server.grpc_port, 2) as calls:
        leaving = worker(served)
        os.kill(leaving.pid, signal.SIGTERM)
        wait_for(lambda: leaving.pid not in served.server.pids().values(), "the end")  # type: ignore[union-attr]
        wait_for(lambda: served.observed_workers() == 2, "the next worker")
    assert leaving.returncode == 0
    assert (load.broken, load.failed) == (0, [])
    assert sorted(served.logged()["id"]) == sorted(load.acknowledged + calls.acknowledged)
    sums = total(served.layout.metrics).globals
    assert sums["requests"] == sums["answered"]


def test_draining_answers_what_is_in_flight_and_ends_with_0(served: Plane) -> None:
    served.publish(served.model("1"))
    served.start()
    assert served.server is not None
    process = worker(served)
    body = json.dumps({"instances": [[1, 2]]}).encode()
    with socket.create_connection(("127.0.0.1", served.server.port), timeout=60) as raw:
        raw.sendall(
            b"POST /v1/models/m:predict HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n"
            % len(body)
        )
        wait_for(lambda: metric(served.client.get("/metrics").text, "homeostat_requests_total"), "")
        served.client.close()
        stopping = threading.Thread(target=served.server.stop)
        stopping.start()
        wait_for(lambda: refuses(served), "the drain")
        raw.sendall(body)
        text = b"".join(iter(lambda: raw.recv(65536), b""))
        stopping.join()
    assert text.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" in text
    assert process.returncode == 0
    assert served.plane.observed("m").workers == 0
    assert served.logged().height == 1


def test_what_waits_to_be_accepted_is_accepted_before_the_listener_closes() -> None:
    class Greeter(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            cast(asyncio.Transport, transport).write(b"hello")

    async def scenario() -> list[bytes]:
        loop, listener = asyncio.get_running_loop(), listen("127.0.0.1", 0)
        server = await loop.create_server(Greeter, sock=listener, backlog=1024)
        with ExitStack() as stack:
            # the kernel makes them; the event loop has had no turn to take them
            waiting = [
                stack.enter_context(socket.create_connection(listener.getsockname(), timeout=60))
                for _ in range(50)
            ]
            await emptied(listener)
            server.close()
            return await asyncio.to_thread(lambda: [client.recv(5) for client in waiting])

    assert uvloop.run(scenario()) == [b"hello"] * 50


def ask_for_much(plane: Plane, raw: socket.socket) -> None:
    """A request whose answer is more than the kernel keeps for a client that does not read; it
    has been given to the kernel as far as that takes it."""
    rows = [{"amount": 1, "country": letter * 900_000} for letter in "abcdefghijklmnopqrst"]
    body = json.dumps({"instances": rows}).encode()
    head = b"POST /v1/models/m:predict HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n"
    raw.sendall(head % len(body) + body)
    wait_for(lambda: total(plane.layout.metrics).globals["answered"] == 1, "the answer")


def taken(raw: socket.socket) -> tuple[int, int]:
    """Everything that comes until the server closes. -> bytes of the body, and as announced."""
    received = b"".join(iter(lambda: raw.recv(1 << 20), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    announced = re.search(rb"content-length: (\d+)", head)
    assert announced is not None
    return len(body), int(announced[1])


@pytest.mark.parametrize("reads", [True, False])
def test_a_client_has_the_time_of_the_drain_to_take_its_answer(served: Plane, reads: bool) -> None:
    served.plane.publish(Route("m", 1, two_outputs(served.home / "models" / "1")))
    served.start(max_body=40_000_000)
    assert served.server is not None
    process = worker(served)
    served.client.close()
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.settimeout(60)
        raw.connect(("127.0.0.1", served.server.port))
        ask_for_much(served, raw)
        stopping = threading.Thread(target=served.server.stop)
        stopping.start()
        wait_for(lambda: refuses(served), "the drain")
        if not reads:  # not before the worker has ended
            stopping.join()
        found, announced = taken(raw)
        stopping.join()
    assert (found == announced) is reads  # what is cut short can be told from what is whole
    assert process.returncode == 0
    sums = total(served.layout.metrics).globals
    assert (sums["requests"], sums["answered"]) == (1, 1)


def slow_to_load(plane: Plane) -> tuple[Servable, Callable[[], None]]:
    """A version whose file is a pipe, and what lets it be loaded."""
    model = plane.model("slow")
    file = Path(model.path) / "model.onnx"
    kept = file.rename(file.with_suffix(".kept"))
    os.mkfifo(file)

    def go_on() -> None:
        with file.open("wb") as pipe:  # it has been opened to be read, too
            content = kept.read_bytes()
            kept.replace(file)
            pipe.write(content)

    return model, go_on


def test_who_waits_for_a_model_while_the_server_drains_is_answered(served: Plane) -> None:
    model, go_on = slow_to_load(served)
    served.start()
    process = worker(served)
    served.plane.publish(Route("m", 1, model))
    wait_for(lambda: served.client.get("/v1/models").json()["models"], "the route")
    with ThreadPoolExecutor(2) as pool:
        asked = pool.submit(httpx.post, f"{served.url}/v2/repository/models/m/load", timeout=60)
        wait_for(lambda: under_way(served) == 1, "the request")
        assert served.server is not None
        stopped = pool.submit(served.server.stop)
        wait_for(lambda: refuses(served), "the drain")
        go_on()
        answer = asked.result()
        stopped.result()
    assert (answer.status_code, answer.json()) == (200, {"name": "m", "load": True})
    assert process.returncode == 0


def test_a_model_that_nobody_waits_for_does_not_hold_up_the_end(served: Plane) -> None:
    model, _ = slow_to_load(served)
    served.start()
    process = worker(served)
    served.plane.publish(Route("m", 1, model))
    wait_for(lambda: served.client.get("/v1/models").json()["models"], "the route")
    served.stop()
    assert process.returncode == 0  # it was not killed
