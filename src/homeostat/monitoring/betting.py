"""Has a feature moved by more than the minimum effect: evidence that grows over the windows.

In each window a bet is laid against "the distribution is within the minimum effect of its
baseline": for shares of rows at or below fixed points (and of missing values), the likelihood
ratio of a share beyond the limit against the limit itself. That is an e-value: its expectation is
at most 1 while nothing has moved further (a likelihood ratio of binomials is monotone in the
share, so the limit is the worst case). An average of bets is one too, with weights that depend on
the past alone (Waudby-Smith & Ramdas 2024); half of the stake follows what the last window showed.

Over time a feature's evidence R becomes (R + 1) e, the Shiryaev-Roberts e-detector (Shin, Ramdas
& Rinaldo 2024): while nothing has moved, the mean number of windows to the first R >= c is at
least c. Over features, e-BH (Wang & Ramdas 2022) at 1 / c: it names k features when k of them have
R >= c features / k. That happens no sooner than the mean of all R reaches c, and the mean is an
e-detector again: so at most one false alarm in c windows, however many features there are and
whatever their dependence. A feature that was named stays so until its evidence is spent (below 1)
and begins anew. Rows of one window are taken to be independent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from scipy import special

from homeostat.monitoring import bounds
from homeostat.monitoring.baseline import Column, Numeric
from homeostat.monitoring.column import Numbers, Seen
from homeostat.monitoring.distances import Floats
from homeostat.monitoring.model import Evidence

POINTS = 9
"""Quantiles of the baseline at which shares are bet on."""
STAKES = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.7])
"""How far beyond the limit the share is betted to be, as a part of what is left to 1."""
FOLLOW = 0.5


def wager(
    base: Column, seen: Seen, min_effect: float, alpha: float, follow: int = -1
) -> tuple[float, int]:
    """-> log e-value of one window, and which bet did best.

    alpha: the chance that the baseline's own shares, a sample, are further from the truth than
    allowed for (Dvoretzky-Kiefer-Wolfowitz; Hoeffding for categories)."""
    share, hits, trials = _shares(base, seen)
    if not trials.sum() or not base.n:
        return 0.0, follow
    tests = 1 if isinstance(base, Numeric) else share.size
    band = bounds.dkw(base.n, alpha / (2 * tests))
    limit = share + min_effect + band
    open_ = (limit < 1) & (trials > 0)
    p0 = np.where(open_, limit, 0.5)[:, None]
    p1 = p0 + STAKES * (1 - p0)
    logs = hits[:, None] * np.log(p1 / p0)
    logs = logs + (trials - hits)[:, None] * np.log((1 - p1) / (1 - p0))
    logs = np.where(open_[:, None], logs, 0.0).ravel()
    weights = np.full(logs.size, 1 / logs.size)
    if 0 <= follow < logs.size:
        weights *= 1 - FOLLOW
        weights[follow] += FOLLOW
    return float(special.logsumexp(logs, b=weights)), int(logs.argmax())


def _shares(base: Column, seen: Seen) -> tuple[Floats, Floats, Floats]:
    """What is bet on: the baseline's share, rows that hit, and rows, of each side of each point."""
    rows = base.n + base.nulls
    missing = base.nulls / rows if rows else 0.0
    if isinstance(seen, Numbers):
        assert isinstance(base, Numeric)
        if not base.n:
            return np.empty(0), np.empty(0), np.empty(0)
        quantiles = np.arange(1, POINTS + 1) / (POINTS + 1)
        at = np.searchsorted(base.upto, quantiles - 1e-12)
        # both sides of a value that many share: a move onto it, and off it
        share = np.concatenate((base.upto[at], base.below[at], [0.0, 1.0]))
        outside = (seen.below[0], seen.upto[-1])
        upto = np.concatenate((seen.upto[at], seen.below[at], outside)).astype(np.float64)
        share = np.concatenate((share, 1 - share))
        hits = np.concatenate((upto, seen.n - upto))
        trials = np.full(share.size, float(seen.n))
    else:
        share = base.counts / max(1, base.n)
        share = np.concatenate((share, 1 - share))
        hits = np.concatenate((seen.counts, seen.n - seen.counts))
        trials = np.full(share.size, float(seen.n))
    nulls, total = float(seen.nulls), float(seen.n + seen.nulls)
    return (
        np.concatenate((share, [missing, 1 - missing])),
        np.concatenate((hits, [nulls, total - nulls])),
        np.concatenate((trials, [total, total])),
    )


def calibrated(p_value: float) -> float:
    """Log e-value of a p-value: the mixture of all power calibrators (Vovk & Wang 2021)."""
    p = max(p_value, 1e-300)
    if p >= 1:
        return -math.log(2)
    log = math.log(p)
    return math.log(1 - p + p * log) - log - 2 * math.log(-log)


def average(bet: tuple[float, int], others: Sequence[float]) -> tuple[float, int]:
    """The mean of a bet and of other log e-values of the same window."""
    logs = np.array([bet[0], *others])
    return float(special.logsumexp(logs) - math.log(logs.size)), bet[1]


def weigh(
    before: Sequence[Evidence],
    won: Mapping[str, tuple[float, int]],
    run_length: float,
    features: int,
) -> tuple[Evidence, ...]:
    """The evidence after a window.

    won: per feature its log e-value and best bet. run_length: c, in windows. features: how many
    are watched, those without a row in this window too. What is below 1 is left out, and R is at
    most what names a feature alone: both can only make false alarms rarer."""
    past = {e.feature: e for e in before}
    most = math.log(run_length * max(1, features))
    grown = []
    for feature, (log_e, bet) in won.items():
        was = past.get(feature, Evidence(feature, -math.inf))
        log = min(float(np.logaddexp(was.log, 0.0)) + log_e, most)
        if log > 0:
            grown.append(Evidence(feature, log, bet, was.named))
    grown.sort(key=lambda e: (-e.log, e.feature))
    enough = [k for k, e in enumerate(grown, start=1) if e.log >= most - math.log(k)]
    count = max(enough, default=0)
    return tuple(
        msgspec.structs.replace(e, named=e.named or k < count) for k, e in enumerate(grown)
    )
