"""The loop at a glance: who serves, what is under way, what is wrong, what happens next."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from homeostat.control import policy
from homeostat.control.books import Books
from homeostat.control.model import BY_HAND, Run, State, load
from homeostat.control.readiness import way_back
from homeostat.control.route import weights
from homeostat.core.names import Stage
from homeostat.core.verdict import Verdict
from homeostat.monitoring.alerts.decide import cause, changed_at, drifted, silence
from homeostat.monitoring.calibration.certificate import Calibrated
from homeostat.monitoring.model import Alert, MonitorState, Moved, Silenced
from homeostat.monitoring.quality.estimate.model import Estimated
from homeostat.rollout.freeze import frozen_until
from homeostat.rollout.model import Phase, Rollout
from homeostat.rollout.spec import RolloutSpec


class Champion(msgspec.Struct, frozen=True):
    """reason: how it became the champion."""

    version: str
    since: datetime
    metrics: dict[str, float]
    reason: str = ""


class Serving(msgspec.Struct, frozen=True):
    """applied: every worker serves the published split. traffic: percent per version."""

    workers: int
    applied: bool
    traffic: dict[str, float]
    failures: dict[str, str]


class ChallengerView(msgspec.Struct, frozen=True):
    """retired: why it is out of the experiment; None while it is in it."""

    version: str
    retired: str | None
    guards: tuple[Verdict, ...]


class RolloutView(msgspec.Struct, frozen=True):
    """frozen: until when nothing advances, and why; None: it may. edited: the plan in the file is
    another one than this rollout was started with. challengers: of an experiment. ended, by: when
    it was over, and by whom (policy, or a person)."""

    id: str
    candidate: str
    champion: str
    phase: Phase
    percent: float
    steps: tuple[float, ...]
    since: datetime
    wake_at: datetime | None
    reason: str
    guards: tuple[Verdict, ...]
    strategy: str = "canary"
    frozen: str | None = None
    edited: bool = False
    challengers: tuple[ChallengerView, ...] = ()
    ended: datetime | None = None
    by: str = ""


class RunView(msgspec.Struct, frozen=True):
    """stage: the last that was done. goes_on: the command that continues it, where it was begun by
    a person and has not ended; its process may be at work still, or may be gone."""

    run: str
    trigger: str
    reason: str
    started: datetime
    stage: str
    outcome: str
    sentence: str
    goes_on: str | None = None


class Retraining(msgspec.Struct, frozen=True):
    """wanted: the trigger that holds now. refused: why it is not followed. cause: what has most
    likely changed, whether it costs something or not; changed: since when, where that is clear.
    window: what a run would train on (sliding, expanding, since_change)."""

    used_this_week: int
    per_week: int
    fruitless: int
    wanted: str | None
    refused: str | None
    cause: str | None = None
    changed: datetime | None = None
    window: str = "sliding"


class AlertView(msgspec.Struct, frozen=True):
    """silenced: until when nobody is told of it; None: people are told."""

    kind: str
    severity: str
    since: datetime
    sentence: str
    incident: str = ""
    title: str = ""
    silenced: datetime | None = None


class Status(msgspec.Struct, frozen=True):
    """Everything `homeostat status` shows. next: what a person may do now. estimate: what quality
    may be, without labels: no measurement, and no verdict. waiting: versions that the loop will
    roll out; registered: those that wait for a person to do it. silences: that hold now.
    certificate: how far the champion's monitors can be trusted, where that was measured. moved:
    the features that have moved, the costliest first where they are found to cost something."""

    model: str
    at: datetime
    champion: Champion | None
    serving: Serving
    rollout: RolloutView | None
    run: RunView | None
    waiting: tuple[str, ...]
    monitors: tuple[Verdict, ...]
    watched_until: datetime | None
    alerts: tuple[AlertView, ...]
    retraining: Retraining
    next: str
    estimate: Estimated | None = None
    silences: tuple[Silenced, ...] = ()
    certificate: Calibrated | None = None
    moved: tuple[Moved, ...] = ()
    registered: tuple[str, ...] = ()


def status(books: Books, state: State | None = None) -> Status:
    """state: one that is known, such as a command left it; None reads how things stand now."""
    state = state or load(books.events.read(books.stream))
    now = books.clock.now()
    monitor, serving = state.monitor, _serving(books, state)
    return Status(
        model=books.stream,
        at=now,
        champion=_champion(books, state),
        serving=serving,
        rollout=_rollout(state.rollout, books.project.rollout, now),
        run=_run(list(state.runs.values())[-1]) if state.runs else None,
        waiting=state.candidates,
        monitors=monitor.verdicts,
        watched_until=monitor.last_end,
        alerts=tuple(
            AlertView(
                a.kind,
                a.severity,
                a.since,
                a.sentence,
                a.incident,
                a.title,
                _silent(monitor, a, now),
            )
            for a in monitor.open_alerts
        ),
        retraining=_retraining(books, state, now),
        next=_next(state, serving),
        estimate=monitor.estimate,
        silences=tuple(s for s in monitor.silences.values() if s.until > now),
        certificate=monitor.certificate_of(state.champion),
        moved=tuple(m for m in monitor.moved if m.drifted) if drifted(monitor) else (),
        registered=state.registered,
    )


def _silent(monitor: MonitorState, alert: Alert, now: datetime) -> datetime | None:
    found = silence(monitor, alert.kind, now)
    return None if found is None else found.until


def _champion(books: Books, state: State) -> Champion | None:
    if state.champion is None or state.champion_since is None:
        return None
    made = [r for r in state.runs.values() if r.version == state.champion]
    if made and Stage.EVALUATE in made[-1].stages:  # the registry is slow to open
        text = made[-1].stages[Stage.EVALUATE].outputs["metrics"]
        metrics = msgspec.json.decode(text, type=dict[str, float])
    else:
        metrics = books.registry.get(books.stream, state.champion).metrics
    return Champion(state.champion, state.champion_since, metrics, state.champion_reason)


def _serving(books: Books, state: State) -> Serving:
    seen = books.plane.observed(books.stream)
    return Serving(
        workers=seen.workers,
        applied=seen.workers > 0 and seen.generation == state.generation,
        traffic=weights(state),
        failures=seen.failures,
    )


def _rollout(rollout: Rollout | None, declared: RolloutSpec, now: datetime) -> RolloutView | None:
    if rollout is None:
        return None
    return RolloutView(
        rollout.id,
        rollout.candidate,
        rollout.champion,
        rollout.phase,
        rollout.percent,
        rollout.steps,
        rollout.since,
        rollout.wake_at,
        rollout.reason,
        rollout.verdicts,
        rollout.plan.strategy,
        _frozen(rollout, now),
        rollout.live and rollout.plan != declared,
        tuple(ChallengerView(t.version, t.retired, t.verdicts) for t in rollout.trials),
        rollout.ended,
        rollout.by,
    )


def _frozen(rollout: Rollout, now: datetime) -> str | None:
    freeze = frozen_until(rollout.plan.freeze, now) if rollout.live else None
    if freeze is None:
        return None
    until, window = freeze
    why = f" ({window.why})" if window.why else ""
    return f"nothing advances until {until:%F %R} UTC{why}; harm still rolls back"


def _run(run: Run) -> RunView:
    stage = str(list(run.stages)[-1]) if run.stages else "not begun"
    outcome = run.outcome or "under way"
    open_by_hand = run.trigger == BY_HAND and not run.finished
    goes_on = f"homeostat run --run {run.run}" if open_by_hand else None
    return RunView(
        run.run, run.trigger, run.reason, run.started, stage, outcome, run.sentence, goes_on
    )


def _retraining(books: Books, state: State, now: datetime) -> Retraining:
    wanted = policy.trigger(state, books.project, now)
    refused = policy.busy(state)
    if wanted is None:
        refused = None
    elif refused is None:
        refusal = policy.admission(state, books.project, now, wanted)
        refused = None if refusal is None else refusal.reason
    found = cause(state.monitor)
    return Retraining(
        used_this_week=sum(t > now - timedelta(days=7) for t in state.trained),
        per_week=books.project.retraining.per_week,
        fruitless=state.fruitless,
        wanted=None if wanted is None else f"{wanted.name}: {wanted.reason}",
        refused=refused,
        cause=None if found is None else found.sentence,
        changed=None if found is None else changed_at(state.monitor),
        window=books.project.retraining.window,
    )


def _next(state: State, serving: Serving) -> str:
    rollout = state.live_rollout
    if state.champion is None:
        if state.candidates and not serving.workers:
            return "homeostat up"
        waiting = (*state.registered, *state.candidates)
        return f"homeostat rollout start {waiting[-1]}" if waiting else "homeostat run"
    if state.champion in serving.failures:
        return way_back(state, serving.failures)
    if rollout is not None and rollout.phase is Phase.WAITING_APPROVAL:
        return "homeostat rollout approve   (or: homeostat rollout abort)"
    if rollout is not None and rollout.phase is Phase.PAUSED:
        return "homeostat rollout resume   (or: homeostat rollout abort)"
    if rollout is not None and rollout.plan.strategy == "dark":
        return "homeostat rollout explain   (then: homeostat rollout promote, or abort)"
    if rollout is not None:
        return "homeostat rollout status"
    if not serving.workers:
        return "homeostat up"
    if state.candidates:
        return "homeostat rollout status"
    if state.registered:
        return f"homeostat rollout start {state.registered[-1]}"
    return "homeostat history"
