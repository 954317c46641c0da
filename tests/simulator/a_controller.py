"""A controller as a process of its own: `python a_controller.py DATABASE HOME [WRITE SIDE]`.

Reads the number of a turn from each line of stdin, takes it, and answers with a line. Its events
are in a database and its routes in files; what was predicted and what came of it is the same
table in every process. It kills itself (SIGKILL) before or after its WRITE-th write.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl

from homeostat.backends.local.database import Database
from homeostat.backends.local.events import SqlEventStore
from homeostat.backends.local.plane import LocalDataPlane
from homeostat.control.model import BY_HAND, ChampionChanged, RunFinished, RunStarted
from homeostat.control.tick import Controller
from homeostat.core.duration import Duration
from homeostat.core.records import LABELS
from homeostat.core.route import Route
from homeostat.rollout.spec import Guards, QualityGuard, RolloutSpec
from homeostat.testing.simulate import models
from homeostat.testing.simulate.faults import Killer, faulty
from homeostat.testing.simulate.models import GOOD, Skill
from homeostat.testing.simulate.world import LATE, MODEL, START, STEP, World

TURNS = 7
PLAN = RolloutSpec(
    steps=(10, 50, 100),
    bake=Duration.of(STEP),
    guards=Guards(quality=QualityGuard(metric="error", margin=0.15)),
    block=Duration(0),
)


def world() -> World:
    """Two versions, and traffic that the first has answered and both have scored."""
    found = World(1, plan=PLAN)
    for run in ("one", "two"):
        found.registry.add(run, Skill(0, GOOD))
    one, two = (found.registry.get(MODEL, v).servable() for v in "12")
    rng = np.random.default_rng(2)
    for turn in range(TURNS):
        found.plane.routes[MODEL] = Route(MODEL, 1, one, two, paired=1.0)
        features, label = models.requests(rng, 60, 0)
        ids, at = [f"{turn}-{i}" for i in range(60)], START + turn * STEP
        found.plane.serve(MODEL, ids, features, at)
        known = pl.lit(at + LATE, LABELS["known"])
        rows = pl.DataFrame({"id": ids, "label": label})
        time = pl.lit(at, LABELS["time"])
        found.labels.append(rows.select("id", "label", time=time, known=known))
    return found


def main() -> None:
    database, home, *kill = sys.argv[1:]
    found = world()
    events = SqlEventStore(Database(database))
    if not events.read(MODEL):
        first = found.registry.get(MODEL, "1").servable()
        begin = [
            ChampionChanged("1", None, "first", first),
            RunStarted("two", BY_HAND, "a person", START),
            RunFinished("two", "registered", "passed the gates", "2"),
        ]
        events.append(MODEL, begin, after=0, at=START)
    platform = dataclasses.replace(found.platform, events=events, plane=LocalDataPlane(Path(home)))
    at, side = (int(kill[0]), kill[1]) if kill else (None, "before")
    killer = Killer(at, after=side == "after", die=lambda: os.kill(os.getpid(), signal.SIGKILL))
    controller = Controller(faulty(platform, killer))
    print("ready", flush=True)
    for line in sys.stdin:
        found.clock.at = START + timedelta(seconds=1) + int(line) * STEP
        report = controller.tick(monitors=False)
        print(f"{killer.writes} {report.conflict}", flush=True)


if __name__ == "__main__":
    main()
