"""The difference of two rates, by betting on both arms at once: exact at any number of requests.

Requests are cut into blocks. Before each block the rates of both arms are estimated from what came
before it; the block's capital is the likelihood of these rates over that of the nearest rates that
obey the hypothesis, which is an e-value (Turner, Ly & Grünwald, arXiv 2106.02693; for a bound on
the difference: Turner & Grünwald, arXiv 2302.14164). Their product ever reaches 1/alpha with a
chance of at most alpha. Only within a block do the rates have to be the same from request to
request: between blocks both may move, and the split with them, so that an incident that hits both
arms late counts against neither.

How soon they tell depends on how well rates are estimated, which is hard where events are rare. So
the estimates begin where a decision is worth most: at twice the margin when harm is to be shown,
at none when its absence is. A bad beginning costs capital and never truth.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from homeostat.rollout.callers import ONE, Effect
from homeostat.rollout.sequences import NOTHING, Bounds

Array = NDArray[np.float64]
GROWTH = 0.08
"""A block is this part of the requests before it: early ones are single requests."""
GRID = 12
BEGIN_HARM, BEGIN_NONE = 1.0, 3.0
"""How many events the candidate's expected rate is worth at the beginning: of harm, of no harm."""


class Blocks(NamedTuple):
    """Requests and events of each arm per block (each (..., blocks)); a: champion, b: candidate."""

    na: Array
    ka: Array
    nb: Array
    kb: Array

    def counted(self, champion: float | Array, candidate: float | Array) -> Blocks:
        """As many requests of each arm as are worth one, counted as one."""
        a, b = 1 / champion, 1 / candidate
        return Blocks(self.na * a, self.ka * a, self.nb * b, self.kb * b)


def cuts(n: int, changes: NDArray[np.intp] | None = None) -> NDArray[np.intp]:
    """Where blocks end, ascending: after 1, 2, 3, ... requests, then at each further GROWTH, and
    wherever the split changes. A block that is not over yet is left out: its e-value holds at its
    end, and a look in the middle must not be one more."""
    ends, at = [], 0
    while (at := math.floor(at + max(1.0, GROWTH * at))) <= n:
        ends.append(at)
    found = np.array(ends, dtype=np.intp)
    return found if changes is None else np.union1d(found, changes[(changes > 0) & (changes < n)])


def in_blocks(
    canary: NDArray[np.bool_], event: NDArray[np.bool_], ends: NDArray[np.intp]
) -> Blocks:
    """canary, event: (..., n) flags of requests in the order of time."""

    def per_block(flags: NDArray[np.bool_]) -> Array:
        total = np.cumsum(flags, axis=-1)[..., ends - 1]
        return np.diff(total, axis=-1, prepend=0).astype(np.float64)

    return Blocks(
        per_block(~canary), per_block(~canary & event), per_block(canary), per_block(canary & event)
    )


def log_wealth(blocks: Blocks, bound: float | Array, *, above: bool, margin: float) -> Array:
    """Log capital (..., blocks) against `rate of b - rate of a <= bound` (above), else `>=`.

    bound: one number, or an array that broadcasts against the blocks. margin: the harm that is
    tolerated; it says where the estimates begin, and nothing about the bound.
    """
    a, b = _estimates(blocks, margin, harm=above)
    bound = np.asarray(bound, dtype=np.float64)
    outside = (b - a > bound) if above else (b - a < bound)
    near = _nearest(a, b, blocks.na, blocks.nb, bound)
    gains = _log_ratio(blocks.ka, blocks.na, a, near) + _log_ratio(
        blocks.kb, blocks.nb, b, near + bound
    )
    return np.cumsum(np.where(outside, gains, 0.0), axis=-1)


def difference(
    blocks: Blocks,
    *,
    alpha: tuple[float, float],
    margin: float,
    effects: tuple[Effect, Effect] = (ONE, ONE),
) -> Bounds:
    """Bounds of (rate of b - rate of a); n is that of the smaller arm. alpha: (of low, of high).
    margin: as of `log_wealth`. effects: of a and of b, where callers are drawn."""
    na, ka, nb, kb = (float(x.sum()) for x in blocks)
    if not na or not nb:
        return NOTHING
    point = kb / nb - ka / na
    first, second = effects
    for_low, for_high = (
        blocks.counted(first.high, second.low),
        blocks.counted(first.low, second.high),
    )
    low = _last_rejected(for_low, -1.0, point, alpha[0], margin, above=True)
    high = _last_rejected(for_high, 1.0, point, alpha[1], margin, above=False)
    return Bounds(point, low, high, int(min(na, nb)))


def _last_rejected(
    blocks: Blocks, far: float, point: float, alpha: float, margin: float, *, above: bool
) -> float:
    """The bound nearest to the estimate that is rejected, on grids that become finer."""
    goal = math.log(1 / alpha)
    rejected, open_ = far, point
    for _ in range(4):
        # nearer to the estimate more densely: that is where the bound lies
        grid = open_ + (rejected - open_) * np.linspace(0, 1, GRID + 2)[1:-1] ** 2
        wealth = log_wealth(blocks, grid[:, None], above=above, margin=margin)[:, -1]
        no = wealth >= goal
        if not no.any():
            open_ = float(grid[-1])
            continue
        first = int(np.argmax(no))
        rejected = float(grid[first])
        open_ = float(grid[first - 1]) if first else open_
    return rejected


def _estimates(blocks: Blocks, margin: float, *, harm: bool) -> tuple[Array, Array]:
    """The rates of both arms before each block: their events so far and some that are expected,
    the champion's at the common rate, the candidate's at what is to be shown."""
    na, ka, nb, kb = (np.cumsum(x, axis=-1) - x for x in blocks)
    common = (ka + kb + 0.5) / (na + nb + 0.5 / margin)
    a = (ka + 1.0) / (na + 1.0 / common)
    if harm:
        return a, (kb + BEGIN_HARM) / (nb + BEGIN_HARM / np.minimum(a + 2 * margin, (1 + a) / 2))
    return a, (kb + BEGIN_NONE) / (nb + BEGIN_NONE / a)


def _nearest(a: Array, b: Array, na: Array, nb: Array, bound: Array) -> Array:
    """The rate of a on the line `b = a + bound` that is nearest to the estimates in the sense of
    Kullback and Leibler, weighted by the arms' requests: the middle one of the three places where
    the slope is zero (the cubic of Miettinen & Nurminen 1985)."""
    total = np.maximum(na + nb, 1e-300)  # a block without requests is near to everything
    v, w = na / total, nb / total
    # x^3 + c2 x^2 + c1 x + c0
    c2 = bound * (1 + v) - 1 - v * a - w * b
    c1 = v * (bound * (bound - 1) + a * (1 - 2 * bound)) + w * (b - bound)
    c0 = v * a * bound * (1 - bound)
    third = c2 / 3
    p = np.maximum(third**2 - c1 / 3, 0.0)
    q = third * (c1 / 2 - third**2) - c0 / 2
    root = np.sqrt(p)
    angle = np.arccos(np.clip(q / np.maximum(p * root, 1e-300), -1.0, 1.0))
    middle = 2 * root * np.cos((angle - 2 * math.pi) / 3) - third
    return np.asarray(np.clip(middle, np.maximum(0.0, -bound), np.minimum(1.0, 1.0 - bound)))


def _log_ratio(k: Array, n: Array, estimate: Array, null: Array) -> Array:
    """Log likelihood of k in n at the estimate over that at the null."""
    null = np.clip(null, 1e-15, 1 - 1e-15)
    return k * np.log(estimate / null) + (n - k) * np.log((1 - estimate) / (1 - null))
