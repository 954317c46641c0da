"""Metrics of rows that count as positive and as negative with some mass each.

One mechanism for three uses: expected metrics (the masses are p and 1 - p), inverse-probability
weighting (the masses are label / propensity), and doubly robust estimates (label where it is
known, a model of it elsewhere). With masses of 0 and 1 it is `core.metrics`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from homeostat.core.influence import CLIP
from homeostat.core.metrics import Estimate
from homeostat.core.names import METRICS

Floats = NDArray[np.float64]

SUPPORTED = tuple(m for m in METRICS if m != "calibration_error")
"""The calibration error of probabilities that are taken to be right is nothing by definition."""


class Masses(NamedTuple):
    """score: (n,). positive, negative: the mass of each row in either class, (n,); doubly robust
    masses may lie outside of 0 and 1."""

    score: Floats
    positive: Floats
    negative: Floats


class Found(NamedTuple):
    """value, and the influence of each row's draw on it (n,): the variance is the sum of u squared
    when rows are independent."""

    value: float
    u: Floats


def metric_of(name: str, rows: Masses, *, threshold: float = 0.5, k: int = 100) -> Found | None:
    """The metric `name` of SUPPORTED; None where it is not defined (no mass in a class, fewer than
    k rows). Ties count half in the AUC, by their mean at the cut of precision_at_k."""
    score, pos, neg = rows
    p, n = float(pos.sum()), float(neg.sum())
    if not score.size or p + n <= 0:
        return None
    alert = (score >= threshold).astype(np.float64)
    match name:
        case "auc":
            return _auc(rows, p, n) if p > 0 and n > 0 else None
        case "average_precision":
            return _average_precision(rows, p) if p > 0 and n > 0 else None
        case "log_loss":
            s = np.clip(score, CLIP, 1 - CLIP)
            return _mean(-np.log(s), -np.log(1 - s), pos, neg)
        case "brier":
            return _mean((1 - score) ** 2, score**2, pos, neg)
        case "accuracy":
            return _mean(alert, 1 - alert, pos, neg)
        case "recall":
            return _mean(alert, alert, pos, np.zeros_like(neg)) if p > 0 else None
        case "precision":
            return _mean(np.ones_like(pos), np.zeros_like(neg), pos * alert, neg * alert)
        case "precision_at_k":
            taken = _top(score, k)
            if taken is None:
                return None
            return _mean(np.ones_like(pos), np.zeros_like(neg), pos * taken, neg * taken)
    return None


def interval(
    found: Found, name: str, n: int, *, confidence: float = 0.95, design: float = 1.0
) -> Estimate:
    """Student's t with as many degrees of freedom as the influences are worth (a few heavy
    weights are few rows, whatever n), on the logit scale for what lies within 0 and 1. n: what
    is reported as the number of rows. design: so many rows are worth one independent row.
    Coverage: `benchmarks/estimated_quality.py`."""
    variance = float(found.u @ found.u)
    fourth = float((found.u**2) @ (found.u**2))
    degrees = max(1.0, variance**2 / fourth / design - 1) if fourth > 0 else 1.0
    half = float(special.stdtrit(degrees, (1 + confidence) / 2)) * math.sqrt(variance * design)
    top = METRICS[name].high
    value = min(max(found.value, METRICS[name].low), top)
    if not math.isfinite(top) or not 0 < value < 1:
        return Estimate(value, max(METRICS[name].low, value - half), min(top, value + half), n)
    scaled = half / (value * (1 - value))
    centre = math.log(value / (1 - value))
    return Estimate(
        value, float(special.expit(centre - scaled)), float(special.expit(centre + scaled)), n
    )


def _mean(if_positive: Floats, if_negative: Floats, pos: Floats, neg: Floats) -> Found | None:
    total = float(pos.sum() + neg.sum())
    if total <= 0:
        return None
    value = float(if_positive @ pos + if_negative @ neg) / total
    return Found(value, (pos * (if_positive - value) + neg * (if_negative - value)) / total)


def _groups(rows: Masses) -> tuple[NDArray[np.intp], Floats, Floats]:
    """Rows of equal score: (group of each row by rising score, masses of either class)."""
    _, group = np.unique(rows.score, return_inverse=True)
    pos = np.bincount(group, weights=rows.positive).astype(np.float64)
    neg = np.bincount(group, weights=rows.negative).astype(np.float64)
    return group, pos, neg


def _auc(rows: Masses, p: float, n: float) -> Found:
    group, pos, neg = _groups(rows)
    beaten = (np.cumsum(neg) - neg / 2) / n
    beating = (p - np.cumsum(pos) + pos / 2) / p
    value = float(pos @ beaten) / p
    u = rows.positive * (beaten - value)[group] / p + rows.negative * (beating - value)[group] / n
    return Found(value, u)


def _average_precision(rows: Masses, p: float) -> Found:
    group, pos, neg = _groups(rows)
    true = np.cumsum(pos[::-1])[::-1]
    alerts = np.maximum(true + np.cumsum(neg[::-1])[::-1], 1e-12)
    precision = true / alerts
    value = float(pos @ precision) / p
    with_positive = np.cumsum(pos * (alerts - true) / alerts**2)
    with_negative = -np.cumsum(pos * true / alerts**2)
    of_positive = (precision - value + with_positive)[group]
    return Found(value, (rows.positive * of_positive + rows.negative * with_negative[group]) / p)


def _top(score: Floats, k: int) -> Floats | None:
    if score.size < k:
        return None
    cut = np.partition(score, score.size - k)[score.size - k]
    above, tied = score > cut, score == cut
    return np.asarray(above + tied * ((k - int(above.sum())) / int(tied.sum())), dtype=np.float64)
