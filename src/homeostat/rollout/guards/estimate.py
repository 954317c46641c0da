"""Requests without a label, made to tell as much as they can.

Both versions' scores of a request say how large the difference of their losses should be; its
mean over all requests is known much better than over the labelled ones. Used as a control variate
it takes the predictable part out of the labelled mean, and what was predicted wrongly is put right
by the labels, so that a bad prediction costs width and never truth (prediction-powered inference:
Angelopoulos et al., arXiv 2301.09633; its tuning by regression: PPI++, arXiv 2311.01453; as a
confidence sequence: Waudby-Smith et al., arXiv 2103.06476, section 3 on adjusted means).
"""

from __future__ import annotations

import math

import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.duration import Duration
from homeostat.rollout import sequences
from homeostat.rollout.guards.common import Alpha
from homeostat.rollout.guards.losses import losses
from homeostat.rollout.observations import Observations
from homeostat.rollout.sequences import Bounds

Array = NDArray[np.float64]

SPENT = 0.2
"""The part of the guard's alpha that belongs to the narrowed bounds. The labels' own bounds, which
decide before and stay in use where nothing is gained, have the rest: taking the narrower of two
spends on both."""
PREDICTED = 0.1
"""Of that, the part for the mean of what is predicted; the rest is for the labels' correction."""
LEAST_LABELS = 400
LEAST_GAIN = 1.1
"""Used where it saves at least this factor of labelled requests."""


def narrowed(
    metric: str,
    seen: Observations,
    every: pl.DataFrame,
    known: pl.DataFrame,
    block: Duration,
    bounds: Bounds,
    alpha: Alpha,
) -> tuple[Bounds, str]:
    """-> the bounds, narrower where requests without a label could make them so, and in words what
    was used and gained. every: all pairs; known: those of them whose label counts. alpha: what
    the narrowed bounds may spend.

    Only once the asymptotic bound may be used. Assumes that the difference of the losses, given
    both scores, is the same in labelled and later requests; the scores themselves may move.
    """
    more = every.height - known.height
    if known.height < LEAST_LABELS or more < known.height / 4:
        return bounds, ""
    known = known.sort("time", "id")  # blocks are runs of neighbours, labels come in any order
    label = known["label"].to_numpy().astype(np.float64)
    harm = _difference(metric, seen, known, label)
    if "propensity" in known.columns and known["propensity"].min() not in (None, 1.0):
        return bounds, ""  # labels that were drawn unevenly: their weights say enough
    x, z = _features(metric, seen, known), _features(metric, seen, every)
    found = adjusted(harm, x, z, label, (_blocks(known, block), _blocks(every, block)), alpha)
    if found is None:
        return bounds, ""
    point, low, high = found
    gain = ((bounds.high - bounds.point) / max(high - point, 1e-12)) ** 2
    if not math.isfinite(gain) or gain < LEAST_GAIN:
        return bounds, ""
    how = (
        f", narrowed by the scores of {more:,} more without a label "
        f"(worth {gain:.1f} times as many labels)"
    )
    return Bounds(point, low, high, bounds.n), how


def adjusted(
    harm: Array,
    x: Array,
    z: Array,
    label: Array,
    blocks: tuple[NDArray[np.int64] | None, NDArray[np.int64] | None],
    alpha: Alpha,
) -> tuple[float, float, float] | None:
    """-> estimate, lower and upper bound of the mean harm; None while it is too early for them.

    harm, label (n): of the labelled requests; x (n, 2): what their scores let expect; z (m, 2):
    the same of all requests. blocks: the numbers of the blocks of both.
    """
    coefficients, *_ = np.linalg.lstsq(x - z.mean(axis=0), harm - harm.mean(), rcond=None)
    predicted, left = z @ coefficients, harm - x @ coefficients
    (s, w), (ps, pw) = (
        sequences.merged(*sequences.in_blocks(v, None, block))
        for v, block in zip((left, predicted), blocks, strict=True)
    )
    residual = _residual(s, w)
    if not sequences.is_ready(residual, label):
        return None
    point = float(left.mean() + predicted.mean())
    spread = _spread(residual), _spread(_residual(ps, pw))

    def half(a: float) -> float:
        own, other = (1 - PREDICTED) * a, PREDICTED * a
        return spread[0] * float(sequences.width(len(s), own)) + spread[1] * float(
            sequences.width(len(ps), other)
        )

    return point, point - half(alpha.rollback), point + half(alpha.promotion)


def _residual(s: Array, w: Array) -> Array:
    """Of each block's sum from what its weight lets expect."""
    return np.asarray((s - s.sum() / w.sum() * w) / w.mean())


def _spread(residual: Array) -> float:
    return math.sqrt(float(np.mean(residual**2)))


def _blocks(rows: pl.DataFrame, block: Duration) -> NDArray[np.int64] | None:
    """By the time of the request, which the rows are ordered by."""
    size = int(block.total_seconds() * 1e6)
    return None if not size else rows["time"].cast(pl.Int64).to_numpy() // size


def _features(metric: str, seen: Observations, rows: pl.DataFrame) -> Array:
    """(n, 2): the difference of the losses that is expected if the champion's score were the
    probability of a positive, and if the candidate's were."""
    ones = np.ones(rows.height)
    if_positive = _difference(metric, seen, rows, ones)
    if_negative = _difference(metric, seen, rows, 0.0 * ones)
    found = []
    for column in ("champion", "candidate"):
        q = np.nan_to_num(np.clip(rows[column].to_numpy().astype(np.float64), 0.0, 1.0), nan=0.5)
        found.append(q * if_positive + (1 - q) * if_negative)
    return np.stack(found, axis=1)


def _difference(metric: str, seen: Observations, rows: pl.DataFrame, label: Array) -> Array:
    scores = (rows[c].to_numpy().astype(np.float64) for c in ("champion", "candidate"))
    one, two = (
        losses(metric, label, score, threshold)
        for score, threshold in zip(scores, seen.thresholds, strict=True)
    )
    return two - one
