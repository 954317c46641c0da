"""Drift of tables against a minimum effect."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from homeostat.core.errors import BadInput
from homeostat.core.verdict import Outcome
from homeostat.monitoring.drift.baseline import Baseline
from homeostat.monitoring.drift.compare import compare
from homeostat.monitoring.spec import Drift

numbers = st.lists(
    st.one_of(
        st.none(),
        st.floats(-5, 5),
        st.sampled_from([0.0, 1.0, float("nan"), float("inf"), float("-inf")]),
    ),
    min_size=1,
    max_size=60,
)
words = st.lists(st.one_of(st.none(), st.sampled_from("abcdefgh")), min_size=1, max_size=60)


def table(values: list[float | None], dtype: type[pl.DataType] = pl.Float64) -> pl.DataFrame:
    return pl.DataFrame({"x": pl.Series(values, dtype=dtype)})


def normal(n: int, shift: float = 0.0, seed: int = 0) -> pl.DataFrame:
    return pl.DataFrame({"x": np.random.default_rng(seed).normal(shift, 1, n)})


@settings(max_examples=30)
@given(numbers, words, st.sampled_from([1, 50]))
def test_identical_tables_never_drift(
    values: list[float | None], names: list[str | None], times: int
) -> None:
    for frame in (table(values * times), table(names * times, pl.String)):  # type: ignore[arg-type,operator]
        report = compare(frame, frame, Drift(min_effect=0), alpha=0.99)
        assert not report.drifted
        assert report.columns[0].p_value == 1
        assert all(t.statistic == pytest.approx(0, abs=1e-12) for t in report.columns[0].tests)


@settings(max_examples=40)
@given(numbers, numbers, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(a: list, b: list, random) -> None:  # type: ignore[no-untyped-def,type-arg]
    c, d = list(a), list(b)
    random.shuffle(c)
    random.shuffle(d)
    assert compare(table(a), table(b), alpha=0.1) == compare(table(c), table(d), alpha=0.1)


@settings(max_examples=40)
@given(numbers, numbers)
def test_the_ks_distance_is_symmetric_and_equals_scipys(a: list, b: list) -> None:  # type: ignore[type-arg]
    forth = compare(table(a), table(b), Drift(tests=("ks",)), alpha=0.1).columns[0]
    back = compare(table(b), table(a), Drift(tests=("ks",)), alpha=0.1).columns[0]
    assert forth.effect == pytest.approx(back.effect) if forth.tests else not back.tests
    x, y = ([v for v in side if v is not None and v == v] for side in (a, b))
    if min(len(x), len(y)) > 3:  # SciPy divides by a rounded size
        assert forth.effect == pytest.approx(ks_2samp(x, y, method="asymp").statistic)


@settings(max_examples=30)
@given(words, words)
def test_the_distance_of_categories_is_symmetric_when_they_are_frequent(a: list, b: list) -> None:  # type: ignore[type-arg]
    a, b = a * 12 + list("abcdefgh") * 10, b * 12 + list("abcdefgh") * 10
    spec = Drift(tests=("ks",))
    forth = compare(table(a, pl.String), table(b, pl.String), spec, alpha=0.1).columns[0]
    back = compare(table(b, pl.String), table(a, pl.String), spec, alpha=0.1).columns[0]
    assert forth.effect == pytest.approx(back.effect)


@settings(max_examples=40)
@given(
    st.integers(20, 3000),
    st.floats(0, 3),
    st.floats(1e-6, 0.5),
    st.floats(1.0, 2.0),
    st.floats(0, 0.4),
    st.floats(0, 0.4),
)
def test_more_alpha_and_less_minimum_effect_only_add_drift(
    n: int, shift: float, alpha: float, more: float, effect: float, less: float
) -> None:
    a, b = normal(2000), normal(n, shift, seed=n)
    strict = compare(a, b, Drift(min_effect=effect), alpha=alpha).columns[0]
    for loose in (
        compare(a, b, Drift(min_effect=effect), alpha=min(0.99, alpha * more)).columns[0],
        compare(a, b, Drift(min_effect=max(0, effect - less)), alpha=alpha).columns[0],
    ):
        assert loose.drifted >= strict.drifted
        assert loose.p_value <= strict.p_value + 1e-12


def test_drift_is_said_exactly_when_the_p_value_is_within_the_share_of_alpha() -> None:
    for shift in np.linspace(0.2, 0.8, 25):
        for test in ("ks", "psi"):
            report = compare(normal(5000), normal(500, shift, 3), Drift(tests=(test,)), alpha=0.01)
            assert report.columns[0].drifted == (report.columns[0].tests[0].p_value < 0.01)


def test_a_million_rows_do_not_make_a_tiny_movement_a_drift() -> None:
    tiny = compare(normal(300_000), normal(300_000, 0.1, seed=1), alpha=0.05)
    assert tiny.verdict.passed
    assert compare(
        normal(300_000), normal(300_000, 0.1, seed=1), Drift(min_effect=0), alpha=0.05
    ).verdict.failed


def test_a_real_shift_is_shown_with_its_bound_and_ranked_first() -> None:
    before, after = normal(5000), normal(5000, 1.0, seed=1)
    report = compare(
        before.with_columns(quiet=pl.col("x")), after.with_columns(quiet=before["x"]), alpha=0.01
    )
    first = report.ranked()[0]
    assert (first.column, first.drifted) == ("x", True)
    # two normals one standard deviation apart have a KS distance of 0.383
    assert first.low is not None
    assert first.low < 0.383
    assert first.effect == pytest.approx(0.383, abs=0.03)
    assert report.verdict.sentence == "1 of 2 columns moved: x"


def test_values_that_went_missing_are_drift_and_new_categories_too() -> None:
    values = normal(3000)["x"]
    holes = pl.DataFrame({"x": values}).with_columns(
        pl.when(pl.int_range(pl.len()) % 4 == 0).then(None).otherwise("x").alias("x")
    )
    assert compare(pl.DataFrame({"x": values}), holes, alpha=0.01).verdict.failed
    before, after = table(["a", "b"] * 500, pl.String), table(["a", "c"] * 500, pl.String)  # type: ignore[list-item]
    found = compare(before, after, alpha=0.01).columns[0]
    assert found.drifted
    assert found.out_of_range == 0.5


def test_fresh_identifiers_are_not_drift() -> None:
    a = pl.DataFrame({"id": [f"a{i}" for i in range(2000)]})
    b = pl.DataFrame({"id": [f"b{i}" for i in range(2000)]})
    assert not compare(a, b, alpha=0.05).drifted


def test_32_bits_of_a_number_are_not_another_number() -> None:
    a = pl.DataFrame({"x": [0.1, 0.2, 0.3] * 500})
    b = a.with_columns(pl.col("x").cast(pl.Float32))
    assert compare(a, b, Drift(min_effect=0), alpha=0.5).columns[0].effect == 0
    assert compare(b, a, Drift(min_effect=0), alpha=0.5).columns[0].effect == 0


def test_differences_of_the_schema_are_told_and_not_fatal() -> None:
    a = pl.DataFrame(
        {"gone": [1, 2] * 50, "turned": [1, 2] * 50, "l": [[1]] * 100, "ok": [1] * 100}
    )
    b = pl.DataFrame({"turned": ["1", "2"] * 50, "ok": [1.0] * 100, "new": [1] * 100})
    report = compare(a, b, alpha=0.05)
    assert {(c.column, c.change) for c in report.schema} == {
        ("gone", "missing"),
        ("turned", "type"),
        ("l", "skipped"),
        ("new", "new"),
    }
    assert report.verdict.failed
    assert [c.column for c in report.columns] == ["ok"]


@pytest.mark.parametrize("dtype", [pl.Float64, pl.String, pl.Boolean, pl.Date, pl.Null])
def test_empty_and_all_null_columns_are_no_crash_and_no_pass(dtype: type[pl.DataType]) -> None:
    full = pl.DataFrame({"x": pl.Series([None] * 100, dtype=dtype)})
    empty = full.clear()
    assert compare(full, empty, alpha=0.05).verdict.outcome is Outcome.INCONCLUSIVE
    assert not compare(full, full, alpha=0.05).drifted
    assert compare(empty, full, alpha=0.05).verdict.outcome is Outcome.INCONCLUSIVE


def test_a_constant_that_changes_is_drift_in_either_direction() -> None:
    one = pl.DataFrame({"x": [1.0] * 500})
    assert compare(one, one + 1, alpha=0.01).verdict.failed
    assert compare(one, one - 1, alpha=0.01).verdict.failed
    assert compare(one, one, alpha=0.01).verdict.passed


def test_a_baseline_is_built_once_and_gives_the_same_answer() -> None:
    a, b = normal(3000), normal(700, 0.4, seed=5)
    assert compare(Baseline.build(a), b, alpha=0.01) == compare(a, b, alpha=0.01)


def test_bad_arguments_are_told() -> None:
    with pytest.raises(BadInput, match="alpha is a probability"):
        compare(normal(10), normal(10), alpha=0)
    with pytest.raises(BadInput, match="no column 'y'"):
        compare(normal(10), normal(10), alpha=0.1, columns=["y"])
