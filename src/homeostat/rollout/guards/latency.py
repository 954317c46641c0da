"""Latency: the candidate's 99th percentile over the champion's."""

from __future__ import annotations

import math

from homeostat.core.verdict import Verdict
from homeostat.rollout import sequences
from homeostat.rollout.guards.common import Alpha, between, judged, nothing, unanswered
from homeostat.rollout.observations import Observations
from homeostat.rollout.sequences import Bounds
from homeostat.rollout.spec import LatencyGuard

P99 = 0.99


def judge(guard: LatencyGuard, seen: Observations, alpha: Alpha) -> Verdict:
    """A ratio of two quantiles, each bounded with half of the alpha."""
    halves = alpha.part(2)
    slack = guard.slack.total_seconds()
    champion = sequences.quantile(seen.champion.latencies, P99, alpha=(halves[1], halves[0]))
    candidate = sequences.quantile(seen.candidate.latencies, P99, alpha=halves)
    n = min(champion.n, candidate.n)
    if n == 0:
        return nothing("latency_p99", guard.max_ratio, unanswered(seen))
    ratio = Bounds(
        _ratio(candidate.point - slack, champion.point),
        _ratio(candidate.low - slack, champion.high),
        _ratio(candidate.high - slack, champion.low),
        n,
    )
    least = max(sequences.least_for_quantile(P99, a) for a in halves)
    sentence = (
        f"latency_p99: {candidate.point * 1e3:.2f} ms against {champion.point * 1e3:.2f} ms of "
        f"the champion, {ratio.point:.2f} times as long less {guard.slack} of slack "
        f"({between(ratio)}; at most {guard.max_ratio:g})"
    )
    most = guard.max_ratio
    unit = "requests to each version"
    return judged("latency_p99", ratio, most, most, sentence, unit, seen, least=least)


def _ratio(a: float, b: float) -> float:
    """a / b for bounds: what is not known stays unknown, and less than nothing is nothing."""
    if math.isinf(a):
        return a
    a = max(a, 0.0)
    if b <= 0.0:  # includes a lower bound of -inf: nothing is known of the divisor
        return math.inf if a > 0.0 else 0.0
    return 0.0 if math.isinf(b) else a / b
