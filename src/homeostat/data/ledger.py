"""What the label ledger means, without its storage: facts in, what was known at a time out.

A label has two times: when the outcome happened (`time`) and when it reached us (`known`). Only
the second decides what could have been used at some moment; that is what makes a metric of last
March come out the same today as it did then.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl

from homeostat.core.clock import to_us
from homeostat.core.errors import BadInput
from homeostat.core.records import LABELS, TIME, microseconds

COLUMNS = list(LABELS)


def empty() -> pl.DataFrame:
    """A ledger without facts."""
    return pl.DataFrame(schema=LABELS)


def facts(labels: pl.DataFrame) -> pl.DataFrame:
    """The rows as the ledger keeps them (schema LABELS), each once. Raises BadInput."""
    lacking = [c for c in COLUMNS if c not in labels.columns]
    if lacking:
        raise BadInput(
            "these are not labels",
            expected=f"the columns {', '.join(COLUMNS)}",
            found=f"no {', '.join(lacking)}",
        )
    for column in ("time", "known"):
        kind = labels.schema[column]
        if not labels.is_empty() and getattr(kind, "time_zone", None) is None:
            raise BadInput(
                f"the labels' {column!r} has no time zone",
                expected="datetimes in UTC",
                found=str(kind),
            )
    rows = labels
    if [*labels.schema.items()] != [*LABELS.items()]:
        rows = labels.select(pl.col(c).cast(t) for c, t in LABELS.items())
    holes = {c: n for c in COLUMNS if (n := rows[c].null_count())}
    if holes or np.isnan(rows["label"].to_numpy()).any():
        found = ", ".join(f"{n} without {c}" for c, n in holes.items()) or "NaN as a label"
        raise BadInput("incomplete labels", expected="a value in every field", found=found)
    alone = rows["id"].n_unique() == rows.height
    return rows if alone else rows.unique(maintain_order=True)


def new_facts(kept: pl.DataFrame, given: pl.DataFrame) -> pl.DataFrame:
    """Those of `given` (from `facts`) that are not in `kept`, in their order."""
    touched = kept.filter(pl.col("id").is_in(given["id"].implode()))
    if touched.is_empty():
        return given
    return given.join(touched, on=COLUMNS, how="anti", maintain_order="left")


def as_known(rows: pl.DataFrame, at: datetime, ids: pl.Series | None = None) -> pl.DataFrame:
    """Per id the latest label with known <= at (schema LABELS, ordered by known, then arrival).

    rows: facts in the order in which they arrived. A fact that repeats the label before it adds
    nothing, so `time` and `known` are those of the first fact with the present value.
    ids: answer for these only.
    """
    rows = rows[COLUMNS]
    if ids is not None:
        asked = pl.DataFrame({"id": ids.cast(pl.String)})
        rows = rows.join(asked, on="id", how="semi", maintain_order="left")
    told = microseconds(rows["known"]) <= to_us(at)
    rows = rows if told.all() else rows.filter(pl.Series(told))
    if not rows["known"].is_sorted():
        rows = rows.sort("known", maintain_order=True)
    # nearly every id has one fact: only the others need their history looked at.
    # Equal hashes of different ids only send a row the long way round.
    if rows["id"].n_unique() == rows.height:
        return rows
    again = rows["id"].hash().is_duplicated()
    history = rows.with_row_index("_order").filter(again)
    history = history.unique(COLUMNS, keep="first", maintain_order=True)  # a fact counts once
    changed = pl.col("label").ne_missing(pl.col("label").shift(1).over("id"))
    latest = history.filter(changed).unique("id", keep="last", maintain_order=True)
    once = rows.with_row_index("_order").filter(~again)
    return pl.concat([once, latest]).sort("_order").drop("_order")


def matured(
    predictions: pl.DataFrame, labels: pl.DataFrame, *, at: datetime, matures_after: timedelta
) -> pl.DataFrame:
    """Predictions whose label is final at `at`, joined with `label` and `known`.

    Final: the prediction's time + matures_after <= at, and a label is known by then.
    predictions: columns `id` and `time` at least. labels: facts, or what `as_known` gave.
    The rows keep the order of the predictions.
    """
    known = as_known(labels, at).select("id", "label", "known")
    old = predictions.filter(pl.col("time").cast(TIME) <= at - matures_after)
    return old.join(known, on="id", how="inner", maintain_order="left")
