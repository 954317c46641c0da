"""The laws of PredictionLog. Subclass with a fixture `log` and a way to `append`, and name the
class Test..."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeostat.core.ports import PredictionLog
from homeostat.core.records import PREDICTIONS

START = datetime(2026, 1, 1, 22, tzinfo=UTC)
"""Two hours before midnight: the examples cross a day."""

SHARED = [HealthCheck.function_scoped_fixture, HealthCheck.differing_executors]


def record(id: str, minutes: int, **other: Any) -> dict[str, Any]:
    """A row of PREDICTIONS, `minutes` after START."""
    row = {
        "id": id,
        "time": START + timedelta(minutes=minutes),
        "model": "m",
        "version": "1",
        "arm": "champion",
        "probability": 0.9,
        "latency": 0.002,
        "features": [1.5, -2.0],
        "score": 0.25,
        "error": None,
        "inputs": None,
        "propensity": 1.0,
    }
    return row | other


class PredictionLogContract:
    """Every PredictionLog passes this."""

    @pytest.fixture
    def log(self) -> PredictionLog:
        raise NotImplementedError("a subclass gives an empty log")

    def append(self, log: PredictionLog, model: str, batch: pl.DataFrame) -> None:
        """Put a batch (columns of PREDICTIONS, all of `model`) into the log."""
        raise NotImplementedError("a subclass fills the log")

    def keep(self, log: PredictionLog, rows: list[dict[str, Any]]) -> None:
        for model in sorted({row["model"] for row in rows}):
            mine = [row for row in rows if row["model"] == model]
            self.append(log, model, pl.DataFrame(mine, schema=PREDICTIONS))

    def all(self, log: PredictionLog, model: str = "m") -> pl.DataFrame:
        return log.read(model, START - timedelta(days=400), START + timedelta(days=400))

    @pytest.mark.parametrize("hours", [-11, 0, 5])
    def test_a_period_may_be_given_in_any_time_zone(self, log: PredictionLog, hours: int) -> None:
        self.keep(log, [record("a", 0), record("b", 200)])
        zone = timezone(timedelta(hours=hours))
        since, until = (START + timedelta(minutes=m) for m in (0, 1))
        assert log.read("m", since.astimezone(zone), until.astimezone(zone))["id"].to_list() == [
            "a"
        ]

    def test_an_empty_log_reads_as_an_empty_table(self, log: PredictionLog) -> None:
        assert dict(self.all(log).schema) == PREDICTIONS
        assert self.all(log).is_empty()

    def test_what_was_kept_is_read_unchanged(self, log: PredictionLog) -> None:
        rows = [
            record("a", 0),
            record("b", 1, arm="canary", version="2", probability=0.1, features=[]),
            record("bb", 1, inputs='{"country":"FR"}', propensity=0.05),
            record("c", 2, score=None, error="the model returned no number"),
            record("d", 3, version="", arm="", score=None, features=[], error="not JSON: “{”"),
        ]
        self.keep(log, rows)
        read = self.all(log)
        assert dict(read.schema) == PREDICTIONS
        assert read.to_dicts() == rows

    def test_the_period_includes_its_start_and_not_its_end(self, log: PredictionLog) -> None:
        self.keep(log, [record(str(i), i) for i in range(5)])
        since, until = START + timedelta(minutes=1), START + timedelta(minutes=3)
        assert log.read("m", since, until)["id"].to_list() == ["1", "2"]
        assert log.read("m", since, since).is_empty()

    def test_rows_are_ordered_by_time_id_and_arm(self, log: PredictionLog) -> None:
        self.keep(log, [record("b", 1), record("a", 1, arm="shadow"), record("z", 0)])
        self.keep(log, [record("a", 1), record("y", 180), record("x", 0)])
        read = self.all(log)
        assert list(read.select("id", "arm").iter_rows()) == [
            ("x", "champion"),
            ("z", "champion"),
            ("a", "champion"),
            ("a", "shadow"),
            ("b", "champion"),
            ("y", "champion"),
        ]

    def test_models_are_apart(self, log: PredictionLog) -> None:
        self.keep(log, [record("a", 0), record("b", 0, model="other")])
        assert self.all(log)["id"].to_list() == ["a"]
        assert self.all(log, "other")["id"].to_list() == ["b"]
        assert self.all(log, "nobody").is_empty()

    def test_news_are_what_came_since_whatever_its_time(self, log: PredictionLog) -> None:
        self.keep(log, [record("a", 5), record("z", -600), record("n", 5, model="other")])
        first, mark = log.news("m", START)
        assert first["id"].unique().to_list() == ["a"]
        assert dict(first.schema) == PREDICTIONS
        nothing, same = log.news("m", START, mark)
        assert nothing.is_empty()
        assert dict(nothing.schema) == PREDICTIONS
        assert same == mark
        late = [record("c", 9), record("b", 1, inputs='{"country":"FR"}'), record("y", -1)]
        self.keep(log, late)
        second, after = log.news("m", START, mark)
        assert after != mark
        assert second.unique(maintain_order=True).to_dicts() == [late[1], late[0]]
        assert log.news("m", START, after)[0].is_empty()
        assert log.news("m", START, mark)[0].equals(second)

    @settings(max_examples=6, deadline=None, suppress_health_check=SHARED)
    @given(
        batches=st.lists(st.lists(st.integers(0, 240), max_size=6), max_size=5),
        period=st.tuples(st.integers(-10, 250), st.integers(-10, 250)),
        data=st.data(),
    )
    def test_each_record_is_read_exactly_once(
        self,
        log: PredictionLog,
        batches: list[list[int]],
        period: tuple[int, int],
        data: st.DataObject,
    ) -> None:
        # examples share the log, so each has a model of its own
        model = f"m{data.draw(st.uuids())}"
        kept = [
            [record(f"{i}-{k}", minute, model=model) for k, minute in enumerate(minutes)]
            for i, minutes in enumerate(batches)
        ]
        for rows in kept:
            self.keep(log, rows)
        since, until = (START + timedelta(minutes=m) for m in period)
        wanted = [r for rows in kept for r in rows if since <= r["time"] < until]
        read = log.read(model, since, until)
        assert read["id"].to_list() == [r["id"] for r in sorted(wanted, key=_order)]


def _order(row: dict[str, Any]) -> tuple[datetime, str, str]:
    return row["time"], row["id"], row["arm"]
