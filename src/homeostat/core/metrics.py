"""Metrics of a binary classifier, with intervals. Here because training, monitoring and rollout
all report them and must never disagree.

Everything is analytic: no resampling, no randomness, a few milliseconds for 10,000 rows.
Assumption throughout: rows are independent. `benchmarks/metric_intervals.py` measures the
coverage of every interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from homeostat.core.errors import BadInput
from homeostat.core.influence import CLIP, INFLUENCE, Influence, Scored
from homeostat.core.names import METRICS

Array = NDArray[np.floating]

LOG_LOSS_MAX = float(-np.log(CLIP))
_SHARES = ("accuracy", "precision", "recall", "precision_at_k")


class Estimate(msgspec.Struct, frozen=True):
    """value with its interval; None where it is not defined (one class only, no rows)."""

    value: float | None
    low: float | None
    high: float | None
    n: int


def measure(
    label: ArrayLike,
    score: ArrayLike,
    *,
    threshold: float = 0.5,
    k: int = 100,
    confidence: float = 0.95,
    only: Sequence[str] | None = None,
    design: float = 1.0,
) -> dict[str, Estimate]:
    """Every metric of `core.names.METRICS` (or those in `only`) with its two-sided interval.

    label: 0/1, shape (n,). score: probability of 1, shape (n,). A score from `threshold` on is
    an alert. What is not defined (one class, no rows, no alerts, fewer than k rows) has value
    None. n is what the figure rests on: the alerts for precision, the positives for recall, k for
    precision_at_k, else the rows.

    Intervals: AUC: DeLong's variance on the logit scale; average precision: infinitesimal
    jackknife on the logit scale (cf. Boyd, Eng & Page 2013); log loss and Brier: Student's t;
    shares: Wilson 1927; calibration error: normal, and its low end allows for the upward bias
    that the plug-in figure has (it covers the error of the ten bins used, not of the curve).

    design: so many rows are worth one independent row (1: rows are independent); intervals are
    then those of as many fewer rows.

    Raises BadInput when shapes differ, a score is NaN or outside [0, 1], or a label is not 0 or 1.
    """
    sample = _scored(label, score, threshold, k)
    names = METRICS if only is None else only
    return {name: _estimate(name, sample, confidence, design) for name in names}


def difference(
    metric: str,
    label: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    *,
    threshold: float = 0.5,
    k: int = 100,
    confidence: float = 0.95,
) -> Estimate:
    """metric(a) - metric(b) of two models on the same rows, with its paired normal interval.

    label, a, b: shape (n,). For the AUC it is DeLong's paired comparison. Value None where the
    metric is not defined for either. Identical scores have the interval [0, 0]. Raises BadInput
    as `measure`.
    """
    first, second = (_influence(metric, _scored(label, x, threshold, k)) for x in (a, b))
    n = int(np.size(np.asarray(label)))
    if first is None or second is None:
        return Estimate(None, None, None, n)
    value = first.value - second.value
    variance = float(np.sum((first.u - second.u) ** 2))
    if metric in _SHARES and not np.array_equal(np.asarray(a), np.asarray(b)):
        # two more discordant rows (after Agresti & Min 2005): seeing none is not proof of none
        variance += 2 / min(first.n, second.n) ** 2
    half = _quantile(confidence) * variance**0.5
    return Estimate(value, value - half, value + half, n)


def _influence(metric: str, sample: Scored) -> Influence | None:
    if metric not in INFLUENCE:
        raise BadInput(
            "there is no such metric", expected=f"one of {', '.join(METRICS)}", found=repr(metric)
        )
    return INFLUENCE[metric](sample)


def _scored(label: ArrayLike, score: ArrayLike, threshold: float, k: int) -> Scored:
    y, s = np.asarray(label, dtype=np.float64), np.asarray(score, dtype=np.float64)
    if y.ndim != 1 or y.shape != s.shape:
        raise BadInput(
            "labels and scores do not match",
            expected="two arrays of shape (n,)",
            found=f"{y.shape} and {s.shape}",
        )
    wrong = ~((y == 0) | (y == 1))
    if wrong.any():
        raise BadInput(
            f"{int(wrong.sum())} of {len(y)} labels are not 0 or 1",
            found=f"{y[wrong][0]} in row {int(np.argmax(wrong))}",
            remedy="leave out rows whose label is not known",
        )
    # written so that NaN is outside; 1e-6 of slack is what float32 arithmetic leaves
    outside = ~((s >= -1e-6) & (s <= 1 + 1e-6))
    if outside.any():
        raise BadInput(
            f"{int(outside.sum())} of {len(s)} scores are not probabilities",
            expected="numbers within 0 and 1",
            found=f"{s[outside][0]} in row {int(np.argmax(outside))}",
        )
    return Scored(y, np.clip(s, 0.0, 1.0), threshold, k)


def _estimate(metric: str, sample: Scored, confidence: float, design: float) -> Estimate:
    found = _influence(metric, sample)
    if found is None:
        rests_on = {"precision": int(sample.alert.sum()), "recall": sample.positives}
        return Estimate(None, None, None, rests_on.get(metric, sample.n))
    if metric in _SHARES:
        low, high = wilson(found.value, found.n / design, confidence)
    elif metric == "calibration_error":
        low, high = _calibration(found, sample, confidence, design)
    elif metric in ("auc", "average_precision"):
        low, high = _logit(found, min(sample.positives, sample.negatives), confidence, design)
    else:
        top = LOG_LOSS_MAX if metric == "log_loss" else 1.0
        low, high = _student(found, top, confidence, design)
    return Estimate(found.value, low, high, found.n)


@cache
def _quantile(confidence: float, degrees: int | None = None) -> float:
    """Two-sided quantile of the normal, or of Student's t."""
    from scipy import stats

    upper = (1 + confidence) / 2
    return float(stats.norm.ppf(upper) if degrees is None else stats.t.ppf(upper, degrees))


def _unseen(n: float, confidence: float) -> float:
    """The largest share that n draws miss altogether with probability (1 - confidence) / 2."""
    return float(1 - ((1 - confidence) / 2) ** (1 / n))


def wilson(share: float, n: float, confidence: float) -> tuple[float, float]:
    """Interval of a share of n > 0 draws (Wilson 1927); within [0, 1] and holding the share."""
    z2 = _quantile(confidence) ** 2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # rounding must not push the figure out of its own interval
    return max(0.0, min(share, float(centre - half))), min(1.0, max(share, float(centre + half)))


def _student(found: Influence, top: float, confidence: float, design: float) -> tuple[float, float]:
    """Mean of losses within [0, top]."""
    spread, n = float(np.sqrt(found.u @ found.u * design)), found.n / design
    if n < 2 or spread == 0.0:
        # equal losses say nothing of their spread, only how rare another value must be
        unseen = _unseen(n, confidence)
        return found.value * (1 - unseen), found.value + (top - found.value) * unseen
    half = _quantile(confidence, round(n) - 1) * spread
    return max(0.0, found.value - half), min(top, found.value + half)


def _logit(found: Influence, rarer: int, confidence: float, design: float) -> tuple[float, float]:
    """rarer: rows of the rarer class, which is what a ranking metric really rests on."""
    fewest = rarer / design
    value, unseen = found.value, _unseen(fewest, confidence)
    # towards 0 and 1 the estimated variance vanishes; a share of `fewest` rows has at least this
    floor = max(value * (1 - value), 0.0) / (12 * fewest)
    spread = float(np.sqrt(max(float(np.square(found.u).sum()) * design, floor)))
    if spread == 0.0 or min(value, 1 - value) < 1e-12:
        return max(0.0, value - unseen), min(1.0, value + unseen)
    z = _quantile(confidence, max(round(fewest) - 1, 1)) if fewest < 30 else _quantile(confidence)
    half = z * spread / (value * (1 - value))
    odds = value / (1 - value)
    with np.errstate(over="ignore"):
        return (
            float(1 / (1 + np.exp(half) / odds)),
            float(1 / (1 + np.exp(-half) / odds)),
        )


def _calibration(
    found: Influence, sample: Scored, confidence: float, design: float
) -> tuple[float, float]:
    size = np.bincount(sample.bins).astype(np.float64)
    hits = np.bincount(sample.bins, weights=sample.label)
    residual = sample.label - sample.score
    mean = np.bincount(sample.bins, weights=residual) / size
    seen = np.bincount(sample.bins, weights=(residual - mean[sample.bins]) ** 2) / size
    shrunk = (hits + 2) / (size + 4)  # a bin without positives is not without variance
    variance = np.maximum(seen, shrunk * (1 - shrunk)) / size * design
    share = size / sample.n
    half = _quantile(confidence) * float(np.sqrt(share**2 @ variance))
    # |gap| overstates by sqrt(2 / pi) standard errors where there is no gap, by less elsewhere
    bias = float(np.sqrt(2 / np.pi) * (share @ np.sqrt(variance)))
    return max(0.0, found.value - bias - half), min(1.0, found.value + half)
