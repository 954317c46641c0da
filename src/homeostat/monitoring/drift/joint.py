"""Have the columns moved together: what no column shows by itself.

Three views of the same question, on samples of both tables, columns standardised by the baseline:
a classifier that tells the tables apart, the part of a row that the baseline's principal
components do not explain, and the distance of kernel means. Each is held against what a move of
one column by the minimum effect would be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special

from homeostat.core.verdict import Outcome, Verdict
from homeostat.monitoring.drift import bounds
from homeostat.monitoring.drift.views import kind_of, paired

Floats = NDArray[np.float64]

ROWS = 10_000
"""Rows of each table that are looked at, at most."""
FEWEST = 200
EXPLAINED = 0.9
"""Share of the baseline's variance that its principal components keep."""
WAVES = 512
"""Random Fourier features of the kernel (Rahimi & Recht 2007)."""
TOLD = 5


class JointDrift(msgspec.Struct, frozen=True):
    """auc: of telling the tables apart on rows that the classifier has not seen, with its interval
    and the AUC of a move by the minimum effect. told_by: the columns it uses most, with their
    shares. reconstruction: KS distance of the reconstruction errors; mmd: maximum mean
    discrepancy; each with what it is at least, and its limit. n: rows of each table."""

    auc: float
    auc_low: float
    auc_high: float
    auc_limit: float
    told_by: tuple[tuple[str, float], ...]
    reconstruction: float
    reconstruction_low: float
    mmd: float
    mmd_low: float
    mmd_limit: float
    verdict: Verdict
    n: tuple[int, int]


def joint_drift(
    before: pl.DataFrame,
    after: pl.DataFrame,
    columns: Sequence[str],
    *,
    min_effect: float,
    alpha: float,
    seed: int = 0,
) -> JointDrift | None:
    """before, after: samples of the tables. columns: those to look at. alpha: the chance of saying
    wrongly that they moved, over all three views; rows are taken to be independent.

    None with fewer than FEWEST rows or two columns. Sources: domain classifier, Lopez-Paz & Oquab
    2017, its interval by DeLong et al. 1988; MMD and its bound, Gretton et al. 2012 (theorem 7)."""
    kept = [c for c in columns if kind_of(before.schema[c]) and kind_of(after.schema[c])]
    if min(before.height, after.height) < FEWEST or len(kept) < 2:
        return None
    random = np.random.default_rng(seed)
    x, y = _numbers(before.select(kept), after.select(kept))
    share = alpha / 3
    auc, low, high, told = _classifier(x, y, share, random)
    limit = float(special.ndtr(special.ndtri((1 + min_effect) / 2) * math.sqrt(2)))
    x, y = _standard(x, y)
    rebuilt, rebuilt_low = _reconstruction(x, y, share, random)
    mmd, mmd_low, mmd_limit = _mmd(x, y, min_effect, share, random)
    told_by = [(kept[i], round(float(told[i]), 4)) for i in np.argsort(-told)[:TOLD] if told[i] > 0]
    shown = [
        f"a classifier tells the tables apart with an AUC of {auc:.3f}, at least {low:.3f}"
        if low > limit
        else "",
        f"rows fit the baseline's principal components less (KS distance {rebuilt:.3f})"
        if rebuilt_low > min_effect
        else "",
        f"kernel means are {mmd:.3f} apart" if mmd_low > mmd_limit else "",
    ]
    said = "; ".join(s for s in shown if s)
    outcome = Outcome.FAIL if said else Outcome.PASS
    none = f"taken together no drift is shown (a classifier's AUC is {auc:.3f}; 0.5 is chance)"
    verdict = Verdict(
        "joint", outcome, said or none, figure=auc, threshold=limit, low=low, high=high, n=len(y)
    )
    return JointDrift(
        auc,
        low,
        high,
        limit,
        tuple(told_by),
        rebuilt,
        rebuilt_low,
        mmd,
        mmd_low,
        mmd_limit,
        verdict,
        (len(x), len(y)),
    )


def _numbers(before: pl.DataFrame, after: pl.DataFrame) -> tuple[Floats, Floats]:
    pairs = [paired(before.get_column(name), after.get_column(name)) for name in before.columns]
    return np.column_stack([a for a, _ in pairs]), np.column_stack([b for _, b in pairs])


def _classifier(
    x: Floats, y: Floats, alpha: float, random: np.random.Generator
) -> tuple[float, float, float, Floats]:
    """-> AUC on the held-out half with its interval, and the share of each column in the splits."""
    import lightgbm

    from homeostat.core.metrics import measure

    rows = np.concatenate((x, y))
    label = np.concatenate((np.zeros(len(x)), np.ones(len(y))))
    order = random.permutation(len(rows))
    learn, held = np.array_split(order, 2)
    booster = lightgbm.train(
        {
            "objective": "binary",
            "num_leaves": 15,
            "learning_rate": 0.1,
            "min_data_in_leaf": 40,
            "bagging_fraction": 0.8,
            "bagging_freq": 1,
            "feature_fraction": 0.8,
            "num_threads": 2,
            "deterministic": True,
            "seed": 1,
            "verbosity": -1,
        },
        lightgbm.Dataset(rows[learn], label[learn]),
        num_boost_round=60,
    )
    score = np.asarray(booster.predict(rows[held]))
    found = measure(
        label[held], score, threshold=0.5, k=1, confidence=1 - 2 * alpha, only=("auc",)
    )["auc"]
    gains = np.asarray(booster.feature_importance("gain"), dtype=np.float64)
    auc, low, high = (0.5 if v is None else float(v) for v in (found.value, found.low, found.high))
    return auc, low, high, gains / max(gains.sum(), 1e-12)


def _standard(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """In standard deviations from the baseline's mean, at most 5; missing ones are at the mean."""
    mean = np.nanmean(np.where(np.isnan(x).all(axis=0), 0.0, x), axis=0)
    spread = np.nanstd(np.where(np.isnan(x).all(axis=0), 0.0, x), axis=0)
    spread[spread == 0] = 1.0
    x, y = (np.nan_to_num(np.clip((v - mean) / spread, -5, 5)) for v in (x, y))
    return x, y


def _reconstruction(
    x: Floats, y: Floats, alpha: float, random: np.random.Generator
) -> tuple[float, float]:
    """KS distance between the errors of baseline rows that the components were not made of, and
    of current rows; and what it is at least."""
    made, held = np.array_split(random.permutation(len(x)), 2)
    _, values, axes = np.linalg.svd(x[made] - x[made].mean(axis=0), full_matrices=False)
    share = np.cumsum(values**2) / max(float((values**2).sum()), 1e-12)
    kept = axes[: min(int(np.searchsorted(share, EXPLAINED)) + 1, axes.shape[0] - 1)]

    def error(rows: Floats) -> Floats:
        rows = rows - x[made].mean(axis=0)
        return np.sort(((rows - rows @ kept.T @ kept) ** 2).sum(axis=1))

    a, b = error(x[held]), error(y)
    both = np.concatenate((a, b))
    apart = np.searchsorted(a, both, side="right") / a.size
    distance = float(np.abs(apart - np.searchsorted(b, both, side="right") / b.size).max())
    band = bounds.dkw(a.size, alpha / 2) + bounds.dkw(b.size, alpha / 2)
    return distance, max(0.0, distance - band)


def _mmd(
    x: Floats, y: Floats, min_effect: float, alpha: float, random: np.random.Generator
) -> tuple[float, float, float]:
    """-> the distance of the kernel means (Gaussian kernel, its width the median distance of
    baseline rows), what it is at least, and what it is when one column moves at the limit."""
    some = x[random.choice(len(x), min(len(x), 500), replace=False)]
    square = ((some[:, None, :] - some[None, :, :]) ** 2).sum(axis=2)
    width = float(np.median(square[square > 0])) if (square > 0).any() else 1.0
    waves = random.normal(size=(x.shape[1], WAVES)) / math.sqrt(width)
    phases = random.uniform(0, 2 * math.pi, WAVES)

    def mean(rows: Floats) -> Floats:
        found: Floats = math.sqrt(2 / WAVES) * np.cos(rows @ waves + phases).mean(axis=0)
        return found

    apart = float(np.linalg.norm(mean(x) - mean(y)))
    n, m = len(x), len(y)
    band = 2 * (1 / math.sqrt(n) + 1 / math.sqrt(m))
    band += math.sqrt(2 * (n + m) / (n * m) * math.log(1 / alpha))
    shift = np.zeros_like(x)
    shift[:, 0] = 2 * float(special.ndtri((1 + min_effect) / 2))
    limit = float(np.linalg.norm(mean(x) - mean(x + shift)))
    return apart, max(0.0, apart - band), limit
