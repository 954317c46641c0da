"""Bounds of a mean that bets on it give: exact after any number of observations.

Waudby-Smith & Ramdas, arXiv 2010.09686.
"""

from __future__ import annotations

import math

import numpy as np

from homeostat.rollout.sequences.bounds import Array

BET_LIMIT = 0.75
"""No single bet risks more than this share of the capital."""
GRID = 1 << 18
"""The bound that bets give is looked for among so many values."""


def log_wealth(unit: Array, m: float, alpha: float) -> Array:
    """Log capital (..., n) of betting that the mean of `unit` (..., n, within 0 and 1) exceeds m.

    Predictable plug-in bets (2010.09686, equation 26). Under a mean of at most m the capital is
    a supermartingale from 1, so it ever reaches 1/alpha with a chance of at most alpha (Ville).
    """
    return np.cumsum(_log_gains(unit, bets(caution(unit), alpha), m), axis=-1)


def caution(unit: Array) -> Array:
    """What bets (..., n) are divided by, each from the observations before it only."""
    t = np.arange(2.0, unit.shape[-1] + 2)  # one more than how many there are
    centre = (0.5 + unit.cumsum(axis=-1)) / t
    squares = ((unit - centre) ** 2).cumsum(axis=-1)
    before = np.full_like(unit, 0.25)
    before[..., 1:] += squares[..., :-1]
    return np.asarray(np.sqrt(before * np.log(t)))


def bets(caution: Array, alpha: float) -> Array:
    """The shares of the capital that are laid, where they do not reach BET_LIMIT."""
    return math.sqrt(2 * math.log(1 / alpha)) / caution


def betting_low(
    unit: Array, bets: Array, alpha: float, size: Array | float = 1.0, near: float = 0.0
) -> float:
    """The largest m that the bets reject, of GRID equal parts of the mean. size (n, at most 1): a
    part of each bet, known before the observation is. near: what is likely close to it.

    The capital falls as m grows: by false position, the end that stays having less and less weight
    (Anderson & Björck 1973).
    """
    goal, step = math.log(1 / alpha), float(unit.sum()) / len(unit) / GRID
    stakes, limits = size * bets, size * BET_LIMIT

    def left(k: int) -> float:
        return float(_log_gains(unit, stakes, step * k, limits).sum()) - goal

    low = high = min(int(near / step), GRID) if step > 0 else 0
    above = below = left(low)
    reach = GRID // 64
    while above < 0 and low > 0:
        high, below = low, above
        low, reach = max(low - reach, 0), reach * 8
        above = left(low)
    while below >= 0 and high < GRID:
        low, above = high, below
        high, reach = min(high + reach, GRID), reach * 8
        below = left(high)
    if above < 0 or below >= 0:
        return 0.0 if above < 0 else step * (GRID - 1)
    stayed = 0  # 1: the upper end, -1: the lower one
    while high - low > 1:
        part = above / (above - below)
        k = min(max(low + int((high - low) * part), low + 1), high - 1)
        found = left(k)
        if found >= 0:
            below *= _less(found, above) if stayed == 1 else 1.0
            low, above, stayed = k, found, 1
        else:
            above *= _less(found, below) if stayed == -1 else 1.0
            high, below, stayed = k, found, -1
    return step * low


def _log_gains(unit: Array, bets: Array, m: float, limit: Array | float = BET_LIMIT) -> Array:
    return np.log1p(np.minimum(bets, limit / max(m, 1e-12)) * (unit - m))


def _less(now: float, before: float) -> float:
    """What an end that stayed is worth, as the other one moved from one value to the next."""
    return 1 - now / before if abs(now) < abs(before) else 0.5
