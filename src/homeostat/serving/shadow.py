"""Paired scoring: the other version's opinion on a request that has been answered."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numpy as np

from homeostat.core.errors import HomeostatError
from homeostat.core.names import Arm
from homeostat.serving.batch import (
    Batch,
    Matrix,
    finite,
    join,
    log_inputs,
    own,
    rows_of,
    score,
    stack,
)
from homeostat.serving.counters import Counters
from homeostat.serving.log import SegmentLog
from homeostat.serving.runtime import LoadedModel
from homeostat.serving.scoring import unforeseen
from homeostat.serving.segment import PredictionBlock, PredictionRecord, frame

PAUSE = 0.002
"""Seconds for which requests are gathered before they are scored together."""
BATCH = 256
QUEUE = 20_000
"""Rows that may wait for one version; what comes beyond is skipped and counted."""

NICE = 10
"""Of the thread that scores: a tenth of the weight of the one that answers, where both want the
same core."""

Task = tuple[str, LoadedModel, str, Batch]
Outcome = tuple[list[Task], Matrix | None, str, float]
"""Tasks of one version, and their scores or None and why not; seconds it took."""


class _Waiting:
    """What waits for one version."""

    __slots__ = ("rows", "tasks")

    def __init__(self) -> None:
        self.tasks: deque[Task] = deque()
        self.rows = 0

    def add(self, task: Task, n: int) -> None:
        self.tasks.append(task)
        self.rows += n

    def batch(self) -> list[Task]:
        """The first tasks, of at most BATCH rows together unless it is one task."""
        taken: list[Task] = []
        rows = 0
        while self.tasks:
            n = rows_of(self.tasks[0][3])
            if taken and rows + n > BATCH:
                break
            taken.append(self.tasks.popleft())
            rows += n
        self.rows -= rows
        return taken


class Shadows:
    """Scores in a thread, in batches, one at a time, the versions in turn; logs with arm `shadow`
    under the request's id. Whatever goes wrong here is a record with an error, and never touches an
    answer."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        log: SegmentLog,
        counters: Counters,
        now_us: Callable[[], int],
    ) -> None:
        self._loop, self._log, self._counters, self._now_us = loop, log, counters, now_us
        self._waiting: dict[LoadedModel, _Waiting] = {}  # none without a task; who is next first
        self._running: list[Task] = []
        self._busy = False
        self._thread = ThreadPoolExecutor(1, "shadow", initializer=stand_back)

    @property
    def idle(self) -> bool:
        return not self._busy

    def submit(self, model: str, version: LoadedModel, id: str, x: Batch) -> None:
        """Score the rows of request `id` when there is time."""
        n = rows_of(x)
        waiting = self._waiting.get(version) or _Waiting()
        if waiting.rows + n > QUEUE:
            self._counters.add("shadow_skipped", n)
            return
        waiting.add((model, version, id, own(x)), n)
        self._waiting[version] = waiting
        if not self._busy:
            self._busy = True
            self._loop.call_later(PAUSE, self._begin)

    def failed(self, model: str, version: LoadedModel, id: str, n: int, why: str) -> None:
        """Record that a version cannot score a request at all."""
        empty = np.empty((n, 0), np.float32)
        self._record([(model, version, id, empty)], None, why, 0.0)

    def give_up(self) -> None:
        """Count what waits, and what is being scored, as skipped: nobody waits for it any more (a
        version that hangs would never end)."""
        under_way = sum(rows_of(task[3]) for task in self._running)
        waiting = sum(one.rows for one in self._waiting.values())
        self._counters.add("shadow_skipped", under_way + waiting)
        self._waiting.clear()
        self._running = []
        self._busy = False

    def close(self) -> None:
        self.give_up()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _begin(self) -> None:
        if self._running:  # asked for before all was given up; the run's end will see to it
            return
        if not self._waiting:
            self._busy = False
            return
        version = next(iter(self._waiting))
        waiting = self._waiting.pop(version)
        self._running = batch = waiting.batch()
        if waiting.tasks:  # the others first
            self._waiting[version] = waiting
        future = self._loop.run_in_executor(self._thread, _score, batch)
        future.add_done_callback(lambda done: self._end(batch, done))

    def _end(self, batch: list[Task], done: asyncio.Future[list[Outcome]]) -> None:
        if self._running is not batch:  # given up
            return
        self._running = []
        try:
            for outcome in done.result():
                self._record(*outcome)
        finally:
            self._begin()

    def _record(self, batch: list[Task], scores: Matrix | None, why: str, seconds: float) -> None:
        """As for answers: in the log, then counted."""
        model, version = batch[0][:2]
        if scores is not None and finite(scores):
            block = _block(batch, scores, seconds, self._now_us())
            self._log.block(block)
            series = self._counters.series(model, version.version, Arm.SHADOW)
            series.answered(len(scores), seconds)
            return
        at = 0
        for task in batch:
            n = rows_of(task[3])
            mine = None if scores is None else scores[at : at + n]
            if mine is not None and finite(mine):
                self._record([task], mine, "", seconds)
            else:
                self._record_failed(task, mine, why or "the model returned no number", seconds)
            at += n

    def _record_failed(self, task: Task, scores: Matrix | None, why: str, seconds: float) -> None:
        model, version, id, x = task
        n, now = rows_of(x), self._now_us()
        features, inputs = log_inputs(version, x)
        good = np.zeros(n, bool) if scores is None else np.isfinite(scores)
        frames = [
            frame(
                PredictionRecord(
                    id if n == 1 else f"{id}/{k}",
                    now,
                    model,
                    version.version,
                    Arm.SHADOW,
                    1.0,
                    seconds,
                    features[k],
                    float(scores[k]) if scores is not None and good[k] else None,
                    None if good[k] else why,
                    inputs[k] if inputs else None,
                )
            )
            for k in range(n)
        ]
        self._log.predictions(frames)
        series = self._counters.series(model, version.version, Arm.SHADOW)
        fine = int(good.sum())
        if fine:
            series.answered(fine, seconds)
        if fine < n:
            series.failed(n - fine)


def _block(batch: list[Task], scores: Matrix, seconds: float, now: int) -> PredictionBlock:
    model, version = batch[0][:2]
    counts = [rows_of(task[3]) for task in batch]
    logged = [log_inputs(version, task[3]) for task in batch]
    return PredictionBlock(
        now,
        model,
        version.version,
        Arm.SHADOW,
        1.0,
        [task[2] for task in batch],
        [] if len(scores) == len(batch) else counts,
        [seconds] * len(batch),
        b"".join(row for features, _ in logged for row in features),
        scores.astype(np.float32, copy=False).tobytes(),
        [text for _, inputs in logged for text in inputs],
        [],
    )


def stand_back() -> None:
    """In the thread, once: answers come first, also where there is one core for both."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def _score(batch: list[Task]) -> list[Outcome]:
    """In the thread. A batch that fails is scored in halves: one request spoils no other's."""
    started = perf_counter()
    model = batch[0][1]
    try:
        inputs = [task[3] for task in batch]
        x: Batch = stack(inputs, model.width) if model.plain else join(inputs)
        scores, _ = score(model, x)
    except HomeostatError as error:
        why = str(error)
    except Exception as error:  # noqa: BLE001 - a mistake of ours: the others have their turn
        why = str(unforeseen(model, error))
    else:
        return [(batch, scores, "", perf_counter() - started)]
    if len(batch) == 1:
        return [(batch, None, why, perf_counter() - started)]
    half = len(batch) // 2
    return [*_score(batch[:half]), *_score(batch[half:])]
