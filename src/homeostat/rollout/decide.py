"""The decision about a rollout: pure, one step at most, and never upwards without evidence."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from homeostat.core.verdict import Outcome, Verdict, worst
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


def decide(
    rollout: Rollout | None, verdicts: Sequence[Verdict], now: datetime
) -> list[RolloutEvent]:
    """What happens next, as events to record; [] to hold.

    verdicts: one per declared guard, from `evidence.measure`. In this order:
    harm shown -> rolled back, in every live phase and whatever the bake; past the deadline ->
    rolled back (not while paused); nothing measured after a bake and `no_data: abort` -> rolled
    back; baked and every guard passes -> the next step, or promoted after the last. Everything
    else holds; a hold is recorded when a guard came out differently than last recorded.
    """
    if rollout is None or not rollout.live:
        return []
    verdicts = tuple(verdicts)
    if failed := [v for v in verdicts if v.failed]:
        return [_back(rollout, verdicts, failed[0].sentence)]
    if rollout.phase is Phase.PAUSED:
        return _note(rollout, verdicts, now)
    if rollout.next_percent is None and _may_move(rollout, verdicts, now):
        return [_forward(rollout, verdicts)]  # decided, if late: the clock may have jumped
    if now >= rollout.deadline:
        limit = rollout.plan.max_duration
        return [_back(rollout, verdicts, f"not decided within {limit}: {_why(verdicts)}")]
    if rollout.phase is Phase.STEP and _baked(rollout, now):
        unmeasured = [v for v in verdicts if not v.n]
        if unmeasured and rollout.plan.no_data == "abort":
            return [_back(rollout, verdicts, f"nothing measured: {unmeasured[0].sentence}")]
    if rollout.phase in (Phase.SHADOW, Phase.STEP) and _may_move(rollout, verdicts, now):
        return [_forward(rollout, verdicts)]
    return _note(rollout, verdicts, now)


def _may_move(rollout: Rollout, verdicts: tuple[Verdict, ...], now: datetime) -> bool:
    if not _baked(rollout, now):
        return False
    if rollout.phase is Phase.SHADOW:  # nobody is answered by the candidate yet
        return all(v.outcome is not Outcome.ERROR for v in verdicts)
    declared = set(rollout.plan.guards.names())
    passed = {v.check for v in verdicts if v.passed}
    return bool(declared) and declared <= passed and worst(v.outcome for v in verdicts).rank == 0


def _forward(rollout: Rollout, verdicts: tuple[Verdict, ...]) -> RolloutEvent:
    percent = rollout.next_percent
    if percent is None:
        reason = f"every guard passed at {rollout.percent:g} %"
        return Promoted(rollout.id, rollout.candidate, "policy", reason, verdicts)
    if percent in rollout.plan.approve and percent not in rollout.approved:
        return ApprovalAsked(rollout.id, float(percent), verdicts)
    reason = "the shadow phase is over" if rollout.step < 0 else "every guard passed"
    return Stepped(rollout.id, rollout.step + 1, float(percent), reason, verdicts)


def _baked(rollout: Rollout, now: datetime) -> bool:
    if rollout.phase is Phase.SHADOW:
        shadow = rollout.plan.shadow
        return now >= (rollout.since if shadow is None else rollout.since + shadow)
    return now >= rollout.since + rollout.plan.bake


def _note(rollout: Rollout, verdicts: tuple[Verdict, ...], now: datetime) -> list[RolloutEvent]:
    if now < rollout.since:  # recorded once: it moves `since` back to now
        return [Judged(rollout.id, verdicts, "the clock was set back: the step bakes anew")]
    before = {v.check: v.outcome for v in rollout.verdicts}
    if {v.check: v.outcome for v in verdicts} == before:
        return []
    return [Judged(rollout.id, verdicts, _why(verdicts))]


def _back(rollout: Rollout, verdicts: tuple[Verdict, ...], reason: str) -> RolloutEvent:
    return RolledBack(rollout.id, rollout.candidate, "policy", reason, verdicts)


def _why(verdicts: tuple[Verdict, ...]) -> str:
    """The sentence of the guard that keeps it from going on."""
    open_ = [v for v in verdicts if not v.passed]
    if open_:
        return max(open_, key=lambda v: v.outcome.rank).sentence
    return "every guard passes" if verdicts else "no guard is declared, only a person can promote"
