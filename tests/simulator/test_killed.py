"""Killed before or after any write, a controller goes on as if nothing had happened; and of two
that act at once, one does."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from homeostat.backends.local.database import Database, sqlite_url
from homeostat.backends.local.events import SqlEventStore
from homeostat.control.tick import Controller
from homeostat.core.ports import EventStore
from homeostat.core.route import Route
from homeostat.testing.simulate.faults import Crash, Killer, faulty
from homeostat.testing.simulate.models import GOOD, USELESS, Skill
from homeostat.testing.simulate.world import MODEL, World

from .a_controller import PLAN, TURNS

History = list[tuple[str, bytes]]
ENDS = {GOOD: "rollout.promoted", USELESS: "rollout.rolled_back"}


def history(events: EventStore) -> History:
    """What was decided, in order; when is left out."""
    return [(r.type, r.body) for r in events.read(MODEL)]


@contextmanager
def opened(url: str) -> Iterator[SqlEventStore]:
    database = Database(url)
    try:
        yield SqlEventStore(database)
    finally:
        database.close()


def history_at(url: str) -> History:
    with opened(url) as events:
        return history(events)


def played(
    events: EventStore | None, strength: float, at: int | None = None, *, after: bool = False
) -> tuple[History, int, Route]:
    """A rollout from its start to its end. -> history, writes, the route at the end."""
    world = World(1, plan=msgspec.structs.replace(PLAN, steps=(50, 100)))
    if events is not None:
        world.events = events  # type: ignore[assignment]
        world.platform = dataclasses.replace(world.platform, events=events)
    killer = Killer(at, after=after)
    controller = Controller(faulty(world.platform, killer))
    for turn in range(6):
        if turn < 2:
            world.install(Skill(0, GOOD if turn == 0 else strength))
        world.traffic()
        world.deliver_labels()
        try:
            controller.tick(monitors=False)
        except Crash:
            controller = Controller(world.platform)
            controller.tick(monitors=False)
        world.pass_time()
    assert at is None or killer.writes >= at, "it was killed"
    return history(world.events), killer.writes, world.plane.routes[MODEL]


@pytest.mark.parametrize("strength", [pytest.param(GOOD, marks=pytest.mark.slow), USELESS])
def test_killed_at_any_write_no_step_is_taken_twice_and_none_is_skipped(strength: float) -> None:
    whole, writes, route = played(None, strength)
    assert ENDS[strength] in [kind for kind, _ in whole]
    assert writes > 10
    for at in range(1, writes + 1):
        for after in (False, True):
            found = played(None, strength, at, after=after)
            assert found[0] == whole, f"killed {'after' if after else 'before'} write {at}"
            assert found[2] == route


@pytest.mark.slow
def test_killed_at_any_write_on_sqlite(tmp_path: Path) -> None:
    def run(name: str, at: int | None, *, after: bool) -> tuple[History, int, Route]:
        with opened(sqlite_url(tmp_path / f"{name}.db")) as events:
            return played(events, GOOD, at, after=after)

    whole, writes, route = run("whole", None, after=False)
    for at in range(1, writes + 1):
        for after in (False, True):
            found = run(f"{at}-{after}", at, after=after)
            assert (found[0], found[2]) == (whole, route), f"write {at}, after: {after}"


# -- processes -----------------------------------------------------------------------------------


class Process:
    """`a_controller.py`, taking a turn for each line it is given."""

    def __init__(self, url: str, home: Path, *kill: str) -> None:
        script = str(Path(__file__).with_name("a_controller.py"))
        self.popen = subprocess.Popen(
            [sys.executable, script, url, str(home), *kill],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def answer(self) -> str:
        """Its next line; empty when it is dead."""
        assert self.popen.stdout is not None
        return self.popen.stdout.readline()

    def turn(self, number: int) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(f"{number}\n")
        self.popen.stdin.flush()


@contextmanager
def processes(*made: Process) -> Iterator[None]:
    try:
        yield
    finally:
        for one in made:
            one.popen.kill()
            one.popen.communicate()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[History, int]:
    folder = tmp_path_factory.mktemp("whole")
    url = sqlite_url(folder / "state.db")
    one = Process(url, folder)
    with processes(one):
        assert one.answer() == "ready\n"
        for turn in range(TURNS):
            one.turn(turn)
            writes = int(one.answer().split()[0])
    found = history_at(url)
    assert found[-1][0] == "champion.changed"
    return found, writes


@pytest.mark.slow
@pytest.mark.parametrize(("share", "side"), [(0.2, "before"), (0.5, "after"), (0.9, "after")])
def test_a_process_killed_for_real_is_succeeded_by_one_that_ends_up_the_same(
    undisturbed: tuple[History, int], tmp_path: Path, share: float, side: str
) -> None:
    whole, writes = undisturbed
    url = sqlite_url(tmp_path / "state.db")
    at = max(1, round(share * writes))
    first = Process(url, tmp_path, str(at), side)
    assert first.answer() == "ready\n"  # it has recorded how the story begins
    second = Process(url, tmp_path)
    with processes(first, second):
        assert second.answer() == "ready\n"
        alive = first
        for turn in range(TURNS):
            alive.turn(turn)
            if not alive.answer():
                assert alive is first
                assert first.popen.wait() == -9
                alive = second
                second.turn(turn)
                assert second.answer()
        assert alive is second
    assert history_at(url) == whole


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_two_controllers_at_once_decide_what_one_would(
    undisturbed: tuple[History, int], tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    url = sqlite_url(tmp_path / "state.db")
    if kind == "postgresql":
        url = request.getfixturevalue("postgres_url")
    first = Process(url, tmp_path)
    assert first.answer() == "ready\n"  # it has recorded how the story begins
    second = Process(url, tmp_path)
    with processes(first, second):
        assert second.answer() == "ready\n"
        for turn in range(TURNS):
            for one in (first, second):  # both at once
                one.turn(turn)
            for one in (first, second):
                assert one.answer()
    assert history_at(url) == undisturbed[0]
