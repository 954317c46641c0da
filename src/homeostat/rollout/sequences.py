"""Confidence sequences: bounds that hold at every number of observations at once.

A rollout is looked at on every tick and stopped when it likes, so a fixed-size interval would
be wrong far more often than it says. Each bound here is one-sided and time-uniform: the chance
that it is EVER on the wrong side of the truth is at most its alpha. Observations are taken in
the order in which they became known.

mean      betting bound for bounded observations (Waudby-Smith & Ramdas, arXiv 2010.09686):
          exact at any n; and the asymptotic bound (Waudby-Smith et al., arXiv 2103.06476)
          once the sample supports a central limit theorem
rate      mixture of Bernoulli likelihood ratios (Robbins 1970; Howard et al., arXiv 1810.08240)
quantile  the same mixture on exceedances (Howard & Ramdas, arXiv 1906.09712, section 3)
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaln

from homeostat.rollout.callers import ONE, Effect, of_clusters

Array = NDArray[np.float64]

BET_LIMIT = 0.75
"""No single bet risks more than this share of the capital."""
GRID = 1 << 18
"""The bound that bets give is looked for among so many values."""
BURN_IN = 25
"""Asymptotic bounds need n / kurtosis (the number of observations that carry the variance) and
the count of each class to reach this. Coverage with it: `make bench-rollout`."""
SOONEST = 4 * BURN_IN
"""Fewer observations than so many are not enough for them, whatever they are."""
LEAST_PAIRS = 25
DEPENDENT = 0.2
"""Neighbouring blocks become one where, over at least so many pairs, their correlation is seen to
be larger. Independent ones are hardly ever merged; `make bench-rollout` shows what it prevents."""
TIGHTEST_AT = 1000
"""The number of observations at which the asymptotic bound is tightest."""


class Bounds(msgspec.Struct, frozen=True):
    """point estimate and its one-sided bounds, each with its own alpha, on n observations."""

    point: float
    low: float
    high: float
    n: int


NOTHING = Bounds(math.nan, -math.inf, math.inf, 0)


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
        caution = _caution(unit)  # on both sides the same
        lower, upper = self._last = (
            _betting_low(unit, _bets(caution, alpha[0]), alpha[0], size, self._last[0]),
            _betting_low(1.0 - unit, _bets(caution, alpha[1]), alpha[1], size, self._last[1]),
        )
        # where blocks differ in size the mean of all may lie outside what bets on theirs reject
        return Bounds(
            point,
            min(low + (high - low) * lower, point),
            max(high - (high - low) * upper, point),
            self._n,
        )

    def _spread(self, level: _Level) -> float | None:
        """The standard deviation, once the asymptotic bound may be used."""
        if level.n < SOONEST:
            return None
        second, fourth = level.moments()
        classes = (self._positive, self._labelled - self._positive) if self._labelled else None
        return math.sqrt(second) if enough(level.n, second, fourth, classes) else None

    def _merged(self, k: int) -> tuple[Array, Array]:
        s, w = _joined(self._parts)
        self._parts = [(s, w)]
        for _ in range(k):
            s, w = _paired(s), _paired(w)
        return s, w


class Levels:
    """Blocks, neighbours of them as one, neighbours of those as one, and so on: as far as asked."""

    def __init__(self) -> None:
        self.centre = 0.0
        self._each = [_Level()]

    def __getitem__(self, k: int) -> _Level:
        while len(self._each) <= k:
            self._each.append(_Level())
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


class _Level:
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
        d, w = _joined(self._single)
        self._single = [(d[-1:], w[-1:])] if len(d) % 2 else []
        return _paired(d), _paired(w)

    @property
    def _sums(self) -> Array:
        """Of the products of 1, d, w, d2, dw, w2 (6, 6)."""
        if self._waiting:
            d, w = _joined(self._waiting)
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


def _joined(parts: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    if len(parts) == 1:
        return parts[0]
    d, w = zip(*parts, strict=True) if parts else ((np.empty(0),), (np.empty(0),))
    return np.concatenate(d), np.concatenate(w)


def _paired(v: Array) -> Array:
    """Sums of neighbours; one that is left over is left out."""
    return np.asarray(v[: len(v) // 2 * 2].reshape(-1, 2).sum(axis=1))


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
        pairs = _paired(residual)
        one, both = float(np.mean(residual**2)), float(np.mean(pairs**2))
        if both <= 2 * (1 + DEPENDENT) * one or one <= 1e-18:
            break
        s, w = _paired(s), _paired(w)
    return s, w


def is_ready(residual: Array, label: Array | None) -> bool:
    """Whether the asymptotic bound may be used now; `ready` says it of every moment."""
    second, fourth = float(np.mean(residual**2)), float(np.mean(residual**4))
    positives = None if label is None else int((label > 0.5).sum())
    classes = None if label is None or positives is None else (positives, len(label) - positives)
    return enough(len(residual), second, fourth, classes)


def enough(n: int, second: float, fourth: float, classes: tuple[int, int] | None) -> bool:
    """The same of n residuals with these moments, and that many labels of each class."""
    if n < SOONEST or second <= 1e-18 or n * second**2 < BURN_IN * fourth:
        return False
    return classes is None or min(classes) >= BURN_IN


def log_wealth(unit: Array, m: float, alpha: float) -> Array:
    """Log capital (..., n) of betting that the mean of `unit` (..., n, within 0 and 1) exceeds m.

    Predictable plug-in bets (2010.09686, equation 26). Under a mean of at most m the capital is
    a supermartingale from 1, so it ever reaches 1/alpha with a chance of at most alpha (Ville).
    """
    return np.cumsum(_log_gains(unit, _bets(_caution(unit), alpha), m), axis=-1)


def ready(x: Array, label: Array | None = None) -> NDArray[np.bool_]:
    """After which observations (..., n) the asymptotic bound may be used."""
    n = np.arange(1, x.shape[-1] + 1)
    squares = x * x
    s1, s2, s3, s4 = (np.cumsum(v, axis=-1) for v in (x, squares, x * squares, squares * squares))
    mu = s1 / n
    second = np.maximum(s2 / n - mu**2, 0.0)
    fourth = np.maximum(s4 / n - 4 * mu * s3 / n + 6 * mu**2 * s2 / n - 3 * mu**4, 0.0)
    # n / kurtosis >= BURN_IN, without a division by the zero variance of equal observations
    enough: NDArray[np.bool_] = (
        (n * second**2 >= BURN_IN * fourth) & (n >= SOONEST) & (second > 1e-18)
    )
    if label is not None:
        positives = np.cumsum(label > 0.5, axis=-1)
        enough &= np.minimum(positives, n - positives) >= BURN_IN
    return enough


def rate(n: int, k: int, *, alpha: tuple[float, float], effect: Effect = ONE) -> Bounds:
    """Bounds of a probability from k events in n trials; alpha: (of low, of high). effect: where
    trials hang together."""
    if n == 0:
        return NOTHING
    low = 0.0 if k == 0 else 1.0 - _rate_high(n / effect.low, (n - k) / effect.low, alpha[0])
    high = 1.0 if k == n else _rate_high(n / effect.high, k / effect.high, alpha[1])
    return Bounds(k / n, low, high, n)


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


def width(n: NDArray[np.int64] | int, alpha: float) -> Array:
    """One-sided half-width per unit of standard deviation (2103.06476, proposition 3.7)."""
    both = 2 * alpha
    rho2 = (-2 * math.log(both) + math.log(1 - 2 * math.log(both))) / TIGHTEST_AT
    v = np.asarray(n, dtype=np.float64) * rho2
    width: Array = np.sqrt(2 * (v + 1) / (np.asarray(n) * v) * np.log1p(np.sqrt(v + 1) / both))
    return width


def _caution(unit: Array) -> Array:
    """What bets (..., n) are divided by, each from the observations before it only."""
    t = np.arange(2.0, unit.shape[-1] + 2)  # one more than how many there are
    centre = (0.5 + unit.cumsum(axis=-1)) / t
    squares = ((unit - centre) ** 2).cumsum(axis=-1)
    before = np.full_like(unit, 0.25)
    before[..., 1:] += squares[..., :-1]
    return np.asarray(np.sqrt(before * np.log(t)))


def _bets(caution: Array, alpha: float) -> Array:
    return math.sqrt(2 * math.log(1 / alpha)) / caution


def _log_gains(unit: Array, bets: Array, m: float, limit: Array | float = BET_LIMIT) -> Array:
    return np.log1p(np.minimum(bets, limit / max(m, 1e-12)) * (unit - m))


def _betting_low(
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


def _less(now: float, before: float) -> float:
    """What an end that stayed is worth, as the other one moved from one value to the next."""
    return 1 - now / before if abs(now) < abs(before) else 0.5


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


def _first(holds: Callable[[int], bool], low: int, high: int) -> int:
    """The first k from `low` on from which it holds; `high` when it does not before."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
