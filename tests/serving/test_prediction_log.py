from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from homeostat.backends.local.prediction_log import DeltaPredictionLog, to_frame
from homeostat.backends.memory.log import MemoryPredictionLog
from homeostat.core.clock import to_ns
from homeostat.core.errors import Unavailable
from homeostat.core.ports import PredictionLog
from homeostat.core.records import PREDICTIONS
from homeostat.serving.keeper import Keeper
from homeostat.serving.layout import Layout
from homeostat.serving.segment import LabelRecord, Name, PredictionRecord, Segment, frame
from homeostat.testing.contracts.prediction_log import START, PredictionLogContract, record

_numbers = itertools.count(1)
SIZE = 64 * 1024


class Ledger:
    """Takes in labels like a LabelLedger, and remembers how often it was asked."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []

    def append(self, labels: pl.DataFrame) -> int:
        fresh = [row for row in labels.to_dicts() if row not in self.rows]
        self.rows += fresh
        return len(fresh)

    def as_known(self, at: datetime, ids: pl.Series | None = None) -> pl.DataFrame:
        raise NotImplementedError


def records(batch: pl.DataFrame) -> list[PredictionRecord]:
    import numpy as np

    return [
        PredictionRecord(
            r["id"],
            to_ns(r["time"]) // 1000,
            r["model"],
            r["version"],
            r["arm"],
            r["probability"],
            r["latency"],
            np.array(r["features"], "<f4").tobytes(),
            r["score"],
            r["error"],
            r["inputs"],
            r["propensity"],
        )
        for r in batch.to_dicts()
    ]


def write_segment(layout: Layout, batch: pl.DataFrame, writer: str = "0-test") -> Segment:
    segment = Segment(layout.live, Name(writer, next(_numbers)), SIZE)
    for one in records(batch):
        assert segment.append(frame(one), predictions=1)
    return segment


class TestMemoryPredictionLog(PredictionLogContract):
    @pytest.fixture
    def log(self) -> PredictionLog:
        return MemoryPredictionLog()

    def append(self, log: PredictionLog, model: str, batch: pl.DataFrame) -> None:
        assert isinstance(log, MemoryPredictionLog)
        log.append(model, batch)


class LocalContract(PredictionLogContract):
    """The same laws wherever the records are on their way into the table."""

    @pytest.fixture
    def log(self, tmp_path: Path) -> Iterator[PredictionLog]:
        self.layout = Layout(tmp_path).make()
        self.open: list[Segment] = []
        yield DeltaPredictionLog(tmp_path)
        for segment in self.open:
            segment.seal(self.layout.sealed)


class TestLiveSegments(LocalContract):
    def append(self, log: PredictionLog, model: str, batch: pl.DataFrame) -> None:
        self.open.append(write_segment(self.layout, batch))


class TestSealedSegments(LocalContract):
    def append(self, log: PredictionLog, model: str, batch: pl.DataFrame) -> None:
        write_segment(self.layout, batch).seal(self.layout.sealed)


class TestDeltaTable(LocalContract):
    def append(self, log: PredictionLog, model: str, batch: pl.DataFrame) -> None:
        assert isinstance(log, DeltaPredictionLog)
        write_segment(self.layout, batch).seal(self.layout.sealed)
        deliver(self.layout, log)


class TestEverywhereAtOnce(LocalContract):
    def append(self, log: PredictionLog, model: str, batch: pl.DataFrame) -> None:
        assert isinstance(log, DeltaPredictionLog)
        third = max(1, len(batch) // 3)
        self.open.append(write_segment(self.layout, batch[third * 2 :], "0-live"))
        write_segment(self.layout, batch[third : third * 2], "0-sealed").seal(self.layout.sealed)
        write_segment(self.layout, batch[:third], "0-table").seal(self.layout.sealed)
        for path in self.layout.sealed.glob("0-table*"):
            log.write_segment(path)  # and the file stays, as after a kill before its removal


def deliver(layout: Layout, log: DeltaPredictionLog) -> None:
    for path in sorted(layout.sealed.glob("*.sealed")):
        log.write_segment(path)
        path.unlink()


def batch(*ids: str) -> pl.DataFrame:
    return pl.DataFrame([record(id, 0) for id in ids], schema=PREDICTIONS)


def everything(log: DeltaPredictionLog) -> list[str]:
    far = datetime(2030, 1, 1, tzinfo=UTC)
    return log.read("m", START, far)["id"].to_list()


def test_a_keeper_killed_between_commit_and_removal_delivers_nothing_twice(tmp_path: Path) -> None:
    layout, log = Layout(tmp_path).make(), DeltaPredictionLog(tmp_path)
    write_segment(layout, batch("a", "b")).seal(layout.sealed)
    (path,) = layout.sealed.iterdir()
    log.write_segment(path)
    keeper = Keeper(tmp_path, log, Ledger())
    keeper.step()
    assert list(layout.sealed.iterdir()) == []
    assert everything(log) == ["a", "b"]
    keeper.close()


def test_the_keeper_adopts_what_a_dead_worker_left_and_leaves_the_living_alone(
    tmp_path: Path,
) -> None:
    layout, log = Layout(tmp_path).make(), DeltaPredictionLog(tmp_path)
    alive = write_segment(layout, batch("alive"), "0-alive")
    dead = write_segment(layout, batch("dead"), "1-dead")
    copy = dead.path.read_bytes()
    dead.seal(layout.sealed)
    (layout.sealed / f"{dead.name}.sealed").unlink()
    dead.path.write_bytes(copy)  # as a killed process leaves it: full length, no lock
    keeper = Keeper(tmp_path, log, Ledger())
    keeper.step()
    assert [p.name for p in layout.live.iterdir()] == [alive.path.name]
    assert list(layout.sealed.iterdir()) == []
    assert everything(log) == ["alive", "dead"]
    alive.seal(layout.sealed)
    keeper.step()
    assert everything(log) == ["alive", "dead"]
    keeper.close()


def test_a_writers_segments_are_delivered_in_their_order(tmp_path: Path) -> None:
    layout, log = Layout(tmp_path).make(), DeltaPredictionLog(tmp_path)
    first = write_segment(layout, batch("first"))
    write_segment(layout, batch("second")).seal(layout.sealed)
    keeper = Keeper(tmp_path, log, Ledger())
    keeper.step()
    assert len(list(layout.sealed.iterdir())) == 1  # waits for the first
    first.seal(layout.sealed)
    keeper.step()
    assert list(layout.sealed.iterdir()) == []
    assert everything(log) == ["first", "second"]
    keeper.close()


def test_a_file_that_is_none_of_ours_is_left_alone_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    layout, log = Layout(tmp_path).make(), DeltaPredictionLog(tmp_path)
    write_segment(layout, batch("sealed")).seal(layout.sealed)
    foreign = [layout.live / "notes.live", layout.live / "0-w-1.live", layout.sealed / "x.sealed"]
    for path in foreign:
        path.write_text("a note")
    assert everything(log) == ["sealed"]
    keeper = Keeper(tmp_path, log, Ledger())
    for _ in range(2):
        keeper.step()
    keeper.close()
    assert everything(log) == ["sealed"]
    assert [path.read_text() for path in foreign] == ["a note"] * 3
    assert [caplog.text.count(str(path)) for path in foreign] == [1, 1, 1]


def test_labels_reach_the_ledger_once_from_live_and_from_sealed_segments(tmp_path: Path) -> None:
    layout, ledger = Layout(tmp_path).make(), Ledger()
    keeper = Keeper(tmp_path, DeltaPredictionLog(tmp_path), ledger)
    segment = write_segment(layout, batch("a"))
    for i in range(3):
        segment.append(frame(LabelRecord(f"l{i}", 1.0, 0, i, "m")), labels=1)
        keeper.step()
        assert [row["id"] for row in ledger.rows] == [f"l{k}" for k in range(i + 1)]
    segment.append(frame(LabelRecord("last", 0.0, 0, 9, "m")), labels=1)
    segment.seal(layout.sealed)
    keeper.step()
    assert [row["id"] for row in ledger.rows] == ["l0", "l1", "l2", "last"]
    keeper.close()


def test_a_second_keeper_is_refused(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, DeltaPredictionLog(tmp_path), Ledger())
    with pytest.raises(Unavailable, match="another keeper"):
        Keeper(tmp_path, DeltaPredictionLog(tmp_path), Ledger())
    keeper.close()
    Keeper(tmp_path, DeltaPredictionLog(tmp_path), Ledger()).close()


def test_compaction_joins_files_and_changes_no_record(tmp_path: Path) -> None:
    layout, log = Layout(tmp_path).make(), DeltaPredictionLog(tmp_path)
    keeper = Keeper(tmp_path, log, Ledger())
    for i in range(4):
        write_segment(layout, batch(f"r{i}")).seal(layout.sealed)
        keeper.step()
    before = everything(log)
    keeper.compact()
    assert everything(log) == before == ["r0", "r1", "r2", "r3"]
    write_segment(layout, batch("later")).seal(layout.sealed)
    keeper.step()
    assert len(everything(log)) == 5
    keeper.close()


def test_what_compaction_joined_is_no_news_and_a_reader_left_behind_reads_all(
    tmp_path: Path,
) -> None:
    layout, log = Layout(tmp_path).make(), DeltaPredictionLog(tmp_path)
    keeper = Keeper(tmp_path, log, Ledger())
    marks = []
    for i in range(3):
        write_segment(layout, batch(f"r{i}")).seal(layout.sealed)
        keeper.step()
        marks.append(log.news("m", START)[1])
    keeper.compact()
    assert log.news("m", START, marks[0])[0]["id"].to_list() == ["r1", "r2"]
    assert log.news("m", START, marks[2])[0].is_empty()
    DeltaTable(str(layout.table)).vacuum(0, dry_run=False, enforce_retention_duration=False)
    assert set(log.news("m", START, marks[0])[0]["id"]) >= {"r1", "r2"}
    keeper.close()


def test_the_table_is_readable_without_this_project(tmp_path: Path) -> None:
    import duckdb

    layout, log = Layout(tmp_path).make(), DeltaPredictionLog(tmp_path)
    write_segment(layout, batch("a", "b")).seal(layout.sealed)
    deliver(layout, log)
    files = [str(p) for p in layout.table.rglob("*.parquet")]
    assert duckdb.sql(f"select count(*), avg(score) from read_parquet({files})").fetchall() == [
        (2, 0.25)
    ]


def test_a_table_that_lost_a_file_does_not_answer(tmp_path: Path) -> None:
    layout = Layout(tmp_path).make()
    log = DeltaPredictionLog(tmp_path)
    segment = write_segment(layout, pl.DataFrame([record("a", 0)], schema=PREDICTIONS))
    segment.seal(layout.sealed)
    for path in layout.sealed.glob("*.sealed"):
        log.write_segment(path)
    for file in layout.table.rglob("*.parquet"):
        file.unlink()
    with pytest.raises(Unavailable, match="does not answer"):
        log.read("m", START, datetime(2027, 1, 1, tzinfo=UTC))


def test_a_table_of_before_there_were_inputs_and_propensities_is_read_and_added_to(
    tmp_path: Path,
) -> None:
    layout, log = Layout(tmp_path).make(), DeltaPredictionLog(tmp_path)
    old = to_frame(records(batch("old"))).drop("inputs", "propensity")
    write_deltalake(str(layout.table), old, partition_by=["model", "day"])
    assert everything(log) == ["old"]
    fresh = batch("new").with_columns(propensity=pl.lit(0.05), inputs=pl.lit("{}"))
    write_segment(layout, fresh).seal(layout.sealed)
    deliver(layout, log)
    read = log.read("m", START, datetime(2030, 1, 1, tzinfo=UTC))
    assert dict(read.schema) == PREDICTIONS
    assert read.select("id", "inputs", "propensity").rows() == [
        ("new", "{}", 0.05),
        ("old", None, 1.0),
    ]
