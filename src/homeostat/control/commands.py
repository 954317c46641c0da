"""What people tell the loop. Each command records who gave it, brings the world in line at once
and returns the state it leaves. Raises Refused where it is impossible, Unavailable."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from homeostat.control.model import ChampionChanged, LoopEvent, State
from homeostat.control.platform import Platform
from homeostat.control.record import settle
from homeostat.control.tick import Controller
from homeostat.core.errors import Unavailable
from homeostat.rollout import commands
from homeostat.rollout.model import Promoted


def rollout_start(platform: Platform, version: str, by: str) -> State:
    """Canary a registered version against the champion (without one it becomes the champion).
    Raises NotFound."""
    found = platform.registry.get(platform.stream, version)

    def decide(state: State) -> Sequence[LoopEvent]:
        if state.champion is None:
            return [ChampionChanged(found.version, None, f"started by {by}")]
        return commands.start(
            state.rollout,
            id=f"rollout-{state.seq + 1}",
            candidate=found.version,
            champion=state.champion,
            plan=platform.project.rollout,
            by=by,
        )

    return _act(platform, decide)


def rollout_pause(platform: Platform, by: str, why: str = "") -> State:
    return _act(platform, lambda state: commands.pause(state.rollout, by=by, reason=why))


def rollout_resume(platform: Platform, by: str, why: str = "") -> State:
    return _act(platform, lambda state: commands.resume(state.rollout, by=by))


def rollout_approve(platform: Platform, by: str, why: str = "") -> State:
    return _act(platform, lambda state: commands.approve(state.rollout, by=by))


def rollout_promote(platform: Platform, by: str, why: str = "") -> State:
    def decide(state: State) -> Sequence[LoopEvent]:
        events: list[LoopEvent] = [*commands.promote(state.rollout, by=by, reason=why)]
        for event in list(events):
            if isinstance(event, Promoted):
                reason = f"promoted by {by}"
                events.append(ChampionChanged(event.candidate, state.champion, reason))
        return events

    return _act(platform, decide)


def rollout_abort(platform: Platform, by: str, why: str = "") -> State:
    return _act(platform, lambda state: commands.abort(state.rollout, by=by, reason=why))


def _act(platform: Platform, decide: Callable[[State], Sequence[LoopEvent]]) -> State:
    """Decide on what is, write, apply. A daemon that writes meanwhile only makes it try again."""
    settle(platform, decide)
    controller = Controller(platform)
    problems: list[str] = []
    state = controller.state()
    controller.reconcile(state, problems)
    if problems:
        raise Unavailable("recorded, but not all of it could be applied yet", found=problems[0])
    return state
