"""What people ask of a rollout. Each command gives the events to record, or refuses in a line."""

from __future__ import annotations

from homeostat.core.errors import BadInput, Refused
from homeostat.rollout.model import (
    Approved,
    Paused,
    Phase,
    Promoted,
    Resumed,
    RolledBack,
    Rollout,
    RolloutEvent,
    Started,
    Stepped,
)
from homeostat.rollout.spec import RolloutSpec


def start(
    current: Rollout | None,
    *,
    id: str,
    candidate: str,
    champion: str,
    plan: RolloutSpec,
    by: str = "policy",
) -> list[RolloutEvent]:
    """Begin a rollout. Raises Refused while another one lives, BadInput for an unusable plan."""
    if current is not None and current.live:
        raise Refused(
            f"rollout {current.id} of version {current.candidate} is {current.phase.value}",
            remedy="wait for it to end, or abort it",
        )
    if candidate == champion:
        raise Refused(f"version {candidate} is the champion already")
    steps = plan.steps
    if list(steps) != sorted(set(steps)) or steps[-1] != 100:
        raise BadInput(
            "the steps of a rollout must ascend and end at 100",
            path="$.rollout.steps",
            found=str(list(steps)),
        )
    events: list[RolloutEvent] = [Started(id, candidate, champion, plan, by)]
    if plan.shadow is None and steps[0] not in plan.approve:
        events.append(Stepped(id, 0, float(steps[0]), "the first step"))
    return events


def pause(rollout: Rollout | None, *, by: str, reason: str = "") -> list[RolloutEvent]:
    """Hold the traffic where it is. A guard that fails still rolls back."""
    found = _live(rollout, "pause")
    if found.phase is Phase.PAUSED:
        raise Refused(f"rollout {found.id} is paused already")
    return [Paused(found.id, by, reason)]


def resume(rollout: Rollout | None, *, by: str) -> list[RolloutEvent]:
    """Go on from where it was paused; the step bakes anew."""
    found = _live(rollout, "resume")
    if found.phase is not Phase.PAUSED:
        raise Refused(f"rollout {found.id} is not paused", found=found.phase.value)
    return [Resumed(found.id, by)]


def approve(rollout: Rollout | None, *, by: str) -> list[RolloutEvent]:
    """Say yes to the step that waits. The next tick takes it if the evidence still holds."""
    found = _live(rollout, "approve")
    percent = found.next_percent
    if found.phase is not Phase.WAITING_APPROVAL or percent is None:
        raise Refused(f"rollout {found.id} is not waiting for an approval", found=found.phase.value)
    return [Approved(found.id, float(percent), by)]


def promote(rollout: Rollout | None, *, by: str, reason: str = "") -> list[RolloutEvent]:
    """Make the candidate the champion now, whatever the evidence; it is recorded who did."""
    found = _live(rollout, "promote")
    why = reason or f"promoted by {by} at {found.percent:g} %"
    return [Promoted(found.id, found.candidate, by, why, found.verdicts)]


def abort(rollout: Rollout | None, *, by: str, reason: str = "") -> list[RolloutEvent]:
    """Return all traffic to the champion. Possible in every phase but the final ones."""
    found = _live(rollout, "abort")
    why = reason or f"aborted by {by} at {found.percent:g} %"
    return [RolledBack(found.id, found.candidate, by, why, found.verdicts)]


def _live(rollout: Rollout | None, verb: str) -> Rollout:
    if rollout is None:
        raise Refused(f"there is no rollout to {verb}", remedy="start one: homeostat rollout start")
    if not rollout.live:
        raise Refused(
            f"rollout {rollout.id} is over ({rollout.phase.value}), there is nothing to {verb}"
        )
    return rollout
