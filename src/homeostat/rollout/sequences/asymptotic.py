"""Bounds of a mean once a central limit theorem holds, and whether it does yet.

Waudby-Smith et al., arXiv 2103.06476.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from homeostat.rollout.sequences.bounds import Array

BURN_IN = 25
"""Asymptotic bounds need n / kurtosis (the number of observations that carry the variance) and
the count of each class to reach this. Coverage with it: `make bench-rollout`."""
SOONEST = 4 * BURN_IN
"""Fewer observations than so many are not enough for them, whatever they are."""
TIGHTEST_AT = 1000
"""The number of observations at which the asymptotic bound is tightest."""


def width(n: NDArray[np.int64] | int, alpha: float) -> Array:
    """One-sided half-width per unit of standard deviation (2103.06476, proposition 3.7)."""
    both = 2 * alpha
    rho2 = (-2 * math.log(both) + math.log(1 - 2 * math.log(both))) / TIGHTEST_AT
    v = np.asarray(n, dtype=np.float64) * rho2
    width: Array = np.sqrt(2 * (v + 1) / (np.asarray(n) * v) * np.log1p(np.sqrt(v + 1) / both))
    return width


def enough(n: int, second: float, fourth: float, classes: tuple[int, int] | None) -> bool:
    """Whether the asymptotic bound may be used after n residuals with these moments, and that many
    labels of each class."""
    if n < SOONEST or second <= 1e-18 or n * second**2 < BURN_IN * fourth:
        return False
    return classes is None or min(classes) >= BURN_IN


def is_ready(residual: Array, label: Array | None) -> bool:
    """The same of the residuals themselves (n); `ready` says it after each of them."""
    second, fourth = float(np.mean(residual**2)), float(np.mean(residual**4))
    positives = None if label is None else int((label > 0.5).sum())
    classes = None if label is None or positives is None else (positives, len(label) - positives)
    return enough(len(residual), second, fourth, classes)


def ready(x: Array, label: Array | None = None) -> NDArray[np.bool_]:
    """After which observations (..., n) the asymptotic bound may be used."""
    n = np.arange(1, x.shape[-1] + 1)
    squares = x * x
    s1, s2, s3, s4 = (np.cumsum(v, axis=-1) for v in (x, squares, x * squares, squares * squares))
    mu = s1 / n
    second = np.maximum(s2 / n - mu**2, 0.0)
    fourth = np.maximum(s4 / n - 4 * mu * s3 / n + 6 * mu**2 * s2 / n - 3 * mu**4, 0.0)
    # n / kurtosis >= BURN_IN, without a division by the zero variance of equal observations
    enough: NDArray[np.bool_] = (
        (n * second**2 >= BURN_IN * fourth) & (n >= SOONEST) & (second > 1e-18)
    )
    if label is not None:
        positives = np.cumsum(label > 0.5, axis=-1)
        enough &= np.minimum(positives, n - positives) >= BURN_IN
    return enough
