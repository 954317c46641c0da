"""Recorded traffic through the real loop, in one process and in virtual time.

The control, rollout, monitoring, data and training code is the code that runs in production;
the stores, the data plane and the clock are the ones in memory. The models that answer are the
exported ONNX files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.backends.local.reference import read_inputs, read_reference
from homeostat.backends.memory.clock import VirtualClock
from homeostat.backends.memory.events import MemoryEventStore
from homeostat.backends.memory.jobs import MemoryJobs
from homeostat.backends.memory.leases import MemoryLeases
from homeostat.backends.memory.ledger import MemoryLedger
from homeostat.backends.memory.log import MemoryPredictionLog
from homeostat.backends.memory.notify import MemoryNotifier
from homeostat.backends.memory.plane import MemoryDataPlane
from homeostat.backends.memory.registry import MemoryRegistry
from homeostat.backends.memory.snapshots import MemorySnapshots
from homeostat.control import pipeline
from homeostat.control.platform import Platform
from homeostat.control.tick import Controller
from homeostat.core.errors import BadInput, Refused
from homeostat.core.records import LABELS
from homeostat.core.route import Servable
from homeostat.definition import Project, load
from homeostat.training.score import score_servable


class Replay:
    """The project in `root`, its loop and its world.

    traffic: `id` (text), `time` and the model's feature columns, in order of time. labels: `id`,
    `label`, `time`, `known`: told to the ledger when the clock passes `known`. home: folder for
    what training makes. project: the definition, if it is not that of `root`. training_takes:
    virtual time from a run's start to its result.
    """

    def __init__(
        self,
        root: Path,
        home: Path,
        *,
        traffic: pl.DataFrame,
        labels: pl.DataFrame,
        start: datetime,
        project: Project | None = None,
        training_takes: timedelta = timedelta(hours=1),
        progress: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.clock = VirtualClock(start)
        self._traffic, self._progress = traffic, progress
        self._labels = labels.sort("known").select(LABELS.keys())
        self._answers: list[pl.DataFrame] = []
        self.log, ledger = MemoryPredictionLog(), MemoryLedger()
        self.plane = MemoryDataPlane(self.log, self._score)
        self._batch = traffic.clear()
        self.notifier = MemoryNotifier()
        self.platform = Platform(
            project=project or load(root),
            root=root,
            home=home,
            clock=self.clock,
            events=MemoryEventStore(),
            leases=MemoryLeases(),
            registry=MemoryRegistry(home / "artifacts", self.clock.now),
            log=self.log,
            labels=ledger,
            snapshots=MemorySnapshots(),
            jobs=MemoryJobs(self._train, clock=self.clock, takes=training_takes),
            plane=self.plane,
            notifier=self.notifier,
            reference=read_reference,
            inputs=read_inputs,
        )
        self.controller = Controller(self.platform)
        self._known_until = start
        self._tell_labels(start, first=True)

    def train_first(self) -> str:
        """Run the pipeline by hand and make its version the champion; -> its number.
        Raises Refused when the gates say no."""
        result = pipeline.run(self.platform, progress=self._progress)
        if result.version is None:
            raise Refused(result.verdict.sentence)
        self.controller.tick(monitors=False)
        return result.version

    def run(self, until: datetime, step: timedelta) -> pl.DataFrame:
        """Let time pass in steps: traffic, labels, tick; -> the answers (records of the log)."""
        while self.clock.at < until:
            since, now = self.clock.at, min(self.clock.at + step, until)
            rows = self._traffic.filter((pl.col("time") >= since) & (pl.col("time") < now))
            if rows.height:
                self._answers.append(self._serve(rows))
            self.clock.at = now
            self._tell_labels(now)
            report = self.controller.tick()
            for problem in report.problems:
                raise BadInput(f"the loop could not act at {now:%F %R}", found=problem)
        return self.answers()

    def answers(self) -> pl.DataFrame:
        return pl.concat(self._answers)

    def _serve(self, rows: pl.DataFrame) -> pl.DataFrame:
        texts = [c for c, t in rows.schema.items() if t == pl.String and c != "id"]
        rows = rows.with_columns(pl.col(texts).fill_null(""))  # models are given no null
        self._batch = rows
        numbers = rows.drop("id", "time", *texts).to_numpy().astype(np.float32)
        inputs = None
        if texts:
            inputs = rows.select(pl.struct(texts).struct.json_encode()).to_series().to_list()
        ids, times = rows["id"].to_list(), rows["time"].to_list()
        return self.plane.serve(self.platform.stream, ids, numbers, times, inputs=inputs)

    def _score(
        self, version: Servable, features: NDArray[np.float32], ids: Sequence[str]
    ) -> NDArray[np.float64]:
        asked = pl.DataFrame({"id": ids}, schema={"id": pl.String})
        table = asked.join(self._batch, on="id", how="left", maintain_order="left")
        return score_servable(Path(version.path), table)

    def _tell_labels(self, now: datetime, *, first: bool = False) -> None:
        known = pl.col("known")
        since = pl.lit(value=True) if first else known > self._known_until
        told = self._labels.filter(since & (known <= now))
        if told.height:
            self.platform.labels.append(told)
        self._known_until = now

    def _train(self, run: str) -> None:
        """What a training process would do; a run that is refused has recorded why."""
        try:
            pipeline.run(self.platform, run, progress=self._progress)
        except (BadInput, Refused) as error:
            self._progress(error.line())
