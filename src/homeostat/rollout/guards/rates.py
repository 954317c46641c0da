"""Rates of requests that went wrong: with an error, or slower than the declared objective."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from homeostat.core.verdict import Verdict
from homeostat.rollout import sequences, two_by_two
from homeostat.rollout.guards.common import Alpha, between, judged, nothing, unanswered
from homeostat.rollout.observations import Observations
from homeostat.rollout.sequences import Bounds
from homeostat.rollout.spec import ErrorGuard, ObjectiveGuard


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
    harm = compare(seen, event, alpha)
    if harm.n == 0:
        return nothing(check, margin, unanswered(seen))
    mine, theirs = (f"{int(event[a].sum()):,} of {int(a.sum()):,}" for a in (canary, ~canary))
    sentence = (
        f"{check}: {mine} {what}, {theirs} of the champion: "
        f"{harm.point:+.4%} ({between(harm, percent=True)}; margin {margin:.4%})"
    )
    return judged(check, harm, margin, 0.0, sentence, "requests to each version", seen)


def compare(seen: Observations, event: NDArray[np.bool_], alpha: Alpha) -> Bounds:
    """Bounds of how much higher the candidate's rate is."""
    answers = seen.answers
    changes = np.flatnonzero(np.diff(answers.share, prepend=answers.share[:1]))
    ends = two_by_two.cuts(len(event), changes)
    if not len(ends):
        return sequences.NOTHING
    return two_by_two.difference(two_by_two.in_blocks(answers.canary, event, ends), alpha=alpha)
