"""The one place that names concrete backends and wires them."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from homeostat.core.clock import ScaledClock
from homeostat.definition import find_root, load

if TYPE_CHECKING:
    from homeostat.backends.local.database import Database
    from homeostat.control.books import Books
    from homeostat.control.platform import Platform
    from homeostat.control.readiness import Readiness
    from homeostat.control.tick import TickReport
    from homeostat.definition import Mistake, Project, Report
    from homeostat.serving.address import Address

HOME = ".homeostat"
LABELS = "labels"
CLOCK = "HOMEOSTAT_CLOCK"
ALERTMANAGER = "ALERTMANAGER_URL"
SETTLES = timedelta(seconds=0.25)
"""Real time from a request's time, taken as it is answered, to its being in the log, at most: a
worker may lose the processor in between."""
LOOK = 0.5
"""Seconds between looks whether predictions are answered."""
ORPHAN = 0.1
"""Seconds between looks whether the supervisor is still there."""


def open_books(root: Path | None = None, *, clock: str | None = None) -> Books:
    """What is on record of the project in `root` (found upwards from the current folder if None).
    Imports no tables: whoever only asks how things stand need not wait for them.

    Environment: HOMEOSTAT_DATABASE_URL (events and leases; SQLite in the home by default),
    MLFLOW_TRACKING_URI, HOMEOSTAT_CLOCK.
    Raises BadDefinition, BadInput, Unavailable.
    """
    return _books(root, _clock(clock))[0]


def open_project(root: Path | None = None, *, clock: str | None = None) -> Platform:
    """The whole of it: as `open_books`, with everything that the loop acts on.

    Environment: HOMEOSTAT_SNAPSHOTS (folder or s3:// URL), ALERTMANAGER_URL, and as above.
    Raises BadDefinition, BadInput, Unavailable.
    """
    time_of = _clock(clock)
    books, state = _books(root, time_of)
    from homeostat.backends.local.jobs import LocalJobs
    from homeostat.backends.local.leases import SqlLeases
    from homeostat.backends.local.ledger import DeltaLedger
    from homeostat.backends.local.notify import notifier
    from homeostat.backends.local.prediction_log import DeltaPredictionLog
    from homeostat.backends.local.reference import read_inputs, read_reference
    from homeostat.backends.local.snapshots import FileSnapshots
    from homeostat.control.platform import Platform

    home, project = books.home, books.project
    return Platform(
        **{field.name: getattr(books, field.name) for field in fields(books)},
        leases=SqlLeases(state),
        log=DeltaPredictionLog(home),
        labels=DeltaLedger(home / LABELS),
        snapshots=FileSnapshots(os.environ.get("HOMEOSTAT_SNAPSHOTS") or str(home / "snapshots")),
        jobs=LocalJobs(home, lambda run: homeostat("run", "--run", run, root=books.root)),
        notifier=notifier(project.monitoring.notify, os.environ.get(ALERTMANAGER)),
        reference=read_reference,
        inputs=read_inputs,
        settles=SETTLES * time_of.rate,
    )


def _books(root: Path | None, clock: ScaledClock) -> tuple[Books, Database]:
    from homeostat.backends.local.database import Database, sqlite_url
    from homeostat.backends.local.events import SqlEventStore
    from homeostat.backends.local.mlflow_registry import MlflowRegistry
    from homeostat.backends.local.plane import LocalDataPlane
    from homeostat.control.books import Books

    root = find_root(root or Path.cwd()) if root is None else root.resolve()
    project = load(root)
    home = root / HOME
    home.mkdir(exist_ok=True)
    state = Database(os.environ.get("HOMEOSTAT_DATABASE_URL") or sqlite_url(home / "state.db"))
    tracking = os.environ.get("MLFLOW_TRACKING_URI") or sqlite_url(home / "mlflow.db")
    books = Books(
        project=project,
        root=root,
        home=home,
        clock=clock,
        events=SqlEventStore(state),
        registry=MlflowRegistry(tracking, home / "artifacts"),
        plane=LocalDataPlane(home),
    )
    return books, state


def _clock(given: str | None) -> ScaledClock:
    return ScaledClock.parse(given or os.environ.get(CLOCK), time.time_ns)


def check(root: Path) -> Report:
    """What `definition.check` finds, and every target of notices that could not be told.
    Raises BadInput when there is no definition."""
    from homeostat.backends.local.notify import mistakes
    from homeostat.definition import Mistake
    from homeostat.definition import check as examine

    def targets(project: Project) -> Iterator[Mistake]:
        for i, error in mistakes(project.monitoring.notify, os.environ.get(ALERTMANAGER)):
            where = ("monitoring", "notify", i)
            yield Mistake.of(where, error)

    return examine(root, more=targets)


def export_prometheus(
    root: Path, *, target: str, alertmanager: str, every: timedelta
) -> dict[str, str]:
    """File name -> text: what Prometheus and Alertmanager need to watch the project in `root`.
    Raises BadDefinition, BadInput."""
    from homeostat.backends import prometheus

    return prometheus.files(load(root), target=target, alertmanager=alertmanager, every=every)


def export_grafana(root: Path, *, prometheus: str, folder: str) -> dict[str, str]:
    """File name -> text: Grafana's dashboards of the project in `root`, and where it finds them.
    Raises BadDefinition, BadInput."""
    from homeostat.backends import grafana

    return grafana.files(load(root), prometheus=prometheus, folder=folder)


def homeostat(*words: str, root: Path) -> list[str]:
    """The command line of this very installation, for a project."""
    return [sys.executable, "-m", "homeostat", "-C", str(root), *words]


Announce = Callable[["Address"], None]
"""Is told where, once every worker accepts requests there."""
Tell = Callable[["Readiness"], None]
"""Is told whether predictions are answered, at first and when that changes."""


def serve(
    platform: Platform,
    where: Address,
    workers: int | None,
    *,
    ready: Announce,
    tell: Tell,
    note: Callable[[str], None],
    loop: Sequence[str] | None = None,
) -> None:
    """The data plane until SIGTERM or SIGINT, and beside it a controller with the options `loop`;
    None: no controller. Raises Unavailable, BadInput."""
    from homeostat.control.readiness import Watch
    from homeostat.serving.supervisor import Supervisor

    watch = Watch(platform, loop=loop is not None, tell=tell)
    spec = platform.project.serving
    companions = {
        name: homeostat(name, "--parent", str(os.getpid()), *words, root=platform.root)
        for name, words in (("keeper", ()), ("controller", loop))
        if words is not None
    }
    supervisor = Supervisor(
        platform.home,
        spec,
        where.host,
        where.port,
        workers or min(spec.replicas.min, os.cpu_count() or 1),
        os.environ.get(CLOCK),
        companions,
        where.grpc_port,
        where.tls,
    )

    def watched() -> None:
        watch.look()
        while not supervisor.wait(LOOK):
            watch.look()

    def serving() -> None:
        ready(supervisor.address)
        # beside the main thread, which has to heed signals also while the store does not answer
        threading.Thread(target=watched, name="readiness", daemon=True).start()

    supervisor.run_forever(lambda: _settle(platform, note), serving)


def _settle(platform: Platform, note: Callable[[str], None]) -> None:
    """What was decided meanwhile is served from the start. Where the state does not answer, what
    was published last is served all the same."""
    from homeostat.control.tick import Controller
    from homeostat.core.errors import Unavailable

    try:
        problems: Sequence[str] = Controller(platform).tick(monitors=False).problems
    except Unavailable as error:
        problems = [error.line()]
    for problem in problems:
        note(problem)


def keeper(root: Path, *, parent: int | None = None) -> None:
    """Seal the prediction log and take in labels until SIGTERM, or until `parent` is gone."""
    from homeostat.backends.local.ledger import DeltaLedger
    from homeostat.backends.local.prediction_log import DeltaPredictionLog
    from homeostat.serving import keeper

    home = root / HOME
    keeper.run(home, DeltaPredictionLog(home), DeltaLedger(home / LABELS), _stopped(parent))


def controller(
    platform: Platform,
    *,
    interval: float,
    tell: Callable[[TickReport | str], None],
    parent: int | None = None,
) -> None:
    """Turn the loop until SIGTERM, or until `parent` is gone, while this process leads."""
    from homeostat.control.daemon import Daemon

    holder = f"{socket.gethostname()}/{os.getpid()}"
    wall = ScaledClock(time.time_ns)
    daemon = Daemon(platform, holder=holder, wall=wall, interval=interval, tell=tell)
    daemon.run(_stopped(parent))


def _stopped(parent: int | None) -> threading.Event:
    """Set by SIGTERM and SIGINT, and when the parent process is no longer `parent`: a supervisor
    that was killed could not stop us, and the next one needs what we hold."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def watch() -> None:
        while not stop.wait(ORPHAN):
            if os.getppid() != parent:
                stop.set()

    if parent is not None:
        threading.Thread(target=watch, name="parent", daemon=True).start()
    return stop
