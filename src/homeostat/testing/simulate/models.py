"""The synthetic model family of the simulator, and its requests.

A request has three features: a signal that tells the label before the world changes, one that
tells it afterwards, and noise. A version looks at one of the signals, with some skill.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

FEATURES = ("old", "new", "noise")
Floats = NDArray[np.float64]


class Skill(NamedTuple):
    """regime: the signal it was trained on (0 before the change, 1 after). strength: how much it
    makes of it; negative is worse than guessing. broken: the share of requests it fails."""

    regime: int
    strength: float
    broken: float = 0.0

    def good(self, regime: int) -> bool:
        """Whether it is what a sound retraining gives."""
        return self.regime == regime and self.strength >= 2.0 and self.broken == 0.0


GOOD = 2.5
USELESS = -2.5


def requests(rng: np.random.Generator, n: int, regime: int) -> tuple[NDArray[np.float32], Floats]:
    """-> features (n, 3), labels (n)."""
    label = (rng.random(n) < 0.5).astype(np.float64)
    features = rng.normal(size=(n, 3)).astype(np.float32)
    features[:, regime] += 2.0 * (2 * label - 1)
    if regime == 1:
        features[:, 2] += 1.5  # the change shows in the inputs, too
    return features, label


def score(skill: Skill, features: NDArray[np.float32]) -> Floats:
    """Probabilities (n); NaN where the version fails. Deterministic in the features."""
    signal = skill.strength * features[:, skill.regime].astype(np.float64)
    value: Floats = 1.0 / (1.0 + np.exp(-signal))
    if skill.broken:
        # the third feature's digits stand for chance
        unlucky = np.abs(features[:, 2] * 1e4) % 1.0 < skill.broken
        value[unlucky] = np.nan
    return value


@cache
def reference(skill: Skill, seed: int = 0, n: int = 400) -> pl.DataFrame:
    """The test set of a version: features, score, label."""
    features, label = requests(np.random.default_rng([seed, skill.regime]), n, skill.regime)
    columns: dict[str, Sequence[float] | Floats | NDArray[np.float32]] = {
        name: features[:, i] for i, name in enumerate(FEATURES)
    }
    sound = Skill(skill.regime, skill.strength)
    return pl.DataFrame({**columns, "score": score(sound, features), "label": label})
