"""Who should answer requests, as a pure function of the state."""

from __future__ import annotations

from collections.abc import Callable

from homeostat.control.model import State
from homeostat.core.route import Route
from homeostat.core.version import Version
from homeostat.definition import Project
from homeostat.rollout.route import share


def desired_route(
    state: State, project: Project, version: Callable[[str], Version]
) -> Route | None:
    """None until there is a champion. The same state always gives the same route."""
    if state.champion is None:
        return None
    rollout = state.live_rollout
    champion = version(rollout.champion if rollout else state.champion).servable()
    percent, paired = share(rollout)
    return Route(
        project.name,
        state.generation,
        champion,
        canary=version(rollout.candidate).servable() if rollout else None,
        percent=percent,
        paired=paired,
        salt=rollout.id if rollout else "",
        sticky=project.serving.sticky,
    )


def weights(state: State) -> dict[str, float]:
    """Percent of the requests per version, as `desired_route` gives them out."""
    if state.champion is None:
        return {}
    rollout = state.live_rollout
    if rollout is None:
        return {state.champion: 100.0}
    percent, _ = share(rollout)
    return {rollout.champion: 100.0 - percent, rollout.candidate: percent}
