"""Everything the loop acts on, in one bundle: the declared project and its ports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import polars as pl

from homeostat.core.clock import Clock
from homeostat.core.ports import (
    DataPlane,
    EventStore,
    Jobs,
    LabelLedger,
    Leases,
    Notifier,
    PredictionLog,
    Registry,
    SnapshotStore,
)
from homeostat.core.servable import Field
from homeostat.core.version import Version
from homeostat.definition import Project


@dataclass(frozen=True)
class Platform:
    """root: the project's folder; home: its `.homeostat`. reference: the table a version's
    monitors compare with (feature columns in model order, then `score` and `label`). inputs: a
    version's, with their types. settles: how long, in the clock's time, a request may take from
    its time to being in the log."""

    project: Project
    root: Path
    home: Path
    clock: Clock
    events: EventStore
    leases: Leases
    registry: Registry
    log: PredictionLog
    labels: LabelLedger
    snapshots: SnapshotStore
    jobs: Jobs
    plane: DataPlane
    notifier: Notifier
    reference: Callable[[Version], pl.DataFrame]
    inputs: Callable[[Version], tuple[Field, ...]]
    settles: timedelta = timedelta(0)

    @property
    def stream(self) -> str:
        """The model's name: one stream of events holds all that was decided about it."""
        return self.project.name
