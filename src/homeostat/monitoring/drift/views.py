"""What of a column is compared: its value, the hour of its instants, the length of its texts."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import time
from typing import Literal

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Kind = Literal["numeric", "categorical"]
Part = Literal["value", "hour", "length"]

FREE_TEXT = 0.5
"""A column of texts of which more than this share occurs once or a few times is free text: its
lengths are compared besides its words."""


LENGTH_OF = "length of "
COMMON = 10
"""Rows of a sample that a category needs: one that is rarer tells nothing by being there."""


class View(msgspec.Struct, frozen=True):
    """name: as it is told. column: in the table. dtype: of the column. single: numbers are
    compared with 32 bits, because one of the two tables has no more."""

    name: str
    column: str
    part: Part
    dtype: pl.DataType
    single: bool = False

    @property
    def kind(self) -> Kind:
        return "numeric" if self.part != "value" else (kind_of(self.dtype) or "numeric")

    def of(self, series: pl.Series) -> pl.Series:
        """The part of a piece of the column that is compared."""
        if self.part == "hour":
            at = series.cast(pl.Datetime("us")).dt if series.dtype == pl.Date else series.dt
            hours = at.hour().cast(pl.Float64) + at.minute() / 60 + at.second() / 3600
            return hours.alias(self.name)
        if self.part == "length":
            return series.cast(pl.String).str.len_chars().cast(pl.Float64).alias(self.name)
        return series.cast(pl.Float32) if self.single else series


def kind_of(dtype: pl.DataType) -> Kind | None:
    """How a column is compared: dates and lengths of time as numbers, truth values as
    categories; None: not at all. An all-null column counts as numeric."""
    if dtype.is_numeric() or dtype.is_temporal() or dtype == pl.Null:
        return "numeric"
    if dtype == pl.Boolean or dtype in (pl.String, pl.Categorical, pl.Enum):
        return "categorical"
    return None


def view(name: str, dtype: pl.DataType, *, single: bool = False) -> View:
    part: Part = "hour" if isinstance(dtype, pl.Datetime) else "value"
    return View(name, name, part, dtype, single)


def length_of(text: View) -> View:
    return View(LENGTH_OF + text.column, text.column, "length", text.dtype)


def dated(pieces: Iterable[pl.Series]) -> bool:
    """Instants that all are midnights are dates."""
    return all(((piece.dt.time() == time(0)) | piece.is_null()).all() for piece in pieces)


def paired(before: pl.Series, after: pl.Series) -> tuple[Floats, Floats]:
    """One column of two tables as numbers, NaN where missing: categories by how frequent they are
    before (-1: all rare ones, and missing ones), free texts by their length, instants by the hour
    of the day, because clocks go on."""
    if kind_of(before.dtype) != "categorical" and kind_of(after.dtype) != "categorical":
        return _floats(before), _floats(after)
    text, now = before.cast(pl.String), after.cast(pl.String)
    counted = text.drop_nulls().value_counts(sort=True, name="n")
    common = counted.filter(pl.col("n") >= COMMON)
    if int(common["n"].sum()) < (1 - FREE_TEXT) * int(counted["n"].sum()):
        return _floats(text.str.len_chars()), _floats(now.str.len_chars())
    levels = common.sort("n", before.name, descending=[True, False])[before.name].to_list()
    places = {level: float(i) for i, level in enumerate(levels)}
    if not places:
        return np.full(len(text), -1.0), np.full(len(now), -1.0)
    first, second = (
        side.replace_strict(places, default=-1.0, return_dtype=pl.Float64) for side in (text, now)
    )
    return first.fill_null(-1.0).to_numpy(), second.fill_null(-1.0).to_numpy()


def _floats(series: pl.Series) -> Floats:
    if isinstance(series.dtype, pl.Datetime):
        series = series.dt.hour().cast(pl.Float64) + series.dt.minute() / 60
    if series.dtype.is_temporal():
        series = series.to_physical()
    found: Floats = series.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return np.where(np.isfinite(found), found, np.nan)
