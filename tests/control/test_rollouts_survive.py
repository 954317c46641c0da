"""What happens to a rollout when a version, a store or a plan is not there any more."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest

from homeostat.cli import main as cli
from homeostat.cli.output import Settings
from homeostat.control import commands
from homeostat.control.status import status
from homeostat.control.tick import Controller
from homeostat.core.duration import Duration
from homeostat.core.errors import NotFound, Refused
from homeostat.rollout.model import Phase
from homeostat.rollout.spec import Freeze
from homeostat.testing.simulate.models import GOOD, USELESS, Skill
from homeostat.testing.simulate.world import MODEL, World

from ..worlds import PLAN, Down, with_champion

pytestmark = pytest.mark.slow


def canary(turns: int = 0, strength: float = GOOD, **plan: Any) -> World:
    """A champion and a candidate that has begun; then so many turns."""
    world = with_champion(**plan)
    world.install(Skill(0, strength))
    world.controllers[0].turn()
    for _ in range(turns):
        turn(world)
    return world


def turn(world: World) -> None:
    world.traffic()
    world.deliver_labels()
    world.pass_time()
    world.controllers[0].turn()


def ended(world: World) -> str:
    return world.observer.ended[-1][2] if world.observer.ended else ""


def forget(world: World, version: str) -> None:
    """Delete a version from the registry."""
    kept = [v for v in world.registry._versions[MODEL] if v.version != version]
    world.registry._versions[MODEL] = kept


def test_a_candidate_that_is_withdrawn_gets_no_further_step() -> None:
    world = canary(1)
    forget(world, "2")
    for _ in range(4):
        turn(world)
    assert ended(world) == "rolled back"
    state = world.controllers[0].controller.state()
    assert state.rollout is not None
    assert "version 2 was withdrawn" in state.rollout.reason


def test_traffic_returns_to_a_champion_that_the_registry_has_lost() -> None:
    world = canary(3)
    assert world.plane.routes[MODEL].percent > 0
    forget(world, "1")
    restarted = Controller(world.platform)  # nothing remembered
    commands.rollout_abort(world.platform, "anna")
    assert restarted.tick(monitors=False).problems == ()
    assert world.plane.routes[MODEL].weights() == {"1": 100.0}


@pytest.mark.parametrize("phase", ["shadow", "step", "paused", "waiting", "frozen"])
def test_an_abort_takes_effect_at_once_from_every_phase_without_log_labels_or_registry(
    phase: str,
) -> None:
    change: dict[str, Any] = {
        "shadow": {"shadow": Duration(hours=5)},
        "waiting": {"approve": (25.0,)},
        "frozen": {"freeze": (Freeze("2025-01-01", "2027-01-01"),)},
    }.get(phase, {})
    world = canary(3, **change)
    if phase == "paused":
        commands.rollout_pause(world.platform, "anna")
    down = dataclasses.replace(
        world.platform,
        log=Down(),  # type: ignore[arg-type]
        labels=Down(),  # type: ignore[arg-type]
    )
    state = commands.rollout_abort(down, "anna")
    assert state.rollout is not None
    assert state.rollout.phase is Phase.ROLLED_BACK
    assert world.plane.routes[MODEL].weights() == {"1": 100.0}


def test_an_experiment_that_is_undecided_in_time_asks_a_person_whose_yes_names_the_winner(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = with_champion(
        strategy="experiment", insufficient="ask", max_duration=Duration(hours=1), preflight="off"
    )
    for _ in range(2):
        world.install(Skill(0, GOOD))
    for _ in range(9):
        turn(world)
    for opened in ("books", "platform"):
        monkeypatch.setattr(Settings, opened, lambda _: world.platform)
    assert cli.run(["rollout", "status"]) == 0
    assert "waiting approval" in capsys.readouterr().out
    assert cli.run(["history"]) == 0
    assert "waits for a person's yes to version 2 at 100 %" in capsys.readouterr().out
    assert cli.run(["rollout", "explain"]) == 0
    assert "a person has to approve version 2 at 100 %" in capsys.readouterr().out
    assert cli.run(["rollout", "approve", "--by", "anna"]) == 0
    turn(world)
    ended = world.controllers[0].controller.state().rollout
    assert ended is not None
    assert (ended.phase, ended.candidate, ended.by) == (Phase.PROMOTED, "2", "anna")
    assert world.plane.routes[MODEL].weights() == {"2": 100.0}


def test_evidence_that_cannot_be_read_holds_the_rollout_and_the_deadline_still_ends_it() -> None:
    world = canary(2)
    down = dataclasses.replace(world.platform, log=Down())  # type: ignore[arg-type]
    controller = Controller(down)
    percent = world.plane.routes[MODEL].percent
    report = controller.tick(monitors=False)
    assert "it does not answer" in report.problems[0]
    state = controller.state().rollout
    assert state is not None
    assert (state.live, state.percent) == (True, percent)
    assert "cannot be judged: it does not answer" in state.verdicts[0].sentence
    world.pass_time(Duration(hours=9))
    controller.tick(monitors=False)
    state = controller.state().rollout
    assert state is not None
    assert state.reason.startswith("not decided within 9h: quality: cannot be judged")


def test_a_candidate_that_cannot_be_loaded_ends_its_rollout_even_without_a_log() -> None:
    world = canary(1)
    world.plane.failures["2"] = "the file is damaged"
    down = dataclasses.replace(world.platform, log=Down())  # type: ignore[arg-type]
    Controller(down).tick(monitors=False)
    assert world.plane.routes[MODEL].weights() == {"1": 100.0}


def test_an_edited_plan_reaches_the_next_rollout_and_the_status_says_so() -> None:
    world = canary(1)
    edited = msgspec.structs.replace(PLAN, steps=(50, 100))
    project = msgspec.structs.replace(world.project, rollout=edited)
    platform = dataclasses.replace(world.platform, project=project)
    shown = status(platform).rollout
    assert shown is not None
    assert shown.edited
    assert shown.steps == (10, 25, 50, 75, 100)
    unedited = status(world.platform).rollout
    assert unedited is not None
    assert not unedited.edited


@pytest.mark.parametrize(("how", "trying"), [("queue", "2"), ("supersede", "3")])
def test_a_second_candidate_waits_or_takes_over_as_declared(how: str, trying: str) -> None:
    world = canary(1, on_new_candidate=how)
    world.install(Skill(0, GOOD))
    for _ in range(2):
        world.controllers[0].turn()
    live = world.observer.live
    assert live is not None
    assert live["candidate"] == trying


def test_a_paused_rollout_is_not_superseded() -> None:
    world = canary(1, on_new_candidate="supersede")
    world.command("pause")
    world.install(Skill(0, GOOD))
    world.controllers[0].turn()
    live = world.observer.live
    assert live is not None
    assert live["candidate"] == "2"


def test_a_command_shows_the_rollout_it_acted_on_though_the_next_one_begins_at_once() -> None:
    world = canary(1)
    world.install(Skill(0, GOOD))
    world.controllers[0].turn()
    shown = status(world.platform, commands.rollout_abort(world.platform, "anna", "too slow"))
    world.controllers[0].turn()
    assert shown.rollout is not None
    assert (shown.rollout.candidate, shown.rollout.phase) == ("2", Phase.ROLLED_BACK)
    assert shown.waiting == ("3",)
    now = status(world.platform).rollout
    assert now is not None
    assert (now.candidate, now.ended) == ("3", None)


def test_a_return_to_an_earlier_champion_is_told_and_not_the_rollout_before_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = canary(9)
    monkeypatch.setattr(Settings, "platform", lambda self: world.platform)
    assert cli.run(["rollout", "abort", "--to", "1", "--by", "anna", "--why", "a doubt"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("champion    version 1 since ")
    assert "returned to by anna: a doubt" in told
    assert "promoted" not in told


def test_the_champion_is_not_tried_against_itself_whatever_the_traffic() -> None:
    world = canary(9)
    before = len(world.events.read(MODEL))
    with pytest.raises(Refused, match="version 2 is the champion already"):
        commands.rollout_start(world.platform, "2", "anna")
    assert len(world.events.read(MODEL)) == before


def test_one_command_returns_to_any_earlier_champion_and_ends_a_live_rollout() -> None:
    world = canary(9)
    assert ended(world) == "promoted"
    world.install(Skill(0, USELESS))
    world.controllers[0].turn()
    state = commands.rollout_abort(world.platform, "anna", "it misbehaves", to="1")
    assert (state.champion, state.live_rollout) == ("1", None)
    assert world.plane.routes[MODEL].weights() == {"1": 100.0}
    with pytest.raises(Refused, match="champion already"):
        commands.rollout_abort(world.platform, "anna", to="1")
    with pytest.raises(Refused, match=r"version 3 has never been the champion.*one of 2"):
        commands.rollout_abort(world.platform, "anna", to="3")
    with pytest.raises((Refused, NotFound)):
        commands.rollout_abort(world.platform, "anna", to="99")
