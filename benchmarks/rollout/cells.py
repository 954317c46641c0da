"""The rows of the first table: what is drawn, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

ALPHA = 0.05
BOTH = (ALPHA, ALPHA)
STEPS = (10.0, 25.0, 50.0, 75.0, 100.0)
BAKE, PER_TICK, BATCH = 250, 50, 100
"""In requests: the least length of a step, from look to look; and rollouts computed at once."""
BLOCK = 25
"""Of requests that come again and again: declared in the rows called autocorrelated."""
KINDS = ("independent", "autocorrelated", "late labels")
CALLERS = {
    "1,000 callers": (1_000, 50_000, True),
    "20,000 callers": (20_000, 200_000, True),
    "20,000 callers, alike": (20_000, 200_000, False),
}
"""Kept on one version: kind -> how many, their requests, and whether some nearly always fail."""
TIMES = (0, 1, 2)


class Cell(NamedTuple):
    """One row of the first table. times: true harm in margins. kind: of the stream."""

    guard: str
    base: float
    margin: float
    times: int
    kind: str
    runs: int
    seed: int

    @property
    def harmless(self) -> float:
        """Up to how many margins nothing may be called harmful."""
        return 1 if self.guard in ("latency p99", "bias") else 0


class Row(NamedTuple):
    cell: Cell
    promoted: float
    rolled_back: float
    tenth: float
    decided: float
    seconds: float  # of the processor

    def wrong(self) -> list[float]:
        """The shares of runs that went wrong: rolled back without harm, promoted with it."""
        found = [self.rolled_back] if self.cell.times <= self.cell.harmless else []
        return [*found, self.promoted] if self.cell.times >= 1 else found


def cells(runs: int, seed: int) -> Iterator[Cell]:
    asked: list[tuple[str, tuple[tuple[float, float], ...], tuple[str, ...]]] = [
        ("log loss", ((0.5, 0.02), (0.01, 0.005), (0.001, 0.002)), KINDS),
        ("error", ((0.5, 0.02), (0.01, 0.005), (0.001, 0.002)), KINDS),
        ("log loss, in slices", ((0.5, 0.02), (0.01, 0.005)), KINDS),
        ("log loss, 10 % labelled", ((0.5, 0.02), (0.01, 0.005)), ("independent",)),
        ("log loss, 10 % labelled", ((0.5, 0.02),), ("autocorrelated",)),
        ("error rate", ((0.5, 0.05), (0.01, 0.005), (0.001, 0.001)), KINDS[:2]),
        ("latency objective", ((0.05, 0.01), (0.01, 0.005)), KINDS[:2]),
        ("latency p99", ((0.01, 0.1),), KINDS[:2]),
        ("error rate", ((0.01, 0.005),), tuple(CALLERS)),
        ("latency p99", ((0.01, 0.1),), ("20,000 callers",)),
        ("bias", ((0.5, 0.1), (0.05, 0.03)), KINDS[:2]),
    ]
    for guard, bases, kinds in asked:
        for base, margin in bases:
            for kind in kinds:
                for times in TIMES:
                    yield Cell(guard, base, margin, times, kind, runs, seed)
