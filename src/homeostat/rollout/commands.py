"""What people ask of a rollout. Each command gives the events to record, or refuses in a line."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from homeostat.core.errors import BadInput, Refused
from homeostat.core.route import Servable
from homeostat.core.verdict import Verdict
from homeostat.rollout import strategy
from homeostat.rollout.experiment import WINNER
from homeostat.rollout.freeze import frozen_until
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

START = "begin one: homeostat rollout start VERSION"


def start(
    current: Rollout | None,
    *,
    id: str,
    candidate: str,
    champion: str,
    plan: RolloutSpec,
    by: str = "policy",
    now: datetime | None = None,
    candidates: Sequence[str] = (),
    servables: Sequence[Servable] = (),
    preflight: Verdict | None = None,
) -> list[RolloutEvent]:
    """Begin a rollout. candidates: the challengers of an experiment, where there are several.
    now: for the plan's freezes, which None leaves out of account. preflight: whether it is
    expected to decide in time.

    In a freeze it begins in the shadow, and takes its first step when the freeze is over. Raises
    as `startable`.
    """
    several = tuple(dict.fromkeys(candidates)) or (candidate,)
    startable(current, champion, several, plan)
    kept = several if len(several) > 1 else ()
    events: list[RolloutEvent] = [
        Started(id, several[0], champion, plan, by, kept, tuple(servables), preflight)
    ]
    (first, *_) = strategy.steps(plan, len(several)) or (0.0,)
    waits = strategy.begins_in_shadow(plan) or first in plan.approve
    if not waits and (now is None or frozen_until(plan.freeze, now) is None):
        events.append(Stepped(id, 0, float(first), "the first step"))
    return events


def startable(
    current: Rollout | None, champion: str, candidates: Sequence[str], plan: RolloutSpec
) -> None:
    """Raises Refused while another rollout lives or where the champion is to be tried, BadInput
    for an unusable plan."""
    if current is not None and current.live:
        tried = ", ".join(current.candidates)
        raise Refused(
            f"{current.id} of version {tried} is under way ({_phase(current)})",
            remedy="wait for it to end, or end it: homeostat rollout abort",
        )
    if champion in candidates:
        raise Refused(f"version {champion} is the champion already")
    _usable(plan, candidates)


def _phase(rollout: Rollout) -> str:
    return rollout.phase.value.replace("_", " ")


def _usable(plan: RolloutSpec, candidates: Sequence[str]) -> None:
    steps = plan.steps
    if list(steps) != sorted(set(steps)) or steps[-1] != 100:
        raise BadInput(
            "the steps of a rollout must ascend and end at 100",
            path="$.rollout.steps",
            found=str(list(steps)),
        )
    if len(candidates) > 1 and plan.strategy != "experiment":
        raise Refused(
            f"a {plan.strategy} rollout tries one version at a time",
            found=f"versions {', '.join(candidates)}",
            remedy="write `strategy: experiment` in `rollout`, or name one version",
        )


def pause(rollout: Rollout | None, *, by: str, reason: str = "") -> list[RolloutEvent]:
    """Hold the traffic where it is. A guard that fails still rolls back."""
    found = _live(rollout, "pause")
    if found.phase is Phase.PAUSED:
        raise Refused(
            f"{found.id} is paused already", remedy="go on with: homeostat rollout resume"
        )
    return [Paused(found.id, by, reason)]


def resume(rollout: Rollout | None, *, by: str) -> list[RolloutEvent]:
    """Go on from where it was paused; the step bakes anew."""
    found = _live(rollout, "resume")
    if found.phase is not Phase.PAUSED:
        raise Refused(f"{found.id} is not paused", found=f"phase {_phase(found)}")
    return [Resumed(found.id, by)]


def approve(rollout: Rollout | None, *, by: str) -> list[RolloutEvent]:
    """Say yes to the step that waits. The next tick takes it if the evidence still holds."""
    found = _live(rollout, "approve")
    percent = WINNER if found.trials and found.step >= 0 else found.next_percent
    if found.phase is not Phase.WAITING_APPROVAL or percent is None:
        raise Refused(f"{found.id} is not waiting for an approval", found=f"phase {_phase(found)}")
    return [Approved(found.id, float(percent), by)]


def promote(
    rollout: Rollout | None,
    *,
    by: str,
    now: datetime | None = None,
    reason: str = "",
    version: str | None = None,
    anyway: bool = False,
) -> list[RolloutEvent]:
    """Make the candidate the champion now, whatever the evidence; it is recorded who did.

    version: which one, of an experiment's challengers. In a freeze (at `now`) only with `anyway`.
    """
    found = _live(rollout, "promote")
    freeze = None if now is None or anyway else frozen_until(found.plan.freeze, now)
    if freeze is not None:
        until, window = freeze
        raise Refused(
            f"nothing advances until {until:%F %R} UTC"
            + (f" ({window.why})" if window.why else ""),
            found=f"the freeze from {window.start} to {window.to} {window.zone}",
            remedy="wait, or promote --anyway; an abort is always possible",
        )
    why = reason or f"promoted by {by} at {found.percent:.4g} %"
    chosen = version or found.candidate
    if chosen not in found.candidates or (found.trials and version is None):
        raise Refused(
            f"{found.id} tries version {', '.join(found.candidates)}",
            found=version and f"version {version}",
            remedy="name one of them: homeostat rollout promote VERSION",
        )
    verdicts = next((t.verdicts for t in found.trials if t.version == chosen), found.verdicts)
    return [Promoted(found.id, chosen, by, why, verdicts)]


def abort(rollout: Rollout | None, *, by: str, reason: str = "") -> list[RolloutEvent]:
    """Return all traffic to the champion. Possible in every phase but the final ones."""
    found = _live(rollout, "abort")
    why = reason or f"aborted by {by} at {found.percent:.4g} %"
    return [RolledBack(found.id, found.candidate, by, why, found.verdicts)]


def _live(rollout: Rollout | None, verb: str) -> Rollout:
    if rollout is None:
        raise Refused(f"there was no rollout yet, there is nothing to {verb}", remedy=START)
    if not rollout.live:
        raise Refused(
            f"{rollout.id} is over ({_phase(rollout)}), there is nothing to {verb}", remedy=START
        )
    return rollout
