"""How much less than independent rows the rows of a table are worth, because neighbours in time are
alike (bursts, one customer's many requests).

A share of n rows then varies as that of n / d independent ones, d being the design effect (Kish
1965). It is measured on the reference, in its order in time, by batch means: the variance of the
shares of batches of about sqrt(n) consecutive rows (Flegal & Jones 2010), from the differences of
batches that follow each other, so that a trend or a slow rhythm is not taken for it (von Neumann
1941). Counts divided by d may be treated as those of independent rows (Rao & Scott 1992): that is
exact in the normal limit, an approximation before. Dependence over more rows than a batch has is
seen in part only, and a table without order shows none.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.influence import INFLUENCE, Scored
from homeostat.monitoring.drift.baseline import Baseline, Categorical, Column, Numeric

QUANTILES = np.arange(1, 10) / 10 - 1e-12
FEWEST = 400
"""Rows below which nothing is said: 1."""
SHOWN = 3.0
"""Standard errors by which the rows must be worth less, or they count as independent."""
ABOVE = 2.0
"""Standard errors above the estimate that are allowed for."""


def in_order(baseline: Baseline, table: pl.DataFrame) -> Baseline:
    """The baseline of `table`, whose rows are in the order of time, with the design effects."""
    columns = []
    for base in baseline.columns:
        rows = table.get_column(base.view.column)
        designs = design_effect(base, rows), _of_nulls(base, rows)
        columns.append(msgspec.structs.replace(base, design=designs[0], design_nulls=designs[1]))
    return msgspec.structs.replace(baseline, columns=tuple(columns))


def design_effect(base: Column, rows: pl.Series) -> float:
    """rows: the column's, in the order of time, (n,). -> at least 1: over the shares at or below
    the deciles (of the categories), and that of missing values, together."""
    n = rows.len()
    if n < FEWEST or not base.n:
        return 1.0
    length = math.isqrt(n)
    count = n // length
    cells, size = _cells(base, base.view.of(rows.head(length * count)))
    at = np.repeat(np.arange(count), length) * size + cells
    hits = np.bincount(at, minlength=count * size).reshape(count, size).astype(np.float64)
    if isinstance(base, Numeric):
        hits[:, :-1] = np.cumsum(hits[:, :-1], axis=1)
    shares = hits / length
    share = shares.mean(axis=0)
    independent = float((share * (1 - share)).sum()) / length
    if not independent > 0:
        return 1.0
    found = float(np.square(np.diff(shares, axis=0)).sum()) / (2 * (count - 1)) / independent
    return _allowed(found, math.sqrt(2 / count))


def of_metric(
    metric: str, label: NDArray[np.float64], score: NDArray[np.float64], *, threshold: float, k: int
) -> float:
    """The same of a metric of labelled rows, (n,), in the order of time: from the influence of
    each row on it (`core.influence`), because a metric varies as their mean does. 1 where the
    metric is not defined."""
    found = INFLUENCE[metric](Scored(label, score, threshold, k))
    return 1.0 if found is None else of_mean(found.u)


def of_mean(values: NDArray[np.float64]) -> float:
    """The same of the mean of values (n,) in the order of time."""
    n = values.size
    if n < FEWEST:
        return 1.0
    length = math.isqrt(n)
    centred = values - values.mean()
    batches = centred[: n // length * length].reshape(-1, length).sum(axis=1)
    squares = np.square(np.diff(batches)) / 2
    independent = float(np.square(centred).mean()) * length
    if not independent > 0:
        return 1.0
    # a few large values: then the squares of differences vary more than those of normal ones do;
    # each shares a batch with the next
    varies = float(squares.std()) / max(float(squares.mean()), 1e-300)
    error = math.sqrt(1.5 / squares.size) * max(math.sqrt(2), varies)
    return _allowed(float(squares.mean()) / independent, error)


def _of_nulls(base: Column, rows: pl.Series) -> float:
    if not base.nulls or not base.n:
        return 1.0
    cells, size = _cells(base, base.view.of(rows))
    return of_mean((cells == size - 1).astype(np.float64))


def _allowed(found: float, error: float) -> float:
    """error: a standard one, relative."""
    return found * (1 + ABOVE * error) if found > 1 + SHOWN * error else 1.0


def _cells(base: Column, rows: pl.Series) -> tuple[NDArray[np.int64], int]:
    """-> the cell of each row (between deciles, or its category; the last where it is missing),
    and how many there are."""
    if isinstance(base, Categorical):
        size = len(base.levels) + 2
        where = {level: i for i, level in enumerate(base.levels)}
        text = rows.cast(pl.String)
        found = text.replace_strict(where, default=size - 2, return_dtype=pl.Int64)
        return found.set(rows.is_null(), size - 1).to_numpy(), size
    edges = base.values[np.searchsorted(base.upto, QUANTILES)]
    values = rows.to_physical().cast(pl.Float64).to_numpy()
    cells = np.searchsorted(edges, values, side="left")
    return np.where(np.isnan(values), edges.size + 1, cells), edges.size + 2
