"""What a request costs: per-request losses, all of them bounded."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CLIP = 0.001
"""Scores are moved within [CLIP, 1 - CLIP] for the log loss, for both versions alike: then no
request costs more than 6.91, which is what makes bounds possible at all."""


def losses(metric: str, label: Array, score: Array, threshold: float = 0.5) -> Array:
    """The loss of each request (n), in [0, largest]; a score that is not a number loses most."""
    if metric == "log_loss":
        kept = np.clip(score, CLIP, 1.0 - CLIP)
        value = -np.log(np.where(label > 0.5, kept, 1.0 - kept))
    elif metric == "brier":
        value = (np.clip(score, 0.0, 1.0) - label) ** 2
    else:
        value = ((score >= threshold) != (label > 0.5)).astype(np.float64)
    return np.where(np.isfinite(score), value, largest(metric))


def largest(metric: str) -> float:
    """The most that one request can cost in this metric."""
    return -math.log(CLIP) if metric == "log_loss" else 1.0


def harm_support(metric: str) -> tuple[float, float]:
    """Between which values the difference of two losses lies."""
    return -largest(metric), largest(metric)
