"""Have the features moved together, over windows: what no column shows by itself.

Two figures of a row say how it lies among all columns: how far it is from the reference's mean,
with every principal component measured in its own spread (Mahalanobis 1936), and how much of it
the larger components do not explain. Both are columns like any other, whose baseline is reference
rows that the components were not made of. So the same bets gather evidence on them, and the same
guarantee holds (`betting`). A window gives the sample of rows that its profile keeps: what it
costs does not grow with traffic.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.verdict import Outcome, Verdict
from homeostat.monitoring.drift.baseline import Numeric, ascending, numeric
from homeostat.monitoring.drift.betting import wager, weigh
from homeostat.monitoring.drift.column import MIN_ROWS, Numbers, judge
from homeostat.monitoring.drift.dependence import design_effect
from homeostat.monitoring.model import Evidence
from homeostat.monitoring.spec import Drift

Floats = NDArray[np.float64]

SHARE = 0.2
"""The part of the level of drift that is spent on this."""
BASELINE = 0.1
ROWS = 20_000
"""Reference rows that are looked at, at most."""
FEWEST = 400
FAR = 5.0
"""Standard deviations at which a value is cut off."""
EXPLAINED = 0.9
DISTANCE, REMAINDER = "joint: distance", "joint: remainder"
_MEANS = {
    DISTANCE: "rows lie elsewhere among all features",
    REMAINDER: "the large components explain another part of a row",
}


class Together(msgspec.Struct, frozen=True):
    """mean, spread (d,): of each feature. axes (d, d): principal components; scale (d,): the
    standard deviation along each; small (d,): those beyond EXPLAINED. bases: of the two figures."""

    mean: Floats
    spread: Floats
    axes: Floats
    scale: Floats
    small: NDArray[np.bool_]
    bases: tuple[Numeric, Numeric]

    @classmethod
    def learn(cls, rows: NDArray[np.floating], seed: int = 0) -> Together | None:
        """rows: of the reference, (n, d), NaN where missing, in the order of time or in none. None
        with too few rows or columns."""
        n, d = rows.shape
        if n < FEWEST or d < 2:
            return None
        random = np.random.default_rng(seed)
        made, held = np.array_split(rows[random.permutation(n)[:ROWS]].astype(np.float64), 2)
        there = ~np.isnan(made)
        count = np.maximum(there.sum(axis=0), 1)
        mean = np.where(there, made, 0.0).sum(axis=0) / count
        spread = np.sqrt(np.square(np.where(there, made - mean, 0.0)).sum(axis=0) / count)
        spread[spread == 0] = 1.0
        inside = _standard(made, mean, spread)
        _, values, axes = np.linalg.svd(inside, full_matrices=False)
        share = np.cumsum(values**2) / max(float((values**2).sum()), 1e-12)
        large = min(int(np.searchsorted(share, EXPLAINED)) + 1, d - 1)
        # a direction that the reference hardly has is measured by a small part of a usual one
        scale = np.maximum(values / np.sqrt(len(inside)), 0.05)
        none = numeric("", np.empty(0), 0)
        found = cls(mean, spread, axes, scale, np.arange(d) >= large, (none, none))
        distance, remainder = (
            _base(name, values, ordered)
            for name, values, ordered in zip(
                _MEANS, found.figures(held).T, found.figures(rows).T, strict=True
            )
        )
        return msgspec.structs.replace(found, bases=(distance, remainder))

    def figures(self, rows: NDArray[np.floating]) -> Floats:
        """-> (n, 2)."""
        along = _standard(rows, self.mean, self.spread) @ self.axes.T
        distance = ((along / self.scale) ** 2).mean(axis=1)
        return np.column_stack((distance, (along[:, self.small] ** 2).sum(axis=1)))

    def look(
        self,
        sample: NDArray[np.floating],
        rows: int,
        spec: Drift,
        alpha: float,
        before: Sequence[Evidence],
    ) -> tuple[Verdict, tuple[Evidence, ...]]:
        """What a sample (k, d) of a window's rows adds. alpha: one false alarm in 1 / alpha windows
        at most, on average. -> FAIL while the evidence over the windows says that the rows have
        moved."""
        own = [e for e in before if e.feature in _MEANS]
        sample = sample[~np.isnan(sample).all(axis=1)]  # of a version with other inputs
        n = len(sample)
        if n < MIN_ROWS:
            text = f"too few rows to look at the features together ({n})"
            return Verdict("joint", Outcome.INCONCLUSIVE, text, n=n), tuple(own)
        won, distances = {}, {}
        for whole, values in zip(self.bases, self.figures(sample).T, strict=True):
            # the farther apart the rows of a sample are, the less they hang together
            design = 1 + (whole.design - 1) * min(1.0, n / max(1, rows))
            base = msgspec.structs.replace(whole, design=design)
            seen = Numbers.of(base, pl.Series(values))
            bets = wager(base, seen, spec.min_effect, alpha / 2 * BASELINE)
            distances[base.name] = judge(base, seen, spec, alpha / 2).effect or 0.0
            if bets is not None:
                won[base.name] = bets
        evidence = weigh(own, won, 1 / (alpha * (1 - BASELINE)), len(self.bases))
        named = [e.feature for e in evidence if e.named]
        figure = max(distances.values())
        if not named:
            text = f"taken together no drift is shown (distance {figure:.3f}, {n} rows)"
            outcome = Outcome.PASS
        else:
            told = "; ".join(f"{_MEANS[f]} (distance {distances[f]:.3f})" for f in named)
            text, outcome = f"taken together the features moved: {told}", Outcome.FAIL
        verdict = Verdict("joint", outcome, text, figure=figure, threshold=spec.min_effect, n=n)
        return verdict, evidence


def _base(name: str, values: Floats, ordered: Floats) -> Numeric:
    """ordered: those of all rows, in the order of time."""
    base = numeric(name, ascending(values), values.size)
    return msgspec.structs.replace(base, design=design_effect(base, pl.Series(ordered)))


def _standard(rows: NDArray[np.floating], mean: Floats, spread: Floats) -> Floats:
    """In standard deviations from the mean; missing ones are at the mean."""
    return np.nan_to_num(np.clip((rows - mean) / spread, -FAR, FAR))
