"""Metrics of a binary classifier as (value, influence of each row).

The influence u of a row is the derivative of the metric by the weight of that row (the
infinitesimal jackknife, Efron 1982). The metric's variance is then the sum of u squared, and the
variance of the difference between two models scored on the same rows is the sum of (u_a - u_b)
squared: one mechanism for intervals and for paired comparisons. For the AUC it is DeLong's
variance (DeLong, DeLong & Clarke-Pearson 1988).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CLIP = 1e-7
"""Probabilities are clipped to [CLIP, 1 - CLIP] in the log loss, which is so at most 16.1."""

BINS = 10
"""Equal-mass bins of the calibration error."""


class Influence(NamedTuple):
    """value, the influence of each row u (n,), and how many observations the value rests on."""

    value: float
    u: Array
    n: int


class Scored:
    """Labels (0.0 or 1.0, n) and scores (n) of one model, with what the metrics share."""

    def __init__(self, label: Array, score: Array, threshold: float, k: int) -> None:
        self.label, self.score, self.k = label, score, k
        self.n = len(label)
        self.positives = int(label.sum())
        self.negatives = self.n - self.positives
        self.alert = score >= threshold

    @property
    def both_classes(self) -> bool:
        return self.positives > 0 and self.negatives > 0

    @cached_property
    def group(self) -> tuple[NDArray[np.intp], Array, Array]:
        """Rows of equal score: (group of each row by rising score, positives and negatives)."""
        _, inverse = np.unique(self.score, return_inverse=True)
        size = np.bincount(inverse).astype(np.float64)
        positives = np.bincount(inverse, weights=self.label).astype(np.float64)
        return inverse, positives, size - positives

    @cached_property
    def bins(self) -> NDArray[np.intp]:
        """Equal-mass bin of each row by rank of its score; equal scores share a bin."""
        group, positives, negatives = self.group
        middle = np.cumsum(positives + negatives) - (positives + negatives + 1) / 2
        of_group = np.floor(middle * min(BINS, self.n) / self.n).astype(np.intp)
        _, dense = np.unique(of_group, return_inverse=True)
        return np.asarray(dense[group], dtype=np.intp)


def auc(s: Scored) -> Influence | None:
    """Probability that a positive scores above a negative, ties counting half."""
    if not s.both_classes:
        return None
    group, pos, neg = s.group
    beaten = (np.cumsum(neg) - neg / 2) / s.negatives
    beating = (s.positives - np.cumsum(pos) + pos / 2) / s.positives
    value = float((pos * beaten).sum()) / s.positives
    u = np.where(
        s.label > 0,
        (beaten - value)[group] * _unbiased(s.positives),
        (beating - value)[group] * _unbiased(s.negatives),
    )
    return Influence(value, u, s.n)


def _unbiased(m: int) -> float:
    """Makes the sum of squares of m centred terms, each divided by this, var / m."""
    return 1.0 / math.sqrt(m * max(m - 1, 1))


def average_precision(s: Scored) -> Influence | None:
    """Mean over the positives of the precision at their score (scikit-learn's definition)."""
    if not s.both_classes:
        return None
    group, pos, neg = s.group
    true = np.cumsum(pos[::-1])[::-1]
    alerts = true + np.cumsum(neg[::-1])[::-1]
    precision = true / alerts
    value = float((pos * precision).sum()) / s.positives
    # one more row at a score changes the precision at every positive at or below that score
    with_positive = np.cumsum(pos * (alerts - true) / alerts**2)
    with_negative = -np.cumsum(pos * true / alerts**2)
    u = np.where(s.label > 0, (precision - value + with_positive)[group], with_negative[group])
    return Influence(value, u / s.positives, s.n)


def _mean(loss: Array) -> Influence | None:
    n = len(loss)
    if n == 0:
        return None
    value = float(loss.mean())
    return Influence(value, (loss - value) * _unbiased(n), n)


def log_loss(s: Scored) -> Influence | None:
    p = np.clip(s.score, CLIP, 1 - CLIP)
    return _mean(-np.log(np.where(s.label > 0, p, 1 - p)))


def brier(s: Scored) -> Influence | None:
    return _mean((s.score - s.label) ** 2)


def calibration_error(s: Scored) -> Influence | None:
    """Sum over the bins of (share of rows) x |mean label - mean score|."""
    if s.n == 0:
        return None
    size = np.bincount(s.bins)
    residual = s.label - s.score
    gap = np.bincount(s.bins, weights=residual) / size
    u = (residual - gap[s.bins]) * np.sign(gap)[s.bins] / s.n
    return Influence(float(size @ np.abs(gap)) / s.n, u, s.n)


def _share(hit: NDArray[np.bool_], among: NDArray[np.bool_]) -> Influence | None:
    """The share of `hit` among the rows in `among`."""
    n = int(among.sum())
    if n == 0:
        return None
    value = float(hit[among].mean())
    return Influence(value, among * (hit - value) / n, n)


def accuracy(s: Scored) -> Influence | None:
    return _share(s.alert == (s.label > 0), np.ones(s.n, dtype=bool))


def precision(s: Scored) -> Influence | None:
    return _share(s.label > 0, s.alert)


def recall(s: Scored) -> Influence | None:
    return _share(s.alert, s.label > 0)


def precision_at_k(s: Scored) -> Influence | None:
    """Share of positives among the k highest scores; ties at the cut count by their mean.

    Not defined with fewer than k rows.
    """
    if s.n < s.k:
        return None
    cut = np.partition(s.score, s.n - s.k)[s.n - s.k]
    above, tied = s.score > cut, s.score == cut
    taken = above + tied * ((s.k - int(above.sum())) / int(tied.sum()))
    value = float(taken @ s.label) / s.k
    return Influence(value, taken * (s.label - value) / s.k, s.k)


INFLUENCE: dict[str, Callable[[Scored], Influence | None]] = {
    "auc": auc,
    "average_precision": average_precision,
    "log_loss": log_loss,
    "brier": brier,
    "calibration_error": calibration_error,
    "accuracy": accuracy,
    "precision": precision,
    "recall": recall,
    "precision_at_k": precision_at_k,
}
