"""Counting how many values lie below each point of a grid, in one pass and without sorting.

A monotone function sends every value to one of CELLS cells, each of which holds at most one point
of the grid: a value in another cell than a point is above or below it without looking, and one in
the same cell is compared with it. So the counts are exact, whatever rounding the function does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CELLS = 1 << 16
CHUNK = 1 << 15
"""Values that are looked at together, and stay in a core's cache."""
_MAGNITUDE = np.int64(0x7FFF_FFFF_FFFF_FFFF)


class Counted(msgspec.Struct, frozen=True):
    """n: values without NaN. upto, below: values <= and < each point (s,). outside: beyond the
    first and the last point; excess: by how much, added up (finite ones)."""

    n: int
    upto: Ints
    below: Ints
    outside: int
    excess: float


class Cells(msgspec.Struct, frozen=True):
    """points: ascending and distinct (s,). at: the cell of each, distinct. logarithmic: the cells
    are as wide as their values are large, and not of one width."""

    points: Floats
    at: Ints
    low: float
    scale: float
    logarithmic: bool

    @classmethod
    def of(cls, points: NDArray[np.floating]) -> Cells | None:
        """None when there is no way to lay cells such that no two points share one."""
        laid = (cls._laid(points.astype(np.float64), way) for way in (False, True))
        return next((cells for cells in laid if cells and cells._apart.all()), None)

    @classmethod
    def thinned(cls, points: NDArray[np.floating]) -> Iterator[Cells]:
        """The ways to lay cells when points other than the outermost may be left out."""
        values = points.astype(np.float64)
        for way in (False, True):
            laid = cls._laid(values, way)
            if laid is None:
                continue
            kept = laid._apart
            kept[-1] = True
            if points.size > 4:
                kept[-2] = True  # the cells are laid up to the last point but one
                kept[1:-2] &= laid.at[1:-2] != laid.at[-2]
            again = cls._laid(values[kept], way)
            if again and again._apart.all():
                yield again

    @classmethod
    def _laid(cls, points: Floats, logarithmic: bool) -> Cells | None:
        # the outermost points may be far out, and have the outermost cells to themselves
        inner = points[1:-1] if points.size > 4 else points
        if not inner.size or not np.isfinite([inner[0], inner[-1]]).all():
            return None
        low, high = _ordered(inner[[0, -1]], logarithmic).tolist()
        if not math.isfinite(high - low):
            return None
        scale = (CELLS - 3) / (high - low) if high > low else 1.0
        cells = cls(points, np.empty(points.size, np.int64), low, scale, logarithmic)
        cells._cell(points, np.empty(points.size), cells.at)
        return cells

    @property
    def _apart(self) -> NDArray[np.bool_]:
        """Of each point: is it not in the cell of the point before."""
        return np.append(True, self.at[1:] != self.at[:-1])

    def _cell(self, values: Floats, room: Floats, out: Ints) -> Ints:
        """The cell of each value, in place."""
        if self.logarithmic:
            values = _ordered(values, logarithmic=True)
        with np.errstate(over="ignore"):
            np.subtract(values, self.low, out=room)
            np.multiply(room, self.scale, out=room)
            np.add(room, 1.0, out=room)
        np.clip(room, 0, CELLS - 1, out=room)
        out[:] = room
        return out

    def count(self, pieces: Iterable[NDArray[np.floating]]) -> Counted:
        """pieces: of all values; NaN among them is left out."""
        point = np.full(CELLS, np.inf)
        point[self.at] = self.points
        total = np.zeros(3 * CELLS, np.int64)  # of each cell: below its point, at it, above it
        room, beside = np.empty(CHUNK), np.empty(CHUNK)
        cell, over = np.empty(CHUNK, np.int64), np.empty(CHUNK, np.bool_)
        outside, excess = 0, 0.0
        first, last = self.points[0], self.points[-1]
        for piece in pieces:
            for start in range(0, piece.size, CHUNK):
                some = np.asarray(piece[start : start + CHUNK], np.float64)
                low, high = some.min(), some.max()
                if np.isnan(low):
                    some = some[~np.isnan(some)]
                    if not some.size:
                        continue
                    low, high = some.min(), some.max()
                n = some.size
                k = self._cell(some, room[:n], cell[:n])
                np.take(point, k, out=beside[:n], mode="clip")
                k *= 3
                k += np.greater_equal(some, beside[:n], out=over[:n])
                k += np.greater(some, beside[:n], out=over[:n])
                np.add.at(total, k, 1)
                if low < first or high > last:
                    with np.errstate(over="ignore"):
                        under, above = first - some[some < first], some[some > last] - last
                        gaps = np.concatenate((under, above))
                        outside += gaps.size
                        excess += float(gaps[np.isfinite(gaps)].sum())
        whole = total.reshape(CELLS, 3)
        before = np.cumsum(whole.sum(axis=1)) - whole.sum(axis=1)
        below = before[self.at] + whole[self.at, 0]
        upto = below + whole[self.at, 1]
        return Counted(int(total.sum()), upto, below, outside, excess)


def _ordered(values: Floats, logarithmic: bool) -> Floats:
    """The values; or numbers in the same order that rise with their bits."""
    if not logarithmic:
        return values
    bits = np.ascontiguousarray(values + 0.0).view(np.int64)  # -0.0 + 0.0 is 0.0
    return (bits ^ ((bits >> 63) & _MAGNITUDE)).astype(np.float64)
