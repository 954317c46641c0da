"""What each declared strategy asks of a rollout: its steps, and what its shadow has to show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from homeostat.core.verdict import Outcome, Verdict
from homeostat.rollout.spec import RolloutSpec


def steps(plan: RolloutSpec, challengers: int = 1) -> tuple[float, ...]:
    """The shares (percent, of each challenger) that a candidate is given, in order."""
    match plan.strategy:
        case "canary" | "shadow":
            return plan.steps
        case "blue_green":
            return (100.0,)
        case "experiment":
            # the champion, which all are held against, never has less than one of them
            equal = 100.0 / (challengers + 1)
            return (min(plan.share or equal, equal),)
        case "dark":
            return ()
        case _:
            assert_never(plan.strategy)


def begins_in_shadow(plan: RolloutSpec) -> bool:
    """Whether nobody is answered by the candidate at first."""
    return plan.shadow is not None or plan.strategy in ("shadow", "blue_green", "dark")


def shown_in_shadow(plan: RolloutSpec, verdicts: Sequence[Verdict]) -> bool:
    """Whether the shadow has shown enough for the first step.

    Nobody is answered yet, so the guards of answers (latency, errors) measure nothing there: they
    are asked at the steps. What the shadow can measure, the paired quality above all, has to pass
    where the strategy rests on it; a canary's shadow only has to be without an error.
    """
    if any(v.outcome is Outcome.ERROR for v in verdicts):
        return False
    if plan.strategy not in ("shadow", "blue_green"):
        return True
    measured = [v for v in verdicts if v.n]
    return any(v.check == "quality" for v in measured) and all(v.passed for v in measured)


def watches_shadow(plan: RolloutSpec) -> bool:
    """Whether the plan can measure anything before the candidate answers."""
    return plan.guards.quality is not None and plan.guards.quality.paired
