"""Whether a rollout is refused beforehand rests on more than the last hour."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from homeostat.control.preflight import preflight_of
from homeostat.core.duration import Duration
from homeostat.core.servable import Field
from homeostat.core.verdict import Verdict
from homeostat.rollout.spec import Guards, QualityGuard, RolloutSpec
from homeostat.testing.simulate.models import GOOD, Skill
from homeostat.testing.simulate.world import World

PLAN = RolloutSpec(
    guards=Guards(quality=QualityGuard(metric="brier", margin=0.02, paired=False)),
    max_duration=Duration(hours=9),
)
HOUR = timedelta(hours=1)


def expected(*volumes: int) -> Verdict:
    """The verdict after hours with so many requests."""
    world = World(0, PLAN)
    for skill in (Skill(0, GOOD), Skill(0, GOOD + 0.1)):
        world.install(skill)
    world.controllers[0].turn()
    for world.volume in volumes:
        world.traffic()
        world.clock.at += HOUR
    versions = world.registry.versions("simulated")
    found = preflight_of(world.platform, versions[0], versions[1], world.clock.now())
    assert found is not None
    return found


def swapped(after: tuple[str, ...]) -> Verdict:
    """The verdict on a candidate with these inputs, after a day that could decide."""
    world = World(0, PLAN)
    for skill in (Skill(0, GOOD), Skill(0, GOOD + 0.1)):
        world.install(skill)
    world.controllers[0].turn()
    world.volume = 4000
    world.traffic()
    world.clock.at += HOUR
    first, second = world.registry.versions("simulated")
    names = {first.version: ("a", "b", "c"), second.version: after}
    platform = replace(
        world.platform, inputs=lambda v: tuple(Field(name) for name in names[v.version])
    )
    found = preflight_of(platform, first, second, world.clock.now())
    assert found is not None
    return found


def test_a_candidate_that_takes_the_values_of_a_row_for_others_is_refused() -> None:
    found = swapped(("a", "c", "b"))
    assert found.failed
    assert "value 2 is 'b' for version 1, 'c' for it" in found.sentence
    assert swapped(("a", "b", "d")).failed


def test_a_candidate_with_the_same_inputs_or_more_of_them_may_start() -> None:
    assert not swapped(("a", "b", "c")).failed
    assert not swapped(("a", "b", "c", "d")).failed


def test_a_quiet_hour_of_a_busy_day_refuses_nothing() -> None:
    assert not expected(*[4000] * 8, 110).failed


def test_a_day_that_was_quiet_throughout_does() -> None:
    found = expected(*[110] * 9)
    assert found.failed
    assert "max_duration is 9h" in found.sentence
