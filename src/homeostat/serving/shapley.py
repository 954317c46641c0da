"""Which inputs made a score what it is: Shapley values against a background. Pure.

The value of a set of inputs is the mean score of the background's rows in which these inputs are
replaced by the explained row's (the interventional value function). An input's Shapley value is
what it adds on average when inputs are replaced one after the other, over all orders; the values
sum to the row's score minus the background's mean score, whatever the model is.

Sources: Shapley 1953; Strumbelj & Kononenko, Knowledge and Information Systems 41, 2014 (sampling
orders); Lundberg & Lee, NeurIPS 2017; Mitchell et al., JMLR 23(43), 2022 (each order together with
its reverse).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import factorial

import msgspec
import numpy as np
from numpy.typing import NDArray

from homeostat.serving.runtime import Columns

EXACT = 8
"""Inputs up to which every set of them is looked at."""
PAIRS = 12
"""Random orders that are drawn beyond that, each used in both directions."""
ROWS = 1024
"""Rows that are scored at a time, so that others get their turn."""

Vector = NDArray[np.float64]
Masks = NDArray[np.bool_]


class Explanation(msgspec.Struct, frozen=True):
    """base: the background's mean score. contributions: what each input adds to it; base and they
    sum to the row's score, but for rounding. errors: standard errors of the contributions, 0
    where they are exact."""

    base: float
    contributions: dict[str, float]
    errors: dict[str, float]


def explain(
    score: Callable[[Columns], Vector], row: Columns, background: Columns, seed: int = 0
) -> Explanation:
    """score: (n) scores of the columns of n rows. row: one row, by input; background: the same
    inputs of at least one row. The same arguments give the same answer. Raises what `score` does.
    """
    names = list(row)
    d = len(names)

    def value(masks: Masks) -> Vector:
        """The values (k) of k sets of inputs: masks (k, d)."""
        n = len(background[names[0]])
        step = max(1, ROWS // n)
        parts = [
            score(_mixed(masks[at : at + step], names, row, background)).reshape(-1, n)
            for at in range(0, len(masks), step)
        ]
        means: Vector = np.concatenate(parts).mean(axis=1, dtype=np.float64)
        return means

    added = _exact(value, d) if d <= EXACT else _sampled(value, d, seed)
    base, found = added[0], np.array(added[1])
    spread = found.std(axis=0, ddof=1) / len(found) ** 0.5 if len(found) > 1 else np.zeros(d)
    return Explanation(
        float(base),
        dict(zip(names, found.mean(axis=0).tolist(), strict=True)),
        dict(zip(names, spread.tolist(), strict=True)),
    )


def _mixed(masks: Masks, names: list[str], row: Columns, background: Columns) -> Columns:
    """The background once for each mask, with the masked inputs of `row`."""
    return {
        name: np.concatenate(
            [
                np.broadcast_to(row[name], background[name].shape) if taken else background[name]
                for taken in masks[:, j]
            ]
        )
        for j, name in enumerate(names)
    }


def _exact(value: Callable[[Masks], Vector], d: int) -> tuple[float, list[Vector]]:
    """-> the value of nothing, and one vector of Shapley values."""
    sets = np.arange(2**d)
    masks = (sets[:, None] >> np.arange(d)) & 1 == 1
    values, size = value(masks), masks.sum(axis=1)
    # of a set of s inputs: the share of all orders that begin with it and a given next one
    weights = [factorial(s) * factorial(d - s - 1) / factorial(d) for s in range(d)]
    found = np.zeros(d)
    for j in range(d):
        without = sets[~masks[:, j]]
        gain = values[without | (1 << j)] - values[without]
        found[j] = np.dot(np.array(weights)[size[without]], gain)
    return float(values[0]), [found]


def _sampled(value: Callable[[Masks], Vector], d: int, seed: int) -> tuple[float, list[Vector]]:
    """-> the value of nothing, and an estimate from each pair of orders."""
    ends = value(np.array([np.zeros(d, bool), np.ones(d, bool)]))
    estimates = []
    for order in _orders(d, seed):
        both = []
        for way in (order, order[::-1]):
            prefixes = np.zeros((d - 1, d), bool)
            for k in range(d - 1):
                prefixes[k:, way[k]] = True
            steps = np.diff(np.concatenate([ends[:1], value(prefixes), ends[1:]]))
            found = np.zeros(d)
            found[way] = steps
            both.append(found)
        estimates.append((both[0] + both[1]) / 2)
    return float(ends[0]), estimates


def _orders(d: int, seed: int) -> Iterator[NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    for _ in range(PAIRS):
        yield random.permutation(d)
