"""Where the microseconds of a request go, in a worker under load.

    python -m benchmarks.serving.stages [--model mlp] [--kind json] [--rows 1] [--lines 20] [--docs]

A worker with log, metrics and a sticky canary is asked by 32 connections without a pause and
sampled; the processor time it took per request is shared out by module and by function. The last
column is the standard error of each, in microseconds: it shrinks with --seconds.

--inside leaves out sockets and the client: each tick of the event loop of this process brings a
request on every connection. The time is that of the fastest tenth of the ticks, so it can be
compared between two states of the code even on a busy machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import uvloop
from benchmarks.serving import catalogue, load, measure, models, ours, report
from benchmarks.serving.payloads import NAMED, Payload
from benchmarks.serving.plan import HEADLINE
from benchmarks.serving.process import ROOT, pin
from benchmarks.serving.sampler import Sampler
from rich.console import Console
from rich.table import Table

import homeostat
from homeostat.core.clock import ScaledClock
from homeostat.serving.http import Connection
from homeostat.serving.layout import Layout
from homeostat.serving.spec import ServingSpec
from homeostat.serving.worker import Worker

SECTION = "bench-stages"
KINDS = ("json", "binary", "grpc", *NAMED)
STAGES = {
    "serving/http": "HTTP: parse, order, write",
    "serving/exchange": "HTTP: parse, order, write",
    "serving/worker": "timers: routes, status",
    "serving/api": "find the endpoint, refuse what is wrong",
    "serving/intake": "find the endpoint, refuse what is wrong",
    "serving/admission": "find the endpoint, refuse what is wrong",
    "serving/lanes": "batch: gather, concatenate, hand out",
    "serving/jobs": "batch: gather, concatenate, hand out",
    "serving/pace": "batch: gather, concatenate, hand out",
    "serving/http2": "HTTP/2: frames, streams, write",
    "serving/frames": "HTTP/2: frames, streams, write",
    "serving/heads": "HTTP/2: frames, streams, write",
    "serving/streams": "HTTP/2: frames, streams, write",
    "serving/grpc_front": "gRPC: calls and messages",
    "serving/grpc_call": "gRPC: calls and messages",
    "serving/grpc_codec": "gRPC: calls and messages",
    "serving/codec": "read and write JSON and tensors",
    "serving/requests": "read and write JSON and tensors",
    "serving/rows": "read and write JSON and tensors",
    "serving/tensors": "read and write JSON and tensors",
    "serving/routes": "assign a version",
    "core/route": "assign a version",
    "serving/engine": "batch: gather, concatenate, hand out",
    "serving/batch": "batch: gather, concatenate, hand out",
    "serving/runtimes/onnx": "ONNX Runtime",
    "serving/records": "log: encode",
    "serving/scoring": "batch: gather, concatenate, hand out",
    "serving/segment": "log: encode",
    "serving/log": "log: append",
    "serving/counters": "count",
    "event loop": "uvloop: read, poll",
}


class Profile(NamedTuple):
    """us: processor time of the worker per request. places: (module, function, line) -> share
    of the samples."""

    rate: float
    us: float
    places: dict[tuple[str, str, int], float]
    samples: int

    def by_stage(self) -> dict[str, float]:
        """Microseconds per request, most first; a module without a stage stands for itself."""
        sums: Counter[str] = Counter()
        for (module, _, _), share in self.places.items():
            sums[STAGES.get(module, module)] += share * self.us
        return dict(sums.most_common())

    def by_function(self) -> dict[str, float]:
        sums: Counter[str] = Counter()
        for (module, function, _), share in self.places.items():
            sums[f"{module}: {function}"] += share * self.us
        return dict(sums.most_common())

    def by_line(self) -> dict[str, float]:
        sums: Counter[str] = Counter()
        for (module, function, line), share in self.places.items():
            sums[f"{module}.py:{line} {function}"] += share * self.us
        return dict(sums.most_common())


def profile(model: str, payload: Payload, connections: int, seconds: float) -> Profile:
    """Start a worker, ask it, and see where it was. Raises NotStarted, RuntimeError."""
    with tempfile.TemporaryDirectory(prefix="homeostat-stages-") as scratch:
        folder = Path(scratch)
        made = models.make(folder / "models")[model]
        entry = catalogue.OURS._replace(launch=catalogue.ours_as(ours.SAMPLED))
        one = measure.start(entry, made, folder / "run", sys.executable, 1)
        try:
            if why := measure.check(one, payload):
                raise RuntimeError(why)
            wires = entry.wires(payload, model)
            if isinstance(wires, str):
                raise RuntimeError(wires)
            port = one.grpc_port if payload.kind == "grpc" else one.server.port
            load.closed(port, wires, connections, measure.WARM)
            worker = one.server.pids()[0]
            before = one.server.cpu()
            os.kill(worker, signal.SIGUSR2)
            sample = load.closed(port, wires, connections, seconds)
            os.kill(worker, signal.SIGUSR2)
            spent = one.server.cpu() - before
        finally:
            one.server.stop()
        samples = folder / "run" / "home" / ours.SAMPLES
        return _shared(samples, sample.rate, spent / sample.answered * 1e6)


def profile_inside(model: str, payload: Payload, connections: int, seconds: float) -> Profile:
    """The same without sockets. Raises RuntimeError."""
    with tempfile.TemporaryDirectory(prefix="homeostat-stages-") as scratch:
        folder = Path(scratch)
        ours.prepare(folder / "home", models.make(folder / "models")[model], ours.AS_IS)
        wires = catalogue.OURS.wires(payload, model)
        if isinstance(wires, str):
            raise RuntimeError(wires)
        sampler = Sampler(Path(homeostat.__file__).parent, frozenset())
        sampler.install()
        grpc = payload.kind == "grpc"
        us = uvloop.run(_ticks(folder / "home", wires, connections, seconds, grpc=grpc))
        sampler.write(folder / "samples")
        return _shared(folder / "samples", 1e6 / us, us)


async def _ticks(
    home: Path, wires: load.MakeWire, connections: int, seconds: float, *, grpc: bool
) -> float:
    """-> microseconds of a request in the fastest tenth of the ticks."""
    clock = ScaledClock.parse(None, time.time_ns)
    worker = Worker(Layout(home).make(), ServingSpec(), 0, clock)
    await worker._first_routes()
    made = worker.calls() if grpc else lambda: Connection(worker._server)
    sinks = [_Sink(b"grpc-status" if grpc else b"") for _ in range(connections)]
    asked: list[Any] = [made() for _ in sinks]
    for connection, sink in zip(asked, sinks, strict=True):
        connection.connection_made(sink)
    sources = [wires(7 * k) for k in range(connections)]
    for connection, source in zip(asked, sources, strict=True):
        if opening := source.opening():
            connection.data_received(opening)
    taken, end = [], time.monotonic() + seconds
    os.kill(os.getpid(), signal.SIGUSR2)
    while time.monotonic() < end:
        for source, sink in zip(sources, sinks, strict=True):
            if sink.other:  # such as that there is room for more
                source.feed(sink.other)
                sink.other = b""
        requests = [source.request() for source in sources]
        started = time.perf_counter_ns()
        for connection, request in zip(asked, requests, strict=True):
            connection.data_received(request)
        await asyncio.sleep(0)
        while worker._engine.in_flight:
            await asyncio.sleep(0)
        taken.append((time.perf_counter_ns() - started) / connections / 1000)
        worker._log.tick(time.monotonic())
    os.kill(os.getpid(), signal.SIGUSR2)
    answers = sum(sink.answers for sink in sinks)
    if answers != len(taken) * connections:
        raise RuntimeError(f"{answers} of {len(taken) * connections} requests were answered")
    for part in (worker._routes, worker._engine, worker._log):
        part.close()
    return statistics.mean(sorted(taken)[: max(1, len(taken) // 10)])


class _Sink(asyncio.Transport):
    """Counts the answers, which have `mark` in them, and keeps what else is said."""

    def __init__(self, mark: bytes) -> None:
        super().__init__()
        self.mark, self.answers, self.other = mark, 0, b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.mark in bytes(data):
            self.answers += 1
        else:
            self.other += bytes(data)


def _shared(samples: Path, rate: float, us: float) -> Profile:
    taken = json.loads(samples.read_text())
    total = sum(n for *_, n in taken)
    places = {(module, function, line): n / total for module, function, line, n in taken}
    return Profile(rate, us, places, total)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.stages")
    parser.add_argument("--model", choices=(models.MLP, models.GBM), default=models.MLP)
    parser.add_argument("--kind", choices=KINDS, default="json")
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--connections", type=int, default=HEADLINE)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--functions", type=int, default=25, help="how many to show")
    parser.add_argument("--lines", type=int, default=0, help="how many to show")
    parser.add_argument("--inside", action="store_true", help="in this process, without sockets")
    parser.add_argument("--docs", action="store_true", help="rewrite docs/benchmarks.md's section")
    given = parser.parse_args()
    pin(measure.CLIENT_CORES)
    payload = Payload(given.kind, given.rows)
    found = (profile_inside if given.inside else profile)(
        given.model, payload, given.connections, given.seconds
    )
    console = Console(width=None if sys.stdout.isatty() else 110)
    said = (
        f"{models.TITLES[given.model]}, {payload}, {given.connections} connections: "
        f"{found.rate:,.0f} requests/s, {found.us:.1f} us of the worker's processor time each."
    )
    stages = found.by_stage()
    console.print(said)
    _show(console, "stage", stages, 30, found)
    _show(console, "function", found.by_function(), given.functions, found)
    _show(console, "line", found.by_line(), given.lines, found)
    if given.docs:
        page = ROOT / "docs" / "benchmarks.md"
        text = f"{report.machine()}, {measure.now()}. {said}"
        lines = [(place, f"{us:.1f}", f"{us / found.us:.0%}") for place, us in stages.items()]
        content = f"{text}\n\n{report.as_markdown(('stage', 'us', 'share'), lines)}"
        page.write_text(report.between_marks(page.read_text(), SECTION, content))
    return 0


def _show(console: Console, name: str, us: dict[str, float], most: int, found: Profile) -> None:
    if not most:
        return
    table = Table("", "us", "share", "+-", title=f"by {name}", title_justify="left")
    for place, spent in list(us.items())[:most]:
        share = spent / found.us
        error = found.us * math.sqrt(share * (1 - share) / found.samples)
        table.add_row(place, f"{spent:.2f}", f"{share:.0%}", f"{error:.2f}")
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
