"""What a single-row V2 JSON request costs the server, stage by stage, in microseconds.

    python benchmarks/serving_stages.py [--requests 32] [--rounds 2000]

In one process without sockets: the bytes of `--requests` requests, one per connection, are given
to the HTTP layer as one tick of the event loop brings them; then the loop turns once. Each stage is
also measured by itself. Log, counters and routing are on. Shown is the fastest tenth of the rounds,
per request, so that a busy machine hardly matters.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop

from homeostat.core.route import Route
from homeostat.serving.api import Api
from homeostat.serving.batch import score, stack
from homeostat.serving.codec import read_v2, write_v2
from homeostat.serving.counters import Counters
from homeostat.serving.engine import Engine
from homeostat.serving.http import Connection, Limits, Server
from homeostat.serving.intake import Intake
from homeostat.serving.jobs import Job
from homeostat.serving.layout import Layout
from homeostat.serving.log import SegmentLog
from homeostat.serving.records import answered
from homeostat.serving.routes import Routes, Served
from homeostat.serving.runtime import load
from homeostat.serving.segment import frame
from homeostat.serving.spec import ServingSpec
from homeostat.testing.models import tiny_servable

FEATURES = 30


class Wire(asyncio.Transport):
    """Takes the answers and throws them away."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.answers += 1

    def is_closing(self) -> bool:
        return False


def fastest(work: Callable[[], Any], rounds: int, per: int) -> float:
    """Microseconds of one of `per` things that `work` does: mean of the fastest tenth."""
    taken = []
    for _ in range(rounds):
        started = time.perf_counter_ns()
        work()
        taken.append(time.perf_counter_ns() - started)
    taken.sort()
    return statistics.mean(taken[: max(1, rounds // 10)]) / 1000 / per


async def measure(home: Path, n: int, rounds: int) -> list[tuple[str, float]]:
    names = [f"f{i}" for i in range(FEATURES)]
    servable = tiny_servable(
        home / "model", inputs=names, weights=[0.1] * 32, hidden=(128, 64, 32), name="m"
    )
    layout = Layout(home).make()
    layout.route("m").write_bytes(json_of(Route("m", 1, servable)))
    loop, spec = asyncio.get_running_loop(), ServingSpec()
    counters = Counters(layout.metrics / "0")
    log = SegmentLog(layout.live, layout.sealed, "0-bench", seal=60, dropped=lambda n: None)
    engine = Engine(loop, log, counters, now_us, spec)
    routes = Routes(layout, lambda: None)
    while not routes.models:
        routes.poll(time.monotonic())
        await asyncio.sleep(0.01)
    intake = Intake(spec, routes, engine)
    api = Api(intake, engine, log, counters, now_us, lambda: b"")
    server = Server(api.handle, api.refused, Limits(body=spec.max_body), counters.ended)
    tensor = {"name": "input", "shape": [1, FEATURES], "datatype": "FP32"}
    tensor["data"] = [round(0.1 * i - 1.5, 3) for i in range(FEATURES)]
    body = json.dumps({"inputs": [tensor]}).encode()
    request = (
        b"POST /v2/models/m/infer HTTP/1.1\r\nhost: localhost\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    )
    wires = [Wire() for _ in range(n)]
    connections = [Connection(server) for _ in range(n)]
    for connection, wire in zip(connections, wires, strict=True):
        connection.connection_made(wire)

    def receive() -> None:
        for connection in connections:
            connection.data_received(request)

    whole = []
    for _ in range(rounds):
        log.tick(time.monotonic())
        started = time.perf_counter_ns()
        receive()
        middle = time.perf_counter_ns()
        await asyncio.sleep(0)
        whole.append((time.perf_counter_ns() - started, middle - started))
    assert all(wire.answers == rounds for wire in wires)
    whole.sort()
    best = whole[: max(1, rounds // 10)]
    total = statistics.mean(t for t, _ in best) / 1000 / n
    arrival = statistics.mean(t for _, t in best) / 1000 / n

    server.handle = lambda exchange: exchange.send(200, b"{}")
    empty = fastest(receive, rounds, n)
    served = routes.models["m"]
    model = load(servable)
    jobs = [job(served, body, f"{k:032x}") for k in range(n)]
    x = stack([j.inputs for j in jobs], model.width)
    scores, _ = score(model, x)
    seconds = [0.001] * n
    (block,) = answered(jobs, x, scores, seconds, 0, 0.0)
    series = counters.series("m", "1", "champion")

    def per_job(work: Callable[[Job], Any]) -> Callable[[], None]:
        def all_jobs() -> None:
            for one in jobs:
                work(one)

        return all_jobs

    rows, _ = read_v2(body, 10)
    values = scores.tolist()

    def keep() -> None:
        log.tick(time.monotonic())
        log.block(block)

    stages: list[tuple[str, float]] = [
        ("HTTP: read, parse, write of an empty answer", empty),
        ("decode the body", fastest(per_job(lambda j: read_v2(body, 10)), rounds, n)),
        ("route (one hash)", fastest(per_job(lambda j: served.assign(j.id)), rounds, n)),
        (
            "make the job",
            fastest(
                per_job(lambda j: Job(j.reply, served, j.model, j.chosen, rows, j.id, 0.0)),
                rounds,
                n,
            ),
        ),
        ("matrix of the batch", fastest(lambda: stack([j.inputs for j in jobs], 30), rounds, n)),
        ("run the model", fastest(lambda: score(model, x), rounds, n)),
        (
            "log: make the block",
            fastest(lambda: list(answered(jobs, x, scores, seconds, 0, 0.0)), rounds, n),
        ),
        ("log: encode and checksum", fastest(lambda: frame(block), rounds, n)),
        ("log: all of it but the block", fastest(keep, rounds, n)),
        ("counters", fastest(lambda: series.answered_all([1] * n, seconds), rounds, n)),
        (
            "encode the answer",
            fastest(per_job(lambda j: write_v2(served.prefixes["1"], j.id, values[:1])), rounds, n),
        ),
        ("all of arrival: HTTP to queue", arrival),
        ("all of it", total),
    ]
    log.close()
    engine.close()
    routes.close()
    return stages


def job(served: Served, body: bytes, id: str) -> Job:
    found = served.assign(id)
    assert found is not None
    return Job(None, served, *found, read_v2(body, 10)[0], id, 0.0)  # type: ignore[arg-type]


def now_us() -> int:
    return time.time_ns() // 1000


def json_of(route: Route) -> bytes:
    import msgspec

    return msgspec.json.encode(route)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stages = uvloop.run(measure(Path(folder), given.requests, given.rounds))
    print(f"{given.requests} single-row requests of {FEATURES} features in one tick; MLP 128-64-32")
    for name, cost in stages:
        print(f"{name:46} {cost:7.2f} us")


if __name__ == "__main__":
    main()
