"""Counting without sorting: as exact as sorting."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from homeostat.monitoring.drift.baseline import GAP, SORTED, Baseline, Numeric
from homeostat.monitoring.drift.cells import Cells
from homeostat.monitoring.drift.column import Numbers, look

ROWS = SORTED + 1_000
NUMBERS = st.floats(allow_nan=True, allow_infinity=True)


@settings(max_examples=60)
@given(st.lists(NUMBERS, min_size=1, max_size=40), st.lists(NUMBERS, max_size=40))
def test_counts_are_those_of_sorting_whatever_the_numbers_are(
    grid: list[float], values: list[float]
) -> None:
    points = np.unique(np.array([g for g in grid if g == g] or [0.0]))
    found = np.array(values + grid)
    known = np.sort(found[~np.isnan(found)])
    for cells in Cells.thinned(points):
        counted = cells.count([found[:7], found[7:]])
        assert counted.n == known.size
        for side, counts in (("right", counted.upto), ("left", counted.below)):
            assert counts.tolist() == np.searchsorted(known, cells.points, side).tolist()
        assert set(cells.points[[0, -1]]) <= set(points[[0, -1]])
        beyond = (known < points[0]) | (known > points[-1])
        assert counted.outside == beyond.sum()


@pytest.mark.parametrize("what", ["normal", "lognormal", "integers", "flags", "cauchy", "constant"])
def test_long_columns_are_compared_as_if_they_were_sorted(what: str) -> None:
    before, after = (drawn(what, np.random.default_rng(seed)) for seed in (1, 2))
    after = after + (0.1 if what == "normal" else 0)
    after[::100] = np.nan
    (base,) = Baseline.build(pl.DataFrame({"x": before})).columns
    seen = look(base, [pl.Series(after)], ROWS)
    assert isinstance(base, Numeric)
    assert isinstance(seen, Numbers)
    known = after[~np.isnan(after)]
    assert (base.n, seen.n, seen.nulls) == (ROWS, known.size, ROWS - known.size)
    ordered, mine = np.sort(known), np.sort(before)
    assert (base.low, base.high) == (mine[0], mine[-1])
    assert np.array_equal(seen.upto, np.searchsorted(ordered, base.values, "right"))
    assert np.array_equal(seen.below, np.searchsorted(ordered, base.values, "left"))
    assert seen.outside == ((known < mine[0]) | (known > mine[-1])).sum()
    for edges, counts, rows in ((base.edges, base.counts, mine), (base.edges, seen.counts, known)):
        bins = np.searchsorted(edges, rows, "left")
        assert np.array_equal(np.bincount(bins, minlength=edges.size + 1), counts)
    apart = np.abs(seen.upto / seen.n - base.upto).max()
    exact = ks_2samp(before, known, method="asymp").statistic
    assert exact - GAP <= apart <= exact + 1e-12


def drawn(what: str, random: np.random.Generator) -> np.ndarray:
    match what:
        case "normal":
            return random.normal(1e6, 1.0, ROWS)
        case "lognormal":
            return random.lognormal(0, 3, ROWS)
        case "integers":
            return random.poisson(30, ROWS).astype(np.float64)
        case "flags":
            return (random.random(ROWS) < 0.2).astype(np.float64)
        case "cauchy":  # no cells are fine enough for it: it is sorted
            return random.standard_cauchy(ROWS)
    return np.ones(ROWS)
