"""The split by time: | train | gap | test |, the test period last and all of its labels mature."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

import msgspec
import polars as pl

from homeostat.core.errors import BadInput
from homeostat.training.spec import Split

Window = Literal["sliding", "expanding", "since_change"]


class Parts(msgspec.Struct, frozen=True):
    """Rows of the two periods; a period holds from <= time < to."""

    train: pl.DataFrame
    test: pl.DataFrame
    train_from: datetime
    train_to: datetime
    test_from: datetime
    test_to: datetime


def split(
    table: pl.DataFrame,
    spec: Split,
    time: str,
    *,
    end: datetime | None = None,
    label: str | None = None,
    window: Window = "sliding",
    changed: datetime | None = None,
) -> Parts:
    """The latest rows before `end` whose label is known, as train and test.

    time: name of a Datetime column. end: labels of rows before it are mature (None: of all rows).
    label: name of the label column; rows where it is null are left out, and both parts must hold
    both classes. The test period ends with the latest such row, so a source that has stopped is
    split as it was when it did. window: `sliding` trains on `spec.train` before the gap,
    `expanding` on everything there, `since_change` on nothing before `changed`. Raises BadInput
    when a part is empty or has one class.
    """
    rows = table if end is None else table.filter(pl.col(time) < end)
    if label is not None:
        rows = rows.filter(pl.col(label).is_not_null())
    last = rows[time].max()
    if not isinstance(last, datetime):
        before = f" before {end:%F %R}" if end is not None else ""
        raise BadInput(
            f"no row{before} has a known label",
            found=f"{table.height:,} rows in all",
            remedy="wait for labels to mature, or shorten data.label.matures_after",
        )
    test_to = last + timedelta(microseconds=1)
    test_from = test_to - spec.test
    train_to = test_from - spec.gap
    train_from = train_to - spec.train
    first = rows[time].min()
    if window == "expanding" and isinstance(first, datetime):
        train_from = min(train_from, first)
    if window == "since_change" and changed is not None:
        train_from = max(train_from, changed)

    def period(since: datetime, until: datetime) -> pl.DataFrame:
        return rows.filter((pl.col(time) >= since) & (pl.col(time) < until))

    parts = Parts(
        period(train_from, train_to),
        period(test_from, test_to),
        train_from,
        train_to,
        test_from,
        test_to,
    )
    _check("train", parts.train, train_from, train_to, label, first)
    _check("test", parts.test, test_from, test_to, label, first)
    return parts


def _check(
    name: str,
    part: pl.DataFrame,
    since: datetime,
    until: datetime,
    label: str | None,
    first: object,
) -> None:
    period = f"the {name} period ({since:%F %R} to {until:%F %R})"
    if part.is_empty():
        raise BadInput(
            f"{period} has no rows with a known label",
            path=f"training.split.{name}",
            found=f"the earliest at {first:%F %R}" if isinstance(first, datetime) else None,
            remedy="shorten training.split, or give it more history",
        )
    if label is not None and part[label].n_unique() < 2:
        raise BadInput(
            f"{period} has one class only",
            path=f"training.split.{name}",
            expected="labels of 0 and of 1",
            found=f"{part.height:,} rows, all labelled {part[label][0]}",
            remedy=f"lengthen training.split.{name}, or check the label column {label!r}",
        )
