"""One seed's world: what exists in it and what can happen to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.backends.memory.clock import VirtualClock
from homeostat.backends.memory.events import MemoryEventStore
from homeostat.backends.memory.jobs import MemoryJobs
from homeostat.backends.memory.leases import MemoryLeases
from homeostat.backends.memory.ledger import MemoryLedger
from homeostat.backends.memory.log import MemoryPredictionLog
from homeostat.backends.memory.plane import MemoryDataPlane
from homeostat.backends.memory.registry import MemoryRegistry
from homeostat.backends.memory.snapshots import MemorySnapshots
from homeostat.control import commands
from homeostat.control.daemon import Daemon
from homeostat.control.model import BY_HAND, RunFinished, RunStarted
from homeostat.control.platform import Platform
from homeostat.control.record import record
from homeostat.control.tick import Controller, TickReport
from homeostat.core.duration import Duration
from homeostat.core.errors import HomeostatError
from homeostat.core.ports import Notice
from homeostat.core.records import LABELS
from homeostat.core.route import Servable
from homeostat.core.servable import Field
from homeostat.core.version import Version
from homeostat.data.spec import DataSpec, Label
from homeostat.definition import Project, RetrainingSpec
from homeostat.monitoring.spec import MonitoringSpec, Quality
from homeostat.monitoring.window import Reference
from homeostat.rollout.spec import (
    ErrorGuard,
    Freeze,
    Guards,
    LatencyGuard,
    QualityGuard,
    RolloutSpec,
)
from homeostat.testing.simulate import models
from homeostat.testing.simulate.faults import Crash, Faults, faulty
from homeostat.testing.simulate.laws import Observer
from homeostat.testing.simulate.models import GOOD, Skill
from homeostat.training.spec import Split, TrainingSpec

MODEL = "simulated"
START = datetime(2026, 1, 1, tzinfo=UTC)
STEP = timedelta(minutes=10)
STRATEGIES = ("canary",) * 5 + ("shadow", "blue_green", "experiment")
LATE = timedelta(minutes=10)
NIGHT = Freeze("00:00", "02:00", why="the nightly batch")


class Skills(MemoryRegistry):
    """A registry of versions without files."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(Path(), clock.now)
        self.skill: dict[str, Skill] = {}

    def add(self, run: str, skill: Skill) -> str:
        """Repeating a run gives the version it has."""
        versions = self._versions.setdefault(MODEL, [])
        for known in versions:
            if known.run == run:
                return known.version
        name = str(len(versions) + 1)
        digest = "sha256:" + name.rjust(64, "0")
        versions.append(Version(MODEL, name, run, self._now(), name, digest, {}, {}, {}))
        self.skill[name] = skill
        return name


class Tables(MemorySnapshots):
    """Nobody asks what a table's digest is: the loop knows it by its key."""

    def put(self, key: str, table: pl.DataFrame) -> str:
        self._tables.setdefault(key, (key, table))
        return key


class Mailbox:
    """A Notifier that keeps what it was sent."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []

    def send(self, notice: Notice) -> None:
        self.notices.append(notice)

    def renew(self, alerts: Sequence[Notice]) -> None:
        """Nothing was forgotten."""


class World:
    """Everything of one seed. What happens is chosen by `run`; here is how it happens.
    plan: of the rollouts, instead of a drawn one. people: what they look at; it never turns."""

    def __init__(self, seed: int, plan: RolloutSpec | None = None) -> None:
        self.rng = np.random.default_rng(seed)
        self.clock, self.wall = VirtualClock(START), VirtualClock(START)
        self.regime = self.era = 0
        self.requests = 0
        self.history: list[str] = []
        self.observer = Observer(lambda: self.era, self.harmful, self.frozen)
        self.settled = False
        self.calm_from = 0
        self.registry = Skills(self.clock)
        self.log = MemoryPredictionLog()
        self.labels = MemoryLedger()
        self.mailbox = Mailbox()
        self.events = MemoryEventStore()
        self.plane = MemoryDataPlane(self.log, self._score)
        self.jobs = MemoryJobs(self._train, clock=self.clock, takes=STEP / 2)
        self.references: dict[str, Reference] = {}
        self.waiting: list[tuple[list[str], models.Floats, datetime]] = []
        self.project = project(self.rng)
        if plan is not None:
            self.project = msgspec.structs.replace(self.project, rollout=plan)
        self.volume = 60 if self.project.rollout.guards.latency_p99 is None else 600
        self.platform = Platform(
            project=self.project,
            root=Path(),
            home=Path(),
            clock=self.clock,
            events=self.events,
            leases=MemoryLeases(),
            registry=self.registry,
            log=self.log,
            labels=self.labels,
            snapshots=Tables(),
            jobs=self.jobs,
            plane=self.plane,
            notifier=self.mailbox,
            reference=self._reference,
            inputs=self._inputs,
        )
        self.controllers = [Process(self, 0), Process(self, 1)]
        self.people = Controller(self.platform)

    # -- time and traffic ----------------------------------------------------------------------

    def pass_time(self, delta: timedelta = STEP) -> None:
        self.clock.at += delta
        self.wall.at += timedelta(seconds=20)  # a lease that is not renewed has run out

    def traffic(self) -> None:
        """A batch of requests now; their labels come later, or never."""
        n = self.volume
        features, label = models.requests(self.rng, n, self.regime)
        ids = [f"r{self.requests + i}" for i in range(n)]
        self.requests += n
        answered = self.plane.serve(MODEL, ids, features, self.clock.at)
        self.observer.answers(answered, settled=self.settled)
        kept = np.flatnonzero(self.rng.random(n) < 0.95)
        self.waiting.append(([ids[i] for i in kept.tolist()], label[kept], self.clock.at))

    def deliver_labels(self) -> None:
        """All that wait; each says when it reached us, which may be yet to come."""
        if not self.waiting:
            return
        ids = [name for batch, _, _ in self.waiting for name in batch]
        sizes = [len(batch) for batch, _, _ in self.waiting]
        when = [round(at.timestamp() * 1e6) for _, _, at in self.waiting]
        times = np.repeat(when, sizes)
        late = LATE // timedelta(microseconds=1)
        self.labels.append(
            pl.DataFrame(
                [
                    pl.Series("id", ids, LABELS["id"]),
                    pl.Series("label", np.concatenate([label for _, label, _ in self.waiting])),
                    pl.Series("time", times).cast(LABELS["time"]),
                    pl.Series("known", times + late).cast(LABELS["known"]),
                ]
            )
        )
        self.waiting.clear()

    # -- models --------------------------------------------------------------------------------

    def install(self, skill: Skill) -> str:
        """A person's `homeostat run` ended with a new version."""
        run = f"by-hand-{len(self.registry.skill) + 1}"
        record(self.platform, [RunStarted(run, BY_HAND, "a person", self.clock.at)])
        version = self.registry.add(run, skill)
        record(self.platform, [RunFinished(run, "registered", "passed the gates", version)])
        self.look()
        return version

    def _train(self, run: str) -> None:
        skill = Skill(self.regime, GOOD + 0.2 * float(self.rng.random()))
        version = self.registry.add(run, skill)
        record(self.platform, [RunFinished(run, "registered", "passed the gates", version)])

    def _score(
        self, version: Servable, features: NDArray[np.float32], ids: object
    ) -> models.Floats:
        return models.score(self.registry.skill[version.version], features)

    def _reference(self, version: Version) -> pl.DataFrame:
        return models.reference(self.registry.skill[version.version])

    def _inputs(self, version: Version) -> tuple[Field, ...]:
        return tuple(Field(name) for name in models.FEATURES)

    def harmful(self, candidate: str, champion: str) -> bool:
        """Far worse than a champion that is as good as can be."""
        skill = self.registry.skill[candidate]
        worse = skill.broken > 0.5 or (skill.strength < 0 and skill.regime == self.regime)
        return worse and self.good(champion)

    def frozen(self, at: datetime) -> bool:
        """Whether the plan's freeze (`NIGHT`, or none) holds."""
        return NIGHT in self.project.rollout.freeze and at.hour < 2

    def good(self, version: str) -> bool:
        return self.registry.skill[version].good(self.regime)

    def change(self) -> None:
        """The world changes: what told the label no longer does, something else does."""
        self.regime = 1 - self.regime
        self.era += 1

    # -- people --------------------------------------------------------------------------------

    def command(self, name: str, *words: str) -> bool:
        """A person's command, on ports that work; False when it is refused."""
        try:
            getattr(commands, f"rollout_{name}")(self.platform, *words, "anna")
        except HomeostatError as refusal:
            self.tell(f"{name} refused: {refusal.what}")
            return False
        self.look()
        self.settled = True
        self.observer.route(self.plane.routes.get(MODEL), settled=True)
        return True

    # -- what is seen --------------------------------------------------------------------------

    def look(self) -> bool:
        """Follow what was appended; True when there was something."""
        new = self.events.read(MODEL, self.observer.seq)
        if new:
            self.settled = False
        self.observer.follow(new)
        return bool(new)

    def tell(self, what: str) -> None:
        self.history.append(f"{self.clock.at:%d %H:%M} {what}")


class Watched(Controller):
    """A controller that remembers how its last turn went. built: version -> what its windows are
    compared with, which is the same in every process."""

    report: TickReport | None = None

    def __init__(self, platform: Platform, built: dict[str, Reference]) -> None:
        super().__init__(platform)
        self._built = built

    def reference(self, version: Version) -> Reference:
        if version.version not in self._built:
            self._built[version.version] = super().reference(version)
        return self._built[version.version]

    def tick(self, *, monitors: bool = True) -> TickReport:
        self.report = None
        self.report = super().tick(monitors=monitors)
        return self.report


class Process:
    """A controller's process: it can be killed and comes back without a memory."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number, self.lives = world, number, 0
        self.faults = Faults()
        self.told: list[TickReport | str] = []
        self._start()

    def _start(self) -> None:
        self.lives += 1
        platform = faulty(self.world.platform, self.faults)
        self.controller = Watched(platform, self.world.references)
        self.daemon = Daemon(
            platform,
            holder=f"controller-{self.number}.{self.lives}",
            wall=self.world.wall,
            interval=1.0,
            tell=self.told.append,
        )
        self.daemon._controller = self.controller

    def turn(self) -> None:
        """One turn, whatever comes of it; then the laws are checked."""
        world = self.world
        self.told.clear()
        self.controller.report = None
        disturbed = self.faults.meanwhile is not None
        try:
            self.daemon.turn()
        except Crash:
            world.tell(f"controller {self.number} killed at {self.faults.calls[-1]}")
            self._start()
        world.look()
        for brief in filter(None, map(_brief, self.told)):
            world.tell(f"controller {self.number}: {brief}")
        report = self.controller.report
        if report is not None and not (report.conflict or report.problems or disturbed):
            world.settled = True
        self.faults.clear()
        world.observer.route(world.plane.routes.get(MODEL), settled=world.settled)


def _brief(told: TickReport | str) -> str:
    if isinstance(told, str):
        return told
    return ", ".join([*told.decided, *told.problems])


def project(rng: np.random.Generator) -> Project:
    """A declared project; what is left open by the laws is drawn."""
    steps = [(10, 25, 50, 75, 100), (25, 50, 100), (50, 100)][int(rng.integers(3))]
    approve = [(), (), (), (100,), (steps[0],)][int(rng.integers(5))]
    guards = Guards(
        quality=QualityGuard(
            metric=["log_loss", "brier", "error"][int(rng.integers(3))],
            margin=0.15,
            paired=True,
        ),
        error_rate=ErrorGuard(margin=0.25) if rng.random() < 0.4 else None,
        latency_p99=LatencyGuard(max_ratio=2.0) if rng.random() < 0.02 else None,
    )
    abort = rng.random() < 0.1
    later = np.random.default_rng(rng.integers(1 << 32))  # what came in later leaves the rest be
    strategy = str(later.choice(STRATEGIES))
    if strategy in ("blue_green", "experiment"):
        approve = tuple(p for p in approve if p == 100)
    return Project(
        name=MODEL,
        data=DataSpec(
            source="none",
            time="time",
            key="id",
            label=Label("label", Duration.of(LATE)),
            features=models.FEATURES,
        ),
        training=TrainingSpec("none:fit", Split(Duration(hours=1), Duration(0), Duration(hours=1))),
        rollout=RolloutSpec(
            steps=steps,
            # nothing can be measured before labels are final, so `abort` needs a longer bake
            bake=Duration.of(3 * STEP if abort else STEP),
            guards=guards,
            approve=tuple(float(p) for p in approve),
            shadow=Duration.of(STEP) if rng.random() < 0.3 else None,
            no_data="abort" if abort else "hold",
            max_duration=Duration(hours=9),
            block=Duration(0),  # requests come in batches, and are independent all the same
            strategy=strategy,  # type: ignore[arg-type]
            # after chaos a day may have had next to no traffic: a right refusal, and no rollout
            preflight="warn",
            freeze=(NIGHT,) if later.random() < 0.15 else (),
            on_new_candidate="supersede" if later.random() < 0.3 else "queue",
        ),
        monitoring=MonitoringSpec(
            window=Duration(hours=1), quality=Quality("accuracy", min=0.75), notify=()
        ),
        retraining=RetrainingSpec(cooldown=Duration(hours=1), per_week=100, stop_after_no_gain=100),
    )


def later(world: World, process: Process) -> Callable[[], None]:
    """What a second controller does while the first one is between two calls."""

    def act() -> None:
        world.wall.at += timedelta(seconds=20)
        process.turn()

    return act
