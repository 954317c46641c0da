"""Streams of requests whose true harm is known exactly, for many rollouts at once."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from homeostat.rollout import two_by_two
from homeostat.rollout.evidence import losses
from homeostat.rollout.sequences import Levels, in_blocks
from homeostat.rollout.two_by_two import Blocks

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Counts = NDArray[np.intp]
POPULATION = 200_000
RUN = 5
"""How often a request comes in a row, on average, where requests are autocorrelated."""
SPELL = 500
"""Requests in a spell of common trouble, and such spells are one in five."""


class Population(NamedTuple):
    """Labelled requests scored by both versions; score, champion: of the champion, and its loss;
    the mean of `harm` is exactly what was asked.
    expected (2, n): the harm that either version's score lets expect."""

    label: Array
    score: Array
    champion: Array
    harm: Array
    expected: Array


def population(
    rng: np.random.Generator, base: float, metric: str, harm: float, disagreement: float = 0.5
) -> Population:
    """Two logistic scorers that differ by noise, the second pushed off until it does `harm`."""
    label = (rng.random(POPULATION) < base).astype(np.float64)
    side = 2 * label - 1
    prior = math.log(base / (1 - base))
    logit = prior + 2.0 * side + 1.5 * rng.normal(size=POPULATION)
    noise = disagreement * rng.normal(size=POPULATION)
    first = 1 / (1 + np.exp(-logit))
    champion = losses(metric, label, first)

    def score(push: float) -> Array:
        return np.asarray(1 / (1 + np.exp(-(logit + noise - push * side))))

    low, high = -9.0, 9.0
    for _ in range(60):
        middle = (low + high) / 2
        found = (losses(metric, label, score(middle)) - champion).mean()
        low, high = (middle, high) if found < harm else (low, middle)
    second, ones = score(high), np.ones(POPULATION)
    if_positive, if_negative = (
        losses(metric, y, second) - losses(metric, y, first) for y in (ones, 0 * ones)
    )
    expected = np.stack([q * if_positive + (1 - q) * if_negative for q in (first, second)])
    return Population(label, first, champion, losses(metric, label, second) - champion, expected)


class Stream(NamedTuple):
    """harm (runs, blocks): mean of each block of requests. positive: how many are."""

    harm: Array
    positive: Array
    block: int = 1

    def then(self, later: Stream) -> Stream:
        return Stream(
            np.concatenate((self.harm, later.harm), axis=1),
            np.concatenate((self.positive, later.positive), axis=1),
            self.block,
        )

    def first(self, requests: int) -> Stream:
        blocks = requests // self.block
        return Stream(self.harm[:, :blocks], self.positive[:, :blocks], self.block)

    def of(self, runs: Flags) -> Stream:
        return Stream(self.harm[runs], self.positive[runs], self.block)


def independent(rng: np.random.Generator, people: Population, runs: int, n: int) -> Stream:
    drawn = rng.integers(0, POPULATION, (runs, n))
    return Stream(people.harm[drawn], people.label[drawn])


def repeated(rng: np.random.Generator, people: Population, runs: int, n: int, block: int) -> Stream:
    """A request comes again with a chance of 4/5, so that neighbours are alike."""
    many = int(n / RUN + 6 * math.sqrt(n) + 20)
    drawn = rng.integers(0, POPULATION, (runs, many))
    ends = np.cumsum(rng.geometric(1 / RUN, (runs, many)), axis=1)
    edges = np.arange(0, n + 1, block)
    harm, positive = (np.empty((runs, n // block)) for _ in range(2))
    for i in range(runs):
        at = np.searchsorted(ends[i], edges, side="left")
        lengths = np.diff(ends[i], prepend=0)
        for values, out in ((people.harm, harm), (people.label, positive)):
            each = values[drawn[i]]
            total = np.cumsum(lengths * each)[at] - (ends[i, at] - edges) * each[at]
            out[i] = np.diff(total)
    return Stream(harm / block, positive, block)


def drawn(rng: np.random.Generator, n: int, *, again: bool) -> NDArray[np.int64]:
    """Of n requests the places in the population. again: as in `repeated`."""
    if not again:
        return rng.integers(0, POPULATION, n)
    many = int(n / RUN + 6 * math.sqrt(n) + 20)
    return np.repeat(rng.integers(0, POPULATION, many), rng.geometric(1 / RUN, many))[:n]


def repeats(
    rng: np.random.Generator, rate: Array, ends: Counts, runs: int, block: int
) -> tuple[Counts, Array]:
    """Of requests that come again as in `repeated`, after so many (looks, k): (runs, looks, k)
    events of each of k rates, and (runs, looks, k, 2) how many requests are worth one."""
    found = np.empty((runs, *ends.shape), np.int64)
    worth = np.empty((runs, *ends.shape, 2))
    for run in range(runs):
        for k, p in enumerate(rate):
            n = int(ends[-1, k])
            many = int(n / RUN + 6 * math.sqrt(n) + 20)
            event = np.repeat(rng.random(many) < p, rng.geometric(1 / RUN, many))[:n]
            found[run, :, k] = np.cumsum(event)[ends[:, k] - 1]
            levels = Levels()
            for look, (begin, end) in enumerate(itertools.pairwise([0, *ends[:, k]])):
                own = np.arange(begin, end) // block
                levels.add(*in_blocks(event[begin:end].astype(np.float64), None, own))
                worth[run, look, k] = levels.effect()[:2]
    return found, worth


def late(
    rng: np.random.Generator, people: Population, runs: int, n: int, delay: int = 2000
) -> Stream:
    """In the order in which requests come to count, when a fifth of the positives are reported up
    to `delay` requests after all the others had matured."""
    found = independent(rng, people, runs, n)
    slow = (found.positive > 0.5) & (rng.random((runs, n)) < 0.2)
    counts = np.arange(n) + np.where(slow, delay * rng.random((runs, n)), 0.0)
    order = np.argsort(counts, axis=1, kind="stable")
    return Stream(*(np.take_along_axis(v, order, axis=1) for v in (found.harm, found.positive)))


def two_arms(
    rng: np.random.Generator,
    runs: int,
    n: int,
    base: float,
    extra: float,
    *,
    share: float = 0.1,
    spells: bool = False,
) -> tuple[Blocks, Counts]:
    """Requests and events of both arms in each block (runs, blocks), and where blocks end.

    Drawn by parts of blocks in which the rate is one: with spells, it is four times as high in
    every fifth part of SPELL requests on average, for both versions alike.
    """
    ends = two_by_two.cuts(n)
    edges = np.union1d(ends, np.arange(SPELL, n + 1, SPELL)) if spells else ends
    edges = edges[edges <= ends[-1]]
    size = np.diff(edges, prepend=0)
    rate = np.full((runs, 1), base)
    if spells:
        most = min(4 * base, 0.9)
        bad = rng.random((runs, n // SPELL + 1)) < 0.2
        rate = np.where(bad, most, (base - 0.2 * most) / 0.8)[:, (edges - 1) // SPELL]
    nb = rng.binomial(size, share, (runs, len(size)))
    parts = (size - nb, rng.binomial(size - nb, rate), nb, rng.binomial(nb, rate + extra))
    begin = np.concatenate(([0], np.searchsorted(edges, ends)[:-1] + 1))
    na, ka, nb, kb = (np.add.reduceat(v, begin, axis=1).astype(np.float64) for v in parts)
    return Blocks(na, ka, nb, kb), ends
