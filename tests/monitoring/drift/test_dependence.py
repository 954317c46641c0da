"""Rows that hang together are worth fewer: how many is measured, and allowed for."""

from __future__ import annotations

import msgspec
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy import special
from scipy.signal import lfilter

from homeostat.core.metrics import measure
from homeostat.core.names import METRICS
from homeostat.monitoring.drift.baseline import Baseline
from homeostat.monitoring.drift.betting import wager, weigh
from homeostat.monitoring.drift.column import judge as drift_of
from homeostat.monitoring.drift.column import look
from homeostat.monitoring.drift.dependence import design_effect, in_order, of_metric
from homeostat.monitoring.model import Evidence
from homeostat.monitoring.quality.health import data_quality
from homeostat.monitoring.quality.live import judge
from homeostat.monitoring.spec import Drift, Quality

Floats = NDArray[np.float64]

COLUMNS = ["a", "b", "c"]


def rows(n: int, correlation: float, seed: int) -> pl.DataFrame:
    """Each with the one before it, in every column; standard normal."""
    noise = np.random.default_rng(seed).normal(size=(n, 3)) * np.sqrt(1 - correlation**2)
    values = lfilter([1.0], [1.0, -correlation], noise, axis=0)
    return pl.DataFrame(values, schema=COLUMNS)


def measured(table: pl.DataFrame) -> list[float]:
    return [c.design for c in in_order(Baseline.build(table), table).columns]


def test_independent_rows_are_worth_all_they_are_and_rows_without_order_too() -> None:
    assert measured(rows(20_000, 0.0, 1)) == [1.0, 1.0, 1.0]
    assert measured(rows(20_000, 0.9, 1).sample(fraction=1.0, shuffle=True, seed=0)) == [1.0] * 3
    assert measured(rows(300, 0.9, 1)) == [1.0, 1.0, 1.0]  # too few to tell


def test_rows_that_hang_together_are_worth_what_their_correlation_leaves() -> None:
    # at the median 13.3 rows are worth one: 1 + 2 sum((2 / pi) asin(0.9**k)); 2.3 at 0.5
    for found in measured(rows(40_000, 0.9, 2)):
        assert 11 < found < 19
    for found in measured(rows(40_000, 0.5, 2)):
        assert 1.9 < found < 3.3


@pytest.mark.parametrize("kind", [pl.String, pl.Boolean])
def test_categories_that_come_in_runs_are_worth_one_each_run(kind: type[pl.DataType]) -> None:
    random = np.random.default_rng(3)
    runs = pl.Series("x", np.repeat(random.integers(0, 2, 2_000), 10)).cast(pl.Boolean).cast(kind)
    base = Baseline.build(runs.to_frame()).columns[0]
    assert 8 < design_effect(base, runs) < 14
    assert design_effect(base, runs.sample(fraction=1.0, shuffle=True, seed=0)) == 1.0


def test_missing_values_are_counted_and_a_slow_trend_is_no_dependence() -> None:
    table = rows(10_000, 0.0, 4).with_columns(
        a=pl.col("a") + pl.int_range(10_000) / 10_000,
        b=pl.when(pl.int_range(10_000) % 1_000 < 50).then(None).otherwise(pl.col("b")),
        c=pl.lit(None, pl.Float64),
    )
    trend, missing, nothing = measured(table)
    assert trend == nothing == 1.0
    assert missing > 1


def windows_in_alarm(table: pl.DataFrame, base: Baseline, shift: float = 0.0) -> list[bool]:
    """By the evidence of windows of 250 rows, at one false alarm in 120 of them."""
    evidence: tuple[Evidence, ...] = ()
    found = []
    for window in table.with_columns(pl.col("a") + shift).iter_slices(250):
        won = {}
        for column in base.columns:
            seen = look(column, [window[column.name]], 250)
            bets = wager(column, seen, 0.1, 1e-4)
            assert bets is not None
            won[column.name] = bets
        evidence = weigh(evidence, won, 120, 3)
        found.append(any(e.named for e in evidence))
    return found


def alarms(named: list[bool]) -> int:
    return sum(now and not before for before, now in zip([False, *named], named, strict=False))


@pytest.mark.parametrize("correlation", [0.5, 0.9])
def test_quiet_windows_of_rows_that_hang_together_alarm_no_more_than_declared(
    correlation: float,
) -> None:
    table = rows(20_000, correlation, 5)
    plain = Baseline.build(table)
    quiet = rows(250 * 360, correlation, 6)
    assert alarms(windows_in_alarm(quiet, in_order(plain, table))) <= 3
    if correlation == 0.9:  # what it was without
        assert alarms(windows_in_alarm(quiet, plain)) > 20
    # and what has moved is still found
    moved = windows_in_alarm(quiet.head(250 * 20), in_order(plain, table), 1.0)
    assert moved[-1]


def labelled(n: int, correlation: float, random: np.random.Generator) -> tuple[Floats, Floats]:
    """-> label, score: neighbours are alike in what the model knows, and in what it does not."""
    noise = random.normal(size=(n, 2)) * np.sqrt(1 - correlation**2)
    known, unknown = lfilter([1.0], [1.0, -correlation], noise, axis=0).T
    score = special.expit(1.5 * known - 1)
    return (special.ndtr(unknown) < score).astype(float), score


@pytest.mark.parametrize("metric", ["auc", "recall", "log_loss"])
def test_a_floor_at_what_a_metric_really_is_alarms_no_more_than_declared(metric: str) -> None:
    random = np.random.default_rng(6)
    test, many = labelled(20_000, 0.9, random), labelled(400_000, 0.9, random)
    design = of_metric(metric, *test, threshold=0.5, k=100)
    shuffled = np.stack(test)[:, random.permutation(20_000)]
    assert of_metric(metric, *shuffled, threshold=0.5, k=100) == 1.0
    true = measure(*many, only=(metric,))[metric].value
    assert true is not None
    better = METRICS[metric].higher_is_better
    bound = {"min": true} if better else {"max": true}
    alarms = {1.0: 0, design: 0}
    for _ in range(200):
        window = labelled(500, 0.9, random)
        for counted in alarms:
            verdict, _ = judge(
                *window, Quality(metric, **bound), threshold=0.5, alpha=0.02, design=counted
            )
            alarms[counted] += verdict.failed
    assert alarms[1.0] > 20  # 1 % of 200 is 2
    assert alarms[design] <= 6


def test_what_is_missing_in_bursts_is_worth_its_bursts() -> None:
    random = np.random.default_rng(7)
    gone = np.repeat(random.random(1_000) < 0.1, 20)
    table = pl.DataFrame({"a": pl.Series(random.normal(size=20_000)).set(pl.Series(gone), None)})
    (column,) = in_order(Baseline.build(table), table).columns
    assert 15 < column.design_nulls < 30
    # 60 of 200 rows in three bursts: by chance, where one in ten bursts is missing
    now = pl.Series("a", [None] * 60 + [0.0] * 140, pl.Float64)
    found = drift_of(column, look(column, [now], 200), Drift(), 0.01)
    faults = data_quality([found], rows=200, errors=0, alpha=0.01)
    assert not faults.failed
    alone = msgspec.structs.replace(found, design_nulls=1.0)
    assert data_quality([alone], rows=200, errors=0, alpha=0.01).failed
