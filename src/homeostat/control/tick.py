"""One turn of the loop: look at what is, decide, write once, then bring the world in line.

A tick may be killed between any two lines and repeated. Decisions are appended to the model's
stream in one write that fails if anybody else wrote first; effects (routes, aliases, jobs,
notices) are derived from the state and repeated until they are observed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from homeostat.control import gather, judge, policy
from homeostat.control.evidence import Evidence, Following
from homeostat.control.gauges import Labels, gauges, standing
from homeostat.control.model import (
    BY_HAND,
    ChampionChanged,
    LoopEvent,
    State,
    evolve,
    load,
)
from homeostat.control.platform import Platform
from homeostat.control.preflight import preflight_of
from homeostat.control.profiles import Profiles
from homeostat.control.record import record
from homeostat.control.route import desired_route
from homeostat.core.errors import Conflict, HomeostatError
from homeostat.core.names import CHALLENGER_ALIAS, CHAMPION_ALIAS
from homeostat.core.ports import Gauge, Notice
from homeostat.core.version import Version
from homeostat.monitoring.alerts.decide import decide as decide_alerts
from homeostat.monitoring.alerts.decide import escalations, heartbeat, notices
from homeostat.monitoring.model import AlertNotified, WindowObserved
from homeostat.monitoring.window import CATCH_UP, Reference
from homeostat.rollout.model import Promoted


class TickReport(msgspec.Struct, frozen=True):
    """seq: the last event. since: the last one that the tick before knew of; at the first, that
    there was. decided: what was written. conflict: somebody else wrote first, nothing was.
    problems: effects that could not be brought about yet; the next tick tries again."""

    at: datetime
    seq: int
    since: int
    decided: tuple[str, ...] = ()
    conflict: bool = False
    problems: tuple[str, ...] = ()


class Draft:
    """Events decided in this tick, and the state as they leave it."""

    def __init__(self, state: State, at: datetime) -> None:
        self.state, self.at = state, at
        self.events: list[LoopEvent] = []

    def add(self, events: Sequence[LoopEvent]) -> None:
        for event in events:
            self.state = evolve(self.state, event, self.at, self.state.seq + 1)
            self.events.append(event)


class Controller:
    """Closes the loop for one model. Keeps nothing but caches of what it can read again."""

    def __init__(self, platform: Platform, state: State | None = None) -> None:
        """state: one that was read before, from which on to read."""
        self.platform = platform
        self._state = state or State()
        self._versions: dict[str, Version] = {}
        self._reference: tuple[str, Reference] | None = None
        self._aliased: tuple[str | None, str | None] | None = None
        self._profiles = Profiles(platform)
        self._labels: tuple[datetime, Labels] | None = None
        self._pruned: datetime | None = None
        self._looking_since: datetime | None = None
        self._following = Following(platform)
        self._evidence: tuple[str, Evidence] | None = None  # of the rollout with this id
        self._standing: tuple[State, list[Gauge]] | None = None

    def state(self) -> State:
        """Everything that was decided up to now."""
        records = self.platform.events.read(self.platform.stream, self._state.seq)
        self._state = load(records, self._state)
        return self._state

    def version(self, version: str) -> Version:
        """A version is immutable: once read, remembered."""
        if version not in self._versions:
            self._versions[version] = self.platform.registry.get(self.platform.stream, version)
        return self._versions[version]

    def reference(self, version: Version) -> Reference:
        """What the version's windows are compared with; built once, for the latest champion."""
        if self._reference is None or self._reference[0] != version.version:
            project, table = self.platform.project, self.platform.reference(version)
            reference = Reference.build(
                table,
                self.platform.inputs(version),
                project.monitoring,
                threshold=project.training.threshold,
                k=project.training.k,
            )
            self._reference = (version.version, reference)
        return self._reference[1]

    def tick(self, *, monitors: bool = True) -> TickReport:
        """One turn. Raises Unavailable when the event store does not answer.

        monitors: False leaves out the monitors and the policy, and only settles what is decided.
        """
        platform, now = self.platform, self.platform.clock.now()
        known = self._state.seq
        before = self.state()
        since = known or before.seq
        draft = Draft(before, now)
        problems: list[str] = []
        steps: list[Callable[[Draft], None]] = [self._supervise, self._degraded, self._roll_out]
        if monitors:
            steps = [self._supervise, self._watch, *steps[1:], self._retrain, self._remind_people]
        for step in [*steps, self._candidates]:
            _attempt(lambda step=step: step(draft), problems)  # type: ignore[misc]
        if draft.events:
            try:
                platform.events.append(platform.stream, draft.events, after=before.seq, at=now)
            except Conflict:
                return TickReport(now, before.seq, since, conflict=True)
        state = self.state()
        self.reconcile(state, problems)
        decided = tuple(str(type(e).__struct_config__.tag) for e in draft.events)
        return TickReport(now, state.seq, since, decided, problems=tuple(problems))

    # -- decisions ---------------------------------------------------------------------------

    def _supervise(self, draft: Draft) -> None:
        run = draft.state.open_run
        if run is not None:
            alive = self.platform.jobs.alive(run.run)
            project = self.platform.project
            draft.add(policy.supervise(draft.state, project, draft.at, alive))

    def _watch(self, draft: Draft) -> None:
        state = draft.state
        if state.champion is None or state.champion_since is None:
            return
        first = state.lives[0][0]
        self._looking_since = self._looking_since or draft.at
        champion = self.version(state.champion)
        windows = gather.monitor(
            self.platform,
            state.monitor,
            champion,
            self.reference(champion),
            self._profiles,
            first,
            draft.at,
            self._looking_since,
        )
        project = self.platform.project
        for window in windows:
            draft.add([window])
            action = policy.doing(draft.state, project, draft.at)
            monitor, spec = draft.state.monitor, project.monitoring
            draft.add(decide_alerts(monitor, window, spec, draft.at, action=action))

    def _remind_people(self, draft: Draft) -> None:
        """Of alerts that stay open, and of monitors that do not look."""
        monitor, spec = draft.state.monitor, self.platform.project.monitoring
        draft.add(escalations(monitor, spec, draft.at))
        if draft.state.lives:
            looking = any(isinstance(e, WindowObserved) for e in draft.events)
            first = draft.state.lives[0][0]
            settled = draft.at - self.platform.settles
            draft.add(heartbeat(monitor, spec, first, settled, looking=looking))

    def _degraded(self, draft: Draft) -> None:
        rollout = draft.state.live_rollout
        if rollout is not None:
            draft.add(judge.unservable(self.platform, rollout))

    def _roll_out(self, draft: Draft) -> None:
        rollout = draft.state.live_rollout
        if rollout is None:
            return
        try:
            found = self._following.evidence(rollout, draft.at)
            self._evidence = rollout.id, found
            events = judge.judge(self.platform, rollout, found, draft.at)
        except HomeostatError as error:
            draft.add(judge.blind(rollout, error, draft.at))
            raise
        for event in list(events):
            if isinstance(event, Promoted):
                reason = f"promoted by {rollout.id}"
                events.append(ChampionChanged(event.candidate, rollout.champion, reason))
        draft.add(events)

    def _candidates(self, draft: Draft) -> None:
        waiting = [self.version(c) for c in draft.state.candidates]
        if waiting:
            state, project, expected = draft.state, self.platform.project, None
            if state.champion is not None and state.live_rollout is None:
                champion = self.version(state.champion)
                newest, n = waiting[-1], len(waiting)
                expected = preflight_of(self.platform, champion, newest, draft.at, n)
            draft.add(policy.candidates(state, project, waiting, draft.at, expected))

    def _retrain(self, draft: Draft) -> None:
        draft.add(policy.retrain(draft.state, self.platform.project, draft.at))

    # -- effects -----------------------------------------------------------------------------

    def reconcile(self, state: State, problems: list[str]) -> None:
        """Bring the world in line with the state; the traffic first."""
        effects = (
            self._route,
            self._jobs,
            self._aliases,
            self._notify,
            self._remind,
            self._count,
            self._prune,
        )
        for effect in effects:
            _attempt(lambda effect=effect: effect(state), problems)  # type: ignore[misc]
        _attempt(lambda: self._show(state, len(problems)), problems)

    def _route(self, state: State) -> None:
        route = desired_route(
            state,
            self.platform.project,
            # a rollback must not wait for a registry that is slow, down, or has lost the version
            lambda version: state.servables.get(version) or self.version(version).servable(),
        )
        plane = self.platform.plane
        if route is not None and plane.observed(route.model).generation != route.generation:
            plane.publish(route)

    def _jobs(self, state: State) -> None:
        run, jobs = state.open_run, self.platform.jobs
        if run is not None and not jobs.alive(run.run):
            jobs.start(run.run)
        for past in state.runs.values():
            timed_out = past.outcome == "failed" and past.trigger != BY_HAND
            if timed_out and jobs.alive(past.run):
                jobs.stop(past.run)

    def _aliases(self, state: State) -> None:
        rollout = state.live_rollout
        challenger = rollout.candidate if rollout else next(iter(state.candidates), None)
        wanted = (state.champion, challenger)
        if wanted == self._aliased:
            return
        registry, model = self.platform.registry, self.platform.stream
        current = registry.aliases(model)
        for alias, version in zip((CHAMPION_ALIAS, CHALLENGER_ALIAS), wanted, strict=True):
            if current.get(alias) != version:
                registry.set_alias(model, alias, version)
        self._aliased = wanted

    def _notify(self, state: State) -> None:
        for notice in notices(state.monitor, self.platform.clock.now()):
            self.platform.notifier.send(self._about(notice))
            record(self.platform, [AlertNotified(notice.key)], seen=state.seq)

    def _remind(self, state: State) -> None:
        """Some targets forget an alert that they do not hear of again."""
        untold = {notice.key for notice in state.monitor.notices}  # or told as it was before
        self.platform.notifier.renew(
            [
                self._about(
                    Notice(
                        alert.key,
                        alert.title,
                        alert.sentence,
                        alert.severity,
                        alert.since,
                        since=alert.since,
                        incident=alert.incident,
                    )
                )
                for alert in state.monitor.open_alerts
                if alert.told and alert.key not in untold
            ]
        )

    def _about(self, notice: Notice) -> Notice:
        return msgspec.structs.replace(notice, model=self.platform.stream)

    def _count(self, state: State) -> None:
        """How labels come, once a window."""
        if state.window is not None and (self._labels or (None,))[0] != state.window.end:
            self._labels = state.window.end, gather.labels(self.platform, state.window.end)

    def _prune(self, state: State) -> None:
        """Snapshots of windows that are compared with no more; as many as one tick may leave."""
        length = self.platform.project.monitoring.window
        for window in state.monitor.windows[-CATCH_UP:]:
            if self._pruned is None or window.end > self._pruned:
                self._profiles.prune(window.end - length, window.end)
        self._pruned = state.monitor.last_end

    def _show(self, state: State, problems: int) -> None:
        now, project = self.platform.clock.now(), self.platform.project
        labels = self._labels[1] if self._labels else None
        rollout, found = self._evidence or (None, None)
        live = state.live_rollout is not None and state.live_rollout.id == rollout
        if self._standing is None or self._standing[0] is not state:
            self._standing = state, standing(state, project)
        self.platform.plane.show(
            gauges(
                state,
                project,
                now=now,
                evidence=found if live else None,
                labels=labels,
                problems=problems,
                kept=self._standing[1],
            )
        )


def _attempt(step: Callable[[], None], problems: list[str]) -> None:
    """One failing part must not keep the others (a rollback above all) from acting; what went
    wrong is reported and tried again on the next tick."""
    try:
        step()
    except HomeostatError as error:
        problems.append(error.line())
