"""Confidence sequences: bounds that hold at every number of observations at once.

A rollout is looked at on every tick and stopped when it likes, so a fixed-size interval would
be wrong far more often than it says. Each bound here is one-sided and time-uniform: the chance
that it is EVER on the wrong side of the truth is at most its alpha. Observations are taken in
the order in which they became known.

mean      betting bound for bounded observations (Waudby-Smith & Ramdas, arXiv 2010.09686):
          exact at any n; and the asymptotic bound (Waudby-Smith et al., arXiv 2103.06476)
          once the sample supports a central limit theorem
rate      mixture of Bernoulli likelihood ratios (Robbins 1970; Howard et al., arXiv 1810.08240)
quantile  the same mixture on exceedances (Howard & Ramdas, arXiv 1906.09712, section 3)
"""

from __future__ import annotations

from homeostat.rollout.sequences.asymptotic import BURN_IN, SOONEST, is_ready, ready, width
from homeostat.rollout.sequences.betting import BET_LIMIT, log_wealth
from homeostat.rollout.sequences.blocks import DEPENDENT, LEAST_PAIRS, Levels, in_blocks, merged
from homeostat.rollout.sequences.bounds import NOTHING, Bounds
from homeostat.rollout.sequences.counts import count_range, rate, rates_high
from homeostat.rollout.sequences.means import Mean, mean
from homeostat.rollout.sequences.quantiles import Sorted, least_for_quantile, quantile, rank

__all__ = [
    "BET_LIMIT",
    "BURN_IN",
    "DEPENDENT",
    "LEAST_PAIRS",
    "NOTHING",
    "SOONEST",
    "Bounds",
    "Levels",
    "Mean",
    "Sorted",
    "count_range",
    "in_blocks",
    "is_ready",
    "least_for_quantile",
    "log_wealth",
    "mean",
    "merged",
    "quantile",
    "rank",
    "rate",
    "rates_high",
    "ready",
    "width",
]
