"""Who pays where: the customers and terminals of the demo's world, drawn once from its seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HOURS = 24


@dataclass(frozen=True)
class Customers:
    """position: (n, 2), km in a square of 200 km. zone: hours ahead of UTC, spread over the whole
    day, so that every UTC hour sees the same mix of local hours and any window of time looks
    like any other. spending: median amount, cents. rate: transactions a day."""

    position: Floats
    zone: Floats
    spending: Floats
    rate: Floats

    @classmethod
    def draw(cls, rng: np.random.Generator, n: int) -> Customers:
        return cls(
            position=rng.uniform(0, 200, (n, 2)),
            zone=rng.permutation(np.arange(n) * HOURS / n),
            spending=100 * rng.lognormal(3.6, 0.5, n),
            rate=rng.gamma(3.0, 1.0, n) + 0.3,
        )

    def choose(
        self, rng: np.random.Generator, n: int, utc_hour: int, peak: float, focus: float
    ) -> Ints:
        """(n,) customers who pay in this hour: likelier the more they pay, and the nearer their
        local time is to `peak` (focus: concentration of a von Mises density over the day)."""
        angle = (utc_hour + 0.5 + self.zone - peak) * (2 * np.pi / HOURS)
        weight = np.cumsum(self.rate * np.exp(focus * (np.cos(angle) - 1)))
        chosen: Ints = np.searchsorted(weight, rng.random(n) * weight[-1], side="right")
        return chosen


@dataclass(frozen=True)
class Terminals:
    """position: (n, 2) km. age: days since they were set up. risk: the share of their
    transactions that was reported as fraud."""

    position: Floats
    age: Floats
    risk: Floats

    @classmethod
    def draw(cls, rng: np.random.Generator, n: int) -> Terminals:
        return cls(
            position=rng.uniform(0, 200, (n, 2)),
            age=rng.exponential(500, n) + 1,
            risk=rng.beta(1.2, 60, n),
        )
