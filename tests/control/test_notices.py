"""What the loop tells people, turn after turn."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

from homeostat.backends.memory.notify import MemoryNotifier
from homeostat.control.record import record
from homeostat.control.tick import Controller
from homeostat.monitoring.model import AlertEscalated, AlertRaised, Silenced
from homeostat.testing.simulate.models import GOOD, Skill
from homeostat.testing.simulate.world import MODEL, World


def test_an_alert_is_told_once_and_kept_open_until_it_is_over() -> None:
    world, notifier = World(30), MemoryNotifier()
    controller = Controller(dataclasses.replace(world.platform, notifier=notifier))
    world.install(Skill(0, GOOD, broken=0.3))
    told: list[tuple[int, tuple[str, ...]]] = []
    for step in range(40):
        notifier.down = step < 15
        if step == 25:
            world.registry.skill["1"] = Skill(0, GOOD)
        world.traffic()
        world.deliver_labels()
        report = controller.tick()
        if notifier.down and controller.state().monitor.notices:
            assert "the notifier is down" in report.problems[0]
        told.append((len(notifier.sent), notifier.open))
        world.pass_time()
    (begun, ended) = notifier.sent
    assert (begun.model, ended.model) == (MODEL, MODEL)
    assert (ended.alert, ended.over, ended.was) == (begun.key, True, begun.severity)
    assert (begun.since, begun.incident) == (ended.since, ended.incident)
    assert begun.incident == begun.key
    assert told[14] == (0, ())
    assert told[16] == (1, (begun.key,))  # nobody is reminded of what nobody was told
    assert told[39] == (2, ())


def turn(controller: Controller) -> None:
    """What the first one tells, the second one knows to be told."""
    for _ in range(2):
        controller.tick(monitors=False)


def test_what_a_silence_holds_back_is_not_renewed_under_another_severity() -> None:
    world, notifier = World(30), MemoryNotifier()
    controller = Controller(dataclasses.replace(world.platform, notifier=notifier))
    since = world.clock.at
    raised = AlertRaised("data@x", "data", "warning", "broken", "nulls", since)
    record(world.platform, [raised])
    turn(controller)
    assert notifier.open == ("data@x",)
    silence = Silenced("data", since + timedelta(days=1), "known", "anna")
    world.clock.at += timedelta(minutes=1)
    record(world.platform, [silence, AlertEscalated("data@x", "critical", "still open")])
    turn(controller)
    assert [n.severity for n in notifier.sent] == ["warning"]
    assert notifier.open == ()
    world.clock.at += timedelta(days=1)
    turn(controller)
    assert [n.severity for n in notifier.sent] == ["warning", "critical"]
    assert notifier.open == ("data@x",)
