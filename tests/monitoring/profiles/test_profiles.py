"""Profiles: merging, and what monitors read from them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from homeostat.core.records import PREDICTIONS
from homeostat.monitoring.drift.baseline import Baseline
from homeostat.monitoring.drift.column import judge
from homeostat.monitoring.drift.column import look as look_at
from homeostat.monitoring.profiles.profile import (
    SAMPLE,
    Profile,
    Scheme,
    from_table,
    look,
    profile,
    to_table,
    total,
    usual,
)
from homeostat.monitoring.profiles.traffic import WHOLE, Watched, profiles, scored, together
from homeostat.monitoring.spec import Drift

START = datetime(2026, 1, 1, tzinfo=UTC)
RANDOM = np.random.default_rng(4)
REFERENCE = pl.DataFrame(
    {
        "x": RANDOM.normal(size=2_000),
        "flag": RANDOM.integers(0, 2, 2_000).astype(float),
        "word": RANDOM.choice(["a", "b", "c"], 2_000),
    }
)
SCHEME = Scheme.of(Baseline.build(REFERENCE))
numbers = st.sampled_from([0.0, 1.0, 0.5, -9.0, 9.0, float("nan"), float("inf"), float("-inf")])
rows = st.lists(
    st.tuples(numbers, numbers, st.sampled_from(["a", "b", "z", None])), min_size=0, max_size=300
)


def profiled(values: list, first: int = 0) -> Profile:  # type: ignore[type-arg]
    x, flag, word = ([row[i] for row in values] for i in range(3))
    columns = {
        "x": np.array(x, dtype=float),
        "flag": np.array(flag, dtype=float),
        "word": pl.Series(word, dtype=pl.String),
    }
    priorities = np.arange(first, first + len(values), dtype=np.uint64) * np.uint64(7919)
    return profile(SCHEME, columns, priorities)[0]


def same(a: Profile, b: Profile) -> None:
    for name in ("rows", "errors"):
        assert getattr(a, name) == getattr(b, name)
    for name in ("counts", "nulls", "low", "high", "sample", "priorities"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    np.testing.assert_allclose(a.sums, b.sums)
    np.testing.assert_allclose(a.squares, b.squares)


@settings(max_examples=40, deadline=None)
@given(rows, rows, rows)
def test_profiles_of_parts_add_up_to_that_of_the_whole_in_any_order(
    a: list,
    b: list,
    c: list,  # type: ignore[type-arg]
) -> None:
    one, two = profiled(a), profiled(b, len(a))
    three = profiled(c, len(a) + len(b))
    whole = profiled([*a, *b, *c])
    same((one + two) + three, whole)
    same(one + (two + three), whole)
    same(three + (two + one), whole)
    same(whole + SCHEME.empty(), whole)


@settings(max_examples=20, deadline=None)
@given(rows)
def test_a_profile_reads_back_from_its_table(values: list) -> None:  # type: ignore[type-arg]
    found = profiled(values)
    same(from_table(to_table([found]))[0], found)


def test_a_small_profile_is_as_good_as_its_rows_and_a_large_one_nearly() -> None:
    for n, near in ((SAMPLE, 1e-12), (5_000, 0.006)):
        now = pl.DataFrame({"x": RANDOM.normal(0.4, 1, n)})
        base = Baseline.build(REFERENCE.select("x"))
        exact = judge(base.columns[0], look_at(base.columns[0], [now["x"]], n), Drift(), 0.01)
        scheme = Scheme.of(base)
        values = {"x": now["x"].to_numpy()}
        column, seen = look(scheme, profile(scheme, values, np.arange(n, dtype=np.uint64))[0])[0]
        binned = judge(column, seen, Drift(), 0.01)
        assert binned.effect == pytest.approx(exact.effect, abs=near)
        assert binned.effect <= exact.effect + 1e-12
        assert binned.psi == pytest.approx(exact.psi)
        assert binned.out_of_range == exact.out_of_range


def test_a_move_onto_a_neighbour_of_a_common_value_is_seen() -> None:
    base = Baseline.build(pl.DataFrame({"x": [1.0] * 1_000}))
    scheme = Scheme.of(base)
    values = {"x": np.full(1_000, 0.999)}
    found = profile(scheme, values, np.arange(1_000, dtype=np.uint64))[0]
    column, seen = look(scheme, found)[0]
    assert judge(column, seen, Drift(), 0.01).effect == 1


def log(n: int, seed: int, shift: float = 0.0) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    features = random.normal(shift, 1, size=(n, 2)).astype(np.float32)
    features[:, 1] = random.integers(0, 2, n)
    return pl.DataFrame(
        {
            "id": [f"{seed}/{i}" for i in range(n)],
            "time": [START + timedelta(hours=1) * i / n for i in range(n)],
            "model": "m",
            "version": ["1" if i % 3 else "2" for i in range(n)],
            "arm": ["champion" if i % 3 else "canary" for i in range(n)],
            "probability": 1.0,
            "latency": 0.001,
            "features": features.tolist(),
            "score": random.random(n),
            "error": None,
            "inputs": None,
            "propensity": 1.0,
        },
        schema=PREDICTIONS,
    ).with_columns(
        score=pl.when(pl.int_range(pl.len()) % 50 == 0).then(None).otherwise("score"),
        error=pl.when(pl.int_range(pl.len()) % 50 == 0).then(pl.lit("boom")).otherwise("error"),
    )


def watched(by: tuple[str, ...] = ("b",)) -> Watched:
    random = np.random.default_rng(5)
    table = pl.DataFrame(
        {
            "a": random.normal(size=4_000).astype(np.float32),
            "b": random.integers(0, 2, 4_000).astype(np.float32),
            "score": random.random(4_000),
        }
    )
    return Watched.build(table, scored(table), by)


def test_the_minutes_of_a_log_and_its_machines_make_the_window() -> None:
    rows = log(3_000, 1)
    minute = timedelta(minutes=1)
    seen = watched()
    whole = together(seen, [profiles(rows, seen, "1", START, 60 * minute, 1)])
    minutes = together(seen, [profiles(rows, seen, "1", START, minute, 60)])
    halves = [rows.filter(pl.int_range(pl.len()) % 2 == i) for i in (0, 1)]
    machines = together(seen, [profiles(h, seen, "1", START, minute, 60) for h in halves])
    assert set(whole) == {WHOLE, "b=0", "b=1"}
    for name, found in whole.items():
        same(minutes[name], found)
        same(machines[name], found)
    assert whole[WHOLE].rows == 3_000
    assert whole[WHOLE].errors == 60
    # scores of the other version count neither as values nor as missing ones
    place = SCHEME.offsets  # only to say that bins are per column
    assert place[0] == 0
    counted = [s.n + s.nulls for _, s in look(seen.whole, whole[WHOLE])]
    answered = rows.filter(pl.col("score").is_not_null())
    assert counted == [2_940, 2_940, answered.filter(pl.col("version") == "1").height]
    assert whole["b=0"].rows + whole["b=1"].rows == 2_940


def test_past_traffic_is_a_baseline() -> None:
    base = Scheme.of(Baseline.build(REFERENCE.select("x")))
    past = RANDOM.normal(3, 1, 4_000)
    before = profile(base, {"x": past}, np.arange(4_000, dtype=np.uint64))[0]
    then = usual(base, total(base, [before]))
    now = profile(then, {"x": RANDOM.normal(3, 1, 1_000)}, np.arange(1_000, dtype=np.uint64))[0]
    column, seen = look(then, now)[0]
    assert not judge(column, seen, Drift(), 0.01).drifted
    assert judge(*look(base, now)[0], Drift(), 0.01).drifted


def test_the_table_of_profiles_can_be_read_by_anything() -> None:
    table = to_table([profiled([(0.0, 1.0, "a")]), profiled([])])
    assert_frame_equal(table, pl.DataFrame(table.to_arrow()))
    assert table["rows"].to_list() == [1, 0]
