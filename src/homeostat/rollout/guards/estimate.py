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
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from homeostat.core.duration import Duration
from homeostat.rollout import sequences
from homeostat.rollout.guards.common import Alpha
from homeostat.rollout.guards.losses import losses
from homeostat.rollout.seen.columns import Columns
from homeostat.rollout.seen.evidence import Evidence
from homeostat.rollout.seen.observations import Observations
from homeostat.rollout.seen.requests import Rows
from homeostat.rollout.sequences import Bounds

Array = NDArray[np.float64]

SPENT = 0.2
"""The part of the guard's alpha that belongs to the narrowed bounds. The labels' own bounds, which
decide before and stay in use where nothing is gained, have the rest: taking the narrower of two
spends on both."""
LEAST_LABELS = 400
LEAST_GAIN = 1.1
"""Used where it saves at least this factor of labelled requests."""


def narrowed(
    metric: str, seen: Observations, block: Duration, bounds: Bounds, alpha: Alpha
) -> tuple[Bounds, str]:
    """-> the bounds, narrower where requests without a label could make them so, and in words what
    was used and gained. alpha: what the narrowed bounds may spend.

    Only once the asymptotic bound may be used. Assumes that the difference of the losses, given
    both scores, is the same in labelled and later requests; the scores themselves may move.
    """
    known = seen.paired
    least = len(known) / 4
    if len(known) < LEAST_LABELS or seen.heard - len(known) < least:
        return bounds, ""  # of all that was heard of, not enough can be pairs
    every = seen.pairs
    more = len(every) - len(known)
    if more < least:
        return bounds, ""
    x = known.fold(("x", metric), lambda: Expected(metric))
    z = every.fold(("z", metric), lambda: Expected(metric))
    x.add(known, seen)
    z.add(every, seen)
    if x.uneven:
        return bounds, ""  # labels that were drawn unevenly: their weights say enough
    harm, label = x.column("harm"), x.column("label")
    blocks = x.blocks(block), z.blocks(block)
    found = adjusted(harm, x.expected(), z.expected(), label, blocks, alpha)
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
    # of two running means that do not correlate (the regression sees to that): the variance of
    # their sum falls as that of one mean does, whatever the share of labels, so one bound does
    variance = _variance(residual) / len(s) + _variance(_residual(ps, pw)) / len(ps)
    spread = math.sqrt(variance * len(s))

    def half(a: float) -> float:
        return spread * float(sequences.width(len(s), a))

    return point, point - half(alpha.rollback), point + half(alpha.promotion)


def _residual(s: Array, w: Array) -> Array:
    """Of each block's sum from what its weight lets expect."""
    return np.asarray((s - s.sum() / w.sum() * w) / w.mean())


def _variance(residual: Array) -> float:
    return float(np.mean(residual**2))


class Expected:
    """Folds pairs as they come: the difference of the losses that the scores let expect, and the
    one that the label shows. They are told in the order of the requests, whatever order the labels
    came in: blocks are runs of neighbours."""

    def __init__(self, metric: str) -> None:
        self._metric = metric
        self._rows = Columns(**dict.fromkeys(_COLUMNS, (np.float64, 0.0)))
        self._order = np.empty(0, np.intp)
        self.uneven = False

    def add(self, evidence: Evidence, seen: Observations) -> None:
        taken = self._rows.n
        rows = evidence.rows(taken)
        if not len(rows):
            return
        self.uneven |= bool((rows.propensity != 1.0).any())
        harm = _difference(self._metric, seen, rows, rows.label)
        expected = _features(self._metric, seen, rows).T
        self._rows.grow(taken + len(rows))
        for name, values in zip(_COLUMNS, (rows.time, rows.label, harm, *expected), strict=True):
            self._rows[name][taken:] = values
        self._order = np.argsort(self._rows["time"], kind="stable")

    def column(self, name: str) -> Array:
        return np.asarray(self._rows[name][self._order])

    def expected(self) -> Array:
        return np.stack((self.column("if_champion"), self.column("if_candidate")), axis=1)

    def blocks(self, block: Duration) -> NDArray[np.int64] | None:
        size = block // timedelta(microseconds=1)
        return self.column("time").astype(np.int64) // size if size else None


_COLUMNS = ("time", "label", "harm", "if_champion", "if_candidate")


def _features(metric: str, seen: Observations, rows: Rows) -> Array:
    """(n, 2): the difference of the losses that is expected if the champion's score were the
    probability of a positive, and if the candidate's were."""
    ones = np.ones(len(rows))
    if_positive = _difference(metric, seen, rows, ones)
    if_negative = _difference(metric, seen, rows, 0.0 * ones)
    found = []
    for score in (rows.champion, rows.candidate):
        q = np.nan_to_num(np.clip(score, 0.0, 1.0), nan=0.5)
        found.append(q * if_positive + (1 - q) * if_negative)
    return np.stack(found, axis=1)


def _difference(metric: str, seen: Observations, rows: Rows, label: Array) -> Array:
    one, two = (
        losses(metric, label, score, threshold)
        for score, threshold in zip((rows.champion, rows.candidate), seen.thresholds, strict=True)
    )
    return two - one
