"""Labels as they were known: the source's own, corrected by the ledger's."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from homeostat.core.errors import BadInput
from homeostat.data import ledger
from homeostat.data.names import need
from homeostat.data.spec import DataSpec


def overlay(
    raw: pl.DataFrame, spec: DataSpec, known: pl.DataFrame | None, as_of: datetime
) -> pl.DataFrame:
    """The rows before `as_of`, with the labels that could be known at `as_of`.

    A row's label is the ledger's where it has one (its id is the text of the key), else the
    source's own once it has matured (time + matures_after <= as_of), else null. The label column
    is Int64 (Float64 if it holds anything but 0 and 1) and is added where the source has none.
    known: facts of the ledger; those known after `as_of` are not used.
    Raises BadInput when the source's label is not a number.
    """
    column = spec.label.column
    need(raw, spec.time, what="time column", path=spec.source, field="$.data.time")
    need(raw, spec.key, what="key column", path=spec.source, field="$.data.key")
    rows = raw.filter(pl.col(spec.time) < as_of)
    final = pl.col(spec.time) <= as_of - spec.label.matures_after
    if column in rows.columns:
        own = pl.when(final).then(_number(rows, spec)).otherwise(None)
    else:
        own = pl.lit(None, dtype=pl.Float64)
    rows = rows.with_columns(own.alias(column))
    if known is not None and not known.is_empty():
        said = ledger.as_known(known, as_of).select(_id="id", _said="label")
        rows = rows.with_columns(pl.col(spec.key).cast(pl.String).alias("_id"))
        rows = rows.join(said, on="_id", how="left", maintain_order="left")
        rows = rows.with_columns(pl.coalesce("_said", column).alias(column)).drop("_id", "_said")
    whole = rows[column].drop_nulls().is_in([0.0, 1.0]).all()
    return rows.with_columns(pl.col(column).cast(pl.Int64)) if whole else rows


def _number(rows: pl.DataFrame, spec: DataSpec) -> pl.Expr:
    """The source's label as Float64; NaN, as pandas writes a missing one, is null."""
    column = spec.label.column
    kind = rows.schema[column]
    if not (kind.is_numeric() or kind in (pl.Boolean, pl.Null)):
        raise BadInput(
            f"the label column {column!r} is not a number",
            path=spec.source,
            expected="0 or 1",
            found=f"{kind}",
            remedy="convert it at the source",
        )
    return pl.col(column).cast(pl.Float64).fill_nan(None)
