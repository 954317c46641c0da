"""The laws of Jobs. Subclass with a fixture `world`, and name the class Test..."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import pytest

from homeostat.core.ports import Jobs


class World(Protocol):
    """Jobs, and a hand on what its runs do.

    attempts: how often a run has begun. finish: let it end well. crash: kill it.
    """

    jobs: Jobs

    def attempts(self, run: str) -> int: ...

    def finish(self, run: str) -> None: ...

    def crash(self, run: str) -> None: ...


def eventually(condition: Callable[[], bool], *, within: float = 20.0) -> None:
    """Wait for what other processes do; fails after `within` seconds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


class JobsContract:
    """Every Jobs passes this."""

    @pytest.fixture
    def world(self) -> World:
        raise NotImplementedError("a subclass gives the world")

    def test_what_was_never_started_is_not_alive(self, world: World) -> None:
        assert not world.jobs.alive("run-1")

    def test_a_run_is_alive_until_it_ends(self, world: World) -> None:
        world.jobs.start("run-1")
        assert world.jobs.alive("run-1")
        world.finish("run-1")
        eventually(lambda: not world.jobs.alive("run-1"))
        assert world.attempts("run-1") == 1

    def test_starting_what_is_alive_does_nothing(self, world: World) -> None:
        world.jobs.start("run-1")
        for _ in range(3):
            world.jobs.start("run-1")
        world.finish("run-1")
        eventually(lambda: not world.jobs.alive("run-1"))
        assert world.attempts("run-1") == 1

    def test_runs_do_not_disturb_each_other(self, world: World) -> None:
        world.jobs.start("run-1")
        world.jobs.start("run-2")
        world.finish("run-1")
        eventually(lambda: not world.jobs.alive("run-1"))
        assert world.jobs.alive("run-2")
        world.jobs.stop("run-2")

    def test_a_run_that_crashed_is_not_alive_and_can_be_started_again(self, world: World) -> None:
        world.jobs.start("run-1")
        eventually(lambda: world.attempts("run-1") == 1)
        world.crash("run-1")
        eventually(lambda: not world.jobs.alive("run-1"))
        world.jobs.start("run-1")
        assert world.jobs.alive("run-1")
        world.finish("run-1")
        eventually(lambda: not world.jobs.alive("run-1"))
        assert world.attempts("run-1") == 2

    def test_a_stopped_run_is_not_alive(self, world: World) -> None:
        world.jobs.start("run-1")
        world.jobs.stop("run-1")
        assert not world.jobs.alive("run-1")

    def test_stopping_what_is_not_alive_does_nothing(self, world: World) -> None:
        world.jobs.stop("run-1")
        world.jobs.start("run-1")
        world.finish("run-1")
        eventually(lambda: not world.jobs.alive("run-1"))
        world.jobs.stop("run-1")
