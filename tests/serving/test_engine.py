"""Which batch comes next, without a server."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
import pytest

from homeostat.core.route import Assignment, Route, Servable
from homeostat.core.servable import Field, Manifest
from homeostat.serving.codec import read_v1
from homeostat.serving.counters import Counters, Totals, total
from homeostat.serving.engine import LATE, Engine
from homeostat.serving.exchange import Exchange, Front
from homeostat.serving.intake import Intake
from homeostat.serving.jobs import Answers, Job, inputs_for
from homeostat.serving.layout import Layout
from homeostat.serving.log import SegmentLog
from homeostat.serving.requests import V1
from homeostat.serving.routes import Routes, Served
from homeostat.serving.runtime import LoadedModel
from homeostat.serving.segment import PredictionRecord, predictions, read_bytes
from homeostat.serving.spec import ServingSpec


class Zeros:
    """A model that is run beside the event loop."""

    def score(self, x: Any) -> Any:
        return np.zeros(len(x), np.float32)

    def run(self, columns: Any) -> Any:
        raise NotImplementedError


class Heard:
    """A request, and its dialect: notes who was answered, in order."""

    def __init__(self, ids: list[str], id: str) -> None:
        self._ids, self.id = ids, id

    def encode(self, job: Job, answers: Answers, at: int, explore: bool) -> bytes:
        return b""

    def write(self, answer: bytes) -> None:
        self._ids.append(self.id)

    def fail(self, status: int, message: str) -> None:
        self._ids.append(message)

    def job(self, served: Served, rows: int, found: tuple[LoadedModel, Assignment]) -> Job:
        """So many rows of it, for whom was found."""
        model, chosen = found
        read = read_v1(b'{"instances": [%b]}' % b",".join([b"[1.0]"] * rows), rows)
        inputs = inputs_for(model, read, served.order)
        dialect: Any = self
        return Job(
            self, dialect, served, model, chosen, read, served.order, inputs, None, self.id, rows,
            0.0, None,
        )  # fmt: skip


def test_who_names_a_version_does_not_wait_behind_all_who_do_not(tmp_path: Path) -> None:
    layout = Layout(tmp_path).make()
    servable = Servable("1", "f", "sha256:0")
    manifest = Manifest("m", ("a",), "f", servable.digest, "score", 0.5, format="pyfunc")
    served = Served(Route("m", 1, servable), {servable: LoadedModel(servable, manifest, Zeros())})
    heard: list[str] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        log = SegmentLog(layout.live, layout.sealed, "0-w", seal=60.0, dropped=lambda n: None)
        engine = Engine(loop, log, Counters(layout.metrics / "0"), lambda: 0, ServingSpec())

        def submit(id: str, found: tuple[Any, Any]) -> None:
            engine.submit([Heard(heard, id).job(served, 200, found)])

        for k in range(4):  # no two of them fit into one batch
            submit(f"drawn {k}", served.assign("key"))
        submit("named", served.named("1"))
        while engine.in_flight:
            await asyncio.sleep(0.001)
        engine.close()
        log.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert heard == ["drawn 0", "named", "drawn 1", "drawn 2", "drawn 3"]


@pytest.mark.parametrize("rows", [1, 300])  # a batch, and a large request
def test_a_slow_model_holds_up_no_other_slow_one(tmp_path: Path, rows: int) -> None:
    layout, go_on = Layout(tmp_path).make(), threading.Event()

    class Stuck(Zeros):
        def score(self, x: Any) -> Any:
            assert go_on.wait(60), "the other model was not answered meanwhile"
            return super().score(x)

    def served(name: str, runtime: Any) -> Served:
        servable = Servable(name, "f", f"sha256:{name}")
        manifest = Manifest("m", ("a",), "f", servable.digest, "score", 0.5, format="pyfunc")
        return Served(
            Route(name, 1, servable), {servable: LoadedModel(servable, manifest, runtime)}
        )

    heard: list[str] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        log = SegmentLog(layout.live, layout.sealed, "0-w", seal=60.0, dropped=lambda n: None)
        engine = Engine(loop, log, Counters(layout.metrics / "0"), lambda: 0, ServingSpec())
        for model in (served("stuck", Stuck()), served("other", Zeros())):
            for k in range(2):
                name = f"{model.model} {k}"
                engine.submit([Heard(heard, name).job(model, rows, model.assign(name))])
                await asyncio.sleep(0)  # a tick of its own
        while engine.in_flight:
            if len(heard) == 2:
                go_on.set()
            await asyncio.sleep(0.001)
        engine.close()
        log.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert heard == ["other 0", "other 1", "stuck 0", "stuck 1"]


def test_who_waits_behind_a_slow_run_is_told_when_the_deadline_passes(tmp_path: Path) -> None:
    layout, go_on = Layout(tmp_path).make(), threading.Event()

    class Stuck(Zeros):
        def score(self, x: Any) -> Any:
            assert go_on.wait(60), "nobody was told"
            return super().score(x)

    servable = Servable("1", "f", "sha256:0")
    manifest = Manifest("m", ("a",), "f", servable.digest, "score", 0.5, format="pyfunc")
    served = Served(Route("m", 1, servable), {servable: LoadedModel(servable, manifest, Stuck())})
    heard: list[str] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        log = SegmentLog(layout.live, layout.sealed, "0-w", seal=60.0, dropped=lambda n: None)
        engine = Engine(loop, log, Counters(layout.metrics / "0"), lambda: 0, ServingSpec())
        for id, deadline in (("runs", None), ("late", perf_counter()), ("waits", None)):
            job = Heard(heard, id).job(served, 1, served.assign(id))
            engine.submit([msgspec.structs.replace(job, deadline=deadline)])
            if id == "runs":
                await asyncio.sleep(0)  # it begins by itself
        engine.expire()
        assert heard == [LATE]
        go_on.set()
        while engine.in_flight:
            await asyncio.sleep(0.001)
        engine.close()
        log.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert heard == [LATE, "runs", "waits"]
    sums = total(layout.metrics).globals
    assert sums["expired"] == 1


class InProcess:
    """An engine with one model of an input `a` and an output `note`, asked over V1."""

    def __init__(self, home: Path, runtime: Any) -> None:
        self.layout = Layout(home).make()
        servable = Servable("1", "f", "sha256:0")
        results = (Field("note", "BYTES"),)
        manifest = Manifest("m", ("a",), "f", servable.digest, "score", 0.5, results=results)
        self.model = LoadedModel(servable, manifest, runtime)
        self.served = Served(Route("m", 1, servable), {servable: self.model})

    def ask(self, requests: list[list[float]]) -> list[tuple[int, Any]]:
        """Requests of one tick, with ids 0, 1, ... -> status and what was said of each."""

        async def scenario() -> list[tuple[int, Any]]:
            loop, layout = asyncio.get_running_loop(), self.layout
            log = SegmentLog(layout.live, layout.sealed, "0-w", seal=60.0, dropped=lambda n: None)
            counters = Counters(layout.metrics / "0")
            engine = Engine(loop, log, counters, lambda: 0, ServingSpec())
            intake = Intake(ServingSpec(), Routes(layout, lambda: None), engine)
            while not log.settled:
                await asyncio.sleep(0.001)
            front, asked = Front(counters.ended), []
            front.dated("today")
            for id, values in enumerate(requests):
                exchange = Exchange(front, lambda: None)
                body = {"instances": [[value] for value in values], "id": str(id)}
                exchange.body = json.dumps(body).encode()
                engine.submit([intake.job(V1(1000), exchange, self.served, None)])
                asked.append(exchange)
            while engine.in_flight:
                await asyncio.sleep(0.001)
            engine.close()
            log.close()
            return [_said(exchange.answer) for exchange in asked]

        return asyncio.run(asyncio.wait_for(scenario(), 60))

    def totals(self) -> Totals:
        return total(self.layout.metrics)

    def logged(self) -> list[PredictionRecord]:
        (path,) = self.layout.sealed.iterdir()
        return list(predictions(read_bytes(path)))


def _said(answer: bytes | None) -> tuple[int, Any]:
    assert answer is not None
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


class Notes:
    """Says a number again, and for 13 a text that no answer can carry; fails as told."""

    def score(self, x: Any) -> Any:
        raise NotImplementedError

    def run(self, columns: Any) -> Any:
        a = columns["a"]
        if (a == 99).any():
            raise ValueError("no text: \ud800")
        notes = ["\ud800" if value == 13 else str(value) for value in a]
        return {"score": np.zeros(len(a), np.float32), "note": np.array(notes, object)}


@pytest.mark.parametrize(
    ("bad", "why"), [(13, "its answer cannot be encoded: Unicode"), (99, "the model failed")]
)
def test_one_request_that_cannot_be_answered_ends_as_failed_and_spoils_no_other(
    tmp_path: Path, bad: int, why: str
) -> None:
    plane = InProcess(tmp_path, Notes())
    asked = [[1], [2, bad], [3], [4, 5]]
    told = plane.ask(asked)
    assert [status for status, _ in told] == [200, 500, 200, 200]
    assert f"version 1 of m: {why}" in told[1][1]["error"]
    assert [len(said["predictions"]) for status, said in told if status == 200] == [1, 1, 2]
    sums = plane.totals()
    assert (sums.globals["answered"], sums.globals["failed"]) == (3, 1)
    assert sums.series["m", "1", "champion"][:2] == [4, 2]  # rows answered, rows failed
    errors = {record.id: record.error for record in plane.logged()}
    assert {id for id, error in errors.items() if error is None} == {"0", "2", "3/0", "3/1"}
    assert all(why in (errors[id] or "") for id in ("1/0", "1/1"))


@pytest.mark.parametrize("rows", [1, 300])  # in the event loop, and in a thread
def test_a_mistake_of_the_servers_own_is_told_logged_and_counted(
    tmp_path: Path, rows: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plane = InProcess(tmp_path, Notes())

    def mistaken(columns: Any) -> Any:
        raise KeyError("not foreseen")

    monkeypatch.setattr(plane.model, "run", mistaken)
    assert plane.ask([[1] * rows]) == [
        (500, {"error": "version 1 of m: the server failed, and has logged why"})
    ]
    assert "not foreseen" in caplog.text
    sums = plane.totals()
    assert (sums.globals["answered"], sums.globals["failed"]) == (0, 1)
    assert sums.series["m", "1", "champion"][:2] == [0, rows]
    assert len(plane.logged()) == rows


def test_a_mistake_before_a_large_request_is_scored_is_told_and_counted_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plane = InProcess(tmp_path, Notes())

    def mistaken(inputs: Any) -> Any:
        raise KeyError("not foreseen")

    monkeypatch.setattr("homeostat.serving.scoring.join", mistaken)
    assert plane.ask([[1] * 300]) == [(500, {"error": "the server failed, and has logged why"})]
    assert "not foreseen" in caplog.text
    sums = plane.totals()
    assert (sums.globals["answered"], sums.globals["failed"]) == (0, 1)
    assert [record.error for record in plane.logged()] == ["the server failed, and has logged why"]
