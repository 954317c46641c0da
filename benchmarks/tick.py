"""What one turn of the loop costs with many models in rollout at once.

    python benchmarks/tick.py [--models 100] [--requests 600] [--ticks 5] [--old 1000000]

Each model has its own champion, candidate, log, labels and controller; stores are in memory, so
this is the controller's own cost: when nothing came in, when something did, and on verdicts that
are given (the state, the decisions and bringing the world in line). Then one rollout that is old.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from homeostat.control.evidence import Following
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
def evidence_given() -> Iterator[None]:
    """Ticks take the verdicts that there were, instead of looking for anything new."""
    real = Following.evidence
    Following.evidence = lambda self, rollout, now: self._verdicts  # type: ignore[method-assign]
    try:
        yield
    finally:
        Following.evidence = real  # type: ignore[method-assign]


def more(world: World) -> None:
    """20 requests, and the labels of those before."""
    world.volume = 20
    world.traffic()
    world.deliver_labels()
    world.pass_time()


def forget(world: World) -> None:
    """The controller is another process."""
    world.controllers[0]._start()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--ticks", type=int, default=5)
    parser.add_argument("--old", type=int, default=1_000_000, help="requests of one old rollout")
    args = parser.parse_args()
    worlds = [in_rollout(seed, args.requests) for seed in range(args.models)]
    whole = measured(worlds, args.ticks, lambda world: None)

    busy = measured(worlds, args.ticks, more)
    with evidence_given():
        bare = measured(worlds, args.ticks, lambda world: None)
    del worlds
    old = in_rollout(0, args.old)
    first = measured([old], 1, forget)
    grown = measured([old], args.ticks, more)
    print(f"| a tick of {args.models} models in rollout, {args.requests} requests each | ms |")
    print("| --- | ---: |")
    for name, taken in (
        ("nothing new", whole),
        ("20 new requests and labels each", busy),
        ("the same, one model of them", [t / args.models for t in busy]),
        ("evidence given: the control alone", bare),
        (f"one model with {args.old:,} requests, 20 new", grown),
        ("the same, by a controller without a memory", first),
    ):
        print(f"| {name} | {statistics.median(taken):.3g} |")


if __name__ == "__main__":
    main()
