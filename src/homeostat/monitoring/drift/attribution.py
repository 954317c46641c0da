"""Which column's movement cost what: the change of the mean loss, taken apart.

For each column the change of the mean loss between two tables is the sum of a part that the
column's movement explains (its values became more frequent where the loss already was high) and
a part within its values (the same values cost more than they did): Kitagawa 1955. Parts of
different columns overlap, so they do not add up; each is a question by itself.
"""

from __future__ import annotations

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.errors import BadInput
from homeostat.monitoring.drift.views import kind_of, paired

BINS = 10
MOST_LEVELS = 50
Floats = NDArray[np.float64]


class Part(msgspec.Struct, frozen=True):
    """moved: change of the mean loss through the column's movement. within: at the same values."""

    column: str
    moved: float
    within: float


class Attribution(msgspec.Struct, frozen=True):
    """loss: `squared error` of numbers, `error rate` of classes; before, after: its means over
    rows with a label and a prediction. parts: the costliest movement first."""

    loss: str
    before: float
    after: float
    parts: tuple[Part, ...]
    n: tuple[int, int]

    @property
    def sentence(self) -> str:
        if not self.n[0] or not self.n[1]:
            return "no row has both a label and a prediction: what the movement cost is not known"
        change = self.after - self.before
        text = f"the {self.loss} went from {self.before:.4f} to {self.after:.4f} ({change:+.4f})"
        if self.parts and self.parts[0].moved > 0 and change > 0:
            first = self.parts[0]
            text += f"; the movement of {first.column} alone explains {first.moved:+.4f} of it"
        return text


def attribute(
    before: pl.DataFrame, after: pl.DataFrame, columns: list[str], prediction: str, label: str
) -> Attribution:
    """Raises BadInput when a table has no such prediction or label."""
    for name in (prediction, label):
        for table in (before, after):
            if name not in table.columns:
                raise BadInput(f"no column {name!r}", expected="a prediction and a label in both")
    before, after = (t.drop_nulls([prediction, label]) for t in (before, after))
    kind, (a, b) = _losses(before, after, prediction, label)
    if not a.size or not b.size:
        return Attribution(kind, 0.0, 0.0, (), (a.size, b.size))
    parts = [_part(before[name], after[name], a, b) for name in columns]
    parts.sort(key=lambda p: (-p.moved, p.column))
    return Attribution(kind, float(a.mean()), float(b.mean()), tuple(parts), (a.size, b.size))


def _losses(
    before: pl.DataFrame, after: pl.DataFrame, prediction: str, label: str
) -> tuple[str, tuple[Floats, Floats]]:
    tables = (before, after)
    if all(t[n].dtype.is_numeric() or t[n].dtype == pl.Boolean for t in tables
           for n in (prediction, label)):  # fmt: skip
        found = [(t[prediction].cast(pl.Float64) - t[label].cast(pl.Float64)) ** 2 for t in tables]
        return "squared error", (found[0].to_numpy(), found[1].to_numpy())
    wrong = [t[prediction].cast(pl.String) != t[label].cast(pl.String) for t in tables]
    return "error rate", tuple(w.cast(pl.Float64).to_numpy() for w in wrong)  # type: ignore[return-value]


def _part(before: pl.Series, after: pl.Series, loss: Floats, loss_after: Floats) -> Part:
    codes, codes_after, cells = _cells(before, after)
    p = np.bincount(codes, minlength=cells) / codes.size
    q = np.bincount(codes_after, minlength=cells) / codes_after.size
    cost = np.bincount(codes, weights=loss, minlength=cells)
    # a value that was never seen before cost nothing that is known: the mean
    mean = np.where(p > 0, cost / np.maximum(p * codes.size, 1), loss.mean())
    moved = float(((q - p) * mean).sum())
    return Part(before.name, moved, float(loss_after.mean() - loss.mean()) - moved)


def _cells(before: pl.Series, after: pl.Series) -> tuple[np.ndarray, np.ndarray, int]:
    """The cell of each row: categories, or quantile bins of the baseline; then missing ones."""
    values = paired(before, after)
    there = values[0][~np.isnan(values[0])]
    if kind_of(before.dtype) == "categorical" and there.size and not there.max() > MOST_LEVELS:
        edges = np.unique(there)
    else:
        edges = np.unique(np.quantile(there, np.arange(1, BINS) / BINS)) if there.size else there
    found = [np.where(np.isnan(v), edges.size + 1, np.searchsorted(edges, v)) for v in values]
    return found[0], found[1], edges.size + 2
