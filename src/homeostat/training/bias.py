"""How differently a classifier treats groups, with intervals.

The figures are fairlearn's. Their intervals come from Wilson intervals of each group's rates,
widened over groups and rates (Bonferroni), so that they hold at once: the difference between the
largest and the smallest rate is then covered at least as often as stated, whichever groups
these are. Figures that take the extremes of many small groups are large by chance alone; the
low end says what is more than chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from homeostat.core.errors import BadInput
from homeostat.core.metrics import Estimate, wilson
from homeostat.core.names import BIAS_METRICS

Groups = Sequence[object] | NDArray[np.generic] | pl.Series
Mask = NDArray[np.bool_]
_MISSING = "(missing)"


def bias(
    label: ArrayLike,
    score: ArrayLike,
    group: Groups,
    *,
    threshold: float = 0.5,
    confidence: float = 0.95,
) -> dict[str, Estimate]:
    """Every metric of `core.names.BIAS_METRICS` between the groups.

    label 0/1, score and group: shape (n,); a missing group is a group of its own. Value None with
    fewer than two groups, or where a group has no rows to take a rate from (no positives, say):
    what cannot be seen is not fair. Differences are within 0 and 1. Raises BadInput when shapes
    differ.
    """
    sample = _sample(label, score, group, threshold)
    found: dict[str, Estimate] = {}
    for metric in BIAS_METRICS:
        ends = _interval(metric, sample, confidence)
        if ends is None:
            found[metric] = Estimate(None, None, None, len(sample.positive))
            continue
        value = _fairlearn(metric, sample)
        found[metric] = Estimate(
            value, min(ends[0], value), max(ends[1], value), len(sample.positive)
        )
    return found


class _Sample(NamedTuple):
    positive: Mask
    alert: Mask
    group: NDArray[np.object_]


def _sample(label: ArrayLike, score: ArrayLike, group: Groups, threshold: float) -> _Sample:
    y, s = np.asarray(label, dtype=np.float64) > 0, np.asarray(score, dtype=np.float64)
    names = pl.Series("group", group).cast(pl.String).fill_null(_MISSING).to_numpy()
    if not y.shape == s.shape == names.shape:
        raise BadInput(
            "labels, scores and groups do not match",
            expected="three arrays of shape (n,)",
            found=f"{y.shape}, {s.shape} and {names.shape}",
        )
    return _Sample(y, s >= threshold, names)


def _interval(metric: str, sample: _Sample, confidence: float) -> tuple[float, float] | None:
    y = sample.positive
    among: list[Mask] = {
        "demographic_parity_difference": [np.ones_like(y)],
        "equal_opportunity_difference": [y],
        "equalized_odds_difference": [y, ~y],
    }[metric]
    members = [sample.group == name for name in np.unique(sample.group)]
    cells = [[rows & member for member in members] for rows in among]
    if len(members) < 2 or not all(cell.any() for row in cells for cell in row):
        return None
    each = 1 - (1 - confidence) / (len(members) * len(among))
    bounds = [_spread([_rate(sample.alert, cell, each) for cell in row]) for row in cells]
    return max(low for low, _ in bounds), max(high for _, high in bounds)


def _rate(alert: Mask, cell: Mask, confidence: float) -> tuple[float, float]:
    return wilson(float(alert[cell].mean()), int(cell.sum()), confidence)


def _spread(rates: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Bounds of (largest rate - smallest rate) from bounds of each rate."""
    lows, highs = [low for low, _ in rates], [high for _, high in rates]
    return max(0.0, max(lows) - min(highs)), max(highs) - min(lows)


def _fairlearn(metric: str, sample: _Sample) -> float:
    from fairlearn import metrics

    found = getattr(metrics, metric)(
        sample.positive.astype(int), sample.alert.astype(int), sensitive_features=sample.group
    )
    return float(found)
