"""Whoever starts a server is told whether it answers and, where it does not, what to do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from homeostat.control.model import (
    BY_HAND,
    ChampionChanged,
    LoopEvent,
    RunFinished,
    RunStarted,
    State,
    VersionRegistered,
    evolve,
)
from homeostat.control.readiness import Readiness, Watch, readiness
from homeostat.core.errors import Unavailable
from homeostat.core.ports import Observed
from homeostat.rollout.model import RolledBack, Started
from homeostat.rollout.spec import RolloutSpec

START = datetime(2026, 1, 10, tzinfo=UTC)
BROKEN = Observed(-1, 1, {"1": "the file is damaged"})


def after(*events: LoopEvent) -> State:
    state = State()
    for seq, event in enumerate(events, 1):
        state = evolve(state, event, START + timedelta(minutes=seq), seq)
    return state


def ran(version: str) -> tuple[LoopEvent, LoopEvent]:
    run = f"run-of-{version}"
    return (
        RunStarted(run, BY_HAND, "", START),
        RunFinished(run, "registered", "", version),
    )


FIRST = ChampionChanged("1", None, "the first")


def test_without_any_version_the_pipeline_is_next() -> None:
    found = readiness(after(), Observed(-1, 1), loop=True)
    assert found == Readiness(None, "no version is registered", "homeostat run")
    alone = readiness(after(), Observed(-1, 1), loop=False)
    assert alone.next == "homeostat run, then homeostat rollout start VERSION"


def test_a_version_of_a_run_is_taken_up_by_the_loop_and_without_one_by_a_person() -> None:
    state = after(*ran("1"))
    assert readiness(state, Observed(-1, 1), loop=True) == Readiness(None)
    assert readiness(state, Observed(-1, 1), loop=False).next == "homeostat rollout start 1"


def test_a_version_that_a_person_registered_waits_for_a_person() -> None:
    state = after(VersionRegistered("4", "anna", "m.onnx"))
    found = readiness(state, Observed(-1, 1), loop=True)
    assert found.missing == "version 4 is registered and not rolled out"
    assert found.next == "homeostat rollout start 4"


def test_it_is_ready_when_every_worker_applies_what_was_decided() -> None:
    state = after(FIRST)
    assert readiness(state, Observed(1, 2), loop=True) == Readiness("1")
    assert readiness(state, Observed(-1, 2), loop=True) == Readiness(None)


@pytest.mark.parametrize(
    ("more", "following"),
    [
        ([], "homeostat run   (without `gates.against_champion`; then: homeostat rollout promote)"),
        (ran("2"), "homeostat rollout start 2 --force   (then: homeostat rollout promote)"),
        ([Started("r", "2", "1", RolloutSpec(), "policy")], "homeostat rollout promote"),
        (
            [ChampionChanged("2", "1", "better"), ChampionChanged("1", "2", "taken back")],
            "homeostat rollout abort --to 2",
        ),
    ],
)
def test_a_champion_that_cannot_be_loaded_is_told_with_the_way_to_another_version(
    more: list[LoopEvent], following: str
) -> None:
    found = readiness(after(FIRST, *more), BROKEN, loop=True)
    assert found.version is None
    assert found.missing == "version 1 cannot be loaded: the file is damaged"
    assert found.next == following


def test_versions_that_cannot_be_loaded_either_are_no_way_back() -> None:
    state = after(FIRST, ChampionChanged("2", "1", "better"), ChampionChanged("1", "2", "back"))
    seen = Observed(-1, 1, {"1": "damaged", "2": "gone"})
    assert readiness(state, seen, loop=True).next.startswith("homeostat run ")


def test_a_version_registered_by_hand_waits_until_it_is_tried() -> None:
    by_hand = VersionRegistered("4", "anna", "m.onnx")
    assert after(FIRST, by_hand, by_hand).registered == ("4",)
    tried = Started("r", "4", "1", RolloutSpec(), "anna")
    assert after(FIRST, by_hand, tried).registered == ()
    over = RolledBack("r", "4", "policy", "harm")
    assert after(FIRST, by_hand, tried, over, by_hand).registered == ("4",)
    assert after(by_hand, ChampionChanged("4", None, "started by anna")).registered == ()


class Store:
    """Events that may not be had. `after`: those that were read before."""

    def __init__(self) -> None:
        self.down = False

    def read(self, stream: str, after: int = 0) -> list[Any]:
        if self.down:
            raise Unavailable("the store does not answer")
        return []


def test_a_watch_tells_changes_only_and_waits_for_a_store_that_is_down() -> None:
    seen = [Observed(-1, 1)]
    plane = SimpleNamespace(observed=lambda model: seen[-1])
    store, told = Store(), list[Readiness]()
    books: Any = SimpleNamespace(events=store, plane=plane, stream="m")
    watch = Watch(books, loop=True, tell=told.append)
    watch.look()
    watch.look()
    assert [found.next for found in told] == ["homeostat run"]
    store.down = True
    watch.look()
    watch._state, store.down = after(FIRST), False
    watch.look()  # on its way: nothing to tell
    seen.append(Observed(1, 1))
    watch.look()
    watch.look()
    assert [found.version for found in told] == [None, "1"]
