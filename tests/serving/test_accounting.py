"""requests = answered + shed + failed, whatever happens to the workers."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from typing import Any

import httpx
import pytest

from homeostat.serving.counters import Counters, total
from homeostat.serving.spec import Limit

from .conftest import Plane, wait_for

pytestmark = pytest.mark.slow

DONE = ("answered", "shed", "failed")


def counted(plane: Plane) -> dict[str, int]:
    return total(plane.layout.metrics).globals


def rows(n: int) -> dict[str, Any]:
    return {"instances": [[1.0, 0.5]] * n}


def kill(plane: Plane, name: str) -> None:
    """kill -9, and wait until another process has taken the place."""
    assert plane.server is not None
    pid, workers = plane.server.pids()[name], len(plane.server.pids())
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: pid not in plane.server.pids().values(), "the end of a worker")
    wait_for(lambda: plane.observed_workers() == workers, "the next worker")


class Mixed:
    """Clients that ask for all kinds of things without pause, and count what they were told."""

    ASK: tuple[tuple[str, dict[str, Any]], ...] = (
        ("/v1/models/m:predict", {"json": rows(1)}),
        ("/v1/models/m:predict", {"json": rows(3)}),
        ("/v1/models/m:predict", {"json": rows(2000)}),
        ("/v1/models/m:predict", {"json": {"instances": [[1.0]]}}),  # 400
        ("/v1/models/nobody:predict", {"json": rows(1)}),  # 404
        ("/v1/models/m:predict", {"content": b"{"}),  # 400
        ("/v1/models/m:predict", {"json": rows(1), "headers": {"x-homeostat-deadline-ms": "0"}}),
    )

    def __init__(self, plane: Plane, clients: int = 4) -> None:
        self.url, self.stop = plane.url, threading.Event()
        self.told: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._ask, args=(k,)) for k in range(clients)]

    def __enter__(self) -> Mixed:
        for thread in self.threads:
            thread.start()
        self.wait(40)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def wait(self, more: int) -> None:
        until = sum(self.told.values()) + more
        wait_for(lambda: sum(self.told.values()) >= until, f"{more} more answers")

    def _ask(self, k: int) -> None:
        client = httpx.Client(base_url=self.url, timeout=60)
        while not self.stop.is_set():
            k += 1
            path, how = self.ASK[k % len(self.ASK)]
            try:
                told = _kind(client.post(path, **how).status_code)
            except httpx.TransportError:
                told = "broken"
                client.close()
                client = httpx.Client(base_url=self.url, timeout=60)
            with self.lock:
                self.told[told] += 1
        client.close()


def _kind(status: int) -> str:
    return "answered" if status < 400 else "shed" if status in (429, 503, 504) else "failed"


def test_every_request_ends_once_under_load_kills_and_reloads(served: Plane) -> None:
    versions = [served.model(str(i)) for i in range(1, 4)]
    served.publish(versions[0])
    served.start(workers=2)
    with Mixed(served) as load:
        for i in range(4):
            served.publish(versions[i % 3], canary=versions[(i + 1) % 3], percent=30, paired=0.5)
            kill(served, f"worker {i % 2}")
            load.wait(40)
    sums = counted(served)
    assert sums["requests"] == sum(sums[name] for name in DONE)
    assert sums["lost"] <= load.told["broken"]
    unheard = {name: sums[name] - load.told[name] for name in DONE}
    assert min(unheard.values()) >= 0
    assert sum(unheard.values()) <= load.told["broken"]
    assert min(load.told[name] for name in DONE) > 0


def test_without_a_kill_server_and_clients_count_the_same(served: Plane) -> None:
    served.publish(served.model("1"))
    served.start(workers=2, limit=Limit(per_second=400))
    with Mixed(served) as load:
        load.wait(200)
    assert load.told["broken"] == 0
    sums = counted(served)
    assert {name: sums[name] for name in DONE} == {name: load.told[name] for name in DONE}
    assert sums["requests"] == sum(load.told.values())
    assert sums["expired"] > 0


def test_what_a_killed_worker_had_under_way_is_counted_as_lost(served: Plane) -> None:
    served.publish(served.model("1", hidden=(2048, 2048), weights=[0.01] * 2048))
    served.start()
    asking = threading.Thread(target=_ask_and_hear_nothing, args=(served.url,))
    asking.start()
    wait_for(lambda: counted(served)["requests"] == 1, "the request")
    kill(served, "worker 0")
    asking.join()
    sums = counted(served)
    assert (sums["requests"], sums["failed"], sums["lost"]) == (1, 1, 1)
    assert served.client.get("/metrics").text.count("homeostat_requests_lost_total 1") == 1


def _ask_and_hear_nothing(url: str) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.post(f"{url}/v1/models/m:predict", json=rows(10_000), timeout=60)


def test_a_request_whose_deadline_has_passed_is_not_computed(served: Plane) -> None:
    served.publish(served.model("1"))
    served.start()
    late = {"x-homeostat-deadline-ms": "0"}
    answer = served.client.post("/v1/models/m:predict", json=rows(1), headers=late)
    assert answer.status_code == 504
    assert "deadline" in answer.json()["error"]
    large = served.client.post("/v1/models/m:predict", json=rows(3000), headers=late)
    assert large.status_code == 504
    in_time = {"x-homeostat-deadline-ms": "5000"}
    assert served.client.post("/v1/models/m:predict", json=rows(1), headers=in_time).is_success
    nonsense = {"x-homeostat-deadline-ms": "soon"}
    answer = served.client.post("/v1/models/m:predict", json=rows(1), headers=nonsense)
    assert answer.status_code == 400
    assert counted(served)["expired"] == 2
    assert 'model_predictions_total{model="m",version="1",arm="champion"} 1' in (
        served.client.get("/metrics").text
    )


def test_a_failure_of_the_servers_own_is_answered_and_counted(served: Plane) -> None:
    served.publish(served.model("1"))
    served.start()
    unreadable = served.layout.metrics / "folder"
    unreadable.mkdir()
    answer = served.client.get("/metrics")
    assert (answer.status_code, answer.json()) == (
        500,
        {"error": "the server failed, and has logged why"},
    )
    unreadable.rmdir()
    sums = counted(served)
    assert (sums["requests"], sums["failed"]) == (1, 1)


def test_a_call_that_its_caller_took_back_has_ended_too(served: Plane) -> None:
    import grpc

    from homeostat.serving import oip

    served.publish(served.model("1"))
    served.start(grpc=True)
    assert served.server is not None
    with grpc.insecure_channel(f"127.0.0.1:{served.server.grpc_port}") as channel:

        def change(verb: str, timeout: float) -> None:
            request = oip.message(f"RepositoryModel{verb}Request")(model_name="m")
            call = channel.unary_unary(f"/{oip.SERVICE}/RepositoryModel{verb}")
            call(request.SerializeToString(), timeout=timeout)

        for _ in range(3):
            change("Unload", 60)
            with pytest.raises(grpc.RpcError):
                change("Load", 0.008)  # it takes a look of the worker at its files
            change("Load", 60)

    def ended() -> bool:
        sums = counted(served)
        return sums["requests"] == sum(sums[name] for name in DONE)

    wait_for(ended, "the end of every call")


def test_over_its_rate_a_client_is_told_to_come_again(served: Plane) -> None:
    served.publish(served.model("1"))
    served.start(limit=Limit(per_client=5))
    answers = [served.predict([1, 2]) for _ in range(20)]
    refused = [a for a in answers if a.status_code == 429]
    assert refused
    assert answers[0].status_code == 200
    assert refused[0].headers["retry-after"] == "1"
    assert "5 requests a second" in refused[0].json()["error"]
    assert served.client.get("/v2/health/ready").is_success  # what costs nothing has no limit


def test_bodies_that_fill_a_worker_are_shed_over_both_protocols_and_counted(served: Plane) -> None:
    import grpc

    from homeostat.serving import oip

    served.publish(served.model("1"))
    served.start(grpc=True, max_body=1_000_000, max_bodies=2_000_000)
    assert served.server is not None
    body = b'{"instances": [[1, 2]]}'.ljust(1_000_000)
    head = b"POST /v1/models/m:predict HTTP/1.1\r\nhost: h\r\ncontent-length: 1000000\r\n\r\n"
    with ExitStack() as stack:
        address = ("127.0.0.1", served.server.port)
        clients = [socket.create_connection(address, timeout=60) for _ in range(3)]
        for client in clients:
            stack.enter_context(client)
            client.sendall(head + body[:900_000])
        (refused,), _, _ = select.select(clients, [], [], 30)  # whichever came last
        text = b"".join(iter(lambda: refused.recv(65536), b""))
        assert text.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after" in text
        message = oip.message("ModelInferRequest")(model_name="m")
        message.raw_input_contents.append(bytes(300_000))
        with grpc.insecure_channel(f"127.0.0.1:{served.server.grpc_port}") as channel:
            call = channel.unary_unary(f"/{oip.SERVICE}/ModelInfer")
            with pytest.raises(grpc.RpcError, match="limited to 2000000 bytes") as caught:
                call(message.SerializeToString(), timeout=60)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        for client in clients:
            if client is not refused:
                client.sendall(body[900_000:])
                assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")
    assert served.predict([1, 2]).is_success
    sums = counted(served)
    assert {name: sums[name] for name in DONE} == {"answered": 3, "shed": 2, "failed": 0}
    assert sums["requests"] == 5


def test_a_drain_under_load_ends_every_request_it_took_in(served: Plane) -> None:
    served.publish(served.model("1"))
    served.start(workers=2)
    assert served.server is not None
    with Mixed(served) as load:
        load.wait(50)
        served.server.stop()
    sums = counted(served)
    assert sums["requests"] == sum(sums[name] for name in DONE)
    assert sums["lost"] == 0
    assert {name: sums[name] for name in DONE} == {name: load.told[name] for name in DONE}


def test_what_a_slot_without_a_worker_had_under_way_is_counted_as_lost(served: Plane) -> None:
    """There were more workers, or they were killed at the end."""
    served.publish(served.model("1"))
    former = Counters(served.layout.metrics / "7")
    former.began()
    former.began()
    former.ended(200)
    served.start()
    sums = counted(served)
    assert sums["requests"] == sum(sums[name] for name in DONE)
    assert (sums["answered"], sums["failed"], sums["lost"]) == (1, 1, 1)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_crashes_or_hangs_is_replaced_while_the_other_serves(
    served: Plane, how: signal.Signals
) -> None:
    """How long it takes is told by `make bench-soak`."""
    served.publish(served.model("1"))
    served.start(workers=2, patience=3.0)  # no busy machine holds the other up for so long
    assert served.server is not None
    pids = served.server.pids()
    os.kill(pids["worker 0"], how)
    answered = 0
    deadline = time.monotonic() + 60
    while served.server.pids().get("worker 0") in (None, pids["worker 0"]) or (
        served.observed_workers() < 2
    ):
        assert time.monotonic() < deadline
        # each on a connection of its own: one that the hanging worker has is lost with it
        with suppress(httpx.TransportError), httpx.Client(base_url=served.url, timeout=1) as it:
            answered += it.post("/v1/models/m:predict", json=rows(1)).is_success
    assert answered > 0
    assert served.server.pids()["worker 1"] == pids["worker 1"]
