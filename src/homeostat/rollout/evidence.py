"""One verdict per guard, on evidence that may be looked at as often as one likes.

Every figure is harm: how much worse the candidate is. A guard passes when the upper bound of
harm is below what the plan tolerates, fails when harm is shown (the lower bound is above zero,
or for latency and bias above what is tolerated), and is inconclusive otherwise, saying how much
more it needs. One process per guard runs over the whole rollout and is not restarted at a step.

Alpha. A wrong rollback needs one guard to fail wrongly, so the lower bounds share alpha
(Bonferroni), the router's included. A wrong promotion needs every guard to pass, the harmed one
included, so each upper bound may use all of alpha (intersection-union test: Berger 1982).
Promotion and rollback each have their own alpha.
"""

from __future__ import annotations

from homeostat.core.verdict import Verdict
from homeostat.rollout.guards import bias, latency, quality, rates, router
from homeostat.rollout.guards.common import Alpha
from homeostat.rollout.guards.losses import CLIP, harm_support, losses
from homeostat.rollout.seen.observations import Observations, observe
from homeostat.rollout.spec import RolloutSpec
from homeostat.rollout.sufficiency import ROUTER, Sufficiency, sufficiency

__all__ = [
    "CLIP",
    "ROUTER",
    "Alpha",
    "Observations",
    "Sufficiency",
    "harm_support",
    "losses",
    "measure",
    "observe",
    "spent",
    "sufficiency",
]


def spent(plan: RolloutSpec) -> dict[str, Alpha]:
    """What each guard, and the router, may spend of alpha over the whole rollout."""
    names = plan.guards.names()
    share = Alpha((1 - router.PART) * plan.alpha / max(len(names), 1), plan.alpha)
    return {**dict.fromkeys(names, share), ROUTER: Alpha(router.PART * plan.alpha, 0.0)}


def measure(plan: RolloutSpec, seen: Observations) -> tuple[Verdict, ...]:
    """One verdict per declared guard, in the order of `Guards.names()`; then the router's, once a
    request was assigned by chance."""
    alpha = spent(plan)
    verdicts = [_judge(name, plan, seen, alpha[name]) for name in plan.guards.names()]
    split = router.judge(plan.router, seen, alpha[ROUTER].rollback)
    return tuple(verdicts) if split is None else (*verdicts, split)


def _judge(name: str, plan: RolloutSpec, seen: Observations, alpha: Alpha) -> Verdict:
    guards = plan.guards
    if name == "quality" and guards.quality is not None:
        return quality.judge(guards.quality, plan, seen, alpha)
    if name == "latency_p99" and guards.latency_p99 is not None:
        return latency.judge(guards.latency_p99, seen, alpha)
    if name == "error_rate" and guards.error_rate is not None:
        return rates.judge_errors(guards.error_rate, seen, alpha)
    if name == "latency" and guards.latency is not None:
        return rates.judge_objective(guards.latency, seen, alpha)
    if name == "bias" and guards.bias is not None:
        return bias.judge(guards.bias, plan, seen, alpha)
    raise LookupError(f"guard {name} is declared, and nothing judges it")
