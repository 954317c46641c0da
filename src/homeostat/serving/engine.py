"""Score what one tick of the event loop brings, in one run per version."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from homeostat.core.errors import BadInput, HomeostatError
from homeostat.core.route import BUCKETS, Assignment, bucket
from homeostat.core.servable import Field
from homeostat.serving.batch import Batch, Inputs, Matrix, join, log_inputs, part, score, stack
from homeostat.serving.counters import Counters
from homeostat.serving.log import SegmentLog
from homeostat.serving.routes import Served
from homeostat.serving.runtime import Columns, LoadedModel
from homeostat.serving.segment import PredictionRecord, frame
from homeostat.serving.shadow import Shadows

ALONE = 256
"""A request of more rows runs by itself, so that it cannot hold up or spoil the small ones."""

NO_NUMBER = "the model returned no number"
EXPLORE_SALT = "explore"
"""Which requests are let through all the same is a pure function of their id."""


class Refusal(Protocol):
    """Where the refusal of a request goes."""

    def fail(self, status: int, message: str) -> None: ...


class Reply(Refusal, Protocol):
    """Where the answer to a request goes, once."""

    def answer(self, job: Job, answer: Answer) -> None:
        """Encode the answer and send it; called after it is in the log and counted."""


class Rows(Protocol):
    """The rows of a request as they were sent. Both methods raise BadInput; `order` is what
    positions mean (the champion's inputs)."""

    @property
    def n(self) -> int: ...

    def matrix(
        self, inputs: tuple[str, ...], order: tuple[str, ...]
    ) -> list[float] | NDArray[np.float32]:
        """Flat values (n x d), or a matrix (n, d), in the order of `inputs`."""

    def typed(self, fields: tuple[Field, ...], order: tuple[str, ...]) -> Columns:
        """An array per field, (n, *shape) of its dtype."""


class Answer:
    """What a version said to one request.

    scores (n) as Python numbers, and `array` the same as float32; results: further outputs,
    (n, *shape) each. explore: this request is let through although a score is at or above the
    threshold, so that its true outcome becomes known.
    """

    __slots__ = ("array", "explore", "results", "scores", "version")

    def __init__(
        self,
        version: str,
        scores: list[float],
        array: NDArray[np.float32],
        results: Columns,
        explore: bool,
    ) -> None:
        self.version, self.scores, self.array = version, scores, array
        self.results, self.explore = results, explore


class Job:
    """One request, parsed and assigned, waiting for its scores."""

    __slots__ = ("chosen", "id", "inputs", "model", "n", "reply", "rows", "served", "started")

    def __init__(
        self,
        reply: Reply,
        served: Served,
        model: LoadedModel,
        chosen: Assignment,
        rows: Rows,
        id: str,
        started: float,
    ) -> None:
        """Raises BadInput when the rows are not what the model takes."""
        self.reply, self.served, self.model, self.chosen = reply, served, model, chosen
        self.rows, self.n, self.id, self.started = rows, rows.n, id, started
        self.inputs = inputs_for(model, rows, served.order)


def inputs_for(model: LoadedModel, rows: Rows, order: tuple[str, ...]) -> Inputs:
    """The rows as `model` takes them. Raises BadInput."""
    if model.plain:
        return rows.matrix(model.inputs, order)
    return rows.typed(model.columns, order)


class Engine:
    """Micro-batches per version; writes the log and the counters before an answer leaves.

    now_us: the data plane's clock, microseconds since the epoch. explore: share of the requests
    at or above the threshold that are let through (`serving.explore`).
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        log: SegmentLog,
        counters: Counters,
        now_us: Callable[[], int],
        explore: float = 0.0,
    ) -> None:
        self._loop, self._log, self._counters, self._now_us = loop, log, counters, now_us
        self._explore = explore
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
        self, model: str, reply: Refusal, status: int, message: str, started: float, id: str
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
            small = [job for job in jobs if job.n <= ALONE]
            if small:
                self._run(model, small)
            for job in jobs:
                if job.n > ALONE:
                    self._run(model, [job])
            self.in_flight -= len(jobs)

    def _run(self, model: LoadedModel, jobs: list[Job]) -> None:
        x: Batch
        if model.plain:
            x = stack([job.inputs for job in jobs], model.width)
            if not np.isfinite(x).all():
                jobs = self._finite(jobs, x)
                if jobs:
                    self._run(model, jobs)
                return
        else:
            x = join([job.inputs for job in jobs])
        try:
            scores, results = score(model, x)
        except HomeostatError as error:
            if len(jobs) > 1:
                for job in jobs:
                    self._run(model, [job])
                return
            self._failed(jobs[0], x, str(error), None)
            return
        if not np.isfinite(scores).all():
            self._answer_one_by_one(jobs, x, scores, results)
            return
        self._answer(model, jobs, x, scores, results)

    def _answer(
        self,
        model: LoadedModel,
        jobs: list[Job],
        x: Batch,
        scores: NDArray[np.float32],
        results: Columns,
    ) -> None:
        now, clock = self._now_us(), perf_counter()
        version, values = model.version, scores.tolist()
        features, inputs = log_inputs(model, x)
        frames: list[bytes] = []
        explored = [False] * len(jobs)
        at = 0
        for i, job in enumerate(jobs):
            n, chosen, latency = job.n, job.chosen, clock - job.started
            explore = self._explores(job.id)
            for k in range(n):
                row = at + k
                alert = values[row] >= model.threshold
                explored[i] |= explore and alert
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
                            features[row],
                            values[row],
                            None,
                            inputs[row] if inputs else None,
                            self._explore if alert and self._explore else 1.0,
                        )
                    )
                )
            at += n
        # logged, counted, answered: killed in between, nothing acknowledged is missing from the
        # counters, and nothing counted from the log
        self._log.predictions(frames)
        at = 0
        for job, explore in zip(jobs, explored, strict=True):
            n, end = job.n, at + job.n
            series = self._counters.series(job.served.model, version, job.chosen.arm)
            series.answered(n, clock - job.started)
            mine = {name: array[at:end] for name, array in results.items()}
            job.reply.answer(job, Answer(version, values[at:end], scores[at:end], mine, explore))
            self._pair(job, part(x, at, end))
            at = end

    def _explores(self, id: str) -> bool:
        return self._explore > 0 and bucket(EXPLORE_SALT, id) < self._explore * BUCKETS

    def _answer_one_by_one(
        self, jobs: list[Job], x: Batch, scores: NDArray[np.float32], results: Columns
    ) -> None:
        at = 0
        for job in jobs:
            end = at + job.n
            mine, rows = scores[at:end], part(x, at, end)
            if np.isfinite(mine).all():
                self._answer(job.model, [job], rows, mine, part(results, at, end))
            else:
                self._failed(job, rows, NO_NUMBER, mine)
            at = end

    def _failed(self, job: Job, x: Batch, why: str, scores: NDArray[np.float32] | None) -> None:
        """The version could not score: an error for this request, and in the log."""
        n, model, chosen = job.n, job.model, job.chosen
        now, latency = self._now_us(), perf_counter() - job.started
        features, inputs = log_inputs(model, x)
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
                features[k],
                None,
                why if spoilt else "another row of the request failed",
                inputs[k] if inputs else None,
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
            good = np.isfinite(x[at : at + job.n])
            at += job.n
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

    def _pair(self, job: Job, x: Batch) -> None:
        """Let the other versions score the sampled requests too, later."""
        served = job.served
        if served.route.canary is None:
            return
        for other in served.shadows(job.model, job.id):
            rows = x
            if other.columns != job.model.columns or other.plain != job.model.plain:
                try:
                    inputs = inputs_for(other, job.rows, served.order)
                except BadInput as error:
                    self.shadows.failed(served.model, other, job.id, job.n, str(error))
                    continue
                rows = stack([inputs], other.width) if other.plain else join([inputs])
            self.shadows.submit(served.model, other, job.id, rows)
