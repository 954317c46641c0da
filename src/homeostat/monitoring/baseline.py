"""What a window is compared with: each reference column, sorted once and summarised.

A numeric column keeps its exact distribution function at no more than SAMPLE of its values, and
the counts of BINS bins between its own quantiles. Any other column keeps the counts of its
frequent categories. Building costs one sort per column; comparing a window with it never sorts
the reference again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Kind = Literal["numeric", "categorical"]

SAMPLE = 100_000
"""Reference values at which the distribution function is kept. Fewer points than rows can only
make the distance look smaller, never larger."""
BINS = 10
LEVELS = 200
RARE = 10
"""Categories seen less often than this in the reference are kept together with unseen ones: two
samples of one distribution also differ in which rare categories they happen to contain."""


class Numeric(msgspec.Struct, frozen=True):
    """values: ascending and distinct, (s,). upto, below: share of the reference <= and < each.
    edges: inner edges of the bins, (b-1,); a bin is (edge, next edge]. counts: per bin, (b,).
    n: without nulls and NaN. low, high: the reference's range."""

    name: str
    n: int
    nulls: int
    values: NDArray[np.floating]
    upto: Floats
    below: Floats
    edges: NDArray[np.floating]
    counts: Floats
    dtype: pl.DataType

    @property
    def kind(self) -> Kind:
        return "numeric"

    @property
    def low(self) -> float | None:
        return float(self.values[0]) if self.n else None

    @property
    def high(self) -> float | None:
        return float(self.values[-1]) if self.n else None


class Categorical(msgspec.Struct, frozen=True):
    """levels: the frequent categories, as text. counts: of the levels, then of all the others.
    known: every category of the reference when there are at most LEVELS, to tell unseen ones."""

    name: str
    n: int
    nulls: int
    levels: tuple[str, ...]
    counts: Floats
    known: frozenset[str]
    dtype: pl.DataType

    @property
    def kind(self) -> Kind:
        return "categorical"


Column = Numeric | Categorical


class Baseline(msgspec.Struct, frozen=True):
    """The reference's columns in their order, and its rows. skipped: columns of a type that
    cannot be compared (lists, structs, bytes)."""

    columns: tuple[Column, ...]
    rows: int
    skipped: tuple[str, ...] = ()

    @classmethod
    def build(cls, reference: pl.DataFrame, columns: Sequence[str] | None = None) -> Baseline:
        """Summarise `columns` (all that can be compared, if unset) of the reference."""
        names = reference.columns if columns is None else columns
        kinds = {name: kind_of(reference.schema[name]) for name in names}
        return cls(
            tuple(column(reference.get_column(name)) for name in names if kinds[name]),
            reference.height,
            tuple(name for name in names if kinds[name] is None),
        )


def kind_of(dtype: pl.DataType) -> Kind | None:
    """How a column is compared: instants and lengths of time as numbers, truth values as
    categories; None: not at all. An all-null column counts as numeric."""
    if dtype.is_numeric() or dtype.is_temporal() or dtype == pl.Null:
        return "numeric"
    if dtype == pl.Boolean or dtype in (pl.String, pl.Categorical, pl.Enum):
        return "categorical"
    return None


def column(series: pl.Series) -> Column:
    if kind_of(series.dtype) == "categorical":
        return _categorical(series)
    return numeric(series.name, numbers(series), series.len(), series.dtype)


def numbers(series: pl.Series) -> NDArray[np.floating]:
    """The values as floats, ascending, without nulls and NaN; infinities stay."""
    if series.dtype.is_temporal():
        series = series.to_physical()
    if series.dtype != pl.Float32:
        series = series.cast(pl.Float64)
    found = series.drop_nulls().to_numpy()
    return ascending(found)


def ascending(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Sorted, without NaN (NumPy sorts NaN to the end)."""
    found = np.sort(values)
    return found[: np.searchsorted(found, np.nan)] if found.size and np.isnan(found[-1]) else found


def numeric(
    name: str, found: NDArray[np.floating], rows: int, dtype: pl.DataType | None = None
) -> Numeric:
    """found: ascending, without NaN."""
    n = int(found.size)
    values = found
    if n > SAMPLE:
        values = found[np.linspace(0, n - 1, SAMPLE).astype(np.int64)]
    values = np.unique(values)
    upto = np.searchsorted(found, values, side="right")
    below = np.searchsorted(found, values, side="left")
    # order statistics, not interpolated: an edge is a value that occurs
    inner = [max(0, -(-n * i // BINS) - 1) for i in range(1, BINS)] if n else []
    edges = np.unique(found[inner]) if n else found
    counts = bin_counts(found, edges)
    size = max(n, 1)
    return Numeric(
        name,
        n,
        rows - n,
        values,
        upto / size,
        below / size,
        edges,
        counts,
        pl.Float64() if dtype is None else dtype,
    )


def bin_counts(found: NDArray[np.floating], edges: NDArray[np.floating]) -> Floats:
    """Counts of ascending values in (-inf, edge0], (edge0, edge1], ..., (last, inf)."""
    upto = np.searchsorted(found, edges, side="right")
    return np.diff(np.concatenate(([0], upto, [found.size]))).astype(np.float64)


def _categorical(series: pl.Series) -> Categorical:
    text = series.cast(pl.String).drop_nulls()
    found = text.value_counts(sort=True, name="n").rows()
    # ties in an order that does not depend on the rows' order
    found = sorted(found, key=lambda row: (-row[1], row[0]))
    kept = [(level, n) for level, n in found[:LEVELS] if n >= RARE]
    others = text.len() - sum(n for _, n in kept)
    return Categorical(
        series.name,
        text.len(),
        series.len() - text.len(),
        tuple(level for level, _ in kept),
        np.array([*(n for _, n in kept), others], dtype=np.float64),
        frozenset(level for level, _ in found) if len(found) <= LEVELS else frozenset(),
        series.dtype,
    )


def level_counts(series: pl.Series, base: Categorical) -> tuple[Floats, int, int]:
    """-> counts of the base's levels and of all others (l + 1,), nulls, values never seen (0 when
    the reference has too many categories to tell)."""
    text = series.cast(pl.String).drop_nulls()
    found = dict(text.value_counts(name="n").rows())
    counts = np.array([found.get(level, 0) for level in base.levels], dtype=np.float64)
    unseen = sum(n for level, n in found.items() if level not in base.known) if base.known else 0
    return np.append(counts, text.len() - counts.sum()), series.len() - text.len(), unseen
