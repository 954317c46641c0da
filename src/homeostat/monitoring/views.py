"""What of a column is compared: its value, the hour of its instants, the length of its texts."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import time
from typing import Literal

import msgspec
import polars as pl

Kind = Literal["numeric", "categorical"]
Part = Literal["value", "hour", "length"]

FREE_TEXT = 0.5
"""A column of texts of which more than this share occurs once or a few times is free text: its
lengths are compared besides its words."""


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
    return View(f"length of {text.column}", text.column, "length", text.dtype)


def dated(pieces: Iterable[pl.Series]) -> bool:
    """Instants that all are midnights are dates."""
    return all(((piece.dt.time() == time(0)) | piece.is_null()).all() for piece in pieces)
