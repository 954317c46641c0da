"""What people tell the loop. Each command records who gave it, brings the world in line at once
and returns the state as it leaves it, whatever the loop makes of that. Raises Refused where it is
impossible, Unavailable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from homeostat.control.model import CandidateDropped, ChampionChanged, LoopEvent, State
from homeostat.control.platform import Platform
from homeostat.control.preflight import preflight_of, refused
from homeostat.control.record import settle
from homeostat.control.tick import Controller
from homeostat.core.errors import BadInput, Refused, Unavailable
from homeostat.core.route import Servable
from homeostat.monitoring.alerts.decide import EVERY, KINDS
from homeostat.monitoring.model import Silenced
from homeostat.rollout import commands
from homeostat.rollout.model import Promoted


def rollout_start(
    platform: Platform, version: str, by: str, *others: str, force: bool = False
) -> State:
    """Try a registered version against the champion (without one it becomes the champion);
    with `others`, all of them in one experiment. Raises NotFound, and Refused where it could not
    decide in time, unless that is wanted (force); the refusal is recorded, and has a dossier."""
    found = [platform.registry.get(platform.stream, v) for v in (version, *others)]
    refusals: list[Refused] = []

    def decide(state: State) -> Sequence[LoopEvent]:
        if state.champion is None:
            first = found[0]
            return [ChampionChanged(first.version, None, f"started by {by}", first.servable(), by)]
        champion = platform.registry.get(platform.stream, state.champion)
        now, plan = platform.clock.now(), platform.project.rollout
        versions = [v.version for v in found]
        commands.startable(state.rollout, state.champion, versions, plan)
        expected = preflight_of(platform, champion, found[0], now, len(found))
        if expected is not None and not force and refused(platform, expected):
            told, _, remedy = expected.sentence.partition(" -> ")
            refusals[:] = [Refused(told, remedy=remedy)]
            why = expected.sentence
            return [CandidateDropped(v.version, why, expected, plan, by) for v in found]
        return commands.start(
            state.rollout,
            id=f"rollout-{state.seq + 1}",
            candidate=version,
            champion=state.champion,
            plan=plan,
            by=by,
            now=now,
            candidates=versions,
            servables=[v.servable() for v in found],
            preflight=expected,
        )

    state = _act(platform, decide)
    if refusals:
        raise refusals[0]
    return state


def rollout_pause(platform: Platform, by: str, why: str = "") -> State:
    return _act(platform, lambda state: commands.pause(state.rollout, by=by, reason=why))


def rollout_resume(platform: Platform, by: str, why: str = "") -> State:
    return _act(platform, lambda state: commands.resume(state.rollout, by=by))


def rollout_approve(platform: Platform, by: str, why: str = "") -> State:
    return _act(platform, lambda state: commands.approve(state.rollout, by=by))


def rollout_promote(
    platform: Platform, by: str, why: str = "", version: str | None = None, anyway: bool = False
) -> State:
    """version: which of an experiment's challengers. anyway: in a freeze, too."""

    def decide(state: State) -> Sequence[LoopEvent]:
        promoted = commands.promote(
            state.rollout,
            by=by,
            now=platform.clock.now(),
            reason=why,
            version=version,
            anyway=anyway,
        )
        events: list[LoopEvent] = [*promoted]
        for event in promoted:
            if isinstance(event, Promoted):
                reason = f"promoted by {by}"
                events.append(ChampionChanged(event.candidate, state.champion, reason, by=by))
        return events

    return _act(platform, decide)


def rollout_abort(platform: Platform, by: str, why: str = "", to: str | None = None) -> State:
    """End the rollout. to: and return to this earlier champion, whether or not one is live."""
    if to is None:
        return _act(platform, lambda state: commands.abort(state.rollout, by=by, reason=why))

    def decide(state: State) -> Sequence[LoopEvent]:
        events: list[LoopEvent] = []
        if state.live_rollout is not None:
            events += commands.abort(state.rollout, by=by, reason=why)
        if to == state.champion:
            if not events:
                raise Refused(f"version {to} is the champion already")
            return events
        reason = f"returned to by {by}" + (f": {why}" if why else "")
        servable = _earlier(platform, state, to)
        return [*events, ChampionChanged(to, state.champion, reason, servable, by)]

    return _act(platform, decide)


def _earlier(platform: Platform, state: State, version: str) -> Servable:
    """Where a former champion's files are. Raises Refused for what never was one: it would get
    all of the traffic without evidence."""
    former = list(dict.fromkeys(v for _, v in state.lives if v != state.champion))
    if version not in former:
        raise Refused(
            f"version {version} has never been the champion",
            expected=f"one of {', '.join(former)}" if former else None,
            remedy=f"a version that is registered is rolled out: homeostat rollout start {version}",
        )
    known = state.servables.get(version)
    return known or platform.registry.get(platform.stream, version).servable()


def monitors_silence(
    platform: Platform, kind: str, length: timedelta, reason: str, by: str
) -> State:
    """Tell nobody of alerts of a kind (or `all`) for so long; no time at all ends a silence.
    Raises BadInput, Refused where there is no silence to end."""
    if kind not in (*KINDS, EVERY):
        raise BadInput(
            "there is no such alert", expected=", ".join((*KINDS, EVERY)), found=repr(kind)
        )
    if length > timedelta(0) and not reason.strip():
        raise BadInput("a silence needs a reason", remedy="say it with --why")
    now = platform.clock.now()

    def decide(state: State) -> Sequence[LoopEvent]:
        found = state.monitor.silences.get(kind)
        if length <= timedelta(0) and (found is None or found.until <= now):
            raise Refused(f"{kind} alerts are not silenced")
        return [Silenced(kind, now + length, reason, by)]

    return _act(platform, decide)


def _act(platform: Platform, decide: Callable[[State], Sequence[LoopEvent]]) -> State:
    """Decide on what is, write, apply. A daemon that writes meanwhile only makes it try again."""
    left = settle(platform, decide)
    controller = Controller(platform, left)
    problems: list[str] = []
    controller.reconcile(controller.state(), problems)
    if problems:
        raise Unavailable(
            "recorded, but not all of it could be applied yet",
            found=problems[0],
            remedy="`homeostat up` goes on trying; homeostat status shows how it stands",
        )
    return left
