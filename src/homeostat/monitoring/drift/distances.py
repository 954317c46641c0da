"""Distances between two distributions: what two samples prove of each, and its size at the limit.

Every distance is held against the value that it has between two normals whose KS distance is the
minimum effect (a move of the mean of 2 quantile((1 + effect) / 2) standard deviations), so that
every test means the same movement by "drift". Two families of proofs:

- of distribution functions: the band of Dvoretzky, Kiefer & Wolfowitz around both samples is
  subtracted from the difference everywhere; valid at every sample size (`cvm` and `ad` weigh with
  the observed distribution, which makes theirs approximate);
- of counts in bins: variance-stabilised counts are noncentral chi-squared; an approximation for
  large samples, which `benchmarks/monitor_false_alarms.py` measures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import special

from homeostat.monitoring.drift import bounds

Floats = NDArray[np.float64]

CURVES: tuple[str, ...] = ("ks", "wasserstein", "cvm", "ad")
BINNED: tuple[str, ...] = ("psi", "js", "hellinger", "chi2", "g")
HALVINGS = 40


class Proof(msgspec.Struct, frozen=True):
    """statistic: the measured distance. low: the distributions' own is at least this, at level
    alpha. limit: of the minimum effect. p_value: of "at most the limit"."""

    statistic: float
    low: float
    limit: float
    p_value: float


class Curves(msgspec.Struct, frozen=True):
    """Two distribution functions at the same ascending points (s,): share of values <= (upto) and
    < (below) each. n, m: sizes. excess: mean distance of the second sample's values from the
    range of the points. scale: the first sample's standard deviation (0: constant)."""

    points: NDArray[np.floating]
    upto: Floats
    below: Floats
    other_upto: Floats
    other_below: Floats
    n: float
    m: float
    scale: float = 0.0
    excess: float = 0.0

    @property
    def ks(self) -> float:
        """Largest difference. The first is flat between its points and the second rises, so it
        is found at, or just before, a point."""
        at = np.abs(self.other_upto - self.upto).max()
        return float(max(at, np.abs(self.other_below - self.below).max()))


def curve(name: str, c: Curves, min_effect: float, alpha: float) -> Proof | None:
    """A distance of distribution functions; None where it is not defined (`wasserstein` of a
    constant). `wasserstein` is in standard deviations of the first sample."""
    width = 1 / math.sqrt(2 * c.n) + 1 / math.sqrt(2 * c.m)
    band = bounds.dkw(c.n, alpha / 2) + bounds.dkw(c.m, alpha / 2)
    if name == "ks":
        p_value = bounds.ks_p_value(c.ks, min_effect, c.n, c.m)
        return Proof(c.ks, max(0.0, c.ks - band), min_effect, p_value)
    if name == "wasserstein" and not c.scale > 0:
        return None
    measured = _MEASURES[name]
    limit = at_shift(name, min_effect)
    statistic = wasserstein(c) if name == "wasserstein" else measured(c, 0.0)
    # the least alpha at which the bound is still above the limit: find its band
    low, high = 0.0, 1.0
    if measured(c, 0.0) > limit:
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if measured(c, middle) > limit else (low, middle)
    p_value = min(1.0, 4 * math.exp(-((low / width) ** 2)))
    return Proof(statistic, min(measured(c, band), statistic), limit, p_value)


def wasserstein(c: Curves) -> float:
    """The measured distance, in standard deviations of the first sample (scale > 0)."""
    return _wasserstein(c, 0.0) + c.excess / c.scale


def _wasserstein(c: Curves, band: float) -> float:
    """Integral of |F - G| over the range of the points, in units of scale: with a band, a lower
    bound of it; without, both functions taken as lines between the points."""
    points = c.points.astype(np.float64)
    both = np.isfinite(points[:-1]) & np.isfinite(points[1:])
    gaps = np.zeros(max(0, points.size - 1))
    np.subtract(points[1:], points[:-1], out=gaps, where=both)
    if band == 0.0:
        ends = np.abs(c.other_upto - c.upto)[:-1] + np.abs(c.other_below - c.below)[1:]
        return float((ends / 2 * gaps).sum()) / c.scale
    above = c.other_upto[:-1] - c.below[1:]
    under = c.upto[:-1] - c.other_below[1:]
    apart = np.maximum(np.maximum(above, under) - band, 0.0)
    return float((apart * gaps).sum()) / c.scale


def _squared(c: Curves, band: float, *, tails: bool) -> float:
    """Integral of (F - G)**2 by the pooled distribution H (Cramer-von Mises; Anderson 1962), over
    H (1 - H) if `tails` (Anderson-Darling; Pettitt 1976)."""
    share = c.n / (c.n + c.m)
    pooled = share * c.upto + (1 - share) * c.other_upto
    before = share * c.below + (1 - share) * c.other_below
    at = np.maximum(np.abs(c.other_upto - c.upto) - band, 0.0) ** 2
    just = np.maximum(np.abs(c.other_below - c.below) - band, 0.0) ** 2
    if tails:
        at, just = _over_variance(at, pooled), _over_variance(just, before)
    total = at @ (pooled - before) + (at[:-1] + just[1:]) @ (before[1:] - pooled[:-1]) / 2
    # beyond the points only the second sample has mass
    ends = just[0] * before[0] + at[-1] * (1 - pooled[-1])
    return float(total + ends / 3)


def _over_variance(squares: Floats, pooled: Floats) -> Floats:
    variance = pooled * (1 - pooled)
    inside = variance > 0
    return np.where(inside, squares / np.where(inside, variance, 1.0), 0.0)


_MEASURES: dict[str, Callable[[Curves, float], float]] = {
    "wasserstein": _wasserstein,
    "cvm": partial(_squared, tails=False),
    "ad": partial(_squared, tails=True),
}


def binned(
    name: str, reference: Floats, observed: Floats, min_effect: float, alpha: float
) -> Proof | None:
    """A distance of counts per cell (c,); cells that are empty on both sides are left out.

    psi: with half a row added to every cell. js: Jensen-Shannon distance, base 2 (0 to 1).
    hellinger: 0 to 1. chi2, g: the statistic over n m / (n + m). None without rows."""
    there = (reference + observed) > 0
    p, q = reference[there], observed[there]
    cells, n, m = int(p.size), float(p.sum()), float(q.sum())
    if not n or not m:
        return None
    size, limit = n * m / (n + m), at_shift(name, min_effect)
    statistic = measure(name, p, q)
    if name in ("chi2", "g"):
        evidence, effect = statistic * size, limit
    else:
        # Anscombe's 3/8 keeps the variance stable down to small counts
        roots = np.sqrt((p + 0.375) / (n + 0.75)) - np.sqrt((q + 0.375) / (m + 0.75))
        evidence = float(4 * size * (roots**2).sum())
        # 4 sum(roots**2) is at most PSI, and 8 H**2 <= 8 JS**2 (base 2)
        effect = limit if name == "psi" else 8 * limit**2
    p_value = bounds.psi_p_value(evidence, cells, size, effect)
    low = bounds.psi_low(evidence, cells, size, alpha)
    if name in ("js", "hellinger"):
        low = math.sqrt(low / 8)
    return Proof(statistic, low, limit, p_value)


def measure(name: str, reference: Floats, observed: Floats) -> float:
    """The distance alone; no cell may be empty on both sides."""
    n, m = reference.sum(), observed.sum()
    p, q = reference / n, observed / m
    pooled = (reference + observed) / (n + m)
    match name:
        case "psi":
            cells = p.size
            p = (reference + 0.5) / (n + cells / 2)
            q = (observed + 0.5) / (m + cells / 2)
            return float(((q - p) * np.log(q / p)).sum())
        case "js":
            middle = (p + q) / 2
            apart = special.rel_entr(p, middle) + special.rel_entr(q, middle)
            return math.sqrt(max(0.0, float(apart.sum()) / (2 * math.log(2))))
        case "hellinger":
            return math.sqrt(float(((np.sqrt(p) - np.sqrt(q)) ** 2).sum()) / 2)
        case "chi2":
            return float(((p - q) ** 2 / pooled).sum())
        case "g":
            apart = n * special.rel_entr(p, pooled).sum() + m * special.rel_entr(q, pooled).sum()
            return float(2 * apart * (n + m) / (n * m))
    raise ValueError(name)


@lru_cache(maxsize=256)
def at_shift(name: str, min_effect: float) -> float:
    """The distance of two normals whose KS distance is the minimum effect."""
    shift = 2 * float(special.ndtri((1 + min_effect) / 2))
    match name:
        case "ks" | "tv":
            return min_effect
        case "psi":
            return bounds.psi_effect(min_effect)
        case "wasserstein":
            return shift
        case "hellinger":
            return math.sqrt(-math.expm1(-(shift**2) / 8))
        case "chi2" | "g":
            return math.expm1(shift**2)  # whatever the shares of the two samples
    x = np.linspace(-9 - shift, 9 + shift, 20_001)
    step = x[1] - x[0]
    p, q = (np.exp(-((x + s) ** 2) / 2) / math.sqrt(2 * math.pi) for s in (shift / 2, -shift / 2))
    if name == "js":
        return measure("js", p * step, q * step) if shift else 0.0
    f, g = special.ndtr(x + shift / 2), special.ndtr(x - shift / 2)
    h = (f + g) / 2
    squares = (f - g) ** 2
    if name == "ad":
        squares = _over_variance(squares, h)
    return float((squares * (p + q) / 2).sum() * step)
