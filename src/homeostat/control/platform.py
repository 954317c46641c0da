"""Everything the loop acts on, in one bundle: what is on record, and the other ports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from homeostat.control.books import Books
from homeostat.core.ports import Jobs, LabelLedger, Leases, Notifier, PredictionLog, SnapshotStore
from homeostat.core.servable import Field
from homeostat.core.version import Version


@dataclass(frozen=True)
class Platform(Books):
    """reference: the table a version's monitors compare with (feature columns in model order,
    then `score` and `label`). inputs: a version's, with their types. settles: how long, in the
    clock's time, a request may take from its time to being in the log."""

    leases: Leases
    log: PredictionLog
    labels: LabelLedger
    snapshots: SnapshotStore
    jobs: Jobs
    notifier: Notifier
    reference: Callable[[Version], pl.DataFrame]
    inputs: Callable[[Version], tuple[Field, ...]]
    settles: timedelta = timedelta(0)
