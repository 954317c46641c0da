"""Latency: the candidate's 99th percentile over the champion's."""

from __future__ import annotations

import math

import numpy as np

from homeostat.core.verdict import Verdict
from homeostat.rollout import sequences, two_by_two
from homeostat.rollout.callers import ONE, Callers, Effect
from homeostat.rollout.guards.common import (
    Alpha,
    between,
    judged,
    nothing,
    of_callers,
    per_caller,
    unanswered,
)
from homeostat.rollout.seen.answers import Answers
from homeostat.rollout.seen.columns import Array, Numbers
from homeostat.rollout.seen.observations import Observations
from homeostat.rollout.sequences import Bounds
from homeostat.rollout.spec import LatencyGuard

P99 = 0.99


def judge(guard: LatencyGuard, seen: Observations, alpha: Alpha) -> Verdict:
    """A ratio of two quantiles, each bounded with half of the alpha."""
    halves = alpha.part(2)
    slack = guard.slack.total_seconds()
    folded = seen.fold("latencies", Latencies)
    folded.add(seen.answers)
    effects = folded.effects(seen.answers)
    champion = sequences.quantile(
        folded.champion, P99, alpha=(halves[1], halves[0]), effect=effects[0]
    )
    candidate = sequences.quantile(folded.candidate, P99, alpha=halves, effect=effects[1])
    n = min(champion.n, candidate.n)
    if n == 0:
        return nothing("latency_p99", guard.max_ratio, unanswered(seen))
    ratio = Bounds(
        _ratio(candidate.point - slack, champion.point),
        _ratio(candidate.low - slack, champion.high),
        _ratio(candidate.high - slack, champion.low),
        n,
    )
    worth = max(e.high for e in effects)
    least = math.ceil(worth * max(sequences.least_for_quantile(P99, a) for a in halves))
    sentence = (
        f"latency_p99: {candidate.point * 1e3:.2f} ms against {champion.point * 1e3:.2f} ms of "
        f"the champion, {ratio.point:.2f} times as long less {guard.slack} of slack "
        f"({between(ratio)}; at most {guard.max_ratio:g})"
        f"{of_callers(effects)}"
    )
    most, per = guard.max_ratio, per_caller(effects, n)
    unit = "requests to each version"
    return judged("latency_p99", ratio, most, most, sentence, unit, seen, least=least, callers=per)


class Latencies:
    """Folds the answers: both arms' latencies."""

    def __init__(self) -> None:
        self.champion, self.candidate = sequences.Sorted(), sequences.Sorted()
        self._taken = self._cut = 0
        self._effects = ONE, ONE

    def add(self, answers: Answers) -> None:
        latency, canary = answers.latency[self._taken :], answers.canary[self._taken :]
        self._taken = len(answers.latency)
        answered = np.isfinite(latency)
        self.champion.add(latency[answered & ~canary])
        self.candidate.add(latency[answered & canary])

    def effects(self, answers: Answers) -> tuple[Effect, Effect]:
        """How far slow requests are those of the same callers: looked at anew where a block ends
        (`two_by_two.cuts`), because what is slow moves with the quantile."""
        if answers.caller is None or not len(answers.caller):
            return ONE, ONE
        cut = int(two_by_two.cuts(len(answers.caller))[-1])
        if cut != self._cut:
            self._cut = cut
            latency, caller = answers.latency[:cut], answers.caller[:cut]
            answered, canary = np.isfinite(latency), answers.canary[:cut]
            champion, candidate = (
                _effect(latency[mine], caller[mine])
                for mine in (answered & ~canary, answered & canary)
            )
            self._effects = champion, candidate
        return self._effects


def _effect(latency: Array, caller: Numbers) -> Effect:
    if not len(latency):
        return ONE
    callers = Callers()
    k = sequences.rank(len(latency), P99)
    callers.add(caller, latency > np.partition(latency, k)[k])
    return callers.effect()


def _ratio(a: float, b: float) -> float:
    """a / b for bounds: what is not known stays unknown, and less than nothing is nothing."""
    if math.isinf(a):
        return a
    a = max(a, 0.0)
    if b <= 0.0:  # includes a lower bound of -inf: nothing is known of the divisor
        return math.inf if a > 0.0 else 0.0
    return 0.0 if math.isinf(b) else a / b
