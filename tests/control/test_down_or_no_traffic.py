"""A window without a request is told as what it was: nobody asked, or nobody was there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from homeostat.control.model import LoopEvent
from homeostat.control.status import status
from homeostat.control.tick import Controller
from homeostat.core.events import decode
from homeostat.core.ports import Gauge, Observed
from homeostat.core.route import Route
from homeostat.monitoring.model import AlertRaised, WindowObserved
from homeostat.testing.simulate.models import GOOD, Skill
from homeostat.testing.simulate.world import MODEL, World

from ..worlds import with_champion

MINUTES = timedelta(minutes=20)


def hours(world: World, controller: Controller | None, n: int, *, traffic: bool = False) -> None:
    for _ in range(3 * n):
        if traffic:
            world.traffic()
        world.pass_time(MINUTES)
        if controller is not None:
            controller.tick()


def recorded(world: World) -> tuple[list[WindowObserved], list[AlertRaised]]:
    events = [decode(r, LoopEvent) for r in world.events.read(MODEL)]
    windows = [e for e in events if isinstance(e, WindowObserved)]
    return windows, [e for e in events if isinstance(e, AlertRaised) and e.kind == "traffic"]


def test_hours_in_which_the_platform_was_down_are_not_told_as_hours_without_traffic() -> None:
    world = World(3)
    world.install(Skill(0, GOOD))
    hours(world, Controller(world.platform), 2, traffic=True)
    hours(world, None, 10)
    again = world.clock.at
    controller = Controller(world.platform)
    hours(world, controller, 2)
    windows, alerts = recorded(world)
    down = [w for w in windows if w.down == "controller"]
    assert len(down) >= 9
    assert all(w.end <= again + MINUTES for w in down)
    assert "homeostat was not running" in down[0].drift.sentence
    assert alerts == []
    # silence that somebody watched is one
    hours(world, controller, 2)
    _, (alert,) = recorded(world)
    assert (alert.title, alert.severity) == ("there is no traffic", "warning")
    assert alert.since >= again - timedelta(hours=1)


class NoWorkers:
    """A data plane whose workers are gone."""

    def publish(self, route: Route) -> None:
        """Nobody reads it."""

    def observed(self, model: str) -> Observed:
        return Observed(-1, 0)

    def show(self, gauges: Sequence[Gauge]) -> None:
        """Nobody looks."""


def test_silence_without_a_worker_is_an_outage() -> None:
    world = World(3)
    world.install(Skill(0, GOOD))
    hours(world, Controller(replace(world.platform, plane=NoWorkers())), 5)
    windows, (alert,) = recorded(world)
    assert "no worker was running" in windows[-1].drift.sentence
    assert (alert.title, alert.severity) == ("no worker is running", "critical")


def test_what_to_do_next_is_to_serve_where_no_worker_runs() -> None:
    world = with_champion()
    assert status(world.platform).next == "homeostat history"
    assert status(replace(world.platform, plane=NoWorkers())).next == "homeostat up"
