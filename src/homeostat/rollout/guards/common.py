"""What every guard says in the same way: the verdict, and what it would take to tell."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from homeostat.core.duration import Duration
from homeostat.core.verdict import Outcome, Verdict
from homeostat.rollout import sequences
from homeostat.rollout.callers import Effect
from homeostat.rollout.seen.observations import Observations
from homeostat.rollout.sequences import Bounds

TOGETHER = 1.5
"""So many requests worth one are worth telling a person about."""


class Alpha(NamedTuple):
    """Chances of ever being wrong. rollback: that of the lower bound, for the guard's part of the
    plan's alpha. promotion: that of the upper bound."""

    rollback: float
    promotion: float

    def part(self, k: float) -> Alpha:
        return Alpha(self.rollback / k, self.promotion / k)

    def times(self, share: float) -> Alpha:
        return Alpha(self.rollback * share, self.promotion * share)


def judged(
    check: str,
    harm: Bounds,
    margin: float,
    harmless: float,
    sentence: str,
    unit: str,
    seen: Observations,
    *,
    least: int = 0,
    callers: float = 0.0,
) -> Verdict:
    """PASS below the margin, FAIL above what is harmless, else what it would take to tell.
    callers: per observation, where it takes more of them and not only more requests."""
    if harm.high < margin:
        outcome, end = Outcome.PASS, ""
    elif harm.low > harmless:
        outcome, end = Outcome.FAIL, ": harm is shown"
    else:
        needed = more(harm, margin, harmless, least)
        outcome = Outcome.INCONCLUSIVE
        end = f": about {needed:,} more {unit} would tell{expected(needed, harm.n, seen)}"
        if callers:
            many = math.ceil(needed * callers)
            end = f": about {many:,} more callers of each version would tell, not more requests"
    return Verdict(check, outcome, sentence + end, harm.point, margin, harm.low, harm.high, harm.n)


def more(harm: Bounds, margin: float, harmless: float, least: int = 0) -> int:
    """Roughly how many more observations decide, widths shrinking as one over the root of n."""
    needs: list[float] = []
    if harm.point < margin and math.isfinite(harm.high):
        needs.append(harm.n * ((harm.high - harm.point) / (margin - harm.point)) ** 2)
    if harm.point > harmless and math.isfinite(harm.low):
        needs.append(harm.n * ((harm.point - harm.low) / (harm.point - harmless)) ** 2)
    needed = max(min(needs, default=2.0 * harm.n), least, harm.n + 1)
    digits: int = 10 ** max(len(str(int(needed - harm.n))) - 2, 0)
    return math.ceil((needed - harm.n) / digits) * digits


def expected(needed: int, n: int, seen: Observations) -> str:
    """`, in about 3h at today's rate`: what was counted since the start tells the rate."""
    if seen.now is None or seen.since is None or n == 0 or seen.now <= seen.since:
        return ""
    return f", in about {brief((seen.now - seen.since).total_seconds() * needed / n)} at this rate"


def brief(seconds: float) -> str:
    """A length of time in its largest unit or two."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            whole = round(seconds / size) if seconds >= 3 * size else 0
            lower = {"d": 3600, "h": 60, "m": 1}[unit]
            return (
                f"{whole}{unit}" if whole else str(Duration(seconds=round(seconds / lower) * lower))
            )
    return f"{max(round(seconds), 1)}s"


def nothing(check: str, threshold: float, why: str) -> Verdict:
    sentence = f"{check}: {why}, so nothing can be said"
    return Verdict(check, Outcome.INCONCLUSIVE, sentence, threshold=threshold, n=0)


def unanswered(seen: Observations) -> str:
    who = "champion" if seen.answers.canary.any() else "candidate"
    return f"the {who} has answered no request yet"


def of_callers(effects: tuple[Effect, Effect]) -> str:
    """In words, where many requests of the same callers are worth few."""
    worth = max(max(e.low, e.high) for e in effects)
    if worth < TOGETHER:
        return ""
    one, two = (e.callers for e in effects)
    return (
        f", callers are kept on their version ({two:,} on the candidate, {one:,} on the champion) "
        f"and {worth:.3g} of their requests are worth one"
    )


def per_caller(effects: tuple[Effect, Effect], n: int) -> float:
    """Callers of the smaller version per request to it, where it takes more callers to tell."""
    if not n or max(max(e.low, e.high) for e in effects) < TOGETHER:
        return 0.0
    return min(e.callers for e in effects) / n


def between(harm: Bounds, *, percent: bool = False) -> str:
    form: Callable[[float], str] = (
        (lambda v: f"{100 * v:.3g} %") if percent else (lambda v: f"{v:.4f}")
    )
    low = form(harm.low) if math.isfinite(harm.low) else "unknown"
    high = form(harm.high) if math.isfinite(harm.high) else "unknown"
    return f"between {low} and {high}"


def subtract(champion: Bounds, candidate: Bounds) -> Bounds:
    """Bounds of the difference from bounds of both, each with a part of the alpha."""
    if champion.n == 0 or candidate.n == 0:
        return sequences.NOTHING
    return Bounds(
        candidate.point - champion.point,
        candidate.low - champion.high,
        candidate.high - champion.low,
        min(champion.n, candidate.n),
    )
