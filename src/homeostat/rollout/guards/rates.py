"""Rates of requests that went wrong: with an error, or slower than the declared objective."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from homeostat.core.verdict import Verdict
from homeostat.rollout import sequences, two_by_two
from homeostat.rollout.guards.common import Alpha, between, judged, nothing, subtract, unanswered
from homeostat.rollout.observations import Observations
from homeostat.rollout.sequences import Bounds
from homeostat.rollout.spec import ErrorGuard, ObjectiveGuard

ALONE = 0.1
"""Of a guard's alpha for a wrong rollback, the part for the time when the candidate is alone."""
BEFORE = ", alone against the champion before"


def judge_errors(guard: ErrorGuard, seen: Observations, alpha: Alpha) -> Verdict:
    """The candidate's share of failed requests against the champion's."""
    return _judge("error_rate", "failed", seen.answers.failed, guard.margin, seen, alpha)


def judge_objective(guard: ObjectiveGuard, seen: Observations, alpha: Alpha) -> Verdict:
    """The share of answers that took longer than the objective; no answer is no slow one."""
    slow = np.nan_to_num(seen.answers.latency, nan=0.0) > guard.objective.total_seconds()
    what = f"took longer than {guard.objective}"
    return _judge("latency", what, slow, guard.margin, seen, alpha)


def _judge(
    check: str,
    what: str,
    event: NDArray[np.bool_],
    margin: float,
    seen: Observations,
    alpha: Alpha,
) -> Verdict:
    canary = seen.answers.canary
    harm, how = compare(seen, event, margin, alpha)
    if harm.n == 0:
        return nothing(check, margin, unanswered(seen))
    mine, theirs = (f"{int(event[a].sum()):,} of {int(a.sum()):,}" for a in (canary, ~canary))
    sentence = (
        f"{check}: {mine} {what}, {theirs} of the champion: "
        f"{100 * harm.point:+.3g} % ({between(harm, percent=True)}; "
        f"margin {100 * margin:.3g} %){how}"
    )
    return judged(check, harm, margin, 0.0, sentence, "requests to each version", seen)


def compare(
    seen: Observations, event: NDArray[np.bool_], margin: float, alpha: Alpha
) -> tuple[Bounds, str]:
    """-> bounds of how much higher the candidate's rate is, and in words what else they rest on.

    Requests that were drawn for one arm or the other are compared with those beside them. While
    the candidate answers alone (after a blue/green switch, at the last step) there are none beside
    it: then its rate is held against the champion's of before.
    """
    answers = seen.answers
    drawn = (answers.share > 0.0) & (answers.share < 1.0)
    if not drawn.any():
        return _alone(seen, event, margin, alpha), BEFORE
    alone = _alone(seen, event, margin, Alpha(ALONE * alpha.rollback, alpha.promotion))
    changes = np.flatnonzero(np.diff(answers.share, prepend=answers.share[:1]))
    ends = two_by_two.cuts(len(event), changes)
    blocks = two_by_two.in_blocks(answers.canary, event, ends)
    beside = ((1 - ALONE) * alpha.rollback, alpha.promotion)
    found = two_by_two.difference(blocks, alpha=beside, margin=margin)
    if alone.low > margin:  # well at every step before, and harmful now
        return alone, BEFORE
    return found, ""


def _alone(seen: Observations, event: NDArray[np.bool_], margin: float, alpha: Alpha) -> Bounds:
    """The candidate alone against the champion before it. What came with time cannot be told from
    what came with the candidate, so less than the margin is not taken for harm."""
    answers, (low, high) = seen.answers, alpha.part(2)
    alone, theirs = event[answers.canary & (answers.share >= 1.0)], event[~answers.canary]
    champion = sequences.rate(len(theirs), int(theirs.sum()), alpha=(high, low))
    candidate = sequences.rate(len(alone), int(alone.sum()), alpha=(low, high))
    found = subtract(champion, candidate)
    return found if found.low > margin else msgspec.structs.replace(found, low=min(found.low, 0.0))
