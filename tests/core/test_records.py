"""Columns of the tables that stages share, as arrays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from homeostat.core.records import TIME, equal, instant, microseconds, there

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
SOON = timedelta(microseconds=1)


def test_an_instant_is_before_and_after_the_times_that_it_was_before_and_after() -> None:
    times = pl.DataFrame({"time": pl.Series([AT - SOON, AT, AT + SOON], dtype=TIME)})
    late = times.select(pl.col("time") >= instant(AT)).to_series()
    assert late.to_list() == [False, True, True]
    us = microseconds(times["time"])
    assert (us[1] - us[0], us[2] - us[1]) == (1, 1)


@pytest.mark.parametrize("values", [["a", "b"], [None, "a"], [None, None], []])
def test_where_nothing_is_there_it_equals_nothing(values: list[str | None]) -> None:
    column = pl.Series(values, dtype=pl.String)
    assert there(column).tolist() == [v is not None for v in values]
    assert equal(column, "a").tolist() == [v == "a" for v in values]
