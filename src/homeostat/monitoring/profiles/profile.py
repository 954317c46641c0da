"""Mergeable summaries: what monitors read instead of the requests.

A profile counts rows per column in bins that are fixed by a baseline: its finer quantiles, exactly
at values that many rows share, and the ends of its range. Adding the profiles of two minutes, or
of two machines, gives the profile of both: counts, ranges and samples exactly, in any order and
grouping; sums to rounding. A profile of no more than SAMPLE rows has all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, reduce
from itertools import pairwise

import msgspec
import numpy as np
import polars as pl
import xxhash
from numpy.typing import NDArray

from homeostat.monitoring.drift.baseline import Baseline, Categorical, Column, Numeric
from homeostat.monitoring.drift.column import Levels, Numbers, Seen
from homeostat.monitoring.drift.distances import Floats

FINE = 200
"""Bins of a numeric column, about: its distribution function is known to 1 / FINE."""
SAMPLE = 200
"""Rows that a profile keeps: those with the least priorities, so a uniform sample."""

Ints = NDArray[np.int64]


class Binning(msgspec.Struct, frozen=True):
    """column: the baseline, with its distribution function at the edges only. edges: ascending,
    (e,); bin i is (edge i-1, edge i]; empty for categories, whose bins are those of the baseline.
    coarse: where the baseline's own bins end among the edges."""

    column: Column
    edges: NDArray[np.floating]
    coarse: NDArray[np.intp]

    @property
    def size(self) -> int:
        if isinstance(self.column, Categorical):
            return len(self.column.levels) + 2  # others, unseen
        return self.edges.size + 1

    @classmethod
    def of(cls, column: Column) -> Binning:
        if isinstance(column, Categorical):
            none = np.empty(0)
            return cls(column, none, none.astype(np.intp))
        edges, share = _fine(column)
        coarse = np.searchsorted(edges, column.edges)
        binned = msgspec.structs.replace(column, values=edges, upto=share, below=share)
        return cls(binned, edges, coarse)

    def read(
        self, column: NDArray[np.floating] | pl.Series
    ) -> tuple[Ints, Floats, NDArray[np.bool_]]:
        """-> of each value its bin (of a missing one anything), itself as a number (its bin, of a
        category), and whether it is missing. column: what the view is of."""
        if isinstance(column, pl.Series):
            part = self.column.view.of(column)
            if isinstance(self.column, Categorical):
                codes = self.codes(part)
                return codes, codes.astype(np.float64), part.is_null().to_numpy()
            column = part.cast(pl.Float64).to_numpy()
        numbers = column.astype(np.float64)
        return self.codes(column), numbers, np.isnan(numbers)

    def codes(self, values: NDArray[np.floating] | pl.Series) -> Ints:
        """The bin of each value; of a missing one anything."""
        if isinstance(self.column, Numeric):
            return np.searchsorted(self.edges, np.asarray(values), side="left")
        assert isinstance(values, pl.Series)
        base, text = self.column, values.cast(pl.String)
        where = {level: i for i, level in enumerate(base.levels)}
        others = len(base.levels)
        found = text.replace_strict(where, default=others, return_dtype=pl.Int64)
        if base.known:
            seen = text.is_in(list(base.known))
            found = found.set(~seen.fill_null(value=True), others + 1)
        return found.fill_null(others).to_numpy()

    def seen(self, counts: Ints, nulls: int) -> Seen:
        """What the counts show of the column."""
        n = int(counts.sum())
        if isinstance(self.column, Categorical):
            kept = counts[:-1].astype(np.float64)
            kept[-1] += counts[-1]
            return Levels(n, nulls, kept, int(counts[-1]))
        upto = np.cumsum(counts)[:-1]
        ends = np.concatenate(([0], upto[self.coarse], [n]))
        outside = int(counts[0] + counts[-1]) if self.column.n else 0
        return Numbers(n, nulls, upto, upto, np.diff(ends).astype(np.float64), outside, 0.0)


def _fine(column: Numeric) -> tuple[NDArray[np.floating], Floats]:
    """Edges, and the share of the baseline at or below each (exact: all of them are points of its
    grid or ends of its bins)."""
    if not column.n:
        return column.values, column.upto
    values, upto, below = column.values, column.upto, column.below
    at = np.unique(np.searchsorted(upto, np.arange(1, FINE) / FINE - 1e-12))
    at = np.unique(np.concatenate(([0], at, [values.size - 1])))
    # a value that many rows share has a bin of its own, so that a move next to it is seen
    shared = at[(upto[at] - below[at] >= 0.5 / FINE) | (at == 0) | (values.size <= FINE)]
    just = np.nextafter(values[shared], -np.inf)
    edges = np.concatenate((values[at], just, column.edges))
    ends = np.cumsum(column.counts)[:-1] / column.n
    share = np.concatenate((upto[at], below[shared], ends))
    edges, first = np.unique(edges, return_index=True)
    return edges, share[first]


class Scheme(msgspec.Struct, frozen=True, dict=True):
    """How the columns of a baseline are binned; profiles of one scheme can be added."""

    baseline: Baseline
    bins: tuple[Binning, ...]

    @classmethod
    def of(cls, baseline: Baseline) -> Scheme:
        return cls(baseline, tuple(Binning.of(column) for column in baseline.columns))

    @cached_property
    def offsets(self) -> Ints:
        """Where each column's bins begin, and the end, (c + 1,)."""
        return np.cumsum([0, *(b.size for b in self.bins)])

    @cached_property
    def key(self) -> str:
        """The same for the same bins."""
        digest = xxhash.xxh3_64()
        for b in self.bins:
            digest.update(b.column.name.encode())
            digest.update(np.ascontiguousarray(b.edges).tobytes())
            if isinstance(b.column, Categorical):
                digest.update("\0".join((*b.column.levels, "", *sorted(b.column.known))).encode())
        return digest.hexdigest()

    def empty(self) -> Profile:
        c = len(self.bins)
        return Profile(
            0,
            0,
            np.zeros(self.offsets[-1], np.int64),
            np.zeros(c, np.int64),
            np.full(c, np.inf),
            np.full(c, -np.inf),
            np.zeros(c),
            np.zeros(c),
            np.empty((0, c)),
            np.empty(0, np.uint64),
        )


class Profile(msgspec.Struct, frozen=True):
    """One slice of one stretch of time. rows: requests; errors: those that failed. counts: of all
    columns, by the scheme's offsets. nulls, low, high, sums, squares: per column (c,), of the
    finite values. sample: (k, c), NaN where missing, with priorities (k,) ascending."""

    rows: int
    errors: int
    counts: Ints
    nulls: Ints
    low: Floats
    high: Floats
    sums: Floats
    squares: Floats
    sample: Floats
    priorities: NDArray[np.uint64]

    @property
    def complete(self) -> bool:
        """The sample is all rows that were answered."""
        return self.rows - self.errors <= SAMPLE

    def __add__(self, other: Profile) -> Profile:
        priorities = np.concatenate((self.priorities, other.priorities))
        kept = np.argsort(priorities, kind="stable")[:SAMPLE]
        return Profile(
            self.rows + other.rows,
            self.errors + other.errors,
            self.counts + other.counts,
            self.nulls + other.nulls,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.sums + other.sums,
            self.squares + other.squares,
            np.concatenate((self.sample, other.sample))[kept],
            priorities[kept],
        )


def total(scheme: Scheme, parts: Sequence[Profile]) -> Profile:
    """The profile of all parts together; of none: of nothing."""
    some = [part for part in parts if part.rows]  # most minutes of a quiet model have none
    return reduce(Profile.__add__, some) if some else scheme.empty()


def profile(
    scheme: Scheme,
    values: Mapping[str, NDArray[np.floating] | pl.Series],
    priorities: NDArray[np.uint64],
    *,
    absent: Mapping[str, NDArray[np.bool_]] | None = None,
    group: Ints | None = None,
    requests: Sequence[tuple[int, int]] | None = None,
) -> list[Profile]:
    """Summarise rows in groups, all columns at once per group.

    values: (n,) per column that the scheme views, NaN or null where missing; text, truth values
    and whole numbers as series. priorities: (n,), any numbers that do not depend on the values,
    unique to a row wherever it is seen. absent: rows that a column does not count at all, not even
    as missing. group: of each row (n,), from 0 on; one group if unset. requests: rows and errors
    per group, where they are not all in `values`.
    """
    n = priorities.size
    group = np.zeros(n, np.int64) if group is None else group
    sizes = np.bincount(group, minlength=len(requests) if requests else 1)
    rows = requests or [(int(size), 0) for size in sizes]
    g, c = sizes.size, len(scheme.bins)
    counts = np.zeros((g, scheme.offsets[-1]), np.int64)
    nulls = np.zeros((g, c), np.int64)
    low, high = np.full((g, c), np.inf), np.full((g, c), -np.inf)
    sums, squares = np.zeros((g, c)), np.zeros((g, c))
    table = np.full((n, c), np.nan)
    for j, b in enumerate(scheme.bins):
        name = b.column.view.column
        out = (absent or {}).get(name, np.zeros(n, bool))
        codes, numbers, missing = b.read(values[name])
        there = ~missing & ~out
        missing = missing & ~out
        nulls[:, j] = np.bincount(group[missing], minlength=g)
        at = group[there] * b.size + codes[there]
        counts[:, scheme.offsets[j] : scheme.offsets[j + 1]] = np.bincount(
            at, minlength=g * b.size
        ).reshape(g, b.size)
        table[there, j] = numbers[there]
        finite = there & np.isfinite(numbers)
        kept, of = numbers[finite], group[finite]
        sums[:, j] = np.bincount(of, weights=kept, minlength=g)
        squares[:, j] = np.bincount(of, weights=kept**2, minlength=g)
        np.minimum.at(low[:, j], of, kept)
        np.maximum.at(high[:, j], of, kept)
    order = np.lexsort((priorities, group))
    starts = np.concatenate(([0], np.cumsum(sizes)))
    chosen = [order[a : min(b, a + SAMPLE)] for a, b in pairwise(starts)]
    return [
        Profile(
            rows[i][0],
            rows[i][1],
            counts[i],
            nulls[i],
            low[i],
            high[i],
            sums[i],
            squares[i],
            table[kept],
            priorities[kept],
        )
        for i, kept in enumerate(chosen)
    ]


def look(scheme: Scheme, found: Profile) -> list[tuple[Column, Seen]]:
    """Each column with what the profile shows of it, and the baseline to hold it against: exactly,
    where the profile has all of its rows."""
    seen: list[tuple[Column, Seen]] = []
    for j, b in enumerate(scheme.bins):
        nulls, exact = int(found.nulls[j]), scheme.baseline.columns[j]
        if found.complete and isinstance(exact, Numeric):
            values = found.sample[:, j]
            kind = exact.values.dtype
            numbers = Numbers.of(exact, pl.Series(values[~np.isnan(values)].astype(kind)))
            seen.append((exact, msgspec.structs.replace(numbers, nulls=nulls)))
            continue
        counts = found.counts[scheme.offsets[j] : scheme.offsets[j + 1]]
        seen.append((b.column, b.seen(counts, nulls)))
    return seen


def usual(scheme: Scheme, found: Profile) -> Scheme:
    """The scheme with what a profile shows as its baseline: past traffic instead of a table."""
    bins = []
    for j, b in enumerate(scheme.bins):
        counts = found.counts[scheme.offsets[j] : scheme.offsets[j + 1]]
        seen = b.seen(counts, int(found.nulls[j]))
        column = msgspec.structs.replace(
            b.column, n=seen.n, nulls=seen.nulls, counts=np.asarray(seen.counts)
        )
        if isinstance(seen, Numbers):
            share = seen.upto / max(1, seen.n)
            column = msgspec.structs.replace(column, upto=share, below=share)
        bins.append(msgspec.structs.replace(b, column=column))
    columns = tuple(b.column for b in bins)
    return Scheme(Baseline(columns, found.rows), tuple(bins))


# -- as tables ---------------------------------------------------------------------------------

_FIELDS: dict[str, pl.DataType] = {
    "rows": pl.Int64(),
    "errors": pl.Int64(),
    "counts": pl.List(pl.Int64()),
    "nulls": pl.List(pl.Int64()),
    "low": pl.List(pl.Float64()),
    "high": pl.List(pl.Float64()),
    "sums": pl.List(pl.Float64()),
    "squares": pl.List(pl.Float64()),
    "sample": pl.List(pl.Float64()),
    "priorities": pl.List(pl.UInt64()),
}


def to_table(profiles: Sequence[Profile]) -> pl.DataFrame:
    """One row per profile; arrays as lists, the sample row after row."""
    columns = {
        name: [
            value.ravel() if isinstance(value := getattr(p, name), np.ndarray) else value
            for p in profiles
        ]
        for name in _FIELDS
    }
    return pl.DataFrame(columns, schema=_FIELDS)


def from_table(table: pl.DataFrame) -> list[Profile]:
    """The profiles that were put in a table; other columns are left alone."""
    found = []
    for row in table.select(list(_FIELDS)).iter_rows(named=True):
        nulls = np.array(row["nulls"], np.int64)
        low, high, sums, squares = (
            np.array(row[name], np.float64) for name in ("low", "high", "sums", "squares")
        )
        sample = np.array(row["sample"], np.float64).reshape(-1, nulls.size)
        counts, priorities = np.array(row["counts"]), np.array(row["priorities"], np.uint64)
        of = (row["rows"], row["errors"])
        found.append(Profile(*of, counts, nulls, low, high, sums, squares, sample, priorities))
    return found
