"""Score what one tick of the event loop brings, in one run per version."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from homeostat.core.errors import BadInput, HomeostatError
from homeostat.core.route import Assignment
from homeostat.serving.codec import Rows, write_v1, write_v2
from homeostat.serving.counters import Counters
from homeostat.serving.log import SegmentLog
from homeostat.serving.routes import Served
from homeostat.serving.runtime import LoadedModel
from homeostat.serving.segment import PredictionRecord, frame
from homeostat.serving.shadow import Shadows

Matrix = NDArray[np.float32]
ALONE = 256
"""A request of more rows runs by itself, so that it cannot hold up or spoil the small ones."""

NO_NUMBER = "the model returned no number"


class Reply(Protocol):
    """Where an answer goes."""

    def send(self, status: int, body: bytes) -> None: ...

    def fail(self, status: int, message: str) -> None: ...


class Job:
    """One request, parsed and assigned, waiting for its scores."""

    __slots__ = ("chosen", "flat", "id", "model", "reply", "rows", "served", "started", "v1")

    def __init__(
        self,
        reply: Reply,
        served: Served,
        model: LoadedModel,
        chosen: Assignment,
        rows: Rows,
        flat: list[float],
        id: str,
        started: float,
        v1: bool,
    ) -> None:
        self.reply, self.served, self.model, self.chosen = reply, served, model, chosen
        self.rows, self.flat, self.id, self.started, self.v1 = rows, flat, id, started, v1


class Engine:
    """Micro-batches per version; writes the log and the counters before an answer leaves.

    now_us: the data plane's clock, microseconds since the epoch.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        log: SegmentLog,
        counters: Counters,
        now_us: Callable[[], int],
    ) -> None:
        self._loop, self._log, self._counters, self._now_us = loop, log, counters, now_us
        self._pending: dict[LoadedModel, list[Job]] = {}
        self.in_flight = 0
        self.shadows = Shadows(loop, log, counters, now_us)

    def submit(self, job: Job) -> None:
        """Answered at the end of this tick of the event loop."""
        if not self._pending:
            self._loop.call_soon(self._flush)
        self._pending.setdefault(job.model, []).append(job)
        self.in_flight += 1

    def refuse(
        self, model: str, reply: Reply, status: int, message: str, started: float, id: str
    ) -> None:
        """Answer and record a request that no version saw. model: "" when there is no such."""
        if len(message) > 500:
            message = f"{message[:497]}..."
        if model:
            latency = perf_counter() - started
            record = PredictionRecord(
                id, self._now_us(), model, "", "", 0.0, latency, b"", None, message
            )
            self._log.predictions([frame(record)])
        self._counters.series(model, "", "").failed(1)
        reply.fail(status, message)

    def _flush(self) -> None:
        pending, self._pending = self._pending, {}
        for model, jobs in pending.items():
            small = [job for job in jobs if job.rows.n <= ALONE]
            if small:
                self._run(model, small)
            for job in jobs:
                if job.rows.n > ALONE:
                    self._run(model, [job])
            self.in_flight -= len(jobs)

    def _run(self, model: LoadedModel, jobs: list[Job]) -> None:
        flat = jobs[0].flat if len(jobs) == 1 else [v for job in jobs for v in job.flat]
        x = to_matrix(flat, model.width)
        if not np.isfinite(x).all():
            jobs = self._finite(jobs, x)
            if jobs:
                self._run(model, jobs)
            return
        try:
            scores = model.score(x)
        except HomeostatError as error:
            if len(jobs) > 1:
                for job in jobs:
                    self._run(model, [job])
                return
            self._failed(jobs[0], x, str(error), None)
            return
        if not np.isfinite(scores).all():
            self._answer_one_by_one(jobs, x, scores)
            return
        self._answer(model, jobs, x, scores.tolist())

    def _answer(self, model: LoadedModel, jobs: list[Job], x: Matrix, scores: list[float]) -> None:
        now, clock = self._now_us(), perf_counter()
        version, width = model.version, model.width * 4
        raw = x.tobytes()
        frames: list[bytes] = []
        at = 0
        for job in jobs:
            n, chosen, latency = job.rows.n, job.chosen, clock - job.started
            for k in range(n):
                row = at + k
                frames.append(
                    frame(
                        PredictionRecord(
                            job.id if n == 1 else f"{job.id}/{k}",
                            now,
                            job.served.model,
                            version,
                            chosen.arm,
                            chosen.probability,
                            latency,
                            raw[row * width : (row + 1) * width],
                            scores[row],
                        )
                    )
                )
            at += n
        # logged, counted, answered: killed in between, nothing acknowledged is missing from the
        # counters, and nothing counted from the log
        self._log.predictions(frames)
        at = 0
        for job in jobs:
            n = job.rows.n
            series = self._counters.series(job.served.model, version, job.chosen.arm)
            series.answered(n, clock - job.started)
            mine = scores[at : at + n]
            if job.v1:
                body = write_v1(job.id, version, mine)
            else:
                body = write_v2(job.served.prefixes[version], job.id, mine)
            job.reply.send(200, body)
            self._pair(job, x[at : at + n])
            at += n

    def _answer_one_by_one(self, jobs: list[Job], x: Matrix, scores: Matrix) -> None:
        at = 0
        for job in jobs:
            n = job.rows.n
            mine, rows = scores[at : at + n], x[at : at + n]
            if np.isfinite(mine).all():
                self._answer(job.model, [job], rows, mine.tolist())
            else:
                self._failed(job, rows, NO_NUMBER, mine)
            at += n

    def _failed(self, job: Job, x: Matrix, why: str, scores: Matrix | None) -> None:
        """The version could not score: an error for this request, and in the log."""
        n, model, chosen = job.rows.n, job.model, job.chosen
        now, latency = self._now_us(), perf_counter() - job.started
        frames = []
        for k in range(n):
            spoilt = scores is None or not np.isfinite(scores[k])
            record = PredictionRecord(
                job.id if n == 1 else f"{job.id}/{k}",
                now,
                job.served.model,
                model.version,
                chosen.arm,
                chosen.probability,
                latency,
                x[k].tobytes(),
                None,
                why if spoilt else "another row of the request failed",
            )
            frames.append(frame(record))
        self._log.predictions(frames)
        self._counters.series(job.served.model, model.version, chosen.arm).failed(n)
        job.reply.fail(500, f"version {model.version} of {job.served.model}: {why}")
        self._pair(job, x)

    def _finite(self, jobs: list[Job], x: Matrix) -> list[Job]:
        """Refuse the requests with numbers that are none in float32; -> the others."""
        fine, at = [], 0
        for job in jobs:
            n = job.rows.n
            good = np.isfinite(x[at : at + n])
            at += n
            if good.all():
                fine.append(job)
                continue
            row, column = (int(i) for i in np.argwhere(~good)[0])
            error = BadInput(
                "not a finite float32",
                path=f"row {row}, feature {job.model.inputs[column]!r}",
                expected="a finite number",
            )
            self.refuse(job.served.model, job.reply, 400, str(error), job.started, job.id)
        return fine

    def _pair(self, job: Job, x: Matrix) -> None:
        """Let the other versions score the sampled requests too, later."""
        served = job.served
        if served.route.canary is None:
            return
        for other in served.shadows(job.model, job.id):
            rows = x
            if other.inputs != job.model.inputs:
                try:
                    rows = to_matrix(job.rows.matrix(other.inputs, served.order), other.width)
                except BadInput as error:
                    self.shadows.failed(served.model, other, job.id, job.rows.n, str(error))
                    continue
            self.shadows.submit(served.model, other, job.id, rows)


def to_matrix(flat: list[float], width: int) -> Matrix:
    """Flat numbers -> (n, width) float32; what does not fit becomes infinite."""
    with np.errstate(over="ignore"):
        return np.array(flat, dtype=np.float32).reshape(-1, width)
