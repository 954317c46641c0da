"""What tables are compared with: each reference column, read once and summarised.

A numeric column keeps its exact distribution function at no more than GRID of its values, and
the counts of BINS bins between its own quantiles. Any other column keeps the counts of its
frequent categories. Building costs one sort per column, or, of a long one, two readings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from typing import TypeVar

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.monitoring.drift.cells import Cells
from homeostat.monitoring.drift.distances import Floats
from homeostat.monitoring.drift.source import Frame, Source
from homeostat.monitoring.drift.views import FREE_TEXT, Kind, View, dated, kind_of, length_of, view

GRID = 10_000
"""Reference values at which the distribution function is kept. Fewer points than rows can only
make the distance look smaller, never larger, and by less than 1 / GRID (of a column that was
counted: GAP)."""
FEW = 10_000
"""Rows up to which columns are looked at one after the other: threads would take longer."""
SORTED = 200_000
"""Rows of a column up to which it is sorted; more are counted at the quantiles of a sample."""
SAMPLED = 100_000
GAP = 0.001
"""Share of the reference that may lie between two neighbouring points; else it is sorted after
all."""
BINS = 10
LEVELS = 200
RARE = 10
"""Categories seen less often than this in the reference are kept together with unseen ones: two
samples of one distribution also differ in which rare categories they happen to contain."""
WHOLE = 20_000_000
"""Rows of a column up to which the whole of it is sorted; the grid of a longer one is laid through
every k-th row, and its distribution function counted exactly in a second pass."""
DISTINCT = 1_000_000
"""Distinct categories that are counted together at most; beyond it the rarest are forgotten."""

T = TypeVar("T")
R = TypeVar("R")


class Numeric(msgspec.Struct, frozen=True):
    """values: ascending and distinct, (s,). upto, below: share of the reference <= and < each.
    edges: inner edges of the bins, (b-1,); a bin is (edge, next edge]. counts: per bin, (b,).
    n: without nulls and NaN. scale: standard deviation of the finite values, at the grid. design:
    so many rows are worth one independent row (`dependence`); design_nulls: to the share of
    missing values."""

    name: str
    n: int
    nulls: int
    values: NDArray[np.floating]
    upto: Floats
    below: Floats
    edges: NDArray[np.floating]
    counts: Floats
    view: View
    scale: float = 0.0
    design: float = 1.0
    design_nulls: float = 1.0

    @property
    def kind(self) -> Kind:
        return "numeric"

    @property
    def dtype(self) -> pl.DataType:
        return self.view.dtype

    @property
    def low(self) -> float | None:
        return float(self.values[0]) if self.n else None

    @property
    def high(self) -> float | None:
        return float(self.values[-1]) if self.n else None


class Categorical(msgspec.Struct, frozen=True):
    """levels: the frequent categories, as text. counts: of the levels, then of all the others.
    known: every category of the reference when there are at most LEVELS, to tell unseen ones.
    design, design_nulls: as of `Numeric`."""

    name: str
    n: int
    nulls: int
    levels: tuple[str, ...]
    counts: Floats
    known: frozenset[str]
    view: View
    design: float = 1.0
    design_nulls: float = 1.0

    @property
    def kind(self) -> Kind:
        return "categorical"

    @property
    def dtype(self) -> pl.DataType:
        return self.view.dtype


Column = Numeric | Categorical


class Baseline(msgspec.Struct, frozen=True):
    """The reference's columns in their order, and its rows. skipped: columns of a type that
    cannot be compared (lists, structs, bytes)."""

    columns: tuple[Column, ...]
    rows: int
    skipped: tuple[str, ...] = ()

    @classmethod
    def build(
        cls,
        reference: pl.DataFrame | Source,
        columns: Sequence[str] | None = None,
        single: frozenset[str] = frozenset(),
    ) -> Baseline:
        """Summarise `columns` (all that can be compared, if unset) of the reference. single:
        columns that are compared with 32 bits."""
        source = Frame(reference) if isinstance(reference, pl.DataFrame) else reference
        names = list(source.schema) if columns is None else columns
        kinds = {name: kind_of(source.schema[name]) for name in names}
        wanted = [name for name in names if kinds[name]]
        found = side_by_side(
            lambda name: _columns(source, name, name in single), wanted, source.rows
        )
        skipped = tuple(name for name in names if kinds[name] is None)
        return cls(tuple(c for some in found for c in some), source.rows, skipped)


def side_by_side(do: Callable[[T], R], items: Sequence[T], rows: int) -> list[R]:
    """Sorting and decoding leave the interpreter: a few columns at a time use the cores, where
    their rows are worth starting threads for."""
    if len(items) < 2 or rows < FEW:
        return [do(item) for item in items]
    with ThreadPoolExecutor(min(4, cpu_count() or 1), thread_name_prefix="columns") as pool:
        return list(pool.map(do, items))


def _columns(source: Source, name: str, single: bool) -> list[Column]:
    seen = view(name, source.schema[name], single=single)
    if seen.part == "hour" and dated(source.pieces(name)):
        seen = msgspec.structs.replace(seen, part="value")
    if seen.kind == "numeric":
        return [_numeric(source, seen)]
    found = _categorical(source, seen)
    columns: list[Column] = [found]
    if seen.dtype == pl.String and found.n and found.counts[-1] > FREE_TEXT * found.n:
        columns.append(_numeric(source, length_of(seen)))
    return columns


def _numeric(source: Source, seen: View) -> Numeric:
    if source.rows > SORTED and (counted := _counted(source, seen)):
        return counted
    if source.rows <= WHOLE:
        found = [numbers(seen.of(piece)) for piece in source.pieces(seen.column)]
        whole = found[0] if len(found) == 1 else np.sort(np.concatenate(found), kind="stable")
        return numeric(seen.name, whole, source.rows, seen)
    step = -(-source.rows // WHOLE)
    some = np.sort(
        np.concatenate([numbers(seen.of(p.gather_every(step))) for p in source.pieces(seen.column)])
    )
    grid = numeric(seen.name, some, some.size, seen)
    # the grid is of every k-th row; what it counts is all of them
    size = 0
    upto, below = np.zeros(grid.values.size), np.zeros(grid.values.size)
    counts = np.zeros(grid.counts.size)
    for piece in source.pieces(seen.column):
        values = numbers(seen.of(piece))
        size += values.size
        upto += np.searchsorted(values, grid.values, side="right")
        below += np.searchsorted(values, grid.values, side="left")
        counts += bin_counts(values, grid.edges)
    return msgspec.structs.replace(
        grid,
        n=size,
        nulls=source.rows - size,
        upto=upto / max(size, 1),
        below=below / max(size, 1),
        counts=counts,
    )


def _counted(source: Source, seen: View) -> Numeric | None:
    """The grid from a sample, its counts from all rows. None when no grid is fine enough for what
    the values are like."""
    step = -(-source.rows // SAMPLED)
    some, ends = [], []
    for piece in source.pieces(seen.column):
        series = _floating(seen.of(piece))
        some.append(series.gather_every(step).drop_nulls().to_numpy())
        ends += [series.min(), series.max()]  # NaN only where nothing else is
    found = ascending(np.concatenate(some))
    if not found.size:
        return None
    at = np.unique(np.linspace(0, found.size - 1, GRID).astype(np.int64))
    limits = np.array([e for e in ends if e is not None and e == e], dtype=found.dtype)
    points = np.unique(np.concatenate((found[at], [limits.min(), limits.max()])))
    for cells in Cells.thinned(points):
        if _widest(*(np.searchsorted(found, cells.points, s) for s in ("right", "left"))) > (
            GAP * found.size
        ):
            continue
        counts = cells.count(floats(seen.of(p)) for p in source.pieces(seen.column))
        if _widest(counts.upto, counts.below) > GAP * counts.n:
            continue
        n, values = counts.n, cells.points.astype(found.dtype)
        inner = np.searchsorted(counts.upto, [-(-n * i // BINS) for i in range(1, BINS)])
        inner = np.unique(np.minimum(inner, values.size - 1))
        return Numeric(
            seen.name,
            n,
            source.rows - n,
            values,
            counts.upto / n,
            counts.below / n,
            values[inner],
            np.diff(np.concatenate(([0], counts.upto[inner], [n]))).astype(np.float64),
            seen,
            _spread(values, np.diff(np.append(0, counts.upto))),
        )
    return None


def _widest(upto: NDArray[np.integer], below: NDArray[np.integer]) -> int:
    """Values between two neighbouring points, at most."""
    return int((below[1:] - upto[:-1]).max(initial=0))


def numbers(series: pl.Series) -> NDArray[np.floating]:
    """The values as floats, ascending, without nulls and NaN; infinities stay."""
    return ascending(floats(series))


def floats(series: pl.Series) -> NDArray[np.floating]:
    """The values as floats, without nulls."""
    found = _floating(series)
    return (found.drop_nulls() if found.null_count() else found).to_numpy()


def _floating(series: pl.Series) -> pl.Series:
    if series.dtype.is_temporal():
        series = series.to_physical()
    return series if series.dtype == pl.Float32 else series.cast(pl.Float64)


def ascending(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Sorted, without NaN (NumPy sorts NaN to the end)."""
    found = np.sort(values)
    return found[: np.searchsorted(found, np.nan)] if found.size and np.isnan(found[-1]) else found


def numeric(name: str, found: NDArray[np.floating], rows: int, seen: View | None = None) -> Numeric:
    """found: ascending, without NaN."""
    n = int(found.size)
    values = found
    if n > GRID:
        values = found[np.linspace(0, n - 1, GRID).astype(np.int64)]
    values = values[np.append(True, values[1:] != values[:-1])] if n else values
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
        view(name, pl.Float64()) if seen is None else seen,
        _spread(values, np.diff(np.append(0, upto))),
    )


def _spread(values: NDArray[np.floating], weights: NDArray[np.integer]) -> float:
    """Standard deviation of the finite grid values, each with the rows up to it."""
    finite = np.isfinite(values)
    if not finite.any() or not weights[finite].sum():
        return 0.0
    kept = values[finite].astype(np.float64)
    mean = np.average(kept, weights=weights[finite])
    return float(np.sqrt(np.average((kept - mean) ** 2, weights=weights[finite])))


def bin_counts(found: NDArray[np.floating], edges: NDArray[np.floating]) -> Floats:
    """Counts of ascending values in (-inf, edge0], (edge0, edge1], ..., (last, inf)."""
    upto = np.searchsorted(found, edges, side="right")
    return np.diff(np.concatenate(([0], upto, [found.size]))).astype(np.float64)


def _categorical(source: Source, seen: View) -> Categorical:
    counted, n = count_levels(seen.of(p) for p in source.pieces(seen.column))
    # ties in an order that does not depend on the rows' order
    kept = sorted(((level, c) for level, c in counted.items() if c >= RARE), key=_frequent)
    kept = kept[:LEVELS]
    others = n - sum(c for _, c in kept)
    return Categorical(
        seen.name,
        n,
        source.rows - n,
        tuple(level for level, _ in kept),
        np.array([*(c for _, c in kept), others], dtype=np.float64),
        frozenset(counted) if len(counted) <= LEVELS else frozenset(),
        seen,
    )


def _frequent(level: tuple[str, int]) -> tuple[int, str]:
    return -level[1], level[0]


def count_levels(pieces: Iterable[pl.Series]) -> tuple[dict[str, int], int]:
    """-> rows per category, as text, and rows that have one."""
    total, n = pl.DataFrame(schema={"level": pl.String, "n": pl.UInt32}), 0
    for piece in pieces:
        text = piece.cast(pl.String).drop_nulls().alias("level")
        n += text.len()
        found = pl.concat([total, text.value_counts(name="n").cast({"n": pl.UInt32})])
        total = found.group_by("level").agg(pl.col("n").sum()) if total.height else found
        if total.height > DISTINCT:
            total = total.sort("n", descending=True).head(DISTINCT)
    return dict(total.rows()), n
