"""One verdict per guard, on evidence that may be looked at as often as one likes.

Every figure is harm: how much worse the candidate is. A guard passes when the upper bound of
harm is below what the plan tolerates, fails when harm is shown (the lower bound is above zero,
or for latency above the tolerated ratio), and is inconclusive otherwise, saying how much more it
needs. One process per guard runs over the whole rollout and is not restarted at a step.

Alpha. A wrong rollback needs one guard to fail wrongly, so the lower bounds share alpha
(Bonferroni). A wrong promotion needs every guard to pass, the harmed one included, so each
upper bound may use all of alpha (intersection-union test: Berger 1982). Promotion and rollback
each have their own alpha.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from homeostat.core.names import Arm
from homeostat.core.verdict import Outcome, Verdict
from homeostat.rollout import sequences
from homeostat.rollout.observations import ArmSeen, Observations, observe
from homeostat.rollout.sequences import Bounds
from homeostat.rollout.spec import ErrorGuard, LatencyGuard, QualityGuard, RolloutSpec

__all__ = ["CLIP", "Observations", "harm_support", "losses", "measure", "observe"]

Array = NDArray[np.float64]
Alpha = tuple[float, float]

CLIP = 0.001
"""Scores are moved within [CLIP, 1 - CLIP] for the log loss, for both versions alike: then no
request costs more than 6.91, which is what makes bounds possible at all."""
P99 = 0.99


def measure(plan: RolloutSpec, seen: Observations) -> tuple[Verdict, ...]:
    """One verdict per declared guard, in the order of `Guards.names()`."""
    guards = plan.guards
    alpha = (plan.alpha / max(len(guards.names()), 1), plan.alpha)
    verdicts: list[Verdict] = []
    if guards.quality is not None:
        verdicts.append(_quality(guards.quality, seen, alpha))
    if guards.latency_p99 is not None:
        verdicts.append(_latency(guards.latency_p99, seen, alpha))
    if guards.error_rate is not None:
        verdicts.append(_errors(guards.error_rate, seen, alpha))
    return tuple(verdicts)


# -- quality -----------------------------------------------------------------------------------


def losses(metric: str, label: Array, score: Array, threshold: float = 0.5) -> Array:
    """The loss of each request (n), in [0, largest]; a score that is not a number loses most."""
    if metric == "log_loss":
        kept = np.clip(score, CLIP, 1.0 - CLIP)
        value = -np.log(np.where(label > 0.5, kept, 1.0 - kept))
    elif metric == "brier":
        value = (np.clip(score, 0.0, 1.0) - label) ** 2
    else:
        value = ((score >= threshold) != (label > 0.5)).astype(np.float64)
    return np.where(np.isfinite(score), value, largest(metric))


def largest(metric: str) -> float:
    """The most that one request can cost in this metric."""
    return -math.log(CLIP) if metric == "log_loss" else 1.0


def harm_support(metric: str) -> tuple[float, float]:
    """Between which values the difference of two losses lies."""
    return -largest(metric), largest(metric)


def _quality(guard: QualityGuard, seen: Observations, alpha: Alpha) -> Verdict:
    harm = _paired_harm(guard, seen, alpha) if guard.paired else _single_harm(guard, seen, alpha)
    unit = "paired labelled requests" if guard.paired else "labelled requests of the candidate"
    if harm.n == 0:
        return _nothing("quality", guard.margin, f"no {unit} yet")
    name = guard.metric.replace("_", " ")
    sentence = (
        f"quality: the candidate's {name} is {harm.point:+.4f} against the champion's "
        f"({_between(harm)}; margin {guard.margin:g}) on {harm.n:,} {unit}"
    )
    return _judged("quality", harm, guard.margin, 0.0, sentence, "labelled requests")


def _paired_harm(guard: QualityGuard, seen: Observations, alpha: Alpha) -> Bounds:
    rows = seen.paired
    label = rows["label"].to_numpy().astype(np.float64)
    loss = [
        losses(guard.metric, label, rows[column].to_numpy().astype(np.float64), threshold)
        for column, threshold in zip(("champion", "candidate"), seen.thresholds, strict=True)
    ]
    return sequences.mean(loss[1] - loss[0], harm_support(guard.metric), alpha=alpha, label=label)


def _single_harm(guard: QualityGuard, seen: Observations, alpha: Alpha) -> Bounds:
    arms, every = [], seen.single
    for arm, threshold in zip((Arm.CHAMPION, Arm.CANARY), seen.thresholds, strict=True):
        rows = every.filter(every["arm"] == arm.value)
        label = rows["label"].to_numpy().astype(np.float64)
        loss = losses(guard.metric, label, rows["score"].to_numpy().astype(np.float64), threshold)
        half = (alpha[0] / 2, alpha[1] / 2)
        if arm is Arm.CHAMPION:  # its low bound belongs to promotion, its high to rollback
            half = (half[1], half[0])
        arms.append(sequences.mean(loss, (0.0, largest(guard.metric)), alpha=half, label=label))
    return _difference(arms[0], arms[1])


# -- errors ------------------------------------------------------------------------------------


def _errors(guard: ErrorGuard, seen: Observations, alpha: Alpha) -> Verdict:
    champion, candidate = seen.champion, seen.candidate
    harm = _difference(
        sequences.rate(champion.n, champion.errors, alpha=(alpha[1] / 2, alpha[0] / 2)),
        sequences.rate(candidate.n, candidate.errors, alpha=(alpha[0] / 2, alpha[1] / 2)),
    )
    if harm.n == 0:
        return _nothing("error_rate", guard.margin, _unanswered(seen))
    sentence = (
        f"error_rate: {_rate(candidate)} failed, {_rate(champion)} of the champion: "
        f"{harm.point:+.4%} ({_between(harm, percent=True)}; margin {guard.margin:.4%})"
    )
    return _judged("error_rate", harm, guard.margin, 0.0, sentence, "requests to the candidate")


def _rate(arm: ArmSeen) -> str:
    return f"{arm.errors:,} of {arm.n:,}"


# -- latency -----------------------------------------------------------------------------------


def _latency(guard: LatencyGuard, seen: Observations, alpha: Alpha) -> Verdict:
    halves = (alpha[0] / 2, alpha[1] / 2)
    slack = guard.slack.total_seconds()
    champion = sequences.quantile(seen.champion.latencies, P99, alpha=(halves[1], halves[0]))
    candidate = sequences.quantile(seen.candidate.latencies, P99, alpha=halves)
    n = min(champion.n, candidate.n)
    if n == 0:
        return _nothing("latency_p99", guard.max_ratio, _unanswered(seen))
    ratio = Bounds(
        _ratio(candidate.point - slack, champion.point),
        _ratio(candidate.low - slack, champion.high),
        _ratio(candidate.high - slack, champion.low),
        n,
    )
    least = max(sequences.least_for_quantile(P99, a) for a in halves)
    sentence = (
        f"latency_p99: {candidate.point * 1e3:.2f} ms against {champion.point * 1e3:.2f} ms of "
        f"the champion: beyond a slack of {guard.slack} {ratio.point:.2f} times as long "
        f"({_between(ratio)}; at most {guard.max_ratio:g})"
    )
    return _judged(
        "latency_p99",
        ratio,
        guard.max_ratio,
        guard.max_ratio,
        sentence,
        "requests to each version",
        least=least,
    )


def _ratio(a: float, b: float) -> float:
    """a / b for bounds: what is not known stays unknown, and less than nothing is nothing."""
    if math.isinf(a):
        return a
    a = max(a, 0.0)
    if b <= 0.0:  # includes a lower bound of -inf: nothing is known of the divisor
        return math.inf if a > 0.0 else 0.0
    return 0.0 if math.isinf(b) else a / b


# -- common ------------------------------------------------------------------------------------


def _difference(champion: Bounds, candidate: Bounds) -> Bounds:
    if champion.n == 0 or candidate.n == 0:
        return sequences.NOTHING
    return Bounds(
        candidate.point - champion.point,
        candidate.low - champion.high,
        candidate.high - champion.low,
        min(champion.n, candidate.n),
    )


def _judged(
    check: str,
    harm: Bounds,
    margin: float,
    harmless: float,
    sentence: str,
    unit: str,
    *,
    least: int = 0,
) -> Verdict:
    """PASS below the margin, FAIL above what is harmless, else what it would take to tell."""
    if harm.high < margin:
        outcome, end = Outcome.PASS, ""
    elif harm.low > harmless:
        outcome, end = Outcome.FAIL, ": harm is shown"
    else:
        more = _more(harm, margin, harmless, least)
        outcome, end = Outcome.INCONCLUSIVE, f": about {more:,} more {unit} would tell"
    return Verdict(check, outcome, sentence + end, harm.point, margin, harm.low, harm.high, harm.n)


def _more(harm: Bounds, margin: float, harmless: float, least: int) -> int:
    """Roughly how many more observations decide, widths shrinking as one over the root of n."""
    needs: list[float] = []
    if harm.point < margin and math.isfinite(harm.high):
        needs.append(harm.n * ((harm.high - harm.point) / (margin - harm.point)) ** 2)
    if harm.point > harmless and math.isfinite(harm.low):
        needs.append(harm.n * ((harm.point - harm.low) / (harm.point - harmless)) ** 2)
    needed = max(min(needs, default=2.0 * harm.n), least, harm.n + 1)
    digits: int = 10 ** max(len(str(int(needed - harm.n))) - 2, 0)
    return math.ceil((needed - harm.n) / digits) * digits


def _nothing(check: str, threshold: float, why: str) -> Verdict:
    sentence = f"{check}: {why}, so nothing can be said"
    return Verdict(check, Outcome.INCONCLUSIVE, sentence, threshold=threshold, n=0)


def _unanswered(seen: Observations) -> str:
    who = "candidate" if seen.candidate.n == 0 else "champion"
    return f"the {who} has answered no request yet"


def _between(harm: Bounds, *, percent: bool = False) -> str:
    form: Callable[[float], str] = (lambda v: f"{v:.4%}") if percent else (lambda v: f"{v:.4f}")
    low = form(harm.low) if math.isfinite(harm.low) else "unknown"
    high = form(harm.high) if math.isfinite(harm.high) else "unknown"
    return f"between {low} and {high}"
