"""Seeds -> outcomes. What happens to a world is drawn from its seed alone."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial

import msgspec
import numpy as np

from homeostat.control.tick import Controller
from homeostat.rollout.model import Phase
from homeostat.testing.simulate.faults import PORTS
from homeostat.testing.simulate.laws import Broken, require
from homeostat.testing.simulate.models import GOOD, USELESS, Skill
from homeostat.testing.simulate.world import MODEL, World, later

CHAOS = 10
"""Steps in which anything may happen."""
CALM = 40
"""Steps within which a world that obeys must have taken a good candidate to 100 %."""
UNDECIDED = 130
"""The same for an experiment, which may have no winner: it has to end by its deadline, after one
that was under way has ended by its own."""
ALONE = 150
"""The same when nobody helps: the loop has to notice, retrain and roll out by itself."""
COMMANDS = ("install",) * 5 + ("approve",) * 3 + ("resume",) * 2 + ("pause", "promote", "abort")


class Outcome(msgspec.Struct, frozen=True):
    """What became of a seed. law and report: of a broken law, else empty."""

    seed: int
    steps: int
    ended: tuple[str, ...]
    crashes: int
    events: int
    law: str = ""
    report: str = ""


def simulate(seed: int) -> Outcome:
    """Run one seed. Never raises: a broken law and an unexpected exception are both reported."""
    world = World(seed)
    step = 0
    law = report = ""
    try:
        for now in _story(world):
            step = now
    except Broken as broken:
        law, report = broken.law, _report(world, seed, step, broken.law, broken.what)
    except Exception as error:  # noqa: BLE001 - every failure is reported, with its seed
        law = f"no exception escapes ({type(error).__name__})"
        lines = traceback.format_exc().strip().splitlines()
        report = _report(world, seed, step, law, "\n    ".join([str(error), *lines[-6:]]))
    return Outcome(
        seed,
        step + 1,
        tuple(how for _, _, how in world.observer.ended),
        sum(c.lives - 1 for c in world.controllers),
        world.observer.seq,
        law,
        report,
    )


def _story(world: World) -> Iterator[int]:
    """A first model, then anything, then calm: yields the number of each step."""
    mood = Mood.drawn(world.rng)
    world.install(Skill(0, GOOD))
    for step in range(CHAOS):
        yield step
        _weather(world, mood)
        if world.rng.random() < mood.people:
            _person(world)
        _live(world, mood)
    limit = UNDECIDED if _experiments(world) else CALM
    _calm_down(world)
    champion = world.observer.champion
    # requests that fail have no score: they raise an alert, but are no reason to train again
    working = champion is not None and world.registry.skill[champion].broken == 0
    if champion is not None and working and world.rng.random() < 0.05:
        limit = ALONE
        # monitors look at each window once: set back, they wait for the clock to catch up
        world.clock.at = max(world.clock.at, *(r.at for r in world.events.read(MODEL)))
        if world.good(champion):
            world.change()
        world.tell("the world changes, and nobody helps")
    else:
        world.tell(f"a good version {world.install(Skill(world.regime, GOOD + 0.5))}")
    for step in range(CHAOS, CHAOS + limit):
        yield step
        if _reached(world):
            break
        _obey(world)
        _live(world, None)
    require("an obeying world always reaches 100 %", _reached(world), f"{world.observer.live}")
    whole = Controller(world.platform).state()
    for process in world.controllers:
        same = process.controller.state() == whole
        require("state is a fold of the events", same, f"controller {process.number} differs")


class Mood(msgspec.Struct, frozen=True):
    """How likely each kind of trouble is, per step; a seed has most of them rarely, some often."""

    people: float
    crash: float
    outage: float
    second: float
    clock: float
    late: float

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Mood:
        rates = 0.5 * rng.random(6) ** 2
        return cls(0.3 + float(rates[0]), *rates[1:].tolist())


def _live(world: World, mood: Mood | None) -> None:
    """One step: traffic, labels, the controllers' turns, and time goes on."""
    rng = world.rng
    if mood is None or rng.random() < 0.7:
        world.traffic()
    if mood is None or rng.random() >= mood.late:
        world.deliver_labels()
    first = int(rng.integers(2))
    for number in (first, 1 - first):
        process = world.controllers[number]
        if mood is not None:
            _trouble(world, mood, number)
        process.turn()
        if mood is None or rng.random() < 0.7:
            break  # the other one is not even awake
    world.pass_time()


def _trouble(world: World, mood: Mood, number: int) -> None:
    rng, faults = world.rng, world.controllers[number].faults
    if rng.random() < mood.crash:
        faults.crash_at = int(rng.integers(1, 40))
    if rng.random() < mood.outage:
        ports = rng.choice(PORTS, size=int(rng.integers(1, 3)), replace=False)
        faults.down = frozenset(str(p) for p in ports)
        world.tell(f"controller {number} cannot reach {', '.join(sorted(faults.down))}")
    if rng.random() < mood.outage / 2:
        faults.lost = frozenset({int(rng.integers(1, 40))})
    if rng.random() < mood.second:
        act: Callable[[], None] = later(world, world.controllers[1 - number])
        if rng.random() < 0.5:
            command = str(rng.choice(["abort", "promote", "pause"]))
            act = partial(_say, world, command)
        faults.meanwhile = (int(rng.integers(1, 40)), act)


def _weather(world: World, mood: Mood) -> None:
    rng = world.rng
    if rng.random() < mood.clock:
        minutes = int(rng.choice([-600, -60, -1, 1, 60, 600]))
        world.clock.at += timedelta(minutes=minutes)
        world.tell(f"the clock jumped by {minutes} minutes")
    if rng.random() < 0.08:
        world.change()
        world.tell("the world changed")
    run = world.observer.live
    if run is not None and rng.random() < mood.outage / 5:
        world.plane.failures[run["candidate"]] = "the file is damaged (simulated)"


def _say(world: World, command: str) -> None:
    """A person's command while a controller is between two calls."""
    if world.command(command):
        world.tell(f"a person's {command} in the middle of a turn")


def _person(world: World) -> None:
    """Somebody does something, sensible or not."""
    rng = world.rng
    choice = str(
        rng.choice(
            ["install", "install", "approve", "approve", "pause", "resume", "promote", "abort"]
        )
    )
    if choice != "install":
        world.command(choice)
        return
    guarded = world.project.rollout.guards.error_rate is not None
    kind = str(rng.choice(["good", "good", "useless", "failing" if guarded else "good"]))
    skill = {
        "good": Skill(world.regime, GOOD + 0.2 * float(rng.random())),
        "useless": Skill(world.regime, USELESS),
        "failing": Skill(world.regime, GOOD, 0.6),
    }[kind]
    world.tell(f"a {kind} version {world.install(skill)}")


def _calm_down(world: World) -> None:
    """From here on nothing goes wrong, and people do what is asked of them."""
    for controller in world.controllers:
        controller.faults.clear()
    world.plane.failures.clear()
    world.pass_time(timedelta(hours=3))  # a cooldown, a lease, a late label: all over
    world.deliver_labels()
    run = world.observer.live
    if run is not None and not world.good(run["candidate"]):
        world.command("abort")
    world.calm_from = len(world.observer.ended)
    world.tell("calm")


def _obey(world: World) -> None:
    run = world.people.state().live_rollout
    if run is None:
        return
    if run.phase is Phase.PAUSED:
        world.command("resume")
    elif run.phase is Phase.WAITING_APPROVAL:
        world.command("approve")


def _reached(world: World) -> bool:
    """A good candidate went all the way since it is calm, and is what answers; an experiment,
    in which a good one need not be better, has ended."""
    ended = world.observer.ended[world.calm_from :]
    if _experiments(world) and ended:
        return world.settled
    return any(how == "promoted" and world.good(name) for _, name, how in ended) and world.settled


def _experiments(world: World) -> bool:
    return world.project.rollout.strategy == "experiment"


def _report(world: World, seed: int, step: int, law: str, what: str) -> str:
    last = "\n    ".join(world.history[-12:])
    return (
        f"seed {seed}, step {step}: {law}\n    {what}\n  what happened before:\n    {last}\n"
        f"  to repeat: python -m homeostat.testing.simulate --first {seed} --seeds 1"
    )
