"""Streams of requests whose true harm is known exactly, and the guards' say after each of them.

Everything is drawn and judged for many rollouts at once: arrays are (runs, requests).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from homeostat.rollout import sequences, two_by_two
from homeostat.rollout.evidence import harm_support, losses

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
POPULATION = 200_000


class Population(NamedTuple):
    """Labelled requests scored by both versions; the mean of `harm` is exactly what was asked."""

    label: Array
    champion: Array
    harm: Array


def population(
    rng: np.random.Generator, base: float, metric: str, harm: float, disagreement: float = 0.5
) -> Population:
    """Two logistic scorers that differ by noise, the second pushed off until it does `harm`."""
    label = (rng.random(POPULATION) < base).astype(np.float64)
    side = 2 * label - 1
    prior = math.log(base / (1 - base))
    logit = prior + 2.0 * side + 1.5 * rng.normal(size=POPULATION)
    noise = disagreement * rng.normal(size=POPULATION)
    champion = losses(metric, label, 1 / (1 + np.exp(-logit)))

    def difference(push: float) -> Array:
        score = 1 / (1 + np.exp(-(logit + noise - push * side)))
        return losses(metric, label, score) - champion

    low, high = -9.0, 9.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if difference(middle).mean() < harm else (low, middle)
    return Population(label, champion, difference(high))


def drawn(rng: np.random.Generator, runs: int, n: int, kind: str) -> NDArray[np.intp]:
    """Which of the population each request is. independent; autocorrelated: a request comes again
    with a chance of 4/5, so that neighbours are alike (5 in a row on average)."""
    fresh = rng.integers(0, POPULATION, (runs, n))
    if kind != "autocorrelated":
        return fresh
    new = rng.random((runs, n)) < 0.2
    new[:, 0] = True
    last = np.maximum.accumulate(np.where(new, np.arange(n), 0), axis=1)
    return np.take_along_axis(fresh, last, axis=1)


def late(rng: np.random.Generator, label: Array, delay: int) -> NDArray[np.intp]:
    """(runs, n): the order in which requests come to count, when a fifth of the positives are
    reported up to `delay` requests after all the others had matured."""
    n = label.shape[1]
    slow = (label > 0.5) & (rng.random(label.shape) < 0.2)
    counts = np.arange(n) + np.where(slow, delay * rng.random(label.shape), 0.0)
    return np.argsort(counts, axis=1, kind="stable")


def quality(
    harm: Array, label: Array, metric: str, margin: float, alpha: float, block: int = 1
) -> tuple[Flags, Flags]:
    """-> (passes, fails), (runs, n): what `sequences.mean` says after every request, as whether the
    upper bound is below the margin and the lower one above zero."""
    runs, n = harm.shape
    low, high = harm_support(metric)
    half, goal = alpha / 2, math.log(2 / alpha)
    x = harm.reshape(runs, n // block, block).mean(axis=-1)
    unit = (x - low) / (high - low)
    positives = np.cumsum((label > 0.5).reshape(runs, n // block, block).sum(axis=-1), axis=-1)
    known = block * np.arange(1, n // block + 1)
    ready = sequences.ready(x) & (np.minimum(positives, known - positives) >= sequences.BURN_IN)
    running, width = sequences.asymptotic_path(x, half)
    above_zero = sequences.log_wealth(unit, -low / (high - low), half) >= goal
    below_margin = sequences.log_wealth(1 - unit, (high - margin) / (high - low), half) >= goal
    passes = np.where(ready, running + width < margin, below_margin)
    fails = np.where(ready, running - width > 0, above_zero)
    return np.repeat(passes, block, axis=-1), np.repeat(fails, block, axis=-1)


def rates(
    canary: Flags, event: Flags, margin: float, alpha: float
) -> tuple[Flags, Flags, NDArray[np.intp]]:
    """-> (passes, fails), (runs, blocks), and after which request each block ends."""
    ends = two_by_two.cuts(canary.shape[1])
    blocks, goal = two_by_two.in_blocks(canary, event, ends), math.log(1 / alpha)
    return (
        two_by_two.log_wealth(blocks, margin, above=False, margin=margin) >= goal,
        two_by_two.log_wealth(blocks, 0.0, above=True, margin=margin) >= goal,
        ends,
    )


class Ends(NamedTuple):
    """Of each run: 1 promoted, -1 rolled back, 0 neither; the tick of it; the percent that the
    candidate had then; and the requests it had answered."""

    how: NDArray[np.int64]
    tick: NDArray[np.int64]
    percent: Array
    exposed: Array


def roll_out(
    passes: Flags, fails: Flags, steps: tuple[float, ...], bake: int, per_tick: int
) -> Ends:
    """`decide`, for many runs at once: passes, fails are (runs, ticks)."""
    runs, ticks = passes.shape
    how, ended = np.zeros(runs, dtype=np.int64), np.full(runs, ticks)
    step, since = np.zeros(runs, dtype=np.int64), np.zeros(runs, dtype=np.int64)
    shares, exposed = np.array(steps), np.zeros(runs)
    percent = np.full(runs, float(steps[0]))
    for t in range(ticks):
        live = how == 0
        if not live.any():
            break
        percent = np.where(live, shares[step], percent)
        exposed += np.where(live, percent / 100 * per_tick, 0.0)
        back = live & fails[:, t]
        on = live & ~back & passes[:, t] & (t + 1 - since >= bake)
        won = on & (step == len(steps) - 1)
        how[back], how[won] = -1, 1
        ended[back | won] = t + 1
        moved = on & ~won
        step[moved] += 1
        since[moved] = t + 1
    return Ends(how, ended, percent, exposed)
