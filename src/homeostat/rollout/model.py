"""What is remembered of a rollout: its events, and the state that is folded from them.

`evolve` is total: an event that does not belong (of another rollout, or after the end) leaves
the state as it is, so that a history can always be read, whoever wrote it.
"""

from __future__ import annotations

import enum
from datetime import datetime, timedelta

import msgspec

from homeostat.core.events import Event
from homeostat.core.route import Servable, places
from homeostat.core.verdict import Verdict
from homeostat.rollout import strategy
from homeostat.rollout.freeze import frozen_time
from homeostat.rollout.spec import RolloutSpec


class Phase(enum.StrEnum):
    """Where a rollout stands. The last two are final."""

    SHADOW = "shadow"
    STEP = "step"
    WAITING_APPROVAL = "waiting_approval"
    PAUSED = "paused"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"


class Started(Event, frozen=True, tag="rollout.started"):
    """candidate and champion are versions; plan is frozen: later edits do not reach it.

    candidates: all of them, where there are several. servables: where the files of all versions
    are, so that traffic can be moved while the registry does not answer. preflight: whether it
    was expected to decide in time.
    """

    rollout: str
    candidate: str
    champion: str
    plan: RolloutSpec
    by: str = "policy"
    candidates: tuple[str, ...] = ()
    servables: tuple[Servable, ...] = ()
    preflight: Verdict | None = None


class Stepped(Event, frozen=True, tag="rollout.stepped"):
    """step: index into the plan's steps. verdicts: the evidence that paid for it."""

    rollout: str
    step: int
    percent: float
    reason: str
    verdicts: tuple[Verdict, ...] = ()


class Judged(Event, frozen=True, tag="rollout.judged"):
    """A guard came out differently than when it was last recorded; nothing moves.
    candidate: whose guards, in an experiment."""

    rollout: str
    verdicts: tuple[Verdict, ...]
    reason: str
    candidate: str = ""


class Retired(Event, frozen=True, tag="rollout.retired"):
    """One challenger of an experiment is out; its traffic returns to the champion."""

    rollout: str
    candidate: str
    reason: str
    verdicts: tuple[Verdict, ...] = ()


class Paused(Event, frozen=True, tag="rollout.paused"):
    rollout: str
    by: str
    reason: str = ""


class Resumed(Event, frozen=True, tag="rollout.resumed"):
    rollout: str
    by: str


class ApprovalAsked(Event, frozen=True, tag="rollout.approval_asked"):
    """percent: the step that waits for a person's yes. candidate: who would win by it, in an
    experiment."""

    rollout: str
    percent: float
    verdicts: tuple[Verdict, ...] = ()
    candidate: str = ""


class Approved(Event, frozen=True, tag="rollout.approved"):
    rollout: str
    percent: float
    by: str


class Promoted(Event, frozen=True, tag="rollout.promoted"):
    """by: `policy` (then every verdict passed), or the person who decided without waiting."""

    rollout: str
    candidate: str
    by: str
    reason: str
    verdicts: tuple[Verdict, ...] = ()


class RolledBack(Event, frozen=True, tag="rollout.rolled_back"):
    """All traffic returns to the champion at once."""

    rollout: str
    candidate: str
    by: str
    reason: str
    verdicts: tuple[Verdict, ...] = ()


RolloutEvent = (
    Started
    | Stepped
    | Judged
    | Retired
    | Paused
    | Resumed
    | ApprovalAsked
    | Approved
    | Promoted
    | RolledBack
)
UNION = RolloutEvent


class Trial(msgspec.Struct, frozen=True):
    """A challenger of an experiment. at: where its keys begin. retired: why it is out, and None
    while it is not."""

    version: str
    at: float
    verdicts: tuple[Verdict, ...] = ()
    retired: str | None = None


class Rollout(msgspec.Struct, frozen=True):
    """The state of the latest rollout of a model.

    step: index of the step that is served (-1 before the first). percent: the candidate's share.
    since: when the step, or the bake after a resume, began. started: from when on requests count
    as evidence. deadline: undecided by then, it is rolled back (moved on by the time paused, of
    which what was frozen counts once).
    verdicts: the last that were recorded. approved: the steps (percent) a person said yes to.
    resumes_to, paused_at: for a paused rollout. reason, by, ended: for one that is over.
    trials: the challengers of an experiment; percent is then what each of them has.
    asked: the one of them that a person was asked about last. approver: who said yes last.
    """

    id: str
    candidate: str
    champion: str
    plan: RolloutSpec
    phase: Phase
    step: int
    percent: float
    since: datetime
    started: datetime
    deadline: datetime
    verdicts: tuple[Verdict, ...] = ()
    approved: tuple[float, ...] = ()
    resumes_to: Phase | None = None
    paused_at: datetime | None = None
    reason: str = ""
    by: str = "policy"
    ended: datetime | None = None
    trials: tuple[Trial, ...] = ()
    asked: str = ""
    approver: str = ""

    @property
    def live(self) -> bool:
        return self.phase not in (Phase.PROMOTED, Phase.ROLLED_BACK)

    @property
    def next_percent(self) -> float | None:
        """The percent of the step after this one; None at the last."""
        return self.steps[self.step + 1] if self.step + 1 < len(self.steps) else None

    @property
    def steps(self) -> tuple[float, ...]:
        return strategy.steps(self.plan, max(len(self.trials), 1))

    @property
    def candidates(self) -> tuple[str, ...]:
        """Everything that is tried, the retired included."""
        return tuple(t.version for t in self.trials) or (self.candidate,)

    @property
    def active(self) -> tuple[Trial, ...]:
        """The challengers of an experiment that are still in it."""
        return tuple(t for t in self.trials if t.retired is None)

    @property
    def wake_at(self) -> datetime | None:
        """When it has to be looked at again even if nothing happens; None when it is over."""
        match self.phase:
            case Phase.SHADOW if self.plan.shadow is not None and self.steps:
                return min(self.since + self.plan.shadow, self.deadline)
            case Phase.SHADOW if self.plan.strategy == "dark":
                return self.deadline
            case Phase.SHADOW:
                return self.since
            case Phase.STEP:
                return min(self.since + self.plan.bake, self.deadline)
            case Phase.WAITING_APPROVAL | Phase.PAUSED:
                return self.deadline
            case _:
                return None


def evolve(state: Rollout | None, event: RolloutEvent, at: datetime) -> Rollout | None:
    """The state after `event`, recorded at `at` (aware UTC)."""
    if isinstance(event, Started):
        return state if state is not None and state.live else _begin(event, at)
    if state is None or not state.live or event.rollout != state.id:
        return state
    state = _not_later_than(state, at)
    replace = msgspec.structs.replace
    match event:
        case Stepped():
            return replace(
                state,
                phase=Phase.STEP,
                step=event.step,
                percent=event.percent,
                since=at,
                verdicts=event.verdicts or state.verdicts,
            )
        case Judged() if event.candidate:
            return _on_trial(state, event.candidate, verdicts=event.verdicts)
        case Judged():
            return replace(state, verdicts=event.verdicts)
        case Retired():
            kept = {"verdicts": event.verdicts} if event.verdicts else {}
            return _on_trial(state, event.candidate, retired=event.reason, **kept)
        case Paused():
            if state.phase is Phase.PAUSED:
                return state
            return replace(state, phase=Phase.PAUSED, resumes_to=state.phase, paused_at=at)
        case Resumed():
            return _resume(state, at)
        case ApprovalAsked():
            return replace(
                state,
                phase=Phase.WAITING_APPROVAL,
                verdicts=event.verdicts or state.verdicts,
                asked=event.candidate,
            )
        case Approved():
            back = Phase.SHADOW if state.step < 0 else Phase.STEP
            phase = back if state.phase is Phase.WAITING_APPROVAL else state.phase
            approved = (*state.approved, event.percent)
            return replace(state, phase=phase, approved=approved, approver=event.by)
        case Promoted() | RolledBack():
            promoted = isinstance(event, Promoted)
            return replace(
                state,
                candidate=event.candidate if promoted else state.candidate,
                phase=Phase.PROMOTED if promoted else Phase.ROLLED_BACK,
                percent=100.0 if promoted else 0.0,
                verdicts=event.verdicts or state.verdicts,
                reason=event.reason,
                by=event.by,
                ended=at,
                resumes_to=None,
                paused_at=None,
            )


def _begin(event: Started, at: datetime) -> Rollout:
    return Rollout(
        id=event.rollout,
        candidate=event.candidate,
        champion=event.champion,
        plan=event.plan,
        phase=Phase.SHADOW,
        step=-1,
        percent=0.0,
        since=at,
        started=at,
        deadline=at + event.plan.max_duration,
        by=event.by,
        trials=_trials(event),
    )


def _trials(event: Started) -> tuple[Trial, ...]:
    if event.plan.strategy != "experiment":
        return ()
    versions = event.candidates or (event.candidate,)
    return tuple(Trial(v, at) for v, at in zip(versions, places(len(versions)), strict=True))


def _on_trial(state: Rollout, version: str, **changes: object) -> Rollout:
    trials = tuple(
        msgspec.structs.replace(t, **changes) if t.version == version else t for t in state.trials
    )
    return msgspec.structs.replace(state, trials=trials)


def _resume(state: Rollout, at: datetime) -> Rollout:
    if state.phase is not Phase.PAUSED or state.paused_at is None:
        return state
    # what was frozen meanwhile does not count anyway (`decide.overdue`)
    frozen = frozen_time(state.plan.freeze, state.paused_at, at)
    return msgspec.structs.replace(
        state,
        phase=state.resumes_to or Phase.STEP,
        since=at,
        deadline=state.deadline + max(at - state.paused_at - frozen, timedelta(0)),
        resumes_to=None,
        paused_at=None,
    )


def _not_later_than(state: Rollout, at: datetime) -> Rollout:
    """A clock that was ahead and has been set back must not leave a step that bakes for years."""
    if at >= state.since:
        return state
    return msgspec.structs.replace(
        state,
        since=at,
        started=min(state.started, at),
        deadline=min(state.deadline, at + state.plan.max_duration),
        paused_at=None if state.paused_at is None else min(state.paused_at, at),
    )
