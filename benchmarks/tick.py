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
from homeostat.control.tick import Controller
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


class Model:
    """A model whose candidate has begun, with so many requests logged and labelled."""

    def __init__(self, seed: int, requests: int) -> None:
        self.world = World(seed, plan=PLAN)
        self.forget()
        self.world.volume = requests // 4
        for _ in range(2):
            self.world.install(Skill(0, GOOD))
            self.tick()
        for _ in range(4):
            self.more()
        self.world.pass_time()
        self.world.volume = 20
        self.tick()
        assert self.controller.state().live_rollout is not None

    def forget(self) -> None:
        """The controller is another process."""
        self.controller = Controller(self.world.platform)

    def more(self) -> None:
        """Requests, and their labels."""
        self.world.traffic()
        self.world.deliver_labels()
        self.world.pass_time()

    def tick(self) -> None:
        self.controller.tick(monitors=False)


def measured(models: list[Model], ticks: int, before: Callable[[Model], None]) -> list[float]:
    """Milliseconds of a tick over all models, for each of `ticks`."""
    taken = []
    for _ in range(ticks):
        for model in models:
            before(model)
        began = time.perf_counter()
        for model in models:
            model.tick()
        taken.append((time.perf_counter() - began) * 1e3)
    return taken


def nothing(model: Model) -> None:
    """Nothing came in."""


@contextmanager
def evidence_given() -> Iterator[None]:
    """Ticks take the verdicts that there were, instead of looking for anything new."""
    real = Following.evidence
    Following.evidence = lambda self, rollout, now: self._verdicts  # type: ignore[method-assign]
    try:
        yield
    finally:
        Following.evidence = real  # type: ignore[method-assign]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--ticks", type=int, default=5)
    parser.add_argument("--old", type=int, default=1_000_000, help="requests of one old rollout")
    args = parser.parse_args()
    models = [Model(seed, args.requests) for seed in range(args.models)]
    whole = measured(models, args.ticks, nothing)
    busy = measured(models, args.ticks, Model.more)
    with evidence_given():
        bare = measured(models, args.ticks, nothing)
    del models
    old = Model(0, args.old)
    first = measured([old], 1, Model.forget)
    grown = measured([old], args.ticks, Model.more)
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
