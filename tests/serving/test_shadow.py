"""The queue of paired scoring, without a server; `test_beside` has it under load."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from homeostat.core.route import Servable
from homeostat.core.servable import Manifest
from homeostat.serving.counters import Counters, total
from homeostat.serving.layout import Layout
from homeostat.serving.log import SegmentLog
from homeostat.serving.runtime import LoadedModel, load
from homeostat.serving.segment import PredictionRecord, predictions, read_bytes
from homeostat.serving.shadow import BATCH, QUEUE, Shadows
from homeostat.testing.models import tiny_servable

Asked = Callable[[Shadows], None]


def scored(home: Path, *asked: Asked) -> list[PredictionRecord]:
    """Let `asked` submit to a new queue; -> what was logged, in its order."""
    layout = Layout(home).make()

    async def wait() -> None:
        log = SegmentLog(layout.live, layout.sealed, "0-w", seal=60.0, dropped=lambda n: None)
        counters = Counters(layout.metrics / "0")
        shadows = Shadows(asyncio.get_running_loop(), log, counters, lambda: 0)
        while not log.settled:
            await asyncio.sleep(0.001)
        for ask in asked:
            ask(shadows)
        while not shadows.idle:
            await asyncio.sleep(0.001)
        shadows.close()
        log.close()

    asyncio.run(asyncio.wait_for(wait(), 60))
    (sealed,) = layout.sealed.iterdir()
    return list(predictions(read_bytes(sealed)))


def version(name: str, answer: Callable[[Any], Any]) -> LoadedModel:
    """A challenger with the input `a`, which `answer` scores."""

    class Answers:
        def score(self, x: Any) -> Any:
            return answer(x)

        def run(self, columns: Any) -> Any:
            raise NotImplementedError

    manifest = Manifest("m", ("a",), "f", "sha256:0", "score", 0.5, format="pyfunc")
    return LoadedModel(Servable(name, "f", "sha256:0"), manifest, Answers())


def rows(*values: float) -> Any:
    return np.array(values, np.float32).reshape(-1, 1)


def test_one_request_that_a_challenger_cannot_score_spoils_no_other(tmp_path: Path) -> None:
    def picky(x: Any) -> Any:
        if (x == 13).any():
            raise ValueError("no such number")
        return x[:, 0] / 100

    model = version("2", picky)

    def ask(shadows: Shadows) -> None:
        for k in range(40):
            shadows.submit("m", model, f"r{k}", rows(k))

    records = scored(tmp_path, ask)
    assert {record.id: record.score for record in records} == {
        f"r{k}": None if k == 13 else pytest.approx(k / 100) for k in range(40)
    }
    assert [record.id for record in records if record.error] == ["r13"]


def test_a_challenger_with_much_to_do_leaves_the_others_their_turn_and_their_room(
    tmp_path: Path,
) -> None:
    busy, other = (version(name, lambda x: x[:, 0]) for name in ("busy", "other"))

    def ask(shadows: Shadows) -> None:
        for k in range(QUEUE // BATCH + 2):
            shadows.submit("b", busy, f"b{k}", rows(*[0.5] * BATCH))
        shadows.submit("o", other, "o", rows(0.5))

    order = list(dict.fromkeys(record.version for record in scored(tmp_path, ask)[: 3 * BATCH]))
    assert order == ["busy", "other"]
    assert total(Layout(tmp_path).metrics).globals["shadow_skipped"] == 2 * BATCH


def test_a_challenger_that_hangs_holds_up_no_drain_and_its_rows_are_counted(
    tmp_path: Path,
) -> None:
    layout, hangs, go_on = Layout(tmp_path).make(), threading.Event(), threading.Event()

    def hang(x: Any) -> Any:
        hangs.set()
        go_on.wait()
        return x[:, 0]

    async def scenario() -> None:
        log = SegmentLog(layout.live, layout.sealed, "0-w", seal=60.0, dropped=lambda n: None)
        counters = Counters(layout.metrics / "0")
        shadows = Shadows(asyncio.get_running_loop(), log, counters, lambda: 0)
        model = version("2", hang)
        shadows.submit("m", model, "under way", rows(1, 2, 3))
        while not hangs.is_set():
            await asyncio.sleep(0.001)
        shadows.submit("m", model, "waiting", rows(1))
        assert not shadows.idle
        shadows.give_up()
        assert shadows.idle
        shadows.close()
        go_on.set()
        while any(thread.name.startswith("shadow") for thread in threading.enumerate()):
            await asyncio.sleep(0.001)
        log.close()

    try:
        asyncio.run(asyncio.wait_for(scenario(), 60))
    finally:
        go_on.set()
    assert total(layout.metrics).globals["shadow_skipped"] == 4
    assert [path for path in layout.sealed.iterdir() if list(predictions(read_bytes(path)))] == []


def test_what_waits_keeps_only_its_rows_and_is_counted_if_its_turn_never_comes(
    tmp_path: Path,
) -> None:
    layout = Layout(tmp_path).make()
    model = load(tiny_servable(tmp_path / "model"))

    async def wait_and_close() -> bool:
        counters = Counters(layout.metrics / "0")
        log = SegmentLog(layout.live, layout.sealed, "0-w", seal=60.0, dropped=lambda n: None)
        shadows = Shadows(asyncio.get_running_loop(), log, counters, lambda: 0)
        batch = np.zeros((256, 2), np.float32)
        kept = weakref.ref(batch)
        shadows.submit("m", model, "one", batch[:3])
        del batch
        freed = kept() is None
        shadows.close()
        log.close()
        return freed

    assert asyncio.run(wait_and_close())
    assert total(layout.metrics).globals["shadow_skipped"] == 3
