"""The loop survives every seeded world, and a loop that is broken on purpose does not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import pytest

from homeostat.backends.memory.events import MemoryEventStore
from homeostat.backends.memory.plane import MemoryDataPlane
from homeostat.control import policy, tick
from homeostat.core.errors import Conflict
from homeostat.core.events import Event
from homeostat.core.verdict import Outcome, Verdict
from homeostat.rollout import decide as deciding
from homeostat.rollout import model as rollout
from homeostat.testing.simulate import world
from homeostat.testing.simulate.models import GOOD, USELESS, Skill
from homeostat.testing.simulate.run import simulate

Break = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.parametrize("first", [0, 10])
def test_the_laws_hold_in_some_seeds(first: int) -> None:
    outcomes = [simulate(seed) for seed in range(first, first + 10)]
    assert not [o.report for o in outcomes if o.law]
    assert any("promoted" in o.ended for o in outcomes)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_laws_hold_in_a_thousand_seeds() -> None:
    command = [sys.executable, "-m", "homeostat.testing.simulate", "--seeds", "1000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1000 seeds in" in done.stdout


def test_a_seed_always_tells_the_same_story() -> None:
    assert simulate(7) == simulate(7)


# -- what would happen if ----------------------------------------------------------------------


def promote_without_evidence(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(deciding, "_may_move", lambda rollout, verdicts, now: True)


def pass_without_data(patch: pytest.MonkeyPatch) -> None:
    def measure(plan: Any, seen: Any) -> tuple[Verdict, ...]:
        names = plan.guards.names()
        return tuple(Verdict(name, Outcome.PASS, "all is well") for name in names)

    patch.setattr("homeostat.control.evidence.measure", measure)


def keep_the_candidate_after_a_rollback(patch: pytest.MonkeyPatch) -> None:
    real = rollout.evolve

    def evolve(state: Any, event: Any, at: datetime) -> Any:
        return state if isinstance(event, rollout.RolledBack) else real(state, event, at)

    patch.setattr(rollout, "evolve", evolve)


def forget_to_publish(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tick.Controller, "_route", lambda self, state: None)


def start_beside_a_live_rollout(patch: pytest.MonkeyPatch) -> None:
    real = policy.start

    def start(current: Any, **more: Any) -> Any:
        return real(None, **more)

    patch.setattr(policy, "start", start)
    patch.setattr(tick.State, "live_rollout", None)


def let_everybody_write(patch: pytest.MonkeyPatch) -> None:
    real = MemoryEventStore.append

    def append(
        self: MemoryEventStore, stream: str, events: Sequence[Event], *, after: int, at: datetime
    ) -> int:
        try:
            return real(self, stream, events, after=after, at=at)
        except Conflict:
            return real(self, stream, events, after=len(self.read(stream)), at=at)

    patch.setattr(MemoryEventStore, "append", append)


def publish_whatever_comes(patch: pytest.MonkeyPatch) -> None:
    def publish(self: MemoryDataPlane, route: Any) -> None:
        self.routes[route.model] = route

    patch.setattr(MemoryDataPlane, "publish", publish)


def skip_a_step(patch: pytest.MonkeyPatch) -> None:
    real = deciding._forward

    def forward(state: Any, verdicts: Any) -> Any:
        event = real(state, verdicts)
        last = len(state.plan.steps) - 1
        if isinstance(event, rollout.Stepped) and event.step == 1:
            return rollout.Stepped(event.rollout, last, 100.0, "in a hurry", verdicts)
        return event

    patch.setattr(deciding, "_forward", forward)


def never_promote(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(deciding, "_may_move", lambda rollout, verdicts, now: False)


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (promote_without_evidence, "no step and no promotion without evidence"),
        (pass_without_data, "no step and no promotion without evidence"),
        (keep_the_candidate_after_a_rollback, ""),
        (forget_to_publish, ""),
        (start_beside_a_live_rollout, ""),
        (let_everybody_write, ""),
        pytest.param(publish_whatever_comes, "", marks=pytest.mark.slow),
        (skip_a_step, "no step is skipped or taken twice"),
        (never_promote, "an obeying world always reaches 100 %"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_broken_loop_is_caught(broken: Break, law: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch)
    found = next((o for o in map(simulate, range(200)) if o.law), None)
    assert found is not None, "200 seeds found nothing"
    assert law in found.law, found.report


def test_the_report_of_a_broken_law_names_seed_step_law_and_how_to_repeat_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    promote_without_evidence(monkeypatch)
    found = next(o for o in map(simulate, range(300)) if o.law)
    assert f"seed {found.seed}, step {found.steps - 1}: {found.law}" in found.report
    assert f"python -m homeostat.testing.simulate --first {found.seed} --seeds 1" in found.report
    assert "controller" in found.report.split("what happened before:")[1]


# -- killed between any two calls --------------------------------------------------------------


CLIMBS = 11
"""A seed whose plan is five steps, one guard, no approvals, no shadow."""


def canary(
    skill: Skill, *, turn: int = -1, crash_at: int | None = None
) -> tuple[world.World, list[int]]:
    """A canary in calm weather whose controller is killed once, at one boundary of one turn.
    -> the world when the rollout is over, and how many boundaries each turn had."""
    found = world.World(CLIMBS)
    found.install(Skill(0, GOOD))
    first = found.controllers[0]
    first.turn()
    found.install(skill)
    boundaries: list[int] = []
    while not (found.observer.ended and found.settled):
        assert len(boundaries) < 40, found.history
        found.traffic()
        found.deliver_labels()
        if len(boundaries) == turn:
            first.faults.crash_at = crash_at
        first.turn()
        boundaries.append(first.faults.passed)
        found.pass_time()
    return found, boundaries


def decided(found: world.World) -> list[str]:
    """What was recorded about the rollout, in order; a judgement may be recorded again."""
    kinds = [r.type for r in found.events.read(world.MODEL) if r.type.startswith("rollout.")]
    return [k for k in kinds if k != "rollout.judged"]


@pytest.mark.parametrize(
    ("strength", "end", "turns"),
    [
        pytest.param(GOOD, "promoted", slice(0, 3), marks=pytest.mark.slow),
        (USELESS, "rolled back", slice(None)),
        pytest.param(GOOD, "promoted", slice(3, None), marks=pytest.mark.slow),
    ],
)
def test_a_controller_killed_between_any_two_calls_takes_every_step_once(
    strength: float, end: str, turns: slice
) -> None:
    undisturbed, boundaries = canary(Skill(0, strength))
    assert [how for _, _, how in undisturbed.observer.ended] == [end]
    for turn in range(len(boundaries))[turns]:
        for boundary in range(1, boundaries[turn] + 1):
            found, _ = canary(Skill(0, strength), turn=turn, crash_at=boundary)
            assert found.controllers[0].lives == 2, "it was killed"
            assert decided(found) == decided(undisturbed), f"killed at {boundary} of turn {turn}"
            assert found.observer.champion == undisturbed.observer.champion
