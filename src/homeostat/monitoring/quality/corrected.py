"""A live metric where not every outcome is known: labels still missing, and outcomes that the
model itself prevented (a payment it blocked shows no fraud).

The log has for each row the probability with which its outcome may become known (`propensity`: 1
unless the model would have acted and an exploration slice let the row through). On those rows a
figure from labelled rows alone is about another population, and says so by nothing. Two
corrections are computed: inverse-probability weighting, and a doubly robust one that also uses a
model of the label where it is not known (Robins, Rotnitzky & Zhao 1994; Dudik, Langford & Li
2011): right when either the propensities or the model are.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from homeostat.core.metrics import Estimate
from homeostat.monitoring.quality.estimate.calibrate import isotonic
from homeostat.monitoring.quality.estimate.masses import Masses, interval, metric_of

Floats = NDArray[np.float64]

BINS = 10
UNREACHED = 0.02
"""Share of the rows whose outcome nobody can come to know that is borne: beyond it no weighting
speaks for them."""
NEEDED = 0.005
"""Share of unknown outcomes below which correcting changes nothing that a person would see."""


class Corrected(msgspec.Struct, frozen=True):
    """naive: the metric of the labelled rows alone. weighted: by inverse probabilities. robust:
    doubly robust; the figure to use. rows: all of them, labelled: with a known outcome. explored:
    labelled ones with a propensity below 1. unreached: the share of rows alike to which no
    outcome is known."""

    naive: Estimate
    weighted: Estimate
    robust: Estimate
    rows: int
    labelled: int
    explored: int
    unreached: float

    @property
    def sentence(self) -> str:
        missing = 1 - self.labelled / max(self.rows, 1)
        text = f"corrected for the {missing:.0%} of outcomes that are not known"
        if self.explored:
            text += f", {self.explored:,} of them seen by exploring"
        if self.naive.value is not None:
            text += f"; {self.naive.value:.3f} on the known ones alone"
        return text


def corrected(
    metric: str,
    label: ArrayLike,
    score: ArrayLike,
    propensity: ArrayLike,
    *,
    threshold: float = 0.5,
    k: int = 100,
    confidence: float = 0.95,
    design: float = 1.0,
) -> Corrected:
    """label: 0, 1, or NaN where it is not known, (n,). score, propensity: (n,), propensities
    within (0, 1].

    Whether a label that may become known is there already is taken to depend on the score alone
    (missing at random): the share is estimated in ten bins of the score. design: so many rows are
    worth one independent row. `benchmarks/estimated_quality.py` measures the coverage."""
    y, s = np.asarray(label, dtype=np.float64), np.asarray(score, dtype=np.float64)
    known = ~np.isnan(y)
    chance = np.clip(np.asarray(propensity, dtype=np.float64), 1e-6, 1.0)
    arrived, unreached = _arrival(s, known, chance)
    weight = np.where(known, 1 / np.maximum(chance * arrived, 1e-6), 0.0)
    seen = np.where(known, y, 0.0)
    guess = _guess(s, seen, known, weight)
    positive = guess + weight * (seen - guess) * known
    options = {"threshold": threshold, "k": k}
    n = int(known.sum())

    def of(rows: Masses) -> Estimate:
        found = metric_of(metric, rows, **options)  # type: ignore[arg-type]
        if found is None:
            return Estimate(None, None, None, n)
        return interval(found, metric, n, confidence=confidence, design=design)

    return Corrected(
        of(Masses(s[known], y[known], 1 - y[known])),
        of(Masses(s, weight * seen, weight * (1 - seen) * known)),
        of(Masses(s, positive, 1 - positive)),
        int(y.size),
        n,
        int((known & (chance < 1)).sum()),
        unreached,
    )


def needs_correction(label: ArrayLike, propensity: ArrayLike) -> bool:
    """Whether unknown outcomes are more than a few, or chosen by the model."""
    y = np.asarray(label, dtype=np.float64)
    chosen = np.asarray(propensity, dtype=np.float64) < 1
    return bool(y.size and (np.isnan(y).mean() > NEEDED or chosen.any()))


def _arrival(score: Floats, known: NDArray[np.bool_], chance: Floats) -> tuple[Floats, float]:
    """-> the share of labels, among those that may become known, that are there: of each row's
    bin, (n,); and the share of rows in bins where none is."""
    if not score.size:
        return np.ones(0), 0.0
    edges = np.quantile(score, np.linspace(0, 1, BINS + 1)[1:-1])
    cell = np.searchsorted(edges, score, side="right") * 2 + (chance < 1)
    may = np.bincount(cell, weights=chance, minlength=2 * BINS)
    are = np.bincount(cell, weights=known.astype(np.float64), minlength=2 * BINS)
    # explored rows: their chance is known and their labels are few, so the bin's other rows tell
    # how many labels have arrived, and where there are none, all rows do
    plain_may, plain_are = may[0::2], are[0::2]
    overall = plain_are.sum() / plain_may.sum() if plain_may.sum() > 0 else 1.0
    share = np.divide(plain_are, plain_may, out=np.full(BINS, overall), where=plain_may > 0)
    lost = (np.repeat(share, 2) <= 0) | (are == 0) & (may > 5)
    arrived = np.where(share > 0, share, 1.0)[cell // 2]
    return np.minimum(arrived, 1.0), float(lost[cell].mean())


def _guess(score: Floats, label: Floats, known: NDArray[np.bool_], weight: Floats) -> Floats:
    """The label's probability given the score, for each row by a model that has not seen it."""
    found = np.full(score.size, float(label[known].mean()) if known.any() else 0.0)
    fold = np.arange(score.size) % 2
    for side in (0, 1):
        rows = known & (fold != side)
        if rows.sum() >= 20 and 0 < label[rows].sum() < rows.sum():
            here = fold == side
            found[here] = isotonic(score[rows], label[rows], weight[rows])(score[here])
    return found
