"""A window's profile has every request of the window, however late the log shows them, and keeps
no more than it needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import polars as pl
import pytest

from homeostat.app import SETTLES, open_project
from homeostat.backends.memory.snapshots import MemorySnapshots
from homeostat.control.model import LoopEvent
from homeostat.control.profiles import Profiles
from homeostat.control.tick import Controller
from homeostat.core.events import decode
from homeostat.core.ports import PredictionLog
from homeostat.definition.example import scaffold
from homeostat.monitoring.model import WindowObserved
from homeostat.monitoring.profiles.traffic import WHOLE
from homeostat.monitoring.window import Reference
from homeostat.testing.simulate.models import GOOD, Skill
from homeostat.testing.simulate.world import MODEL, START, World

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
LATE = 7 * MINUTE


@dataclass
class LateLog:
    """Shows a request only a while after its time: a worker that lost the processor in between,
    or a clock that is compressed."""

    world: World
    log: PredictionLog

    def read(self, model: str, since: datetime, until: datetime) -> pl.DataFrame:
        rows = self.log.read(model, since, until)
        return rows.filter(pl.col("time") + LATE <= self.world.clock.at)


def test_no_window_misses_what_comes_late_into_the_log_and_none_is_kept_for_nobody() -> None:
    world = World(3)
    world.install(Skill(0, GOOD))
    late = replace(world.platform, log=LateLog(world, world.log), settles=LATE)
    controller = Controller(late)
    for _ in range(40):
        world.traffic()
        world.pass_time(5 * MINUTE)
        assert controller.tick().problems == ()
    events = [decode(r, LoopEvent) for r in world.events.read(MODEL)]
    windows = [e for e in events if isinstance(e, WindowObserved)]
    assert len(windows) == 3
    for window in windows:
        assert window.rows == world.log.read(MODEL, window.start, window.end).height > 0
    snapshots = world.platform.snapshots
    assert isinstance(snapshots, MemorySnapshots)
    assert snapshots._tables == {}


def test_what_is_kept_of_a_window_and_of_its_minutes_does_not_grow_with_their_number() -> None:
    world = World(3)
    version = world.registry.get(MODEL, world.install(Skill(0, GOOD)))
    spec = world.project.monitoring
    spec = msgspec.structs.replace(spec, drift=msgspec.structs.replace(spec.drift, weeks=1))
    snapshots = MemorySnapshots()
    project = msgspec.structs.replace(world.project, monitoring=spec)
    platform = replace(world.platform, project=project, snapshots=snapshots)
    table = platform.reference(version)
    features = [c for c in table.columns if c not in ("score", "label")]
    watched = Reference.build(table, features, spec).watched
    profiles = Profiles(platform)
    for _ in range(12):
        world.traffic()
        world.pass_time(5 * MINUTE)
        profiles.advance(watched, "1", START, START + HOUR, world.clock.at)
    assert profiles._open is not None
    assert profiles._open[2][WHOLE].rows == world.log.read(MODEL, START, START + 55 * MINUTE).height
    traffic = profiles.window(watched, "1", START, START + HOUR)
    assert traffic[WHOLE].rows == world.log.read(MODEL, START, START + HOUR).height
    ((_, kept),) = snapshots._tables.values()
    assert kept.height == 1
    # and whoever comes after reads the same
    again = Profiles(platform).window(watched, "1", START, START + HOUR)
    assert again[WHOLE].rows == traffic[WHOLE].rows
    assert (again[WHOLE].counts == traffic[WHOLE].counts).all()


def test_windows_that_no_later_one_is_compared_with_are_removed_whoever_was_champion() -> None:
    world = World(3)
    version = world.registry.get(MODEL, world.install(Skill(0, GOOD)))
    snapshots = MemorySnapshots()
    platform = replace(world.platform, snapshots=snapshots)
    table = platform.reference(version)
    features = [c for c in table.columns if c not in ("score", "label")]
    watched = Reference.build(table, features, world.project.monitoring).watched
    day, sizes = timedelta(days=1), []
    for number in range(40):
        weeks = 2 if number < 30 else 1
        declared = msgspec.structs.replace(world.project.monitoring.drift, weeks=weeks)
        spec = msgspec.structs.replace(world.project.monitoring, drift=declared)
        project = msgspec.structs.replace(world.project, monitoring=spec)
        profiles = Profiles(replace(platform, project=project))
        start, champion = START + number * day, "1" if number < 20 else "2"
        profiles.window(watched, champion, start, start + day)
        profiles.past(watched, champion, start, start + day, weeks)
        profiles.prune(start, start + day)
        sizes.append(len(snapshots._tables))
    # of each day of the last weeks there is one, and of those before the first day too
    assert max(sizes) <= 2 * 7 + 7
    assert sizes[-1] <= 7 + 7


@pytest.mark.parametrize("rate", [1.0, 7200.0])
def test_the_log_is_given_real_time_whatever_the_clock_shows(tmp_path: Path, rate: float) -> None:
    scaffold(tmp_path)
    platform = open_project(tmp_path, clock=f"2026-01-01T00:00:00+00:00@{rate}@0")
    assert platform.settles == SETTLES * rate
