"""Has a feature moved by more than the minimum effect: evidence that grows over the windows.

In each window a bet is laid against "the distribution is within the minimum effect of its
baseline": for shares of rows at or below fixed points (and of missing values), the likelihood
ratio of a share beyond the limit against the limit itself. That is an e-value: its expectation is
at most 1 while nothing has moved further (a likelihood ratio of binomials is monotone in the
share, so the limit is the worst case). An average of bets is one too, with weights that depend on
the past alone (Waudby-Smith & Ramdas 2024).

Over time the R of a bet becomes (R + 1) e, the Shiryaev-Roberts e-detector (Shin, Ramdas & Rinaldo
2024), and a feature's evidence is the mean R of its bets, which is an e-detector again: while
nothing has moved, the mean number of windows to the first R >= c is at least c. So it is paid for
once, and not in every window, that there are many bets. Over features, e-BH (Wang & Ramdas 2022)
at 1 / c: it names k features when k of them have R >= c features / k. That happens no sooner than
the mean of all R reaches c, and the mean is an e-detector once more: so at most one false alarm in
c windows, however many features there are and whatever their dependence. A feature that was named
stays so until its evidence is spent (below 1) and begins anew. Windows are taken to be independent
of each other, and rows to be worth as many independent ones as the reference's are (`dependence`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from homeostat.monitoring.drift import bounds
from homeostat.monitoring.drift.baseline import Column, Numeric
from homeostat.monitoring.drift.column import Numbers, Seen
from homeostat.monitoring.drift.distances import Floats
from homeostat.monitoring.model import Evidence

QUANTILES = np.arange(1, 10) / 10 - 1e-12
"""Of the baseline, at which shares are bet on."""
STAKES = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.7])
"""How far beyond the limit the share is betted to be, as a part of what is left to 1."""
LEFT = np.log1p(-STAKES)
REMEMBERED = 8
"""Bets of a feature whose gains are remembered, those that gained most; the others begin anew,
which can only make false alarms rarer."""
TESTED = -1
"""The number of the bet that other tests make together."""


class Bets(msgspec.Struct, frozen=True):
    """What was bet on one feature in a window. numbers (b,): which bets; logs (b,): log e-value
    of each; weights (b,): of the bets that can be won, one altogether."""

    numbers: NDArray[np.int64]
    logs: Floats
    weights: Floats

    def beside(self, logs: Sequence[float]) -> Bets:
        """With other log e-values of the same window, which have as much weight each as all of
        these bets together."""
        if not logs:
            return self
        values = np.array(logs)
        top = float(values.max())
        mean = top + math.log(np.exp(values - top).mean())
        share = 1 / (1 + len(logs))
        return Bets(
            np.append(self.numbers, TESTED),
            np.append(self.logs, mean),
            np.append(self.weights * share, 1 - share),
        )


def wager(base: Column, seen: Seen, min_effect: float, alpha: float) -> Bets | None:
    """One window's bets; None where nothing can be learnt.

    The limit is min_effect away from the shares of the baseline's rows; where these are so few
    that their own distance from the truth may be more, that much: without any movement, the
    limit is passed with chance alpha at most (Dvoretzky-Kiefer-Wolfowitz; Hoeffding for
    categories). Rows that hang together are counted as the independent ones that they are worth
    (`dependence`), here and there."""
    share, hits, trials = _shares(base, seen)
    if not trials.sum() or not base.n:
        return None
    tests = 1 if isinstance(base, Numeric) else share.size
    limit = share + max(min_effect, bounds.dkw(base.n / base.design, alpha / (2 * tests)))
    open_ = np.flatnonzero(limit < 1)
    if not open_.size:
        return None
    odds = (1 / limit[open_] - 1)[:, None]
    # (1 - p1) / (1 - p0) is what the stake leaves, and p1 / p0 this
    logs = hits[open_, None] * np.log1p(STAKES * odds)
    logs += (trials - hits)[open_, None] * LEFT
    logs /= base.design
    numbers = open_[:, None] * STAKES.size + np.arange(STAKES.size)
    return Bets(numbers.ravel(), logs.ravel(), np.full(logs.size, 1 / logs.size))


def _shares(base: Column, seen: Seen) -> tuple[Floats, Floats, Floats]:
    """What is bet on: the baseline's share, rows that hit, and rows, of each side of each point."""
    rows = base.n + base.nulls
    missing = base.nulls / rows if rows else 0.0
    if isinstance(seen, Numbers):
        assert isinstance(base, Numeric)
        if not base.n:
            return np.empty(0), np.empty(0), np.empty(0)
        at = np.searchsorted(base.upto, QUANTILES)
        # both sides of a value that many share: a move onto it, and off it; beyond the range
        share = np.concatenate((base.upto[at], base.below[at], (0.0, 1.0, missing)))
        beyond = (seen.below[0], seen.upto[-1], seen.nulls)
        hits = np.concatenate((seen.upto[at], seen.below[at], beyond)).astype(np.float64)
    else:
        share = np.append(base.counts / max(1, base.n), missing)
        hits = np.append(seen.counts, seen.nulls)
    trials = np.full(hits.size, float(seen.n))
    trials[-1] += seen.nulls
    return (
        np.concatenate((share, 1 - share)),
        np.concatenate((hits, trials - hits)),
        np.concatenate((trials, trials)),
    )


def calibrated(p_value: float) -> float:
    """Log e-value of a p-value: the mixture of all power calibrators (Vovk & Wang 2021)."""
    p = max(p_value, 1e-300)
    if p >= 1:
        return -math.log(2)
    log = math.log(p)
    return math.log(1 - p + p * log) - log - 2 * math.log(-log)


def weigh(
    before: Sequence[Evidence],
    won: Mapping[str, Bets],
    run_length: float,
    features: int,
) -> tuple[Evidence, ...]:
    """The evidence after a window, the strongest first.

    won: the bets of each feature of which something was learnt. run_length: c, in windows.
    features: how many are watched, those without a row in this window too. R is at most what names
    a feature alone, which can only make false alarms rarer."""
    past = {e.feature: e for e in before}
    most = math.log(run_length * max(1, features))
    grown = [_grown(past.get(name), name, bets, most) for name, bets in won.items()]
    grown.sort(key=lambda e: (-e.log, e.feature))
    enough = [k for k, e in enumerate(grown, start=1) if e.log >= most - math.log(k)]
    count = max(enough, default=0)
    named = (
        msgspec.structs.replace(e, named=(e.named and e.log > 0) or k < count)
        for k, e in enumerate(grown)
    )
    return tuple(e for e in named if e.named or e.bets)


def _grown(was: Evidence | None, feature: str, bets: Bets, most: float) -> Evidence:
    """Every bet's (R + 1) e, and their mean."""
    logs = bets.logs
    if was is None and (highest := float(logs.max())) <= 0:
        return Evidence(feature, highest)
    if was is not None and was.bets:
        at = {number: i for i, number in enumerate(bets.numbers.tolist())}
        logs = logs.copy()
        for number, log in was.bets:
            if number in at:
                logs[at[number]] += np.logaddexp(log, 0.0)
    top = float(logs.max())
    log = top + math.log(float(bets.weights @ np.exp(logs - top)))
    over = max(0.0, log - most)
    best = np.argpartition(logs, -REMEMBERED)[-REMEMBERED:] if logs.size > REMEMBERED else ...
    kept = tuple(
        (number, math.floor(1_000 * (gain - over)) / 1_000)
        for number, gain in zip(bets.numbers[best].tolist(), logs[best].tolist(), strict=True)
        if gain - over > 0
    )
    return Evidence(feature, min(log, most), kept, was is not None and was.named)
