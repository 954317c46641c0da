"""How many events of a known probability there may be, and which probabilities a count allows.

Mixtures of Bernoulli likelihood ratios: Robbins 1970; Howard et al., arXiv 1810.08240.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from scipy.special import betainc, betaln

from homeostat.rollout.callers import ONE, Effect
from homeostat.rollout.sequences.bounds import NOTHING, Array, Bounds


def rate(n: int, k: int, *, alpha: tuple[float, float], effect: Effect = ONE) -> Bounds:
    """Bounds of a probability from k events in n trials; alpha: (of low, of high). effect: where
    trials hang together."""
    if n == 0:
        return NOTHING
    low = 0.0 if k == 0 else 1.0 - _rate_high(n / effect.low, (n - k) / effect.low, alpha[0])
    high = 1.0 if k == n else _rate_high(n / effect.high, k / effect.high, alpha[1])
    return Bounds(k / n, low, high, n)


@functools.lru_cache(maxsize=4096)
def _rate_high(n: float, k: float, alpha: float) -> float:
    """The smallest p above k/n that is rejected as too high (1 when none is)."""
    return float(rates_high(n, np.array([k]), alpha)[0])


def rates_high(n: Array | float, k: Array, alpha: float) -> Array:
    """The same for many counts k (m)."""
    goal = math.log(1 / alpha)
    low, high = k / n, np.ones(k.shape)
    for _ in range(31):
        p = np.clip((low + high) / 2, 1e-300, 1 - 1e-16)
        rejected = _log_mixture_below(n, k, p, 0.5, 0.5) >= goal
        low, high = np.where(rejected, low, p), np.where(rejected, p, high)
    return high


@functools.lru_cache(maxsize=4096)
def count_range(n: int, p: float, alpha_low: float, alpha_high: float) -> tuple[int, int]:
    """(least, most) events in n trials of probability p, at every n at once.

    `most` bounds the quantile from below (alpha_low), `least` from above (alpha_high). The
    mixtures are centred on p: Beta(1, 1/p - 1) on either side of it.
    """
    b, goals = 1 / p - 1, (math.log(1 / alpha_low), math.log(1 / alpha_high))

    def few(k: int) -> bool:
        return float(_log_mixture_below(n, k, p, 1.0, b)) >= goals[1]

    def many(k: int) -> bool:
        return float(_log_mixture_below(n, n - k, 1 - p, b, 1.0)) >= goals[0]

    centre = math.floor(n * p)
    least = _first(lambda k: not few(k), 0, centre + 1)
    most = _first(many, centre + 1, n + 1) - 1
    return least, most


def _log_mixture_below(
    n: Array | float, k: Array | float, p: Array | float, a: float, b: float
) -> Array:
    """Log capital against `probability >= p` after k events in n trials: the likelihood ratio
    averaged over a Beta(a, b) cut off above p."""
    with np.errstate(divide="ignore"):
        value: Array = (
            betaln(a + k, b + n - k)
            + np.log(betainc(a + k, b + n - k, p))
            - betaln(a, b)
            - np.log(betainc(a, b, p))
            - k * np.log(p)
            - (n - k) * np.log1p(-p)
        )
    return value


def _first(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The first k from `low` on from which it holds; `high` when it does not before."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
