"""What each guard says at every look, for many rollouts at once: (runs, looks) flags.

The same computations as in `homeostat.rollout`, without the inversion to bounds: whether the upper
bound is below what is tolerated, and the lower one above what is harmless. `checks` compares some
runs of every row against the real ones.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from benchmarks.rollout.streams import Array, Counts, Flags, Stream

from homeostat.rollout import sequences, two_by_two
from homeostat.rollout.evidence import harm_support
from homeostat.rollout.two_by_two import Blocks

Alphas = tuple[float, float]
"""Of the lower bound (rollback), of the upper one (promotion)."""


class Says(NamedTuple):
    passes: Flags
    fails: Flags

    def of(self, runs: Flags) -> Says:
        return Says(self.passes[runs], self.fails[runs])


def quality(
    seen: Stream,
    metric: str,
    margin: float,
    alpha: Alphas,
    looks: Counts,
    *,
    merges: bool = True,
    like: Array | None = None,
) -> Says:
    """`sequences.mean` at each look (in requests). Blocks are merged as there (merges), until
    their losses or, where the exact bound is used, their scores (like) no longer depend on each
    other."""
    runs = len(seen.harm)
    found = Says(*(np.zeros((runs, len(looks)), dtype=np.bool_) for _ in range(2)))
    open_ = np.ones((runs, len(looks)), dtype=np.bool_)
    x, positive, size = seen.harm, seen.positive, seen.block
    least = np.zeros(open_.shape, np.intp) if like is None else _merges(like, size, looks)
    exact, k = np.zeros_like(open_), 0
    while x.shape[1]:
        rows = open_.any(axis=1)
        told, merge, ready = _at_size(x[rows], positive[rows], size, metric, margin, alpha, looks)
        merge &= merges & ~exact[rows]
        exact[rows] |= open_[rows] & ~merge & ~ready
        merge |= exact[rows] & (k < least[rows])
        here = open_[rows] & ~merge
        for flags, new in zip(found, told, strict=True):
            flags[rows] |= here & new
        open_[rows] &= merge
        if not open_.any():
            break
        even = x.shape[1] // 2 * 2
        pairs = (runs, -1, 2)
        x, positive = x[:, :even].reshape(pairs).mean(-1), positive[:, :even].reshape(pairs).sum(-1)
        size, k = 2 * size, k + 1
    return found


def _merges(x: Array, size: int, looks: Counts) -> Counts:
    """(runs, looks): how often blocks are merged until they no longer depend on each other."""
    found = np.zeros((len(x), len(looks)), np.intp)
    open_ = np.ones(found.shape, np.bool_)
    while x.shape[1] > 1 and open_.any():
        n = np.arange(1, x.shape[1] + 1)
        variance = np.cumsum(x * x, axis=1) / n - (np.cumsum(x, axis=1) / n) ** 2
        open_ &= _merge(x, np.maximum(variance, 0.0), looks // size)
        found += open_
        x, size = x[:, : x.shape[1] // 2 * 2].reshape(len(x), -1, 2).mean(-1), 2 * size
    return found


def _at_size(
    x: Array,
    positive: Array,
    size: int,
    metric: str,
    margin: float,
    alpha: Alphas,
    looks: Counts,
) -> tuple[Says, Flags, Flags]:
    """-> what is said with blocks of this size, where they have to be merged, and where the
    asymptotic bound is used."""
    low, high = harm_support(metric)
    n = np.arange(1, x.shape[1] + 1)
    at = looks // size - 1
    known, at = at >= 0, np.maximum(at, 0)
    positives = np.cumsum(positive, axis=1)
    balanced = np.minimum(positives, size * n - positives) >= sequences.BURN_IN
    ready = (sequences.ready(x) & balanced)[:, at]
    running = np.cumsum(x, axis=1) / n
    variance = np.maximum(np.cumsum(x * x, axis=1) / n - running**2, 0.0)
    mean, spread = running[:, at], np.sqrt(variance[:, at])
    told = []
    for own, limit, sign in ((alpha[1], margin, 1.0), (alpha[0], 0.0, -1.0)):
        half = own / 2
        asymptotic = sign * (limit - mean) > spread * sequences.width(n[at], half)
        unit = (high - sign * x) / (high - low)
        wealth = sequences.log_wealth(unit, (high - sign * limit) / (high - low), half)
        exact = wealth[:, at] >= math.log(1 / half)
        told.append(np.where(ready, asymptotic, exact) & known)
    return Says(*told), _merge(x, variance, looks // size), ready


def _merge(x: Array, variance: Array, blocks: Counts) -> Flags:
    """`sequences.merged`: whether neighbours correlate, after so many blocks."""
    m = x.shape[1] // 2
    if m < sequences.LEAST_PAIRS:
        return np.zeros((len(x), len(blocks)), dtype=np.bool_)
    n = np.arange(1, m + 1)
    pairs = x[:, : 2 * m].reshape(len(x), m, 2).mean(axis=-1)
    both = np.cumsum(pairs * pairs, axis=1) / n - (np.cumsum(pairs, axis=1) / n) ** 2
    one = variance[:, 1 : 2 * m : 2]
    dependent = (2 * both > (1 + sequences.DEPENDENT) * one) & (one > 1e-18)
    dependent[:, : sequences.LEAST_PAIRS - 1] = False
    return np.where(blocks >= 2, dependent[:, np.clip(blocks // 2, 1, m) - 1], False)


def rates(blocks: Blocks, margin: float, alpha: Alphas) -> Says:
    """`two_by_two` after each block."""
    return Says(
        two_by_two.log_wealth(blocks, margin, above=False, margin=margin) >= -math.log(alpha[1]),
        two_by_two.log_wealth(blocks, 0.0, above=True, margin=margin) >= -math.log(alpha[0]),
    )


def in_slices(
    seen: Stream, places: list[Counts], metric: str, margin: float, alpha: float, looks: Counts
) -> Says:
    """`guards.quality` with slices: places (per slice): which blocks are its own, in the order
    in which slices appear; each slice may be harmed by three margins."""
    found = [quality(seen, metric, margin, (alpha / 2, alpha), looks)]
    for k, own in enumerate(places, start=1):
        part = Stream(seen.harm[:, own], seen.positive[:, own], seen.block)
        share = (alpha / 2 / (k * (k + 1)), alpha)
        until = seen.block * np.searchsorted(own, looks // seen.block)
        found.append(quality(part, metric, 3 * margin, share, until))
    passes = np.logical_and.reduce([f.passes for f in found])
    return Says(passes, np.logical_or.reduce([f.fails for f in found]))


def bias(
    alerts: Array, groups: Array, most: float, alpha: Alphas, worth: Array | None = None
) -> Says:
    """`guards.bias` of two groups. alerts (runs, looks, 2): so far; groups (looks, 2): requests.
    worth (runs, looks, 2, 2): how many requests are worth one, for lower and upper bounds."""
    ends = []
    for g in range(2):
        own, both = alpha[0] / (2 * (g + 1) * (g + 2)), alpha[1] / 2
        each = None if worth is None else worth[:, :, g]
        ends.append([_rate(alerts[..., g], groups[:, g], a, each) for a in (own, both)])
    (first, first_outer), (second, second_outer) = ends
    low = np.maximum(first[0] - second[1], second[0] - first[1])
    high = np.maximum(
        first_outer[1] - second_outer[0],
        second_outer[1] - first_outer[0],
    )
    return Says(high < most, low > most)


def _rate(k: Array, n: Array, alpha: float, worth: Array | None) -> tuple[Array, Array]:
    """`sequences.rate` of many counts: k (runs, looks) of n (looks)."""
    found = np.empty((2, *k.shape))
    if worth is not None:
        every = np.broadcast_to(n, k.shape)
        low, high = worth[..., 0], worth[..., 1]
        found[0] = 1 - sequences.rates_high(every / low, (every - k) / low, alpha)
        found[1] = sequences.rates_high(every / high, k / high, alpha)
        return np.where(k > 0, found[0], 0.0), np.where(k < n, found[1], 1.0)
    for j, of in enumerate(n):
        counts, back = np.unique(k[:, j], return_inverse=True)
        found[0, :, j] = 1 - sequences.rates_high(of, of - counts, alpha)[back]
        found[1, :, j] = sequences.rates_high(of, counts, alpha)[back]
    return found[0], found[1]


def latency(
    first: list[Array], second: list[Array], looks: Counts, ratio: float, alpha: Alphas
) -> Says:
    """`guards.latency` without slack, where every tenth request goes to the candidate. first,
    second: per look, each arm's largest latencies so far (runs, some), descending."""
    passes, fails = [], []
    for one, two, look in zip(first, second, looks, strict=True):
        n = int(look) - int(look) // 10, int(look) // 10
        own = [(alpha[1] / 2, alpha[0] / 2), (alpha[0] / 2, alpha[1] / 2)]
        ends = [
            _ends(values, of, halves) for values, of, halves in zip((one, two), n, own, strict=True)
        ]
        (low, high), (other_low, other_high) = ends
        with np.errstate(invalid="ignore", divide="ignore"):
            passes.append(other_high < ratio * low)
            fails.append(other_low > ratio * high)
    return Says(np.stack(passes, axis=1), np.stack(fails, axis=1))


def _ends(values: Array, n: int, alpha: Alphas) -> tuple[Array, Array]:
    """`sequences.quantile` of the p99, from the largest values."""
    least, most = sequences.count_range(n, 0.01, *alpha)
    unknown = np.full(len(values), np.inf)
    high = values[:, least - 1] if least else unknown
    low = values[:, most] if most < min(n, values.shape[1]) else -unknown
    return low, high


class Ends(NamedTuple):
    """Of each run: 1 promoted, -1 rolled back, 0 neither; after how many requests, and at which
    look (from 1); the percent that the candidate had then; and the requests it had answered."""

    how: Counts
    at: Counts
    look: Counts
    percent: Array
    exposed: Array

    def put(self, runs: Flags, other: Ends) -> None:
        for mine, new in zip(self, other, strict=True):
            mine[runs] = new


def roll_out(told: Says, looks: Counts, steps: tuple[float, ...], bake: int) -> Ends:
    """`decide`, for many runs at once. bake: in requests, as looks are."""
    passes, fails = told
    runs, m = passes.shape
    each = np.arange(runs)
    index = np.where(passes, np.arange(m), m)
    following = np.minimum.accumulate(index[:, ::-1], axis=1)[:, ::-1]
    following = np.concatenate((following, np.full((runs, 1), m)), axis=1)
    failed = np.where(fails.any(axis=1), fails.argmax(axis=1), m)
    since, percent, exposed = (np.zeros(runs) for _ in range(3))
    live, won = np.ones(runs, dtype=np.bool_), np.full(runs, m)
    times = np.append(looks, looks[-1])
    for share in steps:
        on = following[each, np.searchsorted(looks, since + bake)]
        moves = live & (on < failed)
        until = times[np.where(moves, on, failed)]
        percent[live] = share
        exposed += np.where(live, share / 100 * (until - since), 0.0)
        since = np.where(moves, times[on], since)
        won = np.where(moves, on, won)
        live = moves
    how = np.where(live, 1, np.where(failed < m, -1, 0))
    last = np.where(live, won, np.minimum(failed, m - 1))
    return Ends(how, looks[last], last + 1, percent, exposed)
