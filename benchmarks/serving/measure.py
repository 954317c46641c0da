"""Carrying out a plan: every server asked the same, one after the other, again and again."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from benchmarks.serving import catalogue, envs, load, models, payloads
from benchmarks.serving.catalogue import Entry
from benchmarks.serving.models import Model
from benchmarks.serving.payloads import Dialect, Payload
from benchmarks.serving.plan import HEADLINE, LIMIT_MS, Cell, Outcome, Plan, Started, describe
from benchmarks.serving.process import NotStarted, Server
from benchmarks.serving.stats import Sample

TOLERANCE = 1e-4
"""How far a score may be from ONNX Runtime's own."""
WARM = 0.5
"""Seconds of load before what is timed: its first requests after a pause are slow."""
SERVER_CORES, CLIENT_CORES = frozenset({0}), frozenset({1})


class Running(NamedTuple):
    entry: Entry
    model: Model
    server: Server
    grpc_port: int

    def port(self, cell: Cell) -> int:
        return self.grpc_port if cell.kind == "grpc" else self.server.port


Tell = Callable[[str], None]


def run(plan: Plan, tell: Tell) -> Outcome:
    """Install, start, check, measure. What fails is told and put down, and the rest goes on."""
    outcome = Outcome({entry.name: entry.title for entry in plan.entries})
    with tempfile.TemporaryDirectory(prefix="homeostat-bench-") as scratch:
        made = models.make(Path(scratch) / "models")
        pythons = _install(plan.entries, outcome, tell)
        entries = [entry for entry in plan.entries if entry.name in pythons]
        for entry in entries:
            if plan.free and isinstance(entry.two_workers, str) and not entry.brief:
                outcome.missing(entry.name, "2 workers", entry.two_workers)
        for workers in (1, 2):
            with _fleet(
                plan, entries, made, pythons, Path(scratch) / f"workers-{workers}", workers,
                outcome, tell,
            ) as fleet:  # fmt: skip
                _measure(fleet, plan, workers, outcome, tell)
    return outcome


def _install(entries: Sequence[Entry], outcome: Outcome, tell: Tell) -> dict[str, str]:
    pythons = {}
    for entry in entries:
        try:
            tell(f"environment of {entry.title}")
            pythons[entry.name] = envs.python(entry)
        except envs.NotInstalled as error:
            outcome.missing(entry.name, "", f"not installed: {error}")
    return pythons


@contextlib.contextmanager
def _fleet(
    plan: Plan,
    entries: Sequence[Entry],
    made: dict[str, Model],
    pythons: dict[str, str],
    folder: Path,
    workers: int,
    outcome: Outcome,
    tell: Tell,
) -> Iterator[list[Running]]:
    """All servers, started one after the other; those that wait are paused."""
    with contextlib.ExitStack() as stack:
        fleet: list[Running] = []
        for entry in entries:
            for name in dict.fromkeys(cell.model for cell in plan.cells(entry, workers)):
                model = made[name]
                tell(f"start {entry.title} with {model.name}, {workers} worker(s)")
                try:
                    where = folder / entry.name / model.name
                    one = start(entry, model, where, pythons[entry.name], workers)
                except NotStarted as error:
                    what = "" if workers == 1 else f"{workers} workers"
                    outcome.missing(entry.name, what, f"not started: {error}")
                    break
                stack.callback(one.server.stop)
                if entry.checked and (why := check_json(one)):
                    outcome.missing(entry.name, "", why)
                    one.server.stop()
                    break
                rss, pss = one.server.memory()
                outcome.started.append(
                    Started(entry.name, model.name, workers, one.server.started, rss, pss)
                )
                one.server.pause()
                fleet.append(one)
        yield fleet


def start(entry: Entry, model: Model, folder: Path, python: str, workers: int) -> Running:
    """Raises NotStarted."""
    place = catalogue.place(entry, model, folder, python, workers)
    launch = entry.launch(place)
    server = Server(
        launch.command,
        place.port,
        entry.ready.format(model=model.name),
        folder / "output.txt",
        cores=SERVER_CORES if workers == 1 else frozenset(),
        env=launch.env,
        cwd=launch.cwd,
    )
    return Running(entry, model, server, place.grpc_port)


# ---------------------------------------------------------------- are the answers right?


def check_json(one: Running) -> str | None:
    """Ask for 1 and for 100 rows. -> what is wrong."""
    return _wrong(one, one.entry.json, (1, 100))


def check(one: Running, payload: Payload) -> str | None:
    """Whether a payload is answered, and with the right scores. -> what is wrong."""
    match payload.kind:
        case "grpc":
            return _wrong_grpc(one, payload.rows)
        case "binary" if isinstance(one.entry.binary, Dialect):
            return _wrong(one, one.entry.binary, (payload.rows,))
        case _:
            return _wrong(one, one.entry.json, (payload.rows,))


def _wrong(one: Running, dialect: Dialect, sizes: Sequence[int]) -> str | None:
    connection = http.client.HTTPConnection("127.0.0.1", one.server.port, timeout=30)
    path = dialect.path.format(model=one.model.name)
    try:
        for n in sizes:
            for x in payloads.batches(n)[:8]:
                body, lines = dialect.write(x)
                headers = dict(line.split(": ", 1) for line in lines.decode().split("\r\n") if line)
                connection.request("POST", path, body, headers)
                answer = connection.getresponse()
                said = answer.read()
                if answer.status != 200:
                    return f"it answered {answer.status}: {said[:160].decode(errors='replace')}"
                if why := _differs(dialect.read(answer.headers, said), one.model, x):
                    return why
    except (OSError, http.client.HTTPException) as error:
        return f"no answer: {error!r}"
    except (ValueError, KeyError, IndexError, TypeError) as error:
        return f"not an answer that can be read: {error!r}: {said[:160].decode(errors='replace')}"
    finally:
        connection.close()
    return None


def _wrong_grpc(one: Running, n: int) -> str | None:
    import grpc

    with grpc.insecure_channel(f"127.0.0.1:{one.grpc_port}") as channel:
        call = channel.unary_unary(payloads.GRPC_PATH)
        try:
            for x in payloads.batches(n)[:8]:
                message = call(payloads.grpc_message(one.model.name, x), timeout=30)
                if why := _differs(payloads.read_grpc(message), one.model, x):
                    return why
        except grpc.RpcError as error:
            return f"gRPC: {str(error.details())[:160]}"
        except (ValueError, KeyError, IndexError, StopIteration) as error:
            return f"gRPC: not an answer that can be read: {error!r}"
    return None


def _differs(scores: Sequence[float], model: Model, x: payloads.Matrix) -> str | None:
    expected = model.score(x)
    if len(scores) != len(expected):
        return f"it gave {len(scores)} scores for {len(expected)} rows"
    off = float(np.abs(np.asarray(scores) - expected).max())
    return None if off <= TOLERANCE else f"its scores are wrong by {off:.2g}"


# ---------------------------------------------------------------- measuring


def _measure(
    fleet: Sequence[Running], plan: Plan, workers: int, outcome: Outcome, tell: Tell
) -> None:
    """Round after round, cell after cell, server after server."""
    checked: dict[tuple[str, str, Payload], str | None] = {}
    cells = plan.pinned if workers == 1 else plan.free
    for repeat, cell in itertools.product(range(plan.repeats), cells):
        if repeat and cell.load == "highest":
            continue  # a search in itself
        tell(f"round {repeat + 1} of {plan.repeats}: {describe(cell)}")
        for one in fleet:
            if one.model.name == cell.model and cell in plan.cells(one.entry, workers):
                one.server.resume()
                _measure_one(one, cell, plan, checked, outcome)
                one.server.pause()


def _measure_one(
    one: Running,
    cell: Cell,
    plan: Plan,
    checked: dict[tuple[str, str, Payload], str | None],
    outcome: Outcome,
) -> None:
    """checked: what is wrong with the answers to a payload, as far as it has been asked."""
    name, payload = one.entry.name, cell.payload
    wires = one.entry.wires(payload, cell.model)
    if isinstance(wires, str):
        outcome.missing(name, payload.kind, wires)
        return
    key = (name, cell.model, payload)
    if key not in checked:
        checked[key] = check(one, payload) if one.entry.checked else None
    if why := checked[key]:
        outcome.missing(name, str(payload), why)
        return
    try:
        sample = _timed(one, cell, wires, plan)
    except OSError as error:
        outcome.missing(name, describe(cell), f"it broke: {error!r}: {one.server.said()}")
        return
    outcome.result(name, cell).samples.append(sample)


def _timed(one: Running, cell: Cell, wires: load.MakeWire, plan: Plan) -> Sample:
    port = one.port(cell)
    load.closed(port, wires, cell.size if cell.load == "closed" else HEADLINE, WARM)
    before = one.server.cpu()
    if cell.load == "closed":
        sample = load.closed(port, wires, cell.size, plan.seconds)
    elif cell.load == "open":
        sample = load.opened(port, wires, cell.size, plan.seconds)
    else:
        top = load.closed(port, wires, HEADLINE, 0.5).rate
        return search(lambda rate: load.opened(port, wires, rate, plan.seconds), 0.9 * top)
    spent = one.server.cpu() - before
    per_answer = spent / sample.answered * 1e6 if sample.answered else float("nan")
    return msgspec.structs.replace(sample, server_us=per_answer)


def search(attempt: Callable[[float], Sample], first: float, attempts: int = 5) -> Sample:
    """The attempt with the highest rate whose p99 holds LIMIT_MS and of which none failed, by
    halves between what held and what did not. Rate 0: none held."""
    low, high, best = 0.0, float("inf"), None
    rate = max(first, 10.0)
    for _ in range(attempts):
        sample = attempt(rate)
        if sample.failed == 0 and sample.p99 <= LIMIT_MS:
            low, best = rate, sample
        else:
            high = rate
        between = (low + high) / 2 if low else rate * 0.6
        rate = low * 1.15 if math.isinf(high) else between
    return best or Sample(0.0, sample.p50, sample.p99, sample.worst, 0, sample.failed)


def now() -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
