from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeostat.core.duration import Duration
from homeostat.core.errors import BadInput
from homeostat.training.spec import Split
from homeostat.training.split import split

START = datetime(2026, 1, 1, tzinfo=UTC)


def spec(train: str = "7d", gap: str = "2d", test: str = "3d") -> Split:
    return Split(*(Duration.parse(d) for d in (train, gap, test)))


def test_the_test_period_ends_with_the_latest_row_and_the_gap_lies_between(table) -> None:
    parts = split(table, spec(), "time", label="label")
    assert parts.test["time"].max() == table["time"].max()
    assert parts.test_to - parts.test_from == timedelta(days=3)
    assert parts.test_from - parts.train_to == timedelta(days=2)
    assert (parts.train.height, parts.test.height) == (7 * 60, 3 * 60)


def test_rows_whose_labels_are_not_mature_or_not_known_are_in_neither_part(table) -> None:
    end = START + timedelta(days=15)
    unknown = pl.when(pl.int_range(pl.len()) % 2 == 0).then("label").alias("label")
    parts = split(table.with_columns(unknown), spec(), "time", end=end, label="label")
    assert parts.test["time"].max() < end
    assert parts.test["label"].null_count() == parts.train["label"].null_count() == 0
    assert parts.train.height == 7 * 30


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (pl.lit(None, dtype=pl.Int64), "known label"),
        (pl.lit(0), "one class only"),
        (pl.when(pl.col("time") > START + timedelta(days=16)).then(1).otherwise("label"), "test"),
    ],
)
def test_an_empty_part_or_one_class_is_bad_input(table, change, says) -> None:
    with pytest.raises(BadInput, match=says):
        split(table.with_columns(change.alias("label")), spec(), "time", label="label")


def test_too_little_history_says_what_there_is_and_what_to_do(table) -> None:
    with pytest.raises(BadInput, match="train period") as found:
        split(table, spec(gap="30d"), "time", label="label")
    assert "2026-01-01" in found.value.line()
    assert found.value.remedy


@settings(deadline=None, max_examples=50)
@given(*[st.integers(1, 200)] * 3, st.integers(1, 500))
def test_no_row_is_in_both_parts_and_every_train_row_is_a_gap_before_the_test(
    train: int, gap: int, test: int, end: int
) -> None:
    hours = pl.DataFrame({"time": [START + timedelta(hours=i) for i in range(500)]})
    lengths = (Duration(hours=h) for h in (train, gap, test))
    try:
        parts = split(hours, Split(*lengths), "time", end=START + timedelta(hours=end))
    except BadInput:
        return
    assert parts.train["time"].max() < parts.train_to
    assert parts.test["time"].min() >= parts.train_to + timedelta(hours=gap)
    assert parts.train.height <= train
    assert parts.test.height <= test


def test_the_window_may_grow_or_begin_with_a_change(table) -> None:
    sliding = split(table, spec(), "time", label="label")
    growing = split(table, spec(), "time", label="label", window="expanding")
    assert growing.train["time"].min() == table["time"].min()
    assert growing.test.equals(sliding.test)
    changed = sliding.train_from + timedelta(days=5)
    since = split(table, spec(), "time", label="label", window="since_change", changed=changed)
    assert (since.train_from, since.train_to) == (changed, sliding.train_to)
    early = sliding.train_from - timedelta(days=1)
    whole = split(table, spec(), "time", label="label", window="since_change", changed=early)
    assert whole.train.equals(sliding.train)
    unknown = split(table, spec(), "time", label="label", window="since_change")
    assert unknown.train.equals(sliding.train)
