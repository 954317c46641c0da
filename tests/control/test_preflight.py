"""Whether a rollout is refused beforehand rests on more than the last hour."""

from __future__ import annotations

from datetime import timedelta

from homeostat.control.preflight import preflight_of
from homeostat.core.duration import Duration
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


def test_a_quiet_hour_of_a_busy_day_refuses_nothing() -> None:
    assert not expected(*[4000] * 8, 110).failed


def test_a_day_that_was_quiet_throughout_does() -> None:
    found = expected(*[110] * 9)
    assert found.failed
    assert "max_duration is 9h" in found.sentence
