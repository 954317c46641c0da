"""What final labels say of the relation between scores and outcomes: the share of positives, and
whether the scores still mean what they meant on the test set."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from homeostat.core.metrics import wilson
from homeostat.monitoring.quality.estimate.calibrate import isotonic
from homeostat.monitoring.quality.estimate.labelshift import EDGE, adjusted
from homeostat.monitoring.quality.model import Outcomes

Floats = NDArray[np.float64]

LEAST = 30
GROUPS = 4
"""Rows are compared in so many groups of ascending score, each with an equal share of the positives
that the scores announce: where few are positive, bins of equal size would each hold a handful."""


class Meaning(msgspec.Struct, frozen=True):
    """What a version's scores meant on its test set of `rows` rows."""

    rows: int
    rate: float
    probability: Callable[[Floats], Floats]

    @classmethod
    def learn(cls, score: Floats, label: Floats) -> Meaning | None:
        """None where the test rows have one class only. score, label: (n,)."""
        if not 0 < label.sum() < label.size:
            return None
        return cls(label.size, float(label.mean()), isotonic(score, label))

    def outcomes(
        self, score: Floats, label: Floats, propensity: Floats, *, confidence: float = 0.95
    ) -> Outcomes | None:
        """label: 0, 1 or NaN where it is not known, (n,). score, propensity: (n,). None with fewer
        than LEAST labels. At a given score it does not matter which outcomes are known; the share
        of positives weighs them by their propensity."""
        known = ~np.isnan(label)
        n = int(known.sum())
        if n < LEAST:
            return None
        y, chance = label[known], propensity[known]
        p = np.clip(self.probability(score[known]), EDGE, 1 - EDGE)
        rate = float(np.average(y, weights=1 / chance))
        low, high = wilson(rate, n, confidence)
        now = min(max(rate, EDGE), 1 - EDGE)
        error, error_low = _error(y, p, self.rows, confidence)
        mixed, mixed_low = _error(y, adjusted(p, self.rate, now), self.rows, confidence)
        return Outcomes(
            n=n,
            coverage=min(1.0, n / float(propensity.sum())),
            rate=rate,
            low=low,
            high=high,
            expected=self.rate,
            residual=float((y - p).mean()),
            error=error,
            error_low=error_low,
            mixed=mixed,
            mixed_low=mixed_low,
        )


def _error(label: Floats, p: Floats, tested: int, confidence: float) -> tuple[float, float]:
    """-> calibration error and its lower bound (a normal one per group, Bonferroni over them).
    tested: rows of the test set, on which p was learned: its own chance counts too."""
    order = np.argsort(p, kind="stable")
    p, label = p[order], label[order]
    announced = np.cumsum(p)
    group = np.minimum((announced - p) / announced[-1] * GROUPS, GROUPS - 1).astype(np.intp)
    off = np.abs(np.bincount(group, label - p, GROUPS))
    spread = np.sqrt(np.bincount(group, p * (1 - p), GROUPS) * (1 + p.size / tested))
    z = -ndtri((1 - confidence) / 2 / GROUPS)
    low = np.maximum(off - z * spread, 0.0)
    return float(off.sum() / p.size), float(low.sum() / p.size)
