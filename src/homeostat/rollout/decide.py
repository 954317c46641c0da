"""The decision about a rollout: pure, one step at most, and never upwards without evidence."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from homeostat.core.verdict import Verdict, worst
from homeostat.rollout import strategy
from homeostat.rollout.freeze import frozen_time, frozen_until
from homeostat.rollout.model import (
    ApprovalAsked,
    Judged,
    Phase,
    Promoted,
    RolledBack,
    Rollout,
    RolloutEvent,
    Stepped,
)
from homeostat.rollout.sufficiency import Sufficiency, sufficiency


def decide(
    rollout: Rollout | None, verdicts: Sequence[Verdict], now: datetime
) -> list[RolloutEvent]:
    """What happens next, as events to record; [] to hold.

    verdicts: one per declared guard, from `evidence.measure`. In this order:
    harm shown -> rolled back, in every live phase and whatever the bake; frozen -> held; past the
    deadline -> as `insufficient` says (not while paused); nothing measured after a bake and
    `no_data: abort` -> rolled back; baked and every guard passes -> the next step, or promoted
    after the last.
    Everything else holds; a hold is recorded when a guard came out differently than last recorded.
    """
    if rollout is None or not rollout.live:
        return []
    verdicts = tuple(verdicts)
    if failed := [v for v in verdicts if v.failed]:
        return [_back(rollout, verdicts, failed[0].sentence)]
    if rollout.phase is Phase.PAUSED or frozen_until(rollout.plan.freeze, now):
        return _note(rollout, verdicts, now)
    if rollout.step >= 0 and rollout.next_percent is None and _may_move(rollout, verdicts, now):
        return [_forward(rollout, verdicts)]  # decided, if late: the clock may have jumped
    if overdue(rollout, now) and (late := _late(rollout, verdicts, now)) is not None:
        return late
    if rollout.phase is Phase.STEP and baked(rollout, now):
        unmeasured = [v for v in verdicts if not v.n]
        if unmeasured and rollout.plan.no_data == "abort":
            return [_back(rollout, verdicts, f"nothing measured: {unmeasured[0].sentence}")]
    if rollout.phase in (Phase.SHADOW, Phase.STEP) and _may_move(rollout, verdicts, now):
        return [_forward(rollout, verdicts)]
    return _note(rollout, verdicts, now)


def _late(
    rollout: Rollout, verdicts: tuple[Verdict, ...], now: datetime
) -> list[RolloutEvent] | None:
    """What the plan wants when the evidence has not sufficed in time; None to go on as before."""
    reason = f"{undecided(rollout)}: {why(verdicts)}"
    match rollout.plan.insufficient:
        case "hold":
            return None
        case "extend" if sufficiency(verdicts) is not Sufficiency.NO_DATA:
            over = overdue(rollout, now - rollout.plan.max_duration)
            return [_back(rollout, verdicts, f"{reason} (extended once)")] if over else None
        case "ask":
            return _ask(rollout, verdicts, now)
        case _:
            return [_back(rollout, verdicts, reason)]


def _ask(
    rollout: Rollout, verdicts: tuple[Verdict, ...], now: datetime
) -> list[RolloutEvent] | None:
    """A person takes each further step in the place of the evidence; the last is `promote`."""
    percent = rollout.next_percent
    if percent is None or rollout.phase is Phase.WAITING_APPROVAL:
        return None
    if percent not in rollout.approved:
        return [ApprovalAsked(rollout.id, float(percent), verdicts)]
    if not baked(rollout, now):
        return None
    reason = f"approved although {undecided(rollout)}: {why(verdicts)}"
    return [Stepped(rollout.id, rollout.step + 1, float(percent), reason, verdicts)]


def _may_move(rollout: Rollout, verdicts: tuple[Verdict, ...], now: datetime) -> bool:
    if not baked(rollout, now):
        return False
    if rollout.phase is Phase.SHADOW:  # nobody is answered by the candidate yet
        waits = rollout.next_percent is None  # in the dark, until a person decides
        return not waits and strategy.shown_in_shadow(rollout.plan, verdicts)
    return every_guard_passes(rollout, verdicts)


def every_guard_passes(rollout: Rollout, verdicts: Sequence[Verdict]) -> bool:
    """Each declared guard was measured and passes; without a guard nothing does."""
    declared = set(rollout.plan.guards.names())
    passed = {v.check for v in verdicts if v.passed}
    return bool(declared) and declared <= passed and worst(v.outcome for v in verdicts).rank == 0


def baked(rollout: Rollout, now: datetime) -> bool:
    """Whether the step, or the shadow, has had its least time."""
    if rollout.phase is Phase.SHADOW:
        shadow = rollout.plan.shadow
        return now >= (rollout.since if shadow is None else rollout.since + shadow)
    return now >= rollout.since + rollout.plan.bake


def overdue(rollout: Rollout, now: datetime) -> bool:
    """Past the deadline, the time that was frozen not counted."""
    late = now - rollout.deadline
    return late >= frozen_time(rollout.plan.freeze, rollout.started, now)


def undecided(rollout: Rollout) -> str:
    return f"not decided within {rollout.plan.max_duration}"


def _forward(rollout: Rollout, verdicts: tuple[Verdict, ...]) -> RolloutEvent:
    percent = rollout.next_percent
    if percent is None:
        reason = f"every guard passed at {rollout.percent:.4g} %"
        return Promoted(rollout.id, rollout.candidate, "policy", reason, verdicts)
    if percent in rollout.plan.approve and percent not in rollout.approved:
        return ApprovalAsked(rollout.id, float(percent), verdicts)
    reason = "the shadow phase is over" if rollout.step < 0 else "every guard passed"
    return Stepped(rollout.id, rollout.step + 1, float(percent), reason, verdicts)


def _note(rollout: Rollout, verdicts: tuple[Verdict, ...], now: datetime) -> list[RolloutEvent]:
    if now < rollout.since:  # recorded once: it moves `since` back to now
        return [Judged(rollout.id, verdicts, SET_BACK)]
    if same(rollout.verdicts, verdicts):
        return []
    return [Judged(rollout.id, verdicts, why(verdicts))]


SET_BACK = "the clock was set back: the step bakes anew"


def same(before: Sequence[Verdict], now: Sequence[Verdict]) -> bool:
    """Whether every guard came out as before."""
    return {v.check: v.outcome for v in before} == {v.check: v.outcome for v in now}


def _back(rollout: Rollout, verdicts: tuple[Verdict, ...], reason: str) -> RolloutEvent:
    return RolledBack(rollout.id, rollout.candidate, "policy", reason, verdicts)


def why(verdicts: Sequence[Verdict]) -> str:
    """The sentence of the guard that keeps it from going on."""
    open_ = [v for v in verdicts if not v.passed]
    if open_:
        return max(open_, key=lambda v: v.outcome.rank).sentence
    return "every guard passes" if verdicts else "no guard is declared, only a person can promote"
