"""Rates of requests that went wrong: with an error, or slower than the declared objective."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from homeostat.core.verdict import Verdict
from homeostat.rollout import sequences, two_by_two
from homeostat.rollout.callers import ONE, Callers
from homeostat.rollout.guards.common import (
    Alpha,
    between,
    judged,
    nothing,
    of_callers,
    per_caller,
    subtract,
    unanswered,
)
from homeostat.rollout.seen.answers import Answers
from homeostat.rollout.seen.observations import Observations
from homeostat.rollout.sequences import Bounds
from homeostat.rollout.spec import ErrorGuard, ObjectiveGuard

ALONE = 0.1
"""Of a guard's alpha for a wrong rollback, the part for the time when the candidate is alone."""
BEFORE = ", alone against the champion before"


def judge_errors(guard: ErrorGuard, seen: Observations, alpha: Alpha) -> Verdict:
    """The candidate's share of failed requests against the champion's."""
    return _judge("error_rate", "failed", None, guard.margin, seen, alpha)


def judge_objective(guard: ObjectiveGuard, seen: Observations, alpha: Alpha) -> Verdict:
    """The share of answers that took longer than the objective; no answer is no slow one."""
    what, most = f"took longer than {guard.objective}", guard.objective.total_seconds()
    return _judge("latency", what, most, guard.margin, seen, alpha)


def _judge(
    check: str, what: str, most: float | None, margin: float, seen: Observations, alpha: Alpha
) -> Verdict:
    """most: seconds that an answer may take; None: what counts is whether it failed."""
    folded = seen.fold(("rates", most), lambda: Folded(most))
    folded.add(seen.answers)
    harm, how = compare(folded, margin, alpha)
    if harm.n == 0:
        return nothing(check, margin, unanswered(seen))
    mine, theirs = (f"{k:,} of {n:,}" for n, k in (folded.canary, folded.champion))
    sentence = (
        f"{check}: {mine} {what}, {theirs} of the champion: "
        f"{100 * harm.point:+.3g} % ({between(harm, percent=True)}; "
        f"margin {100 * margin:.3g} %){how}{of_callers(folded.effects)}"
    )
    unit, per = "requests to each version", per_caller(folded.effects, harm.n)
    return judged(check, harm, margin, 0.0, sentence, unit, seen, callers=per)


Count = tuple[int, int]
"""Requests, and how many of them went wrong."""


class Folded:
    """The answers by arm, and in blocks that are over. alone: the candidate's while nobody was
    drawn for the champion."""

    def __init__(self, most: float | None) -> None:
        self.champion: Count = (0, 0)
        self.canary: Count = (0, 0)
        self.alone: Count = (0, 0)
        self.drawn = False
        self._most = most
        self._taken = self._cut = 0
        self._blocks = [np.zeros((4, 0))]
        self._callers = Callers(), Callers()
        self.effects = ONE, ONE

    def add(self, answers: Answers) -> None:
        n, start = len(answers.share), self._taken
        if n == start:
            return
        canary, share = answers.canary[start:], answers.share[start:]
        event = self._event(answers, start)
        self.champion = _plus(self.champion, event[~canary])
        self.canary = _plus(self.canary, event[canary])
        self.alone = _plus(self.alone, event[canary & (share >= 1.0)])
        self.drawn |= bool(((share > 0.0) & (share < 1.0)).any())
        self._taken = n
        self._close(answers, n)

    def _close(self, answers: Answers, n: int) -> None:
        """The blocks that are over since."""
        cut = self._cut
        share = answers.share[cut:]
        changes = cut + np.flatnonzero(np.diff(share, prepend=answers.share[max(cut - 1, 0)]))
        ends = two_by_two.cuts(n, changes)
        ends = ends[ends > cut]
        if len(ends):
            event = self._event(answers, cut)
            blocks = two_by_two.in_blocks(answers.canary[cut:], event, ends - cut)
            self._blocks.append(np.stack(blocks))
            self._cut = int(ends[-1])
            if answers.caller is not None:
                those = slice(cut, self._cut)
                self._draw(answers.caller[those], answers.canary[those], event[: self._cut - cut])

    def _draw(
        self, caller: NDArray[np.int64], canary: NDArray[np.bool_], event: NDArray[np.bool_]
    ) -> None:
        for version, mine in zip(self._callers, (~canary, canary), strict=True):
            version.add(caller[mine], event[mine])
        champion, candidate = (version.effect() for version in self._callers)
        self.effects = champion, candidate

    def _event(self, answers: Answers, start: int) -> NDArray[np.bool_]:
        if self._most is None:
            return answers.failed[start:]
        return answers.latency[start:] > self._most  # no answer has none, and is not slower

    @property
    def blocks(self) -> two_by_two.Blocks:
        self._blocks = [np.concatenate(self._blocks, axis=1)]
        return two_by_two.Blocks(*self._blocks[0])


def _plus(count: Count, event: NDArray[np.bool_]) -> Count:
    return count[0] + len(event), count[1] + int(event.sum())


def compare(folded: Folded, margin: float, alpha: Alpha) -> tuple[Bounds, str]:
    """-> bounds of how much higher the candidate's rate is, and in words what else they rest on.

    Requests that were drawn for one arm or the other are compared with those beside them. While
    the candidate answers alone (after a blue/green switch, at the last step) there are none beside
    it: then its rate is held against the champion's of before.
    """
    if not folded.drawn:
        return _alone(folded, margin, alpha), BEFORE
    alone = _alone(folded, margin, Alpha(ALONE * alpha.rollback, alpha.promotion))
    beside = ((1 - ALONE) * alpha.rollback, alpha.promotion)
    found = two_by_two.difference(
        folded.blocks, alpha=beside, margin=margin, effects=folded.effects
    )
    if alone.low > margin:  # well at every step before, and harmful now
        return alone, BEFORE
    return found, ""


def _alone(folded: Folded, margin: float, alpha: Alpha) -> Bounds:
    """The candidate alone against the champion before it. What came with time cannot be told from
    what came with the candidate, so less than the margin is not taken for harm."""
    low, high = alpha.part(2)
    champion = sequences.rate(*folded.champion, alpha=(high, low))
    candidate = sequences.rate(*folded.alone, alpha=(low, high))
    found = subtract(champion, candidate)
    return found if found.low > margin else msgspec.structs.replace(found, low=min(found.low, 0.0))
