"""From what was measured to what would have changed the decision. Pure, and without new
statistics: the bounds say themselves which margin they would have passed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from homeostat.core.verdict import Outcome, Verdict
from homeostat.rollout.decide import baked, every_guard_passes, overdue, why
from homeostat.rollout.experiment import WINNER
from homeostat.rollout.freeze import frozen_until
from homeostat.rollout.model import Phase, Rollout
from homeostat.rollout.sufficiency import ROUTER

RATIOS = ("latency_p99",)
"""Guards whose figure is a ratio; of the others it is a difference."""
LIMITED = (*RATIOS, "bias")
"""Guards for which all that is tolerated is harmless; for the others only zero is."""


def would_change(verdict: Verdict) -> str:
    """What would have let one guard come out otherwise, on the same evidence or on more of it."""
    found = decisive(verdict)
    if found is not verdict:
        told = would_change(found)
        return f"In {found.check}: {told[:1].lower()}{told[1:]}"
    limit, harmless = tolerated(verdict.check), _harmless(verdict)
    low, high, threshold = verdict.low, verdict.high, verdict.threshold
    if verdict.check == ROUTER:
        fine = "The requests are split as declared." if verdict.passed else ""
        return fine or "The router has to be mended: with its split no comparison can be trusted."
    if not verdict.n:
        return "Nothing was measured: it needs requests, and for quality their labels."
    match verdict.outcome:
        case Outcome.ERROR:
            return "It could not be judged: the evidence has to be readable first."
        case Outcome.FAIL:
            shown = f"Harm of at least {number(low)} is shown. " if low is not None else ""
            if high is None:
                return f"{shown}No {limit} would have passed: harm has no upper bound yet."
            return f"{shown}A {limit} above {number(high)} would have passed."
        case Outcome.PASS if high is not None and high < (1.0 if verdict.check in RATIOS else 0.0):
            return f"It is shown to be better than the champion: every {limit} would have passed."
        case Outcome.PASS:
            return f"A {limit} of {number(high)} or less would hold it."
        case _:
            passes = f"the upper bound ({number(high)}) to come below {number(threshold)}"
            fails = f"the lower bound ({number(low)}) to come above {number(harmless)}"
            wider = f" A {limit} above {number(high)} would pass now." if high is not None else ""
            return f"It needs {passes}, or {fails}.{wider}"


def decisive(verdict: Verdict) -> Verdict:
    """What a guard came out by: the slice whose sentence it took, else all requests. The guard's
    own figure and bounds are those of all requests."""
    return next((p for p in verdict.parts if p.sentence == verdict.sentence), verdict)


def tolerated(check: str) -> str:
    """The word for what a guard, or a slice of one, tolerates."""
    if "[" in check:
        return "slice_margin"
    return "largest ratio" if check in RATIOS else "margin"


def _harmless(verdict: Verdict) -> float | None:
    return verdict.threshold if verdict.check in LIMITED else 0.0


def number(value: float | None) -> str:
    """Three digits; unknown bounds in words."""
    return "unknown" if value is None else f"{value:.3g}"


def plainly(reason: str, verdicts: Sequence[Verdict], champion: str) -> str:
    """A decision's reason in words: the sentence of a guard that failed becomes what it shows."""
    for guard in verdicts:
        v = decisive(guard)
        if guard.failed and v.sentence == reason and v.low is not None and v.n:
            if v.check in RATIOS:
                harm = f"its {name(v.check)} is at least {number(v.low)} times that of"
            else:
                harm = (
                    f"its {name(v.check)} is shown to be worse, by at least {number(v.low)}, than"
                )
            return f"{harm} version {champion} ({v.n:,} observations)"
    return reason.rstrip(".")


def name(check: str) -> str:
    """`error_rate` -> `error rate`."""
    return check.replace("_", " ")


def held_by(rollout: Rollout, now: datetime) -> str:
    """Why a live rollout does not go on, in words that follow 'because'."""
    freeze = frozen_until(rollout.plan.freeze, now)
    open_ = why(rollout.verdicts)
    if rollout.trials:
        left = {t.version: why(t.verdicts) for t in rollout.active}
        open_ = "; ".join(f"version {v}: {said}" for v, said in left.items())
    match rollout.phase:
        case Phase.PAUSED:
            return "a person paused it"
        case _ if freeze is not None:
            return f"nothing advances until {freeze[0]:%F %R} UTC ({freeze[1].why or 'a freeze'})"
        case Phase.WAITING_APPROVAL:
            whom = f"version {rollout.asked} at " if rollout.asked else ""
            percent = WINNER if rollout.trials else rollout.next_percent or 100
            return f"a person has to approve {whom}{percent:.4g} %"
        case Phase.SHADOW if rollout.plan.strategy == "dark":
            return "it stays in the dark until a person promotes or aborts it"
        case _ if not baked(rollout, now):
            wake = rollout.wake_at
            return f"it bakes until {wake:%F %R} UTC" if wake else "it bakes"
        case _ if overdue(rollout, now):
            return "its time is over; the next look ends it"
        case _ if not rollout.trials and every_guard_passes(rollout, rollout.verdicts):
            return "every guard passes, and the next look takes it on"
        case _:
            return open_


def spell(delta: timedelta) -> str:
    """A length of time in at most two units: `3 d 4 h`, `12 min`, `40 s`."""
    seconds = int(delta.total_seconds())
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        n, seconds = divmod(seconds, size)
        if n:
            parts.append(f"{n} {unit}")
    return " ".join(parts[:2]) or "no time"
