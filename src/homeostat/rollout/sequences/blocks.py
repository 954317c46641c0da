"""Observations that hang together, put into blocks, and blocks into larger ones.

A block is one observation: its sum by weight, and its weight. Neighbouring blocks that are seen to
depend on each other become one, for the variance of their mean would come out too small.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from homeostat.rollout.callers import ONE, Effect, of_clusters
from homeostat.rollout.sequences.bounds import Array

LEAST_PAIRS = 25
DEPENDENT = 0.2
"""Neighbouring blocks become one where, over at least so many pairs, their correlation is seen to
be larger. Independent ones are hardly ever merged; `make bench-rollout` shows what it prevents."""


class Levels:
    """Blocks, neighbours of them as one, neighbours of those as one, and so on: as far as asked."""

    def __init__(self) -> None:
        self.centre = 0.0
        self._each = [Level()]

    def __getitem__(self, k: int) -> Level:
        while len(self._each) <= k:
            self._each.append(Level())
        for one, above in pairwise(self._each[: k + 1]):
            above.add(*one.pairs())
        return self._each[k]

    def add(self, s: Array, w: Array) -> None:
        """s: sums of blocks; w: their weights."""
        if not self._each[0].n:
            self.centre = float(np.median(s / w))  # sums of powers stay small, of equals zero
        self._each[0].add(s - self.centre * w, w)

    def effect(self, merges: int = 0) -> Effect:
        """Of a rate, where sums are counts of events: how many of the weights are worth one.
        merges: how often neighbours are put together at the least."""
        if not self._each[0].n:
            return ONE
        level = self[max(merges, self.merges())]
        rate = min(max(self.centre + level.mean, 0.0), 1.0)
        clustered = level.n * level.second(level.mean)
        return Effect(*of_clusters(level.weight, rate, clustered, level.size))

    def merges(self) -> int:
        """How often neighbours are put together, as `merged` does."""
        k = 0
        while (level := self[k]).n >= 2 * LEAST_PAIRS:
            one, both = level.second(level.mean), self[k + 1].second(level.mean)
            if both <= 2 * (1 + DEPENDENT) * one or one <= 1e-18:
                break
            k += 1
        return k


class Level:
    """Sums of powers of blocks of one size. d: each block's sum less the centre; w: its weight.
    What was added waits until it is asked for: hardly any level but the first two ever is."""

    def __init__(self) -> None:
        self.n = 0
        self._folded = np.zeros((6, 6))
        self._waiting: list[tuple[Array, Array]] = []  # to be folded
        self._single: list[tuple[Array, Array]] = []  # to be put together with a neighbour

    def add(self, d: Array, w: Array) -> None:
        if len(d):
            self.n += len(d)
            self._waiting.append((d, w))
            self._single.append((d, w))

    def pairs(self) -> tuple[Array, Array]:
        """The blocks of the next level that became whole; the last one may wait for its other
        half."""
        d, w = joined(self._single)
        self._single = [(d[-1:], w[-1:])] if len(d) % 2 else []
        return paired(d), paired(w)

    @property
    def _sums(self) -> Array:
        """Of the products of 1, d, w, d2, dw, w2 (6, 6)."""
        if self._waiting:
            d, w = joined(self._waiting)
            powers = np.empty((6, len(d)))
            powers[0], powers[1], powers[2] = 1.0, d, w
            np.multiply(powers[1:3], d, out=powers[3:5])
            np.multiply(w, w, out=powers[5])
            self._folded += powers @ powers.T
            self._waiting = []
        return self._folded

    @property
    def mean(self) -> float:
        """By weight, less the centre."""
        return float(self._sums[0, 1] / self._sums[0, 2])

    @property
    def weight(self) -> float:
        return float(self._sums[0, 2])

    @property
    def size(self) -> float:
        """Of the block of an observation."""
        return float(self._sums[0, 5] / self._sums[0, 2])

    def second(self, p: float) -> float:
        """The mean square of what blocks are more than their weight lets expect at a mean p."""
        _, _, _, d2, dw, w2 = self._sums[0].tolist()
        return float(max((d2 - 2 * p * dw + p**2 * w2) / self.n, 0.0))

    def moments(self) -> tuple[float, float]:
        """The second and the fourth of the same at the own mean, of blocks of mean weight."""
        p, each = self.mean, self.weight / self.n
        *_, (*_, d4, d3w, d2w2), (*_, dw3), (*_, w4) = self._sums.tolist()
        second = self.second(p) / each**2
        fourth = d4 - 4 * p * d3w + 6 * p**2 * d2w2 - 4 * p**3 * dw3 + p**4 * w4
        return second, max(fourth / self.n / each**4, second**2)


def in_blocks(
    x: Array, weight: Array | None = None, block: NDArray[np.int64] | None = None
) -> tuple[Array, Array]:
    """-> (sum of x (..., n) by weight, sum of weights) of each run of equal block numbers."""
    w = np.ones(x.shape[-1]) if weight is None else weight
    if block is None:
        return x * w, w
    first = np.flatnonzero(np.concatenate(([True], block[1:] != block[:-1])))
    return np.add.reduceat(x * w, first, axis=-1), np.add.reduceat(w, first)


def merged(s: Array, w: Array) -> tuple[Array, Array]:
    """Sums and weights of blocks, neighbours put together until they no longer correlate.

    Where dependence lasts longer than the declared block, the variance of its mean would come out
    too small. It shows as soon as there is any variance to see; before, only the declared block
    helps. One that is left over at the end waits for its neighbour.
    """
    while len(s) >= 2 * LEAST_PAIRS:
        residual = s - s.sum() / w.sum() * w
        pairs = paired(residual)
        one, both = float(np.mean(residual**2)), float(np.mean(pairs**2))
        if both <= 2 * (1 + DEPENDENT) * one or one <= 1e-18:
            break
        s, w = paired(s), paired(w)
    return s, w


def joined(parts: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Sums and weights that came in parts, as one."""
    if len(parts) == 1:
        return parts[0]
    d, w = zip(*parts, strict=True) if parts else ((np.empty(0),), (np.empty(0),))
    return np.concatenate(d), np.concatenate(w)


def paired(v: Array) -> Array:
    """Sums of neighbours; one that is left over is left out."""
    return np.asarray(v[: len(v) // 2 * 2].reshape(-1, 2).sum(axis=1))
