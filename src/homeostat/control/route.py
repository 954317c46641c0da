"""Who should answer requests, as a pure function of the state."""

from __future__ import annotations

from collections.abc import Callable

from homeostat.control.model import State
from homeostat.core.route import Challenger, Route, Servable
from homeostat.definition import Project
from homeostat.rollout.route import shares


def desired_route(
    state: State, project: Project, servable: Callable[[str], Servable]
) -> Route | None:
    """None until there is a champion. The same state always gives the same route."""
    if state.champion is None:
        return None
    rollout = state.live_rollout
    return Route.split(
        project.name,
        state.generation,
        servable(rollout.champion if rollout else state.champion),
        [Challenger(servable(s.version), s.percent, s.paired, s.at) for s in shares(rollout)],
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
    split = {s.version: s.percent for s in shares(rollout)}
    return {rollout.champion: 100.0 - sum(split.values()), **split}
