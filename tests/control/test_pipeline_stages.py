"""Stages are called by engines, one process each: early, twice, and at the same time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import polars as pl
import pytest

from homeostat.control import pipeline
from homeostat.control.history import history
from homeostat.control.model import LoopEvent, Run, RunStarted, State, load
from homeostat.control.platform import Platform
from homeostat.control.record import settle
from homeostat.core.errors import BadInput, Unavailable
from homeostat.core.names import Stage
from homeostat.testing.replay import Replay
from homeostat.training.spec import Anchor

from ..worlds import Down

START = datetime(2026, 1, 10, tzinfo=UTC)
BEFORE_TRAINING = (Stage.INGEST, Stage.TRANSFORM, Stage.VALIDATE)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:sklearn")

PROJECT = """
name: small
data:
  source: rows.csv
  time: at
  key: id
  label: {column: label, matures_after: 1d}
training:
  fit: small:fit
  split: {train: 4d, gap: 1d, test: 2d}
gates: {auc: {min: 0.5}}
"""
FIT = """
import itertools
from sklearn.linear_model import LogisticRegression

attempts = itertools.count(1)


def fit(train, params):
    return LogisticRegression(C=1.0 / next(attempts)).fit(train.X, train.y)
"""


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    n = 24 * 9
    rows = pl.DataFrame(
        {
            "id": range(n),
            "at": [START - timedelta(hours=n - i) for i in range(n)],
            "a": [float(i * 7 % 13) for i in range(n)],
            "label": [int(i * 7 % 13 + i % 5 > 9) for i in range(n)],
        }
    )
    rows.with_columns(pl.col("at").dt.to_string("iso")).write_csv(tmp_path / "rows.csv")
    (tmp_path / "homeostat.yaml").write_text(PROJECT)
    (tmp_path / "small.py").write_text(FIT)
    traffic = rows.head(0).select("id", pl.col("at").alias("time"))
    labels = rows.head(0).select(
        pl.col("id").cast(pl.String),
        pl.col("label").cast(pl.Float64),
        pl.col("at").alias("time"),
        pl.col("at").alias("known"),
    )
    home = tmp_path / ".homeostat"
    return Replay(tmp_path, home, traffic=traffic, labels=labels, start=START).platform


def state(platform: Platform) -> State:
    return load(platform.events.read(platform.stream))


def found(platform: Platform, run: str) -> Run:
    return state(platform).runs[run]


def test_a_stage_called_too_early_is_told_which_one_is_missing_and_ends_nothing(
    platform: Platform,
) -> None:
    run = pipeline.begin(platform)
    pipeline.stage(platform, Stage.INGEST, run)
    with pytest.raises(BadInput, match="stage transform of run-1 has not been done"):
        pipeline.stage(platform, Stage.TRAIN, run)
    assert found(platform, run).outcome is None
    assert pipeline.run(platform, run).version == "1"


def test_no_stage_can_be_left_out(platform: Platform) -> None:
    run = pipeline.begin(platform)
    pipeline.stage(platform, Stage.INGEST, run)
    pipeline.stage(platform, Stage.TRANSFORM, run)
    with pytest.raises(BadInput, match="stage validate"):
        pipeline.run(platform, run, first=Stage.TRAIN)


def test_a_run_that_could_not_end_says_how_to_go_on_and_a_finished_one_says_what_it_made(
    platform: Platform,
) -> None:
    with pytest.raises(Unavailable, match="it does not answer -> go on with `homeostat run --run "):
        pipeline.run(replace(platform, registry=Down()))
    assert Stage.EVALUATE in found(platform, "run-1").stages
    pipeline.run(platform, "run-1")
    told = [line.sentence for line in history(platform)]
    assert told[0] == "run-1 started by hand"
    assert told[-1] == "run-1 is done: version 1 is registered"


def test_of_two_processes_that_train_one_run_the_first_to_end_is_registered(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = pipeline.begin(platform)
    for name in BEFORE_TRAINING:
        pipeline.stage(platform, name, run)
    train, digests = pipeline.Work.train, []

    def slow(work: pipeline.Work) -> object:
        monkeypatch.setattr(pipeline.Work, "train", train)
        made = train(work)
        pipeline.stage(platform, Stage.TRAIN, run)  # the other process, which ends before us
        digests.append(made[1]["digest"])
        return made

    monkeypatch.setattr(pipeline.Work, "train", slow)
    pipeline.stage(platform, Stage.TRAIN, run)
    first = found(platform, run).stages[Stage.TRAIN].outputs["digest"]
    assert first != digests[0]  # each attempt fits another model
    kinds = [r.type for r in platform.events.read(platform.stream)]
    assert kinds.count("run.stage") == 4
    version = pipeline.run(platform, run).version
    assert version is not None
    assert platform.registry.get(platform.stream, version).digest == first


def test_a_run_begins_whoever_else_writes_at_that_moment(platform: Platform) -> None:
    asked = []

    def decide(now: State) -> list[LoopEvent]:
        asked.append(now.seq)
        if len(asked) == 1:
            pipeline.begin(platform)
        return [RunStarted(f"run-{now.seq + 1}", "by hand", "", START)]

    settle(platform, decide)
    assert asked == [0, 1]
    assert list(state(platform).runs) == ["run-1", "run-2"]


def test_a_candidate_that_forgets_the_golden_set_is_not_registered(
    platform: Platform, tmp_path: Path
) -> None:
    rows = pl.read_csv(tmp_path / "rows.csv")
    golden = tmp_path / "golden.csv"
    anchor = Anchor("golden.csv", metric="auc", min=0.8)
    gates = msgspec.structs.replace(platform.project.gates, anchor=anchor)
    guarded = replace(platform, project=msgspec.structs.replace(platform.project, gates=gates))
    rows.with_columns(label=1 - pl.col("label")).write_csv(golden)  # what is not in the data
    refused = pipeline.run(guarded, pipeline.begin(guarded))
    assert refused.version is None
    outcome = found(guarded, refused.run)
    assert outcome.outcome == "refused"
    assert "golden set" in outcome.sentence
    assert guarded.registry.versions(guarded.stream) == []
    rows.write_csv(golden)
    kept = pipeline.run(guarded, pipeline.begin(guarded))
    assert kept.version == "1"
    parts = found(guarded, kept.run).stages[Stage.EVALUATE].verdict.parts
    (told,) = [p for p in parts if p.check.startswith("anchor")]
    assert told.passed
    # a golden set without the features is bad input, and says which is missing
    rows.drop("a").write_csv(golden)
    with pytest.raises(BadInput, match="no column 'a'"):
        pipeline.run(guarded, pipeline.begin(guarded))
