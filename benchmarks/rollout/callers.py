"""Requests of callers who are kept on one version, and what the guards of answers say of them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from benchmarks.rollout.guards import Alphas, Says
from benchmarks.rollout.streams import Array, Counts, Flags
from numpy.typing import NDArray

from homeostat.rollout import two_by_two
from homeostat.rollout.callers import Callers, Effect
from homeostat.rollout.guards.common import Alpha
from homeostat.rollout.guards.latency import Latencies
from homeostat.rollout.guards.rates import Folded
from homeostat.rollout.seen.answers import Answers
from homeostat.rollout.sequences import quantile

OFTEN = 0.95
"""How often a caller fails that does."""
PERSISTENT = 0.3
"""Of the logarithm of a latency, the standard deviation between callers, and within one."""


class Kept(NamedTuple):
    """Requests in the order of time, each of n. who: a number of its caller."""

    who: NDArray[np.int64]
    canary: Flags
    answers: Answers


def fails(
    rng: np.random.Generator, callers: int, n: int, base: float, harm: float, *, together: bool
) -> Kept:
    """A tenth of the callers is the candidate's. together: some callers nearly always fail, and
    the candidate's harm is that more do; else every request fails by itself."""
    who, canary = _drawn(rng, callers, n)
    rate = np.full((2, callers), base)
    rate[1] += harm
    if together:
        rate[0] = np.where(rng.random(callers) < base / OFTEN, OFTEN, 0.0)
        rate[1] = np.where(rng.random(callers) < harm / (1 - base), 1.0, rate[0])
    failed = rng.random(n) < rate[canary.astype(int), who]
    return _kept(who, canary, failed, np.where(failed, np.nan, 0.01))


def waits(rng: np.random.Generator, callers: int, n: int, longer: float) -> Kept:
    """Log-normal latencies, each caller's as much its own as those of all; the candidate's are
    longer by a factor."""
    who, canary = _drawn(rng, callers, n)
    own = PERSISTENT * rng.standard_normal(callers)
    log = own[who] + PERSISTENT * rng.standard_normal(n) + np.where(canary, math.log(longer), 0.0)
    return _kept(who, canary, np.zeros(n, np.bool_), np.exp(log))


def _drawn(rng: np.random.Generator, callers: int, n: int) -> tuple[NDArray[np.int64], Flags]:
    who = rng.integers(0, callers, n)
    return who, (rng.random(callers) < 0.1)[who]


def _kept(who: NDArray[np.int64], canary: Flags, failed: Flags, latency: Array) -> Kept:
    n = len(who)
    share = np.full(n, 0.1)
    time = np.arange(n)
    return Kept(who, canary, Answers(time, canary, failed, latency, share, ~failed, who))


def first(kept: Kept, n: int) -> Answers:
    a = kept.answers
    return Answers(
        a.time[:n],
        a.canary[:n],
        a.failed[:n],
        a.latency[:n],
        a.share[:n],
        a.first[:n],
        kept.who[:n],
    )


def rates(kept: Kept, looks: Counts, margin: float, alpha: Alphas) -> Says:
    """`guards.rates` at each look, which is where a block ends: the bounds are not inverted."""
    failed = kept.answers.failed
    ends = two_by_two.cuts(len(failed))
    blocks = two_by_two.in_blocks(kept.canary, failed, ends)
    versions, effects = (Callers(), Callers()), list[tuple[Effect, Effect]]()
    for begin, end in zip([0, *looks[:-1]], looks, strict=True):
        those = slice(begin, end)
        for version, mine in zip(versions, (False, True), strict=True):
            own = kept.canary[those] == mine
            version.add(kept.who[those][own], failed[those][own])
        effects.append((versions[0].effect(), versions[1].effect()))
    over = ends <= looks[:, None]
    seen = two_by_two.Blocks(*(np.where(over, v, 0.0) for v in blocks))
    one, two = (np.array([(e[k].low, e[k].high) for e in effects])[:, :, None] for k in range(2))
    harmless = seen.counted(one[:, 0], two[:, 1])
    harmful = seen.counted(one[:, 1], two[:, 0])
    return Says(
        two_by_two.log_wealth(harmless, margin, above=False, margin=margin)[:, -1]
        >= -math.log(alpha[1]),
        two_by_two.log_wealth(harmful, 0.0, above=True, margin=margin)[:, -1]
        >= -math.log(alpha[0]),
    )


def rates_as_judged(kept: Kept, looks: Counts, margin: float, alpha: Alphas, told: Says) -> None:
    """The guard itself says the same."""
    folded = Folded(None)
    for k, look in enumerate(looks):
        folded.add(first(kept, int(look)))
        if k % 6 == 5:
            found = two_by_two.difference(
                folded.blocks, alpha=alpha, margin=margin, effects=folded.effects
            )
            says = (told.passes[k], told.fails[k])
            assert says == (found.high < margin, found.low > 0), "the guard says otherwise"


def latency(kept: Kept, looks: Counts, ratio: float, alpha: Alpha) -> Says:
    """The guard of the p99 at each look, without slack."""
    folded, halves = Latencies(), alpha.part(2)
    passes, fails = [], []
    for look in looks:
        answers = first(kept, int(look))
        folded.add(answers)
        effects = folded.effects(answers)
        mine = quantile(folded.candidate, 0.99, alpha=halves, effect=effects[1])
        theirs = quantile(
            folded.champion, 0.99, alpha=(halves.promotion, halves.rollback), effect=effects[0]
        )
        passes.append(mine.high < ratio * theirs.low)
        fails.append(mine.low > ratio * theirs.high)
    return Says(np.array(passes), np.array(fails))
