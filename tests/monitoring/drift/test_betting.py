"""Evidence over windows: its budget, and that it grows when something moves."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from scipy.integrate import quad
from scipy.stats import binom

from homeostat.monitoring.drift.baseline import Baseline, Categorical, Numeric
from homeostat.monitoring.drift.betting import Bets, calibrated, wager, weigh
from homeostat.monitoring.drift.column import look
from homeostat.monitoring.drift.watch import KEPT, watch
from homeostat.monitoring.model import Evidence
from homeostat.monitoring.profiles.profile import profile
from homeostat.monitoring.profiles.traffic import WHOLE, Watched, scored
from homeostat.monitoring.spec import Drift

BASE = Baseline.build(pl.DataFrame({"x": np.random.default_rng(0).normal(size=20_000)})).columns[0]
FLAG = Baseline.build(pl.DataFrame({"x": ["a", "b", "b", "c"] * 2_000})).columns[0]


def bet(base: Numeric | Categorical, values: list | np.ndarray) -> Bets:  # type: ignore[type-arg]
    series = pl.Series("x", values)
    found = wager(base, look(base, [series], series.len()), 0.1, 1e-4)
    assert found is not None
    return found


def worth(bets: Bets) -> float:
    return weigh((), {"x": bets}, 1e300, 1)[0].log if bets.logs.max() > 0 else -1.0


def sure(log: float) -> Bets:
    """One bet that won so much."""
    return Bets(np.array([3]), np.array([log]), np.ones(1))


def test_bets_lose_while_nothing_moves_and_win_when_it_does() -> None:
    random = np.random.default_rng(1)
    assert worth(bet(BASE, random.normal(size=500))) < 0
    assert worth(bet(BASE, random.normal(1.0, 1, 500))) > 10
    assert worth(bet(BASE, np.append(random.normal(size=300), [np.nan] * 200))) > 10
    assert worth(bet(FLAG, ["a", "b", "b", "c"] * 100)) < 0
    assert worth(bet(FLAG, ["a"] * 400)) > 10
    assert worth(bet(FLAG, ["new"] * 400)) > 10


def test_a_bet_on_a_share_at_the_limit_is_worth_one_on_average() -> None:
    n, p0 = 60, 0.6
    for p in (0.3, 0.6):
        for stake in (0.05, 0.4):
            p1 = p0 + stake * (1 - p0)
            hits = np.arange(n + 1)
            value = (p1 / p0) ** hits * ((1 - p1) / (1 - p0)) ** (n - hits)
            assert binom.pmf(hits, n, p) @ value <= 1 + 1e-9


def test_a_small_move_is_found_over_windows_by_the_bets_that_have_won_before() -> None:
    random = np.random.default_rng(2)
    evidence: tuple[Evidence, ...] = ()
    fresh = 0.0
    for _ in range(8):
        bets = bet(BASE, random.normal(0.5, 1, 200))
        evidence = weigh(evidence, {"x": bets}, 1e9, 1)
        fresh += worth(bets)
    assert evidence[0].log > fresh + 1


def test_calibrated_p_values_are_worth_one_on_average() -> None:
    # over s = -log(p), which is exponential while nothing moves
    mean, _ = quad(lambda s: math.exp(calibrated(math.exp(-s)) - s), 1e-3, 600, limit=400)
    assert mean == pytest.approx(1, abs=0.01)
    assert calibrated(1e-12) > 15
    assert calibrated(1.0) < 0


def test_more_features_need_more_evidence_unless_several_move() -> None:
    strong = {"a": sure(math.log(250))}
    assert weigh((), strong, 100, 1)[0].named
    assert not weigh((), strong, 100, 3)[0].named
    together = {name: sure(math.log(110)) for name in "abc"}
    assert all(e.named for e in weigh((), together, 100, 3))


def test_what_was_named_stays_so_until_its_evidence_is_spent() -> None:
    after = weigh((), {"a": sure(20.0)}, 100, 1)
    assert (after[0].named, after[0].log) == (True, pytest.approx(math.log(100)))
    kept = weigh(after, {"a": sure(-1.0)}, 100, 1)
    assert kept[0].named
    assert weigh(kept, {"a": sure(-9.0)}, 100, 1) == ()


def test_alarms_stay_within_the_budget_in_the_long_run_though_a_named_column_resets_no_other() -> (
    None
):
    random = np.random.default_rng(2)
    names, run_length, windows, alarms = list("abcd"), 25.0, 6_000, 0
    evidence: tuple[Evidence, ...] = ()
    for _ in range(windows):
        # worth one on average, and all columns hang together: the worst that may be
        e = random.choice([0.4, 1.6]) * random.choice([0.5, 1.5], size=4)
        won = {name: sure(float(np.log(x))) for name, x in zip(names, e, strict=True)}
        before = any(f.named for f in evidence)
        evidence = weigh(evidence, won, run_length, 4)
        alarms += any(f.named for f in evidence) and not before
    assert 0 < alarms <= windows / run_length


def test_quiet_windows_alarm_no_more_than_declared_however_many_features_there_are() -> None:
    random = np.random.default_rng(3)
    columns = [f"f{i}" for i in range(12)]
    base = Baseline.build(pl.DataFrame(random.normal(size=(5_000, 12)), schema=columns))
    evidence: tuple[Evidence, ...] = ()
    alarms, length = 0, 20
    for _ in range(400):
        won = {}
        for column in base.columns:
            # the worst that the null allows: the mean has moved by just the minimum effect
            values = pl.Series(random.normal(0.2513, 1, 100))
            seen = look(column, [values], 100)
            bets = wager(column, seen, 0.1, 0.01)
            assert bets is not None
            won[column.name] = bets
        before = {e.feature for e in evidence if e.named}
        evidence = weigh(evidence, won, length, 12)
        alarms += any(e.named and e.feature not in before for e in evidence)
    assert alarms <= 400 / length


def test_the_evidence_that_a_window_records_does_not_grow_with_columns_and_slices() -> None:
    random = np.random.default_rng(2)
    names = [f"f{i}" for i in range(KEPT + 60)]
    base = random.normal(size=(3_000, len(names))).astype(np.float32)
    inputs = pl.DataFrame(base, schema=names).with_columns(score=random.random(3_000))
    watched = Watched.build(inputs, scored(inputs), ())
    few = {name: random.normal(3.0, 1.0, 40) for name in names} | {"score": random.random(40)}
    found = profile(watched.whole, few, np.arange(40, dtype=np.uint64))[0]
    before = tuple(Evidence(name, 20.0, (), name == "f7") for name in names)
    columns, evidence = watch(watched, {WHOLE: found}, Drift(), 0.001, before)
    assert len(columns) == len(names) + 1
    assert len(evidence) == KEPT
    assert evidence[0].named
    # nor while no request comes
    _, later = watch(watched, {}, Drift(), 0.001, before)
    assert len(later) == KEPT
    assert later[0].feature == "f7"


def test_windows_that_cannot_be_compared_with_anything_are_no_evidence() -> None:
    inputs = pl.DataFrame({"x": [1.0, 2.0] * 500, "score": [0.1, 0.9] * 500})
    watched = Watched.build(inputs, scored(inputs), ())
    rows = {"x": np.array([1.0, 2.0] * 20), "score": np.array([0.1, 0.9] * 20)}
    now = {WHOLE: profile(watched.whole, rows, np.arange(40, dtype=np.uint64))[0]}
    before = (Evidence("x", 2.0),)
    # no traffic a week ago
    _, evidence = watch(watched, now, Drift(weeks=1), 0.001, before, {})
    assert evidence == before
