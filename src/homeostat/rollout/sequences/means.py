"""Bounds of the mean of bounded observations: bets on it, and later the asymptotic bound."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from homeostat.rollout.sequences.asymptotic import SOONEST, enough, width
from homeostat.rollout.sequences.betting import bets, betting_low, caution
from homeostat.rollout.sequences.blocks import Level, Levels, in_blocks, joined, paired
from homeostat.rollout.sequences.bounds import NOTHING, Array, Bounds


class Mean:
    """Bounds of the mean of observations, each within `support`, that are added at their end.

    alpha: (of low, of high). Assumes that, given the past, each observation has the same mean; the
    asymptotic part also that averages become normal. Half of alpha is spent on the exact bound
    (before the switch) and half on the asymptotic one (after it). Added in parts or at once comes
    to the same, and what a bound costs after the switch does not depend on how many there are.
    """

    def __init__(self, support: tuple[float, float], alpha: tuple[float, float]) -> None:
        self._support, self._alpha = support, alpha
        self._n = self._labelled = self._positive = 0
        self._parts: list[tuple[Array, Array]] = []  # sums and weights of blocks, to bet on
        self._levels, self._like = Levels(), Levels()
        self._last = (0.0, 0.0)  # where bets led at the last look: the search begins there

    def add(
        self,
        x: Array,
        *,
        label: Array | None = None,
        weight: Array | None = None,
        block: NDArray[np.int64] | None = None,
        like: Array | None = None,
    ) -> Mean:
        """label (n, 0/1): makes the switch wait for enough of both classes: a run of easy
        negatives looks deceptively free of variance. weight (n, positive): how many requests each
        stands for (one over the chance of its label to become known). block (n, ascending):
        neighbours with the same number are one observation, so that they may depend on each other:
        bets are laid on the means of blocks, and the variance is that of a ratio of their sums (as
        of clusters). No block may go on in a later call. Blocks that are seen to depend on each
        other all the same are put together (`merged`). like (n): something else of each, such as
        its score. While x has hardly varied, blocks whose scores depend on each other are put
        together, too: a hundred losses of nothing in a row may be those of one request."""
        if not len(x):
            return self
        if label is not None:
            self._labelled += len(label)
            self._positive += int(np.count_nonzero(label > 0.5))
        sums, w = in_blocks(np.array((x,) if like is None else (x, like)), weight, block)
        self._n += len(x)
        self._parts.append((sums[0], w))
        for levels, s in zip((self._levels, self._like), sums, strict=False):
            levels.add(s, w)
        return self

    def bounds(self) -> Bounds:
        if not self._n:
            return NOTHING
        (low, high), alpha = self._support, (self._alpha[0] / 2, self._alpha[1] / 2)
        k = self._levels.merges()
        level = self._levels[k]
        point = self._levels.centre + level.mean
        spread = self._spread(level)
        if spread is not None:
            return Bounds(
                point,
                max(low, point - spread * float(width(level.n, alpha[0]))),
                min(high, point + spread * float(width(level.n, alpha[1]))),
                self._n,
            )
        sums, weights = self._merged(max(k, self._like.merges()))
        unit = (sums / weights - low) / (high - low)
        size = weights / np.maximum.accumulate(weights)
        careful = caution(unit)  # on both sides the same
        lower, upper = self._last = (
            betting_low(unit, bets(careful, alpha[0]), alpha[0], size, self._last[0]),
            betting_low(1.0 - unit, bets(careful, alpha[1]), alpha[1], size, self._last[1]),
        )
        # where blocks differ in size the mean of all may lie outside what bets on theirs reject
        return Bounds(
            point,
            min(low + (high - low) * lower, point),
            max(high - (high - low) * upper, point),
            self._n,
        )

    def _spread(self, level: Level) -> float | None:
        """The standard deviation, once the asymptotic bound may be used."""
        if level.n < SOONEST:
            return None
        second, fourth = level.moments()
        classes = (self._positive, self._labelled - self._positive) if self._labelled else None
        return math.sqrt(second) if enough(level.n, second, fourth, classes) else None

    def _merged(self, k: int) -> tuple[Array, Array]:
        s, w = joined(self._parts)
        self._parts = [(s, w)]
        for _ in range(k):
            s, w = paired(s), paired(w)
        return s, w


def mean(
    x: Array,
    support: tuple[float, float],
    *,
    alpha: tuple[float, float],
    label: Array | None = None,
    weight: Array | None = None,
    block: NDArray[np.int64] | None = None,
) -> Bounds:
    """`Mean` of all of x (n) at once."""
    return Mean(support, alpha).add(x, label=label, weight=weight, block=block).bounds()
