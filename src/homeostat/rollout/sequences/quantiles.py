"""Bounds of a quantile: of the rank that it may have.

Howard & Ramdas, arXiv 1906.09712, section 3.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from homeostat.rollout.callers import ONE, Effect
from homeostat.rollout.sequences.bounds import NOTHING, Array, Bounds
from homeostat.rollout.sequences.counts import count_range


class Sorted:
    """Numbers in ascending order that more are added to: a long part, and a short one that joins
    it when it has grown, so that adding is cheap and the k-th is found by halving."""

    def __init__(self) -> None:
        self._long = self._short = np.empty(0)

    def add(self, x: Array) -> None:
        self._short = np.sort(np.concatenate((self._short, x)))
        if len(self._short) ** 2 > 4 * len(self._long):
            self._long = np.sort(np.concatenate((self._long, self._short)), kind="stable")
            self._short = np.empty(0)

    def __len__(self) -> int:
        return len(self._long) + len(self._short)

    def __getitem__(self, k: int) -> float:
        """The k-th, from 0."""
        a, b = self._long, self._short
        low, high = max(0, k + 1 - len(a)), min(k + 1, len(b))  # how many of the first k+1 are b's
        while low < high:
            i = (low + high) // 2
            if b[i] < a[k - i]:
                low = i + 1
            else:
                high = i
        from_a = a[k - low] if k - low >= 0 and k - low < len(a) else -math.inf
        return float(max(from_a, b[low - 1] if low else -math.inf))


def quantile(
    sorted_x: Array | Sorted,
    p: float,
    *,
    alpha: tuple[float, float],
    effect: Effect = ONE,
) -> Bounds:
    """Bounds of the p-quantile from x sorted upwards; infinite while n is too small to tell.

    The number of observations above the true quantile is a count with probability 1-p, so a
    time-uniform range for that count is one for the rank of the quantile. effect: of that count,
    where callers are drawn.
    """
    n = len(sorted_x)
    if n == 0:
        return NOTHING
    # few above the quantile make it look small: the upper bound rests on those that were not seen
    least = math.floor(effect.high * count_range(int(n / effect.high), 1.0 - p, *alpha)[0])
    most = math.ceil(effect.low * count_range(int(n / effect.low), 1.0 - p, *alpha)[1])
    high = math.inf if least == 0 else float(sorted_x[n - least])
    low = -math.inf if most >= n else float(sorted_x[n - most - 1])
    return Bounds(float(sorted_x[rank(n, p)]), low, high, n)


def rank(n: int, p: float) -> int:
    """Of the p-quantile's estimate among n, at least one, in ascending order; from 0."""
    return min(n - 1, math.ceil(p * n) - 1)


@functools.lru_cache(maxsize=256)
def least_for_quantile(p: float, alpha: float) -> int:
    """The fewest observations with which the p-quantile has a finite upper bound."""
    low, high = 1, 2
    while count_range(high, 1.0 - p, alpha, alpha)[0] == 0:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (
            (middle, high)
            if count_range(middle, 1.0 - p, alpha, alpha)[0] == 0
            else (
                low,
                middle,
            )
        )
    return high
