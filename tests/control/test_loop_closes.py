"""The whole loop in virtual time: real pipeline, monitors, rollout and policy; stores in memory."""

from __future__ import annotations

from datetime import timedelta
from importlib import resources
from pathlib import Path

import polars as pl
import pytest

from homeostat.control.history import history
from homeostat.control.model import LoopEvent, RunStarted, load
from homeostat.core.events import decode
from homeostat.demo.project.fraud import FEATURES, features
from homeostat.demo.stage import DELAY, HISTORY, PER_HOUR, START
from homeostat.demo.world import World
from homeostat.monitoring.model import AlertRaised
from homeostat.rollout.model import Promoted, RolledBack, Stepped
from homeostat.testing.replay import Replay

HOUR = timedelta(hours=1)
SHIFT = START + 30 * HOUR
END = START + timedelta(days=6)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:sklearn")


def replay(folder: Path, *, shift: bool) -> Replay:
    """The demo's project and world, as a replay."""
    world = World(7, per_hour=PER_HOUR, shift_at=SHIFT if shift else None)
    (folder / "data").mkdir()
    for name in ("homeostat.yaml", "fraud.py"):
        text = resources.files("homeostat.demo.project").joinpath(name).read_text()
        (folder / name).write_text(text)
    world.transactions(START - HISTORY, END).write_parquet(folder / "data/payments-all.parquet")
    rows = world.transactions(START, END)
    table = features(rows)
    traffic = table.select(
        pl.col("TRANSACTION_ID").alias("id"), pl.col("TX_DATETIME").alias("time"), *FEATURES
    )
    labels = rows.select(
        pl.col("TRANSACTION_ID").alias("id"),
        pl.col("TX_FRAUD").cast(pl.Float64).alias("label"),
        pl.col("TX_DATETIME").alias("time"),
        (pl.col("TX_DATETIME") + DELAY).alias("known"),
    )
    return Replay(folder, folder / ".homeostat", traffic=traffic, labels=labels, start=START)


def detection(found: Replay, truth: pl.DataFrame, since: object, until: object) -> float:
    rows = found.answers().join(truth, on="id")
    rows = rows.filter(pl.col("label") == 1, pl.col("time") >= since, pl.col("time") < until)
    threshold = found.platform.project.training.threshold
    return float((rows["score"] >= threshold).mean())  # type: ignore[arg-type]


def events(found: Replay) -> list[tuple[object, LoopEvent]]:
    stream = found.platform.stream
    return [(r.at, decode(r, LoopEvent)) for r in found.platform.events.read(stream)]


@pytest.mark.slow
def test_when_the_world_changes_the_loop_notices_retrains_and_recovers(tmp_path: Path) -> None:
    found = replay(tmp_path, shift=True)
    found.train_first()
    found.run(END, HOUR)
    told = events(found)
    alarm = next(at for at, e in told if isinstance(e, AlertRaised) and e.severity == "critical")
    started = next(at for at, e in told if isinstance(e, RunStarted) and e.trigger == "quality")
    steps = [e.percent for _, e in told if isinstance(e, Stepped)]
    promoted = next(at for at, e in told if isinstance(e, Promoted))
    truth = found._labels.select("id", "label")
    story = "\n".join(f"{line.at:%d %R} {line.sentence}" for line in history(found.platform))
    assert SHIFT + DELAY < alarm < SHIFT + timedelta(days=1), story
    assert started >= alarm, story
    assert steps[:5] == [10, 25, 50, 75, 100], story
    assert detection(found, truth, START, SHIFT) > 0.80, story
    assert detection(found, truth, SHIFT, started) < 0.45, story
    assert detection(found, truth, promoted + HOUR, END) > 0.80, story  # type: ignore[operator]


@pytest.mark.slow
def test_a_quiet_world_is_left_alone(tmp_path: Path) -> None:
    found = replay(tmp_path, shift=False)
    found.train_first()
    found.run(END, HOUR)
    told = [e for _, e in events(found)]
    assert not [e for e in told if isinstance(e, AlertRaised)]
    assert not [e for e in told if isinstance(e, RunStarted) and e.trigger != "by hand"]
    state = load(found.platform.events.read(found.platform.stream))
    assert state.champion == "1"
    assert not [e for e in told if isinstance(e, Promoted | RolledBack)]
