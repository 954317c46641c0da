"""The router itself: whether the versions get the share of the requests that was declared."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, xlog1py, xlogy

from homeostat.core.verdict import Outcome, Verdict
from homeostat.rollout.seen.answers import Answers
from homeostat.rollout.seen.observations import Observations
from homeostat.rollout.spec import RouterGuard

Array = NDArray[np.float64]

PART = 0.02
"""Of the plan's alpha for a wrong rollback, the part that the router may spend."""
CONCENTRATION = 200.0
"""How close to the declared share a broken router is expected to be: the prior is worth as many
requests."""


def judge(guard: RouterGuard, seen: Observations, alpha: float) -> Verdict | None:
    """FAIL when the split is shown not to be the one that was drawn; None while nothing was drawn
    (the candidate in the dark, or alone).

    Shares other than the declared ones mean that requests were lost, sent twice or assigned by
    something else than chance: then no comparison of the arms can be trusted.
    """
    answers = seen.answers
    # what an earlier candidate's last answer takes out of the draws, it takes out of all
    drawn = seen.fold(("drawn", seen.no_draws_until), Drawn)
    drawn.add(answers)
    n, k = (sum(count[i] for count in drawn.counts.values()) for i in range(2))
    if n == 0:
        return None
    wanted = sum(count[0] * share for share, count in drawn.counts.items())
    evidence = drawn.log_evidence(guard.tolerance)
    sentence = f"router: the candidate answered {k:,} of {n:,} requests, {wanted:,.0f} are expected"
    outcome = Outcome.PASS
    if evidence >= math.log(1 / alpha):
        outcome = Outcome.FAIL
        sentence += (
            ": the router is broken, and no comparison of the versions can be trusted -> "
            "find out which requests are lost or assigned otherwise"
        )
    return Verdict("router", outcome, sentence, k / n, wanted / n, n=n)


def log_evidence_of(k: Array | int, n: Array | int, p: float, tolerance: float = 0.0) -> Array:
    """Log e-value against `each request goes to the candidate with probability p`, after k of n
    requests did (arrays of any one shape).

    The counts' likelihood averaged over a Beta prior centred on p, over the likelihood at it
    (Dirichlet-multinomial: Lindon & Malek, arXiv 2011.03567, with two cells). With a tolerance,
    over the largest likelihood within it, which is smaller still.
    """
    a, b = CONCENTRATION * p, CONCENTRATION * (1 - p)
    off = min(tolerance * p, 1 - p)
    null = np.minimum(np.maximum(np.divide(k, n), p - off), p + off)
    likelihood = xlogy(k, null) + xlog1py(n - k, -null)
    return np.asarray(betaln(a + k, b + n - k) - betaln(a, b) - likelihood)


class Drawn:
    """Folds the answers: by declared share, how many requests were drawn and how many of them went
    to the candidate."""

    def __init__(self) -> None:
        self.counts: dict[float, tuple[int, int]] = {}
        self._taken = 0

    def add(self, answers: Answers) -> None:
        new = slice(self._taken, None)
        first, share, canary = answers.first[new], answers.share[new], answers.canary[new]
        self._taken = len(answers.share)
        drawn = first & (share > 0.0) & (share < 1.0)
        share, canary = share[drawn], canary[drawn]
        for p in sorted(set(share.tolist())):
            mine = share == p
            n, k = self.counts.get(p, (0, 0))
            both = np.count_nonzero(mine), np.count_nonzero(mine & canary)
            self.counts[p] = n + int(both[0]), k + int(both[1])

    def log_evidence(self, tolerance: float = 0.0) -> float:
        """Log e-value of all shares, in the order in which they appeared: the k-th is worth
        1/(k(k+1)) of alpha.

        They do not multiply: a caller that is kept on one version and had it at one share has it
        at the next, so that the draws of different shares are not independent.
        """
        return max(
            float(log_evidence_of(k, n, p, tolerance)) - math.log(place * (place + 1))
            for place, (p, (n, k)) in enumerate(self.counts.items(), start=1)
        )
