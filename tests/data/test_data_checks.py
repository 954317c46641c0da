"""Labels as known, the transform, and the verdict on the data."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from homeostat.core.duration import Duration
from homeostat.core.errors import BadInput
from homeostat.core.records import LABELS
from homeostat.core.verdict import Outcome, Verdict
from homeostat.data.features import feature_names
from homeostat.data.labels import overlay
from homeostat.data.spec import Between, Column, DataSpec, Expect, Label
from homeostat.data.transform import apply
from homeostat.data.validate import validate

T0 = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
N = 400


def spec(expect: Expect | None = None, features: tuple[str, ...] | None = None) -> DataSpec:
    label = Label("y", Duration.parse("1d"))
    return DataSpec("rows", "at", "id", label, features=features, expect=expect or Expect())


def table(**changes: Any) -> pl.DataFrame:
    columns: dict[str, Any] = {
        "id": range(N),
        "at": [T0 + n * HOUR for n in range(N)],
        "x": [float(n * 7919 % 997) for n in range(N)],
        "y": [n * 31 % 7 % 2 for n in range(N)],
    }
    return pl.DataFrame({**columns, **changes})


def checked(rows: pl.DataFrame, expect: Expect | None = None, **more: Any) -> dict[str, Verdict]:
    verdict = validate(rows, rows, spec(expect), features=more.pop("features", ["x"]), **more)
    assert verdict.check == "data"
    return {part.check: part for part in verdict.parts if not part.passed}


def test_good_data_passes() -> None:
    assert checked(table(), train=table().head(300), test=table().tail(100)) == {}


def test_text_may_be_a_feature_where_it_is_named_and_dates_may_not() -> None:
    rows = table(country=["DE", "FR"] * (N // 2), due=[T0] * N)
    assert feature_names(rows, spec(), ()) == ("x",)
    assert feature_names(rows, spec(features=("country", "x")), ()) == ("country", "x")
    assert checked(rows, features=["country", "x"]) == {}
    with pytest.raises(BadInput, match="'due' is neither number, truth value nor text"):
        feature_names(rows, spec(features=("due",)), ())
    assert "due (Datetime" in checked(rows, features=["x", "due"])["features"].sentence


def test_a_text_that_tells_the_label_is_found_and_one_that_is_new_in_each_row_is_not() -> None:
    rows = table()
    rows = rows.with_columns(
        state=pl.when(pl.col("y") == 1).then(pl.lit("charged back")).otherwise(pl.lit("settled")),
        note=pl.col("id").cast(pl.String),
    )
    assert "leakage.label" not in checked(rows, features=["x", "note"])
    assert "state" in checked(rows, features=["x", "note", "state"])["leakage.label"].sentence


def with_(values: list[Any], *first: Any) -> list[Any]:
    return [*first, *values[len(first) :]]


X: list[Any] = table()["x"].to_list()


@pytest.mark.parametrize(
    ("changes", "expect", "part", "told"),
    [
        ({}, Expect(rows=Between(min=500)), "rows", "400 rows, expected at least 500"),
        (
            {"x": with_(X, -1.0)},
            Expect(columns={"x": Column(min=0)}),
            "columns.x",
            "below 0.*row 1",
        ),
        ({"x": with_(X, None)}, Expect(nulls="forbid"), "columns.x", "1 of 400 rows are null"),
        ({}, Expect(columns={"x": Column(type="string")}), "columns.x", "Float64, expected text"),
        ({"c": "u"}, Expect(columns={"c": Column(values=("v",))}), "columns.c", "not one of v"),
        ({}, Expect(columns={"xx": Column(min=0)}), "columns.xx", "did you mean 'x'"),
        ({"id": with_(list(range(N)), 1)}, None, "key", "such as 1 in rows 1 and 2"),
        ({"at": [T0 - n * HOUR for n in range(N)]}, None, "time", "not in time order"),
        ({"y": pl.Series([None] * N, dtype=pl.Int64)}, None, "label", "none of 400 rows"),
        ({"y": [0] * N}, None, "classes", "one class only"),
        ({"y": [n % 3 for n in range(N)]}, None, "label", "not 0 or 1"),
        ({}, Expect(positives=Between(max=0.1)), "classes", "expected at most 10"),
        ({"x": with_(X, float("nan"), float("inf"))}, None, "finite", r"x \(2 of 400"),
        ({"x": [-float(n * 31 % 7 % 2) for n in range(N)]}, None, "leakage.label", "x alone"),
    ],
)
def test_each_mistake_is_a_failing_part_with_its_sentence(
    changes: dict[str, Any], expect: Expect | None, part: str, told: str
) -> None:
    found = checked(table(**changes), expect)[part]
    assert found.failed
    import re

    assert re.search(told, found.sentence), found.sentence


def test_a_constant_feature_is_a_remark() -> None:
    parts = checked(table(c=1.0), features=["x", "c"])
    assert {k: p.outcome for k, p in parts.items()} == {"constant": Outcome.INCONCLUSIVE}


def test_rows_shared_by_train_and_test_fail() -> None:
    rows = table()
    parts = checked(rows, train=rows.head(300), test=rows.slice(290))
    assert {"leakage.keys", "leakage.rows", "leakage.time"} == set(parts)
    assert parts["leakage.keys"].figure == 10


Y, HONEST = pl.col("y").fill_null(0), pl.col("y").shift(24).fill_null(0).cum_sum()


@pytest.mark.parametrize(
    ("feature", "leaks"),
    [
        (pl.col("x").cum_sum(), False),
        (HONEST, False),
        (pl.col("x").shift(-1).fill_null(0), True),
        (pl.col("x") - pl.col("x").mean(), True),
        (Y.shift(3).fill_null(0).cum_sum(), True),
    ],
)
def test_features_from_later_rows_or_labels_are_named(feature: pl.Expr, leaks: bool) -> None:
    def fn(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.with_columns(feature.alias("f"))

    raw = table()
    verdict = validate(raw, fn(raw), spec(), features=["x", "f"], fn=fn)
    assert verdict.failed is leaks, verdict.sentence
    assert [p.check for p in verdict.failures()] == (["leakage.later"] if leaks else [])
    assert not leaks or "f (" in verdict.sentence


FACTS = st.lists(
    st.tuples(st.sampled_from("0123x"), st.sampled_from([0.0, 1.0]), st.integers(0, 60)), max_size=8
)


@given(FACTS, st.integers(0, 60))
def test_labels_never_know_what_came_after_as_of(facts: list[Any], hours: int) -> None:
    as_of, raw = T0 + hours * HOUR, table().head(60)
    known = pl.DataFrame(
        [(i, y, T0, T0 + k * HOUR) for i, y, k in facts], schema=LABELS, orient="row"
    )
    seen = overlay(raw, spec(), known, as_of)
    final = pl.col("at") <= as_of - timedelta(days=1)
    past = raw.with_columns(y=pl.when(final).then("y").otherwise(1 - pl.col("y")))
    past = past.filter(pl.col("at") < as_of)
    assert_frame_equal(seen, overlay(past, spec(), known.filter(pl.col("known") <= as_of), as_of))
    assert seen.height == min(hours, 60)


def test_the_ledger_corrects_the_source_and_adds_what_it_lacks() -> None:
    known = pl.DataFrame([("1", 1.0, T0, T0)], schema=LABELS, orient="row")
    rows = overlay(table().head(3).drop("y"), spec(), known, T0 + 90 * HOUR)
    assert rows["y"].to_list() == [None, 1, None]
    assert rows.schema["y"] == pl.Int64


@pytest.mark.parametrize(
    ("fn", "told"),
    [
        (lambda rows: None, "must return a Polars frame.*NoneType"),
        (lambda rows: rows.drop("y"), "lost the label column 'y'"),
        (lambda rows: pl.concat([rows, rows]), "more rows than it was given"),
        (lambda rows: rows.head(0), "returned no rows"),
        (lambda rows: rows.select("nothing"), r"test_data_checks.py:\d+.*ColumnNotFound"),
    ],
)
def test_a_bad_transform_is_told(fn: Callable[[pl.DataFrame], Any], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        apply(table(), fn, spec())


def test_features_are_the_declared_or_the_numeric_ones() -> None:
    rows = table(segment=1, flag=True, word="w")
    assert feature_names(rows, spec(), ["segment"]) == ("x", "flag")
    assert feature_names(rows, spec(features=("flag",)), []) == ("flag",)
    with pytest.raises(BadInput, match="did you mean 'flag'"):
        feature_names(rows, spec(features=("flagg",)), [])
