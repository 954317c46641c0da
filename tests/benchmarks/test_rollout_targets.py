"""What rollouts promise, on a few rows of their benchmark: `make bench-rollout` has them all."""

from __future__ import annotations

import math

import pytest
from benchmarks.rollout.cells import ALPHA, Cell, cells
from benchmarks.rollout.rollouts import measure

RUNS = 200
LIMIT = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / RUNS)
CHEAP = [
    cell
    for cell in cells(RUNS, 1)
    if (cell.guard, cell.base, cell.kind)
    in {
        ("error", 0.01, "independent"),
        ("error", 0.01, "autocorrelated"),
        ("error rate", 0.001, "independent"),
        ("error rate", 0.001, "autocorrelated"),
        ("latency objective", 0.01, "autocorrelated"),
    }
]


@pytest.mark.parametrize("cell", CHEAP, ids=lambda c: f"{c.guard}, {c.base}, {c.kind}, {c.times} x")
def test_rollouts_are_wrong_no_more_often_than_alpha_and_harm_stops_at_a_tenth(cell: Cell) -> None:
    row = measure(cell)
    assert max(row.wrong()) <= LIMIT
    assert row.promoted + row.rolled_back >= 0.95, "most decide on the requests that they have"
    if cell.times == 2:
        assert row.tenth >= 0.95
