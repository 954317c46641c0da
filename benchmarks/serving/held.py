"""How long one request of 10,000 rows holds the event loop, and so everybody else.

    python -m benchmarks.serving.held [--repeats 15]

In this process, without sockets, from the body to the answer: the longest time that the loop did
not go round, as V2 with one flat list, V2 with a list of rows, and V1.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from pathlib import Path
from time import monotonic, perf_counter

import msgspec
import uvloop
from benchmarks.serving import models

from homeostat.backends.local.plane import LocalDataPlane
from homeostat.core.route import Route
from homeostat.serving.counters import Counters
from homeostat.serving.engine import Engine
from homeostat.serving.exchange import Exchange, Front
from homeostat.serving.intake import Intake
from homeostat.serving.layout import Layout
from homeostat.serving.log import SegmentLog
from homeostat.serving.requests import V1, V2
from homeostat.serving.routes import Routes
from homeostat.serving.spec import ServingSpec
from homeostat.testing.models import tiny_servable

ROWS = 10_000
Kind = type[V1] | type[V2]


def bodies() -> dict[str, tuple[Kind, bytes]]:
    x = models.rows(ROWS, seed=1).astype(float)
    tensor = {"name": "input", "shape": x.shape, "datatype": "FP32"}
    encode = msgspec.json.encode
    return {
        "V2, flat": (V2, encode({"inputs": [{**tensor, "data": x.ravel().tolist()}]})),
        "V2, rows": (V2, encode({"inputs": [{**tensor, "data": x.tolist()}]})),
        "V1, rows": (V1, encode({"instances": x.tolist()})),
    }


async def measure(home: Path, repeats: int) -> None:
    loop, layout, spec, asked = (
        asyncio.get_running_loop(),
        Layout(home).make(),
        ServingSpec(),
        bodies(),
    )
    names = tuple(f"f{k}" for k in range(models.rows(1, seed=1).shape[1]))
    servable = tiny_servable(
        home / "1", version="1", inputs=names, weights=(0.1,) * len(names), name="m"
    )
    LocalDataPlane(home).publish(Route("m", 1, servable))
    log = SegmentLog(layout.live, layout.sealed, "0-w", seal=60.0, dropped=lambda n: None)
    counters, routes = Counters(layout.metrics / "0"), Routes(layout, lambda: None)
    engine = Engine(loop, log, counters, lambda: 0, spec)
    intake, front = Intake(spec, routes, engine), Front(counters.ended)
    while not (log.settled and routes.models):
        routes.poll(loop.time())
        await asyncio.sleep(0.01)
    for name, (kind, body) in asked.items():
        held, took = [], []
        for _ in range(repeats):
            exchange = Exchange(front, lambda: None)
            exchange.body, exchange.held = body, len(body)
            front.bodies.take(exchange.held)
            exchange.started = perf_counter()
            last, longest = exchange.started, 0.0
            intake.infer(kind(spec.max_rows), [exchange], "m", None)
            while exchange.answer is None:
                await asyncio.sleep(0)
                last, before = perf_counter(), last
                longest = max(longest, last - before)
            held.append(1000 * longest)
            took.append(1000 * (last - exchange.started))
            log.tick(monotonic())
            await asyncio.sleep(0.02)
        print(
            f"{name}: held for {min(held):.1f} ms (median {statistics.median(held):.1f}), "
            f"answered after {min(took):.1f} (median {statistics.median(took):.1f})"
        )
    engine.close()
    routes.close()
    log.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.held")
    parser.add_argument("--repeats", type=int, default=15)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="homeostat-held-") as scratch:
        uvloop.run(measure(Path(scratch), given.repeats))
    return 0


if __name__ == "__main__":
    sys.exit(main())
