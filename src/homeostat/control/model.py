"""What the loop remembers: its events, joined with those of the stages, and their fold.

State is never stored: it is `fold` over the stream. Two controllers that read the same events
hold the same state, and one that dies between any two lines loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

from homeostat.control.tally import Tally
from homeostat.core.events import Event, Recorded, decode
from homeostat.core.names import Stage
from homeostat.core.route import Servable
from homeostat.core.verdict import Verdict
from homeostat.monitoring import model as monitoring
from homeostat.rollout import model as rollout
from homeostat.rollout.model import Rollout
from homeostat.rollout.spec import RolloutSpec

BY_HAND = "by hand"
KEPT_RUNS = 20


class RunStarted(Event, frozen=True, tag="run.started"):
    """A training run was admitted. as_of: nothing known later may enter it.
    trigger: quality, drift_with_harm, schedule, or `by hand` (then a person's process runs it).
    cause: what had most likely changed. changed: since when, for a window that starts there."""

    run: str
    trigger: str
    reason: str
    as_of: datetime
    cause: str = ""
    changed: datetime | None = None


class StageDone(Event, frozen=True, tag="run.stage"):
    """outputs: what the next stages need, as text: snapshot keys, digests, folders, figures."""

    run: str
    stage: Stage
    verdict: Verdict
    outputs: dict[str, str] = msgspec.field(default_factory=dict)


class RunCrashed(Event, frozen=True, tag="run.crashed"):
    """The run's process is gone and the run is not finished."""

    run: str
    attempt: int


class RunFinished(Event, frozen=True, tag="run.finished"):
    """outcome: registered | refused (data or gates said no) | failed (could not be done)."""

    run: str
    outcome: str
    sentence: str
    version: str | None = None


class RetrainingRefused(Event, frozen=True, tag="retraining.refused"):
    """A trigger asked for training and the policy said no, and why. kind: which of its rules.
    since: when the harm that asked began."""

    trigger: str
    reason: str
    kind: str = ""
    since: datetime | None = None

    def again(self, last: RetrainingRefused | None) -> bool:
        """Nothing new beside the last refusal, whatever its figures were."""
        return last is not None and (self.trigger, self.kind, self.since) == (
            last.trigger,
            last.kind,
            last.since,
        )


class ChampionChanged(Event, frozen=True, tag="champion.changed"):
    """servable: where its files are, unless its rollout has told it before.
    by: `policy`, or who returned to an earlier version."""

    version: str
    previous: str | None
    reason: str
    servable: Servable | None = None
    by: str = "policy"


class CandidateDropped(Event, frozen=True, tag="candidate.dropped"):
    """A registered version that will not be rolled out, and why. preflight: what refused it; plan:
    by which. None where it was superseded. by: `policy`, or the person who wanted it tried."""

    version: str
    reason: str
    preflight: Verdict | None = None
    plan: RolloutSpec | None = None
    by: str = "policy"


class VersionRegistered(Event, frozen=True, tag="version.registered"):
    """A person registered a model that was made elsewhere: it waits for `rollout start`."""

    version: str
    by: str
    file: str


ControlEvent = (
    RunStarted
    | StageDone
    | RunCrashed
    | RunFinished
    | RetrainingRefused
    | ChampionChanged
    | CandidateDropped
    | VersionRegistered
)
LoopEvent = ControlEvent | rollout.RolloutEvent | monitoring.MonitorEvent


class Run(msgspec.Struct, frozen=True):
    run: str
    trigger: str
    reason: str
    as_of: datetime
    started: datetime
    stages: dict[Stage, StageDone] = {}
    crashes: int = 0
    finished: datetime | None = None
    outcome: str | None = None
    version: str | None = None
    sentence: str = ""
    cause: str = ""
    changed: datetime | None = None


class State(msgspec.Struct, frozen=True):
    """The loop as the events up to `seq` leave it.

    generation: seq of the last event that changed who answers requests.
    servables: where the files of the versions are that have had traffic, as far as it was told.
    candidates: versions of runs that wait for the loop to roll them out, oldest first.
    registered: versions that a person registered and nobody has rolled out yet, oldest first.
    trained: when retrainings were started by the loop (not by hand), of the last seven days.
    fruitless: retrainings since the last promotion or hand-made run.
    drift_alerts: how often drift set in. window: what the monitors saw last. tally: what has
    happened since the first event, counted.
    """

    seq: int = 0
    generation: int = 0
    champion: str | None = None
    champion_since: datetime | None = None
    champion_reason: str = ""
    lives: tuple[tuple[datetime, str], ...] = ()
    rollout: Rollout | None = None
    servables: dict[str, Servable] = {}
    candidates: tuple[str, ...] = ()
    registered: tuple[str, ...] = ()
    runs: dict[str, Run] = {}
    trained: tuple[datetime, ...] = ()
    fruitless: int = 0
    refusal: RetrainingRefused | None = None
    monitor: monitoring.MonitorState = msgspec.field(default_factory=monitoring.MonitorState)
    drift_alerts: int = 0
    window: monitoring.WindowObserved | None = None
    tally: Tally = msgspec.field(default_factory=Tally)
    first: datetime | None = None

    @property
    def open_run(self) -> Run | None:
        """The run of the loop's own that is not finished."""
        open_runs = [r for r in self.runs.values() if not r.finished and r.trigger != BY_HAND]
        return open_runs[-1] if open_runs else None

    @property
    def live_rollout(self) -> Rollout | None:
        return self.rollout if self.rollout is not None and self.rollout.live else None


def load(records: Iterable[Recorded], state: State | None = None) -> State:
    """Fold recorded events onto a state (the empty one if None)."""
    state = state or State()
    for record in records:
        state = evolve(state, decode(record, LoopEvent), record.at, record.seq)
    return state


def evolve(state: State, event: LoopEvent, at: datetime, seq: int) -> State:
    state = msgspec.structs.replace(state, seq=seq, first=state.first or at)
    match event:
        case RunStarted() | StageDone() | RunCrashed() | RunFinished() | RetrainingRefused():
            return _evolve_training(state, event, at)
        case ChampionChanged():
            return msgspec.structs.replace(
                state,
                champion=event.version,
                champion_since=at,
                champion_reason=event.reason,
                lives=(*state.lives, (at, event.version)),
                servables=_known(state, event.servable),
                candidates=_without(state.candidates, event.version),
                registered=_without(state.registered, event.version),
                fruitless=0,
                generation=seq,
            )
        case CandidateDropped():
            return msgspec.structs.replace(
                state,
                candidates=_without(state.candidates, event.version),
                registered=_without(state.registered, event.version),
            )
        case VersionRegistered():
            waiting = (*_without(state.registered, event.version), event.version)
            return msgspec.structs.replace(state, registered=waiting)
        case _ if isinstance(event, rollout.RolloutEvent):
            return _evolve_rollout(state, event, at, seq)
        case _:
            return _evolve_monitor(state, event, at)


def _evolve_training(
    state: State,
    event: RunStarted | StageDone | RunCrashed | RunFinished | RetrainingRefused,
    at: datetime,
) -> State:
    replace = msgspec.structs.replace
    if isinstance(event, RetrainingRefused):
        tally = state.tally.one_more("refusals", event.trigger)
        return replace(state, refusal=event, tally=tally)
    if isinstance(event, RunStarted):
        started = Run(
            event.run,
            event.trigger,
            event.reason,
            event.as_of,
            at,
            cause=event.cause,
            changed=event.changed,
        )
        by_hand = event.trigger == BY_HAND
        week = tuple(t for t in state.trained if t > at - timedelta(days=7))
        return replace(
            state,
            runs=_keep({**state.runs, event.run: started}),
            trained=week if by_hand else (*week, at),
            fruitless=0 if by_hand else state.fruitless + 1,
            refusal=None,
            tally=state.tally if by_hand else state.tally.one_more("runs", event.trigger),
        )
    run = state.runs.get(event.run)
    if run is None or run.finished:
        return state
    match event:
        case StageDone():
            run = replace(run, stages={**run.stages, event.stage: event})
        case RunCrashed():
            run = replace(run, crashes=event.attempt)
        case RunFinished():
            run = replace(
                run,
                finished=at,
                outcome=event.outcome,
                version=event.version,
                sentence=event.sentence,
            )
            state = replace(state, tally=state.tally.one_more("results", event.outcome))
    state = replace(state, runs={**state.runs, run.run: run})
    tried = state.rollout.candidates if state.rollout else ()
    # a person may have rolled it out before its run could record that it is registered
    if run.version is not None and run.version not in (state.champion, *tried):
        waiting = (*_without(state.candidates, run.version), run.version)
        state = replace(state, candidates=waiting)
    return state


def _evolve_rollout(state: State, event: rollout.RolloutEvent, at: datetime, seq: int) -> State:
    before = state.rollout
    after = rollout.evolve(before, event, at)
    if after is None:
        return state
    tally = state.tally
    if before is not None and before.live and not after.live:
        tally = tally.one_more("rollouts", after.phase)
    moved = before is None or _traffic(before) != _traffic(after)
    told = event.servables if isinstance(event, rollout.Started) else ()
    return msgspec.structs.replace(
        state,
        rollout=after,
        servables=_known(state, *told),
        candidates=_without(state.candidates, *after.candidates),
        registered=_without(state.registered, *after.candidates),
        generation=seq if moved else state.generation,
        tally=tally,
    )


def _evolve_monitor(state: State, event: monitoring.MonitorEvent, at: datetime) -> State:
    monitor = monitoring.evolve(state.monitor, event, at)
    drifts, window, tally = state.drift_alerts, state.window, state.tally
    if monitor.drift_since and not state.monitor.drift_since:
        drifts += 1
    if len(monitor.open_alerts) > len(state.monitor.open_alerts):
        tally = tally.one_more("alerts", monitor.open_alerts[-1].kind)
    if isinstance(event, monitoring.WindowObserved) and monitor is not state.monitor:
        window, tally = event, tally.spend(event)
    return msgspec.structs.replace(
        state, monitor=monitor, drift_alerts=drifts, window=window, tally=tally
    )


def _traffic(found: Rollout) -> tuple[object, ...]:
    """What of a rollout decides who answers and who scores."""
    return found.id, found.phase, found.percent, len(found.active)


def _known(state: State, *told: Servable | None) -> dict[str, Servable]:
    new = {s.version: s for s in told if s is not None}
    return {**state.servables, **new} if new else state.servables


def _without(versions: tuple[str, ...], *gone: str) -> tuple[str, ...]:
    return tuple(v for v in versions if v not in gone)


def _keep(runs: dict[str, Run]) -> dict[str, Run]:
    """Bounded memory: the events keep the rest."""
    return dict(list(runs.items())[-KEPT_RUNS:])
