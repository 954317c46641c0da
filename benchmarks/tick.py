"""What one turn of the loop costs with many models in rollout at once.

    python benchmarks/tick.py [--models 100] [--requests 600] [--ticks 5]

Each model has its own champion, candidate, log, labels and controller; stores are in memory, so
this is the controller's own cost. The whole tick is split: with its evidence, and without (the
state, the decisions and bringing the world in line, on evidence that is given).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from homeostat.control import judge
from homeostat.core.duration import Duration
from homeostat.rollout.spec import Guards, QualityGuard, RolloutSpec
from homeostat.testing.simulate.models import GOOD, Skill
from homeostat.testing.simulate.world import World

PLAN = RolloutSpec(
    steps=(10, 100),
    bake=Duration(days=5),  # holds, so that every tick does the same work
    guards=Guards(quality=QualityGuard(metric="error", margin=0.15)),
    max_duration=Duration(days=30),
)


def in_rollout(seed: int, requests: int) -> World:
    """A model whose candidate has begun, with so many requests logged and labelled."""
    world = World(seed, plan=PLAN)
    world.volume = requests // 4
    world.install(Skill(0, GOOD))
    world.controllers[0].controller.tick(monitors=False)
    world.install(Skill(0, GOOD))
    world.controllers[0].controller.tick(monitors=False)
    for _ in range(4):
        world.traffic()
        world.deliver_labels()
        world.pass_time()
    world.pass_time()
    world.controllers[0].controller.tick(monitors=False)
    assert world.controllers[0].controller.state().live_rollout is not None
    return world


def measured(worlds: list[World], ticks: int, before: Callable[[World], None]) -> list[float]:
    """Milliseconds of a tick over all models, for each of `ticks`."""
    taken = []
    for _ in range(ticks):
        for world in worlds:
            before(world)
        began = time.perf_counter()
        for world in worlds:
            world.controllers[0].controller.tick(monitors=False)
        taken.append((time.perf_counter() - began) * 1e3)
    return taken


@contextmanager
def evidence_given(worlds: list[World]) -> Iterator[None]:
    """Ticks take the evidence that there is now, instead of computing it."""
    real, known = judge.evidence, {}
    for world in worlds:
        controller = world.controllers[0].controller
        rollout = controller.state().live_rollout
        assert rollout is not None
        known[id(controller.platform)] = real(controller.platform, rollout, world.clock.at)
    judge.evidence = lambda platform, rollout, now: known[id(platform)]
    try:
        yield
    finally:
        judge.evidence = real


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--ticks", type=int, default=5)
    args = parser.parse_args()
    worlds = [in_rollout(seed, args.requests) for seed in range(args.models)]
    whole = measured(worlds, args.ticks, lambda world: None)

    def more(world: World) -> None:
        world.volume = 20
        world.traffic()
        world.deliver_labels()
        world.pass_time()

    busy = measured(worlds, args.ticks, more)
    with evidence_given(worlds):
        bare = measured(worlds, args.ticks, lambda world: None)
    print(f"| a tick of {args.models} models in rollout, {args.requests} requests each | ms |")
    print("| --- | ---: |")
    for name, taken in (
        ("nothing new", whole),
        ("20 new requests and labels each", busy),
        ("evidence given: the control alone", bare),
    ):
        print(f"| {name} | {statistics.median(taken):.0f} |")


if __name__ == "__main__":
    main()
