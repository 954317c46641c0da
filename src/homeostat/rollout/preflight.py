"""Before a rollout starts: whether it can decide in time, and what would make it able to.

What each guard needs is computed for a candidate that does no harm at all, the hardest case to
promote that has to be promoted, at the first step's share and today's traffic.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.duration import Duration
from homeostat.core.names import Arm
from homeostat.core.records import equal, there
from homeostat.core.verdict import Outcome, Verdict
from homeostat.rollout import sequences, strategy
from homeostat.rollout.evidence import spent
from homeostat.rollout.guards.common import brief
from homeostat.rollout.guards.estimate import SPENT
from homeostat.rollout.guards.latency import P99
from homeostat.rollout.guards.losses import largest, losses
from homeostat.rollout.spec import QualityGuard, RolloutSpec

Array = NDArray[np.float64]

CORRELATION = 0.8
"""Of the two versions' losses on the same request, where nothing better is known."""
DOUBT = 2.0
"""The computation is rough: a rollout is refused when it needs more than this times its time."""
LEARNING = 1.3
"""How much more than with known rates two rates need (`make bench-rollout`: 1.1 to 1.6)."""
MOST = 1e12
ENDLESS, NEVER = 1e16, 3e9
"""Requests that nobody waits for, and the seconds from which on it is said that it never ends."""


class Traffic(msgspec.Struct, frozen=True):
    """What is known of the requests that a rollout would be judged on.

    per_second: requests to the model today. label_delay: from a request to its final label.
    labelled: the share of requests whose label becomes known. base_rate: of positive labels.
    loss_sd, harm_sd: standard deviation of a version's loss, and of the difference of both
    versions' losses on the same request. error_rate: of the champion. slow_rate: its share of
    answers over the objective. None: not known. n: requests that this was seen on.
    callers: how many were seen, where they are kept on one version (else 0). same: the chance that
    two requests are of the same caller. fresh: that the next one is of a caller not seen before.
    """

    per_second: float | None = None
    label_delay: timedelta = timedelta(0)
    labelled: float = 1.0
    base_rate: float | None = None
    loss_sd: float | None = None
    harm_sd: float | None = None
    error_rate: float | None = None
    slow_rate: float | None = None
    n: int = 0
    callers: int = 0
    same: float = 0.0
    fresh: float = 0.0


def traffic(
    plan: RolloutSpec,
    log: pl.DataFrame,
    over: timedelta,
    *,
    champion: pl.DataFrame,
    candidate: pl.DataFrame | None = None,
    label_delay: timedelta = timedelta(0),
    threshold: float = 0.5,
    caller: pl.Expr | None = None,
) -> Traffic:
    """Look at what there is: the log of the last while (`over`), and both versions' test sets
    (score, label). Test sets of the same rows tell how much the versions' losses differ. caller:
    what keeps a request on one version, where that is not its id."""
    answered = equal(log["arm"], Arm.CHAMPION.value) | equal(log["arm"], Arm.CANARY.value)
    n = int(np.count_nonzero(answered))
    guards = plan.guards
    own = _losses(guards.quality, champion, threshold)
    other = None if candidate is None else _losses(guards.quality, candidate, threshold)
    harm = None
    if (
        own is not None
        and other is not None
        and candidate is not None
        and _same(champion, candidate)
    ):
        harm = float(np.std(other - own))
    slow = None
    if guards.latency is not None and n:
        limit = guards.latency.objective.total_seconds()
        slow = float((log["latency"].to_numpy()[answered] > limit).mean())  # no answer is not slow
    return Traffic(
        per_second=n / over.total_seconds() if n and over else None,
        label_delay=label_delay,
        base_rate=None if own is None else float((champion["label"] > 0.5).mean() or 0.0),  # type: ignore[arg-type]
        loss_sd=None if own is None else float(np.std(own)),
        harm_sd=harm,
        error_rate=float(there(log["error"])[answered].mean()) if n else None,
        slow_rate=slow,
        n=n + (0 if own is None else len(own)),
        **({} if caller is None or n < 2 else _callers(log.filter(pl.Series(answered)), caller)),
    )


def _callers(answers: pl.DataFrame, caller: pl.Expr) -> dict[str, Any]:
    """The share of requests of callers that were seen once tells how likely a new one is next
    (Good 1953)."""
    n = answers.height
    who = answers.select(pl.coalesce(caller.cast(pl.String), "id").alias("who"))
    each = who.group_by("who").len()["len"].cast(pl.Float64).to_numpy()
    same = float((each * (each - 1)).sum()) / (n * (n - 1))
    return {"callers": len(each), "same": same, "fresh": float((each == 1).sum()) / n}


def preflight(plan: RolloutSpec, seen: Traffic) -> Verdict:
    """PASS: it can decide in time. FAIL: it cannot, and the sentence says what would make it able.
    INCONCLUSIVE: too little is known to tell.

    figure: the time it needs (days); threshold: `max_duration` (days); parts: the same of each
    guard of which it is known.
    """
    if not seen.per_second:
        sentence = "preflight: no traffic was seen yet, so nobody can say whether it can decide"
        return Verdict("preflight", Outcome.INCONCLUSIVE, sentence, n=0)
    wanted = {g: time_for(g, plan, seen) for g in plan.guards.names()}
    known = {g: t for g, t in wanted.items() if t is not None}
    if not known:
        sentence = "preflight: nothing is known that tells how long the declared guards need"
        return Verdict("preflight", Outcome.INCONCLUSIVE, sentence, n=0)
    limit, day = plan.max_duration.total_seconds(), 86400.0
    least = {g: _at_least(g, t, seen) for g, t in known.items()}
    hopeless = [g for g, t in least.items() if t > limit]
    slowest = max(hopeless or known, key=lambda g: known[g])
    bake, steps = plan.bake.total_seconds(), strategy.steps(plan) or (0.0,)
    total = max(known[slowest], bake) + bake * (len(steps) - 1)
    figures, n = (total / day, limit / day), max(seen.n, 1)
    parts = tuple(_part(g, t, least[g], plan, seen) for g, t in known.items())
    needs = f"{slowest} needs about {brief(total)} at today's {_rate(seen.per_second)}"
    if total >= NEVER:
        needs = (
            f"{slowest} cannot decide: callers are kept on one version, and {seen.callers:,} "
            "callers are too few, however many requests they send"
        )
    if not hopeless:
        outcome, may = (
            (Outcome.PASS, "can") if total <= limit else (Outcome.INCONCLUSIVE, "may not")
        )
        sentence = f"preflight: it {may} decide: {needs}; max_duration is {plan.max_duration}"
        return Verdict("preflight", outcome, sentence, *figures, n=n, parts=parts)
    able = "; or ".join(remedies(slowest, plan, seen, total))
    sentence = f"preflight: {needs}, and max_duration is {plan.max_duration} -> {able}"
    return Verdict("preflight", Outcome.FAIL, sentence, *figures, n=n, parts=parts)


def _part(guard: str, time: float, least: float, plan: RolloutSpec, seen: Traffic) -> Verdict:
    limit, day = plan.max_duration.total_seconds(), 86400.0
    late = Outcome.FAIL if least > limit else Outcome.INCONCLUSIVE
    outcome = Outcome.PASS if time <= limit else late
    asked = requests_for(guard, plan, seen) or 0.0
    sentence = f"{guard}: about {float(f'{asked:.2g}'):,.0f} requests, {brief(time)}"
    if time >= NEVER:
        sentence = f"{guard}: more callers than there are"
    return Verdict(guard, outcome, sentence, time / day, limit / day, n=max(seen.n, 1))


def _at_least(guard: str, time: float, seen: Traffic) -> float:
    """What of a guard's time is sure: labels take as long as they take, the rest is rough."""
    certain = seen.label_delay.total_seconds() if guard == "quality" else 0.0
    return certain + (time - certain) / DOUBT


def time_for(guard: str, plan: RolloutSpec, seen: Traffic) -> float | None:
    """Seconds until a guard could pass at the first step; None where too little is known."""
    requests = requests_for(guard, plan, seen)
    if requests is None or not seen.per_second:
        return None
    if guard != "quality":
        return requests / seen.per_second
    return seen.label_delay.total_seconds() + requests / (
        seen.per_second * max(seen.labelled, 1e-9)
    )


def requests_for(guard: str, plan: RolloutSpec, seen: Traffic) -> float | None:
    """Requests to the model, labelled ones for quality, until a guard could pass at the first
    step; None where too little is known."""
    alpha = spent(plan)[guard].promotion
    (first, *_) = strategy.steps(plan) or (100.0,)
    share = min(max(first / 100, 1e-4), 0.5 if first >= 100 else 1.0)
    guards = plan.guards
    if guard == "quality" and guards.quality is not None:
        return _quality(guards.quality, seen, alpha, share)
    rates = _rates if plan.strategy != "blue_green" else _rates_in_turn
    if guard == "error_rate" and guards.error_rate is not None:
        drawn = rates(seen.error_rate, guards.error_rate.margin, alpha, share)
        return _of_callers(drawn, seen.error_rate, seen, share)
    if guard == "latency" and guards.latency is not None:
        drawn = rates(seen.slow_rate, guards.latency.margin, alpha, share)
        return _of_callers(drawn, seen.slow_rate, seen, share)
    if guard == "latency_p99":
        drawn = sequences.least_for_quantile(P99, alpha / 2) / min(share, 1 - share)
        return _of_callers(drawn, 1 - P99, seen, share)
    return None


def remedies(guard: str, plan: RolloutSpec, seen: Traffic, total: float) -> list[str]:
    """What would let it decide in time, the cheapest first."""
    found = []
    limit = plan.max_duration.total_seconds()
    quality = plan.guards.quality
    if guard == "quality" and quality is not None:
        paired = msgspec.structs.replace(quality, paired=True)
        guards = msgspec.structs.replace(plan.guards, quality=paired)
        time = time_for(guard, msgspec.structs.replace(plan, guards=guards), seen)
        if not quality.paired and time is not None:
            found.append(f"score both versions on the same requests (paired: true): {brief(time)}")
    elif plan.strategy in ("canary", "shadow") and plan.steps[0] < 50:
        larger = msgspec.structs.replace(plan, steps=(50.0, 100.0))
        time = time_for(guard, larger, seen)
        if time is not None and time < NEVER:
            found.append(f"a first step of 50 %: {brief(time)}")
    wider = _margin(guard, plan, seen, limit)
    if wider is not None:
        found.append(f"a margin of {wider:.2g}")
    if total < NEVER:
        found.append(f"max_duration: {Duration(hours=math.ceil(total / 3600))}")
    found.append("start it with --force, and decide by hand")
    return found


def _margin(guard: str, plan: RolloutSpec, seen: Traffic, limit: float) -> float | None:
    """The smallest margin that could be told within the time; None where none could."""
    declared = getattr(plan.guards, guard)
    if not hasattr(declared, "margin"):
        return None

    def in_time(margin: float) -> bool:
        wider = msgspec.structs.replace(declared, margin=margin)
        guards = msgspec.structs.replace(plan.guards, **{guard: wider})
        time = time_for(guard, msgspec.structs.replace(plan, guards=guards), seen)
        return time is not None and time <= limit

    widest = (largest(declared.metric) if guard == "quality" else 1.0) / 2
    return _least(in_time, declared.margin, widest) if in_time(widest) else None


# -- how many requests -------------------------------------------------------------------------


def _quality(guard: QualityGuard, seen: Traffic, alpha: float, share: float) -> float | None:
    if seen.loss_sd is None or seen.base_rate is None:
        return None
    rare = min(seen.base_rate, 1 - seen.base_rate)
    classes = sequences.BURN_IN / max(rare, 1e-9)
    if guard.paired:
        alpha *= 1 - SPENT if guard.estimate else 1.0
        assumed = seen.loss_sd * math.sqrt(2 * (1 - CORRELATION))
        sd = assumed if seen.harm_sd is None else seen.harm_sd
        told = _least(
            lambda n: _width(n, sd, alpha / 2) <= guard.margin, 4 * sequences.BURN_IN, MOST
        )
        return min(max(told, classes), _exact(largest(guard.metric), sd, guard.margin, alpha / 2))
    sd = seen.loss_sd

    def both(n: float) -> float:
        return _width(n * share, sd, alpha / 4) + _width(n * (1 - share), sd, alpha / 4)

    return max(
        _least(lambda n: both(n) <= guard.margin, 100, MOST), classes / min(share, 1 - share)
    )


def _rates(rate: float | None, margin: float, alpha: float, share: float) -> float | None:
    """Of a sequential 2x2 test: the capital grows by the information of each request, and learning
    the rates costs a part of it."""
    if rate is None:
        return None
    middle = min(rate + margin / 2, 0.5)
    variance = middle * (1 - middle) * (1 / share + 1 / (1 - share))
    per_request = margin**2 / (2 * variance)
    return max(LEARNING * math.log(1 / alpha) / per_request, 10.0)


def _of_callers(
    drawn: float | None, rate: float | None, seen: Traffic, share: float
) -> float | None:
    """Requests that are worth so many that are drawn by themselves, where callers are drawn and
    their requests go wrong independently (`callers.effect`); endless where no number is."""
    if drawn is None or rate is None or not seen.callers:
        return drawn

    def worth(n: float) -> float:
        known = seen.callers / (seen.callers + seen.fresh * n)
        size, spread = 1 + seen.same * known * n, n * share * rate * (1 - rate)
        return n * (spread + size) / (spread + size**2)

    return _least(lambda n: worth(n) >= drawn, drawn, ENDLESS)


def _rates_in_turn(rate: float | None, margin: float, alpha: float, share: float) -> float | None:
    """Of two rates with a bound each: the champion's in the shadow, then the candidate's alone."""
    if rate is None:
        return None

    def told(n: float) -> bool:
        each = (alpha / 2, alpha / 2)
        found = sequences.rate(int(n), round(rate * int(n)), alpha=each)
        return found.high - found.low < margin

    return 2 * _least(told, 10, 1e9)


def _exact(most: float, sd: float, margin: float, alpha: float) -> float:
    """Of the betting bound: no bet may risk more than losing all on the largest harm."""
    bet = min(margin / max(sd**2, 1e-12), sequences.BET_LIMIT / most)
    growth = bet * margin - bet**2 * sd**2 / 2
    return MOST if growth <= 0 else 2 * math.log(1 / alpha) / growth


def _width(n: float, sd: float, alpha: float) -> float:
    return sd * float(sequences.width(max(int(n), 1), alpha))


def _least(enough: Callable[[float], bool], low: float, high: float) -> float:
    """The smallest number that is enough, to 1 %; the largest when none is."""
    if enough(low):
        return low
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


# -- what there is -----------------------------------------------------------------------------


def _losses(guard: QualityGuard | None, table: pl.DataFrame, threshold: float) -> Array | None:
    if guard is None or not {"score", "label"} <= set(table.columns) or not table.height:
        return None
    rows = table[["score", "label"]]
    rows = rows.drop_nulls("label") if rows["label"].null_count() else rows
    label = rows["label"].cast(pl.Float64).to_numpy()
    return losses(guard.metric, label, rows["score"].cast(pl.Float64).to_numpy(), threshold)


def _same(one: pl.DataFrame, two: pl.DataFrame) -> bool:
    """Whether two test sets are of the same rows in the same order."""
    kept = [c for c in one.columns if c in two.columns and c != "score"]
    return one.height == two.height and one[kept].equals(two[kept])


def _rate(per_second: float) -> str:
    if per_second >= 1:
        return f"{per_second:,.0f} requests/s"
    if per_second * 60 >= 1:
        return f"{per_second * 60:,.0f} requests/min"
    return f"{per_second * 86400:,.0f} requests/day"
