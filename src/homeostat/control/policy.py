"""When the loop trains again, and what becomes of the result. Pure: state, clock -> decision.

Retraining is admitted, not just triggered: a trigger says why, admission says whether.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from homeostat.control.model import (
    CandidateDropped,
    ChampionChanged,
    LoopEvent,
    RetrainingRefused,
    RunCrashed,
    RunFinished,
    RunStarted,
    State,
)
from homeostat.core.duration import Duration
from homeostat.core.verdict import Verdict
from homeostat.core.version import Version
from homeostat.definition import Project
from homeostat.monitoring.alerts.decide import (
    cause,
    changed_at,
    drifted,
    failing,
    harmed,
    values_broken,
)
from homeostat.rollout.commands import start
from homeostat.rollout.model import Phase, RolledBack, Rollout

SCHEDULES = {
    "hourly": timedelta(hours=1),
    "daily": timedelta(days=1),
    "weekly": timedelta(days=7),
    "monthly": timedelta(days=30),
}
MAX_CRASHES = 3
MOST_SPOILED = 0.02
"""Share of the training period that may lie within an incident of broken data."""


class Trigger(NamedTuple):
    name: str
    reason: str
    since: datetime


class Refusal(NamedTuple):
    """kind: one word per rule, the same however the figures in the reason change."""

    kind: str
    reason: str


def trigger(state: State, project: Project, now: datetime) -> Trigger | None:
    """The first declared reason to train that holds now, in order of urgency.

    `quality` holds beyond the declared bounds only: a loss against the champion's own test figure
    that nobody declared to be too much needs the traffic's drift as a second witness.
    """
    declared = project.retraining.on
    own = state.monitor.version == state.champion
    below = failing(state.monitor) if own else None
    if "quality" in declared and below is not None:
        return Trigger("quality", below.sentence, below.since)
    harm = harmed(state.monitor) if own else None
    drift = drifted(state.monitor)
    if "drift_with_harm" in declared and harm is not None and drift is not None:
        return Trigger("drift_with_harm", f"{harm.sentence}; {drift.sentence}", harm.since)
    if "schedule" in declared and project.retraining.schedule is not None:
        text = project.retraining.schedule
        every = SCHEDULES.get(text) or Duration.parse(text)
        last = max((r.started for r in state.runs.values()), default=state.first or now)
        if now - last >= every:
            return Trigger("schedule", f"scheduled {text}; the last run was {last:%F %R}", now)
    return None


def busy(state: State) -> str | None:
    """What is being done already, so that a trigger asks for nothing new."""
    if state.open_run is not None:
        return f"{state.open_run.run} is under way"
    if state.live_rollout is not None:
        return f"version {state.live_rollout.candidate} is being rolled out"
    if state.candidates:
        return f"version {state.candidates[0]} waits for its rollout"
    return None


def doing(state: State, project: Project, now: datetime) -> str:
    """What the loop is doing about harm, for people who are woken by it."""
    under_way = busy(state)
    if under_way is not None:
        return under_way
    wanted = trigger(state, project, now)
    if wanted is None:
        return "what is declared under retraining.on does not ask for a retraining"
    refusal = admission(state, project, now, wanted)
    return "a retraining starts" if refusal is None else f"no retraining yet: {refusal.reason}"


def admission(state: State, project: Project, now: datetime, wanted: Trigger) -> Refusal | None:
    """None when the retraining is admitted, else the reason why not."""
    return _fit_to_learn_from(state, project, now, wanted) or _within_budget(state, project, now)


def _fit_to_learn_from(
    state: State, project: Project, now: datetime, wanted: Trigger
) -> Refusal | None:
    """What is wrong with the data that there are to train on."""
    rules = project.retraining
    if state.champion is None:
        return Refusal("champion", "there is no champion yet; run `homeostat run` first")
    broken = values_broken(state.monitor)
    if broken is not None:
        reason = f"the data are broken, and training on them would keep it: {broken}"
        return Refusal("data", reason)
    if wanted.name != "schedule" and now - wanted.since < rules.wait:
        ready = wanted.since + rules.wait
        reason = f"labels of the harmed period are gathered until {ready:%F %R}"
        return Refusal("wait", f"{reason} (wait: {rules.wait})")
    labels = state.monitor.labels
    if labels is not None and labels.coverage < rules.coverage:
        reason = f"labels are immature: {labels.coverage:.0%} of those that should be final are "
        return Refusal("labels", f"{reason}there, {rules.coverage:.0%} are asked for (coverage)")
    return _spoiled(state, project, now) or _too_recent(state, project, now)


def _spoiled(state: State, project: Project, now: datetime) -> Refusal | None:
    """An incident within what would be trained on."""
    since, until = training_period(state, project, now)
    for incident in reversed(state.monitor.incidents):
        inside = min(until, incident.end) - max(since, incident.start)
        if inside > MOST_SPOILED * (until - since):
            reason = (
                f"broken data arrived from {incident.start:%F %R} to {incident.end:%F %R}, which "
                "is within what would be trained on: correct them and start a run by hand, or "
                "wait until they are out of it"
            )
            return Refusal("incident", reason)
    return None


def _too_recent(state: State, project: Project, now: datetime) -> Refusal | None:
    """Too little has happened since the change, where only that is trained on."""
    changed = changed_at(state.monitor)
    if project.retraining.window != "since_change" or changed is None:
        return None
    split = project.training.split
    last = now - project.data.label.matures_after
    least = 2 * split.test + split.gap  # as much to train on as to test on
    if last - changed < least:
        ready = changed + least + project.data.label.matures_after
        reason = f"too few labels are final since the change of {changed:%F %R}: until "
        return Refusal("change", f"{reason}{ready:%F %R}")
    return None


def training_period(state: State, project: Project, now: datetime) -> tuple[datetime, datetime]:
    """Event time that a run of now would train and test on (expanding: of what was monitored)."""
    split, until = project.training.split, now - project.data.label.matures_after
    since = until - split.train - split.gap - split.test
    if project.retraining.window == "expanding":
        since = min(since, state.first or since)
    changed = changed_at(state.monitor)
    if project.retraining.window == "since_change" and changed is not None:
        since = max(since, changed)
    return since, max(since, until)


def _within_budget(state: State, project: Project, now: datetime) -> Refusal | None:
    rules = project.retraining
    ended = [r.finished or r.started for r in state.runs.values()]
    if ended and now - max(ended) < rules.cooldown:
        until = max(ended) + rules.cooldown
        return Refusal("cooldown", f"cooldown of {rules.cooldown} until {until:%F %R}")
    week = [t for t in state.trained if t > now - timedelta(days=7)]
    if len(week) >= rules.per_week:
        reason = f"the budget of {rules.per_week} retrainings per week is spent"
        return Refusal("budget", reason)
    if state.fruitless >= rules.stop_after_no_gain:
        reason = (
            f"{state.fruitless} retrainings brought no promotion: look at `homeostat history`, "
            "then start one by hand with `homeostat run`"
        )
        return Refusal("no gain", reason)
    return None


def retrain(state: State, project: Project, now: datetime) -> list[LoopEvent]:
    """Start a run, or record why a trigger is not followed, once per rule and stretch of harm
    (figures in the reason change with every window); nothing while one is."""
    wanted = None if busy(state) else trigger(state, project, now)
    if wanted is None:
        return []
    refusal = admission(state, project, now, wanted)
    if refusal is not None:
        since = None if wanted.name == "schedule" else wanted.since
        refused = RetrainingRefused(wanted.name, refusal.reason, refusal.kind, since)
        return [] if refused.again(state.refusal) else [refused]
    found = cause(state.monitor)
    since = changed_at(state.monitor) if project.retraining.window == "since_change" else None
    why = "" if found is None else found.sentence
    return [RunStarted(f"run-{state.seq + 1}", wanted.name, wanted.reason, now, why, since)]


def supervise(state: State, project: Project, now: datetime, alive: bool) -> list[LoopEvent]:
    """What becomes of the loop's own unfinished run, given whether its process is alive.
    A run that has crashed is started again by the effects, up to MAX_CRASHES times."""
    run = state.open_run
    if run is None:
        return []
    if now - run.started > project.training.timeout:
        sentence = f"took longer than {project.training.timeout} and was stopped"
        return [RunFinished(run.run, "failed", sentence)]
    if alive:
        return []
    if run.crashes + 1 >= MAX_CRASHES:
        return [RunFinished(run.run, "failed", f"its process died {MAX_CRASHES} times")]
    return [RunCrashed(run.run, run.crashes + 1)]


def candidates(
    state: State,
    project: Project,
    waiting: list[Version],
    now: datetime,
    preflight: Verdict | None = None,
) -> list[LoopEvent]:
    """The first version takes the traffic at once; later ones go through a rollout, one rollout
    at a time; of several that wait only the newest is worth it, unless they can be compared.
    preflight: whether a rollout of the newest could decide in time."""
    if not waiting:
        return []
    together = project.rollout.strategy == "experiment" and state.champion is not None
    older, tried = ([], waiting) if together else (waiting[:-1], waiting[-1:])
    newest = waiting[-1]
    dropped: list[LoopEvent] = [
        CandidateDropped(v.version, f"superseded by version {newest.version}") for v in older
    ]
    if state.champion is None:
        reason = "the first version that passed the gates"
        first = ChampionChanged(newest.version, None, reason, newest.servable())
        return [*dropped, first]
    if state.live_rollout is not None:
        return [*dropped, *_supersede(state.live_rollout, newest)]
    if preflight is not None and preflight.failed and project.rollout.preflight == "refuse":
        why, plan = preflight.sentence, project.rollout
        return [*dropped, *(CandidateDropped(v.version, why, preflight, plan) for v in tried)]
    started = start(
        state.rollout,
        id=f"rollout-{state.seq + len(dropped) + 1}",
        candidate=newest.version,
        champion=state.champion,
        plan=project.rollout,
        now=now,
        candidates=[v.version for v in tried],
        servables=[v.servable() for v in tried],
        preflight=preflight,
    )
    return [*dropped, *started]


def _supersede(live: Rollout, newest: Version) -> list[LoopEvent]:
    """What a version that arrives does to the rollout that is under way, as its plan declares.
    One that a person has paused is left to that person."""
    if live.plan.on_new_candidate != "supersede" or live.phase is Phase.PAUSED:
        return []
    reason = f"superseded by version {newest.version}"
    return [RolledBack(live.id, live.candidate, "policy", reason, live.verdicts)]
