"""Simulated worlds with a rollout in them, for tests of the loop around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from homeostat.core.duration import Duration
from homeostat.core.errors import Unavailable
from homeostat.rollout.spec import Guards, QualityGuard, RolloutSpec
from homeostat.testing.simulate.models import GOOD, Skill
from homeostat.testing.simulate.world import World

PLAN = RolloutSpec(
    bake=Duration(minutes=10),
    guards=Guards(quality=QualityGuard(metric="error", margin=0.15)),
    max_duration=Duration(hours=9),
    block=Duration(0),
)


class Down:
    """A port that does not answer."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        def fail(*args: object, **kwargs: object) -> None:
            raise Unavailable("it does not answer")

        return fail


def with_champion(plan: RolloutSpec = PLAN, **changes: Any) -> World:
    """A world in which version 1 is the champion."""
    world = World(11, plan=msgspec.structs.replace(plan, **changes))
    world.install(Skill(0, GOOD))
    world.controllers[0].turn()
    return world
