"""From scores to probabilities of the label, learnt on rows whose label is known.

`isotonic` looks at the score alone: what CBPE does, and with density-ratio weights what M-CBPE
does (Bialek et al. 2401.08348). `Conditional` looks at the features too: the outcome model of a
doubly robust estimate. When only the features move, P(label | features) stays and P(label | score)
does not, so the first has to be weighted towards the traffic while the second is right as it is,
as far as it is rich enough.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]

EDGE = 0.005
"""Scores are clipped to [EDGE, 1 - EDGE] before their log-odds are taken."""


def isotonic(
    score: Floats, label: Floats, weight: Floats | None = None
) -> Callable[[Floats], Floats]:
    """The non-decreasing function from scores (n,) to probabilities that fits labels (n,) best;
    straight between the scores seen, flat beyond them."""
    from scipy.optimize import isotonic_regression  # slow to import, and few processes come here

    weights = np.ones(score.size) if weight is None else weight
    seen, group = np.unique(score, return_inverse=True)
    mass = np.bincount(group, weights=weights)
    mean = np.bincount(group, weights=weights * label) / np.maximum(mass, 1e-300)
    kept = mass > 0
    fitted = isotonic_regression(mean[kept], weights=mass[kept]).x
    return lambda scores: np.asarray(np.interp(scores, seen[kept], fitted), dtype=np.float64)


class Inputs(msgspec.Struct, frozen=True):
    """Features made fit for a linear model: missing ones at the median, clipped to the range that
    was seen (beyond it nothing was learnt), centred and scaled; the log-odds of the score first."""

    low: Floats
    high: Floats
    middle: Floats
    centre: Floats
    scale: Floats

    @classmethod
    def fit(cls, features: Floats, score: Floats) -> Inputs:
        """features: (n, d), d may be 0. score: (n,)."""
        clean = np.where(np.isfinite(features), features, np.nan)
        empty = np.isnan(clean).all(axis=0)
        clean[:, empty] = 0.0
        low, high = np.nanmin(clean, axis=0), np.nanmax(clean, axis=0)
        self = cls(
            low, high, np.nanmedian(clean, axis=0), np.zeros(low.size + 1), np.ones(low.size + 1)
        )
        table = self.table(features, score)
        spread = table.std(axis=0)
        scale = np.where(spread > 0, spread, 1.0)
        return msgspec.structs.replace(self, centre=table.mean(axis=0), scale=scale)

    def table(self, features: Floats, score: Floats) -> Floats:
        """(n, d + 1)."""
        known = np.where(np.isnan(features), self.middle, features)
        odds = special.logit(np.clip(score, EDGE, 1 - EDGE))
        clipped = np.clip(known, self.low, self.high)
        return np.asarray((np.column_stack([odds, clipped]) - self.centre) / self.scale)


class Conditional(msgspec.Struct, frozen=True):
    """A ridge logistic regression of the label on the log-odds of the score and the features, and
    the uncertainty of its coefficients (Laplace's approximation)."""

    inputs: Inputs
    coefficients: Floats
    root: Floats

    @classmethod
    def fit(cls, features: Floats, score: Floats, label: Floats) -> Conditional:
        """features: (n, d). score, label: (n,); both classes must be there."""
        from sklearn.linear_model import LogisticRegression

        inputs = Inputs.fit(features, score)
        table = inputs.table(features, score)
        fitted = LogisticRegression(C=1.0, max_iter=500).fit(table, label)
        coefficients = np.append(fitted.coef_[0], fitted.intercept_)
        whole = np.column_stack([table, np.ones(len(table))])
        p = special.expit(whole @ coefficients)
        information = whole.T @ (whole * (p * (1 - p))[:, None])
        information[np.diag_indices(table.shape[1])] += 1.0  # the ridge, not on the intercept
        values, vectors = np.linalg.eigh(information)
        root = vectors / np.sqrt(np.maximum(values, 1e-9))
        return cls(inputs, coefficients, root)

    def probability(self, features: Floats, score: Floats) -> Floats:
        """(n,)."""
        return np.asarray(special.expit(self._whole(features, score) @ self.coefficients))

    def draws(
        self, features: Floats, score: Floats, count: int, random: np.random.Generator
    ) -> Floats:
        """Probabilities (count, n) under coefficients drawn from what is known of them."""
        noise = random.standard_normal((self.root.shape[1], count))
        drawn = self.coefficients[:, None] + self.root @ noise
        return np.asarray(special.expit(self._whole(features, score) @ drawn).T)

    def _whole(self, features: Floats, score: Floats) -> Floats:
        table = self.inputs.table(features, score)
        return np.column_stack([table, np.ones(len(table))])
