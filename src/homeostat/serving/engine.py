"""Score what one tick of the event loop brings, in one run per version."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from math import isfinite
from time import perf_counter, thread_time

import numpy as np
from numpy.typing import NDArray

from homeostat.core.errors import BadInput, HomeostatError
from homeostat.core.route import BUCKETS, bucket
from homeostat.serving.admission import Admission, Refused
from homeostat.serving.batch import Batch, Matrix, finite, join, part, stack
from homeostat.serving.counters import Counters
from homeostat.serving.jobs import Answers, Job, Request, inputs_for
from homeostat.serving.lanes import Lanes
from homeostat.serving.log import SegmentLog
from homeostat.serving.pace import BUDGET, MOST
from homeostat.serving.records import EXPLORE_SALT, answered, failed
from homeostat.serving.runtime import Columns, LoadedModel
from homeostat.serving.scoring import Outcome, Scored, attempt, large, not_finite, timed, unforeseen
from homeostat.serving.segment import PredictionRecord, frame
from homeostat.serving.shadow import Shadows
from homeostat.serving.spec import ServingSpec
from homeostat.serving.tracing import Traces

ALONE = 256
"""A request of more rows runs by itself, in its model's lane: it holds up nobody's small ones."""
NO_NUMBER = "the model returned no number"
LATE = "the deadline had passed before the request could be computed"


class Engine:
    """Micro-batches per version; writes the log and the counters before an answer leaves.

    What arrives in one tick of the event loop is answered at its end, in one run per version and
    probability of assignment; never more rows at once than `pace` allows, the rest in the next
    tick. A model that is slow however few rows it gets runs in a lane of its own. now_us: the data
    plane's clock, microseconds since the epoch.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        log: SegmentLog,
        counters: Counters,
        now_us: Callable[[], int],
        spec: ServingSpec,
        workers: int = 1,
        traces: Traces | None = None,
    ) -> None:
        self._loop, self._log, self._counters, self._now_us = loop, log, counters, now_us
        self._explore, self._traces = spec.explore, traces
        self._admission = Admission(spec, workers)
        self.limited = self._admission.limited
        self._pending: dict[int, list[Job]] = {}  # by the assignment that a route made once
        self._lanes = Lanes(loop)
        self._busy: set[LoadedModel] = set()
        self._arriving: list[Callable[[], None]] = []
        self._scheduled = False
        self.rows = 0
        self.in_flight = 0
        self.shadows = Shadows(loop, log, counters, now_us)

    def at_end(self, read: Callable[[], None]) -> None:
        """Call read() at the end of this tick of the event loop; what it submits is scored then."""
        self._arriving.append(read)
        self._wake()

    def admit(self, request: Request, ahead: int = 0, rows: int = 0) -> Refused | None:
        """Why a request is not let in; None when it is. ahead, rows: requests and their rows that
        are let in, and about to be submitted."""
        in_flight, rows = self.in_flight + ahead, self.rows + rows
        return self._admission.refused(request.client, in_flight, rows, request.started)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Answered at the end of this tick of the event loop, or later when they are large."""
        pending = self._pending
        for job in jobs:
            n = job.n
            self.rows += n
            if n > ALONE:
                self._run_large(job)
                continue
            key = id(job.chosen)
            waiting = pending.get(key)
            if waiting is None:
                pending[key] = [job]
            else:
                waiting.append(job)
        self.in_flight += len(jobs)
        self._wake()

    def _run_large(self, job: Job) -> None:
        job.served.used = job.started
        self._lanes.run(job.model, lambda done: self._scored_large(job, done), large, job)

    def refuse(
        self, model: str, request: Request, status: int, message: str, started: float, id: str
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
        request.fail(status, message)

    def expire(self) -> None:
        """Refuse those that wait behind a slow run and whose deadline has passed; call it every
        moment."""
        now = perf_counter()
        for key, jobs in list(self._pending.items()):
            timely = self._timely(jobs, now)
            if timely:
                self._pending[key] = timely
            else:
                del self._pending[key]

    @property
    def busy(self) -> bool:
        """Something is computed, for an answer or in the shadow."""
        return bool(self.in_flight or self._arriving) or not self.shadows.idle

    def close(self) -> None:
        """Call it when nothing is computed."""
        self._lanes.close()
        self.shadows.close()
        if self._traces is not None:
            self._traces.close()

    # ------------------------------------------------------------ runs

    def _wake(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        try:
            while self._arriving:
                self._arriving.pop(0)()
            for key in list(self._pending):
                self._take(key)
        finally:
            self._scheduled = False
            # what waits for a slow run is woken by its end
            if self._arriving or any(
                jobs[0].model not in self._busy for jobs in self._pending.values()
            ):
                self._wake()

    def _take(self, key: int) -> None:
        """The next batch of those that share an assignment."""
        jobs = self._pending[key]
        model = jobs[0].model
        if model in self._busy:  # what comes meanwhile makes the next batch
            return
        pace = model.pace
        aside = model.aside or pace.slow
        jobs, rest, rows = _split(jobs, MOST if aside else pace.limit)
        aside = aside or jobs[0].n > pace.limit  # one request, more than a run should take
        del self._pending[key]
        if rest:  # in line behind the others of this model
            self._pending[key] = rest
        began = thread_time() if pace.doubted else None
        jobs[0].served.used = now = perf_counter()
        jobs, x = self._ready(model, self._timely(jobs, now))
        if jobs and aside:
            self._run_aside(model, jobs, x)
        elif jobs:
            self._conclude(jobs, x, attempt(model, x))
            # it is the processor's time that counts: that others want it too says nothing of the
            # model. The clock's is never less, and cheaper to ask for
            seconds = perf_counter() - now
            pace.doubted = seconds > BUDGET / 2
            if began is not None:
                pace.ran(rows, thread_time() - began)
            elif not pace.doubted:
                pace.ran(rows, seconds)

    def _timely(self, jobs: list[Job], now: float) -> list[Job]:
        """Those whose deadline has not passed; the others are refused."""
        for job in jobs:
            if job.deadline is not None and job.deadline <= now:
                break
        else:
            return jobs
        timely = []
        for job in jobs:
            if job.deadline is not None and job.deadline <= now:
                self._counters.add("expired")
                self._refuse(job, 504, LATE)
            else:
                timely.append(job)
        return timely

    def _ready(self, model: LoadedModel, jobs: list[Job]) -> tuple[list[Job], Batch]:
        """The jobs whose numbers are finite, and their rows; the others are refused."""
        if not jobs:
            return jobs, {}
        if not model.plain:
            return jobs, join([job.inputs for job in jobs])
        x = stack([job.inputs for job in jobs], model.width)
        if finite(x):
            return jobs, x
        return self._ready(model, self._finite(jobs, x))

    def _run_aside(self, model: LoadedModel, jobs: list[Job], x: Batch) -> None:
        """In the model's lane, one batch at a time: nobody else waits for a slow one."""
        self._busy.add(model)

        def ran(done: asyncio.Future[tuple[Outcome, float]]) -> None:
            self._busy.discard(model)
            outcome, seconds = done.result()
            model.pace.ran(sum(job.n for job in jobs), seconds)
            self._conclude(jobs, x, outcome)
            if self._pending:
                self._wake()

        self._lanes.run(model, ran, timed, model, x)

    def _conclude(self, jobs: list[Job], x: Batch, outcome: Outcome) -> None:
        if isinstance(outcome, HomeostatError):
            if len(jobs) == 1:
                self._fail(jobs[0], x, str(outcome), None)
                return
            for job in jobs:  # which of them spoils the batch?
                model, rows = job.model, self._ready(job.model, [job])[1]
                if model.aside or model.pace.slow:
                    self._run_aside(model, [job], rows)
                else:
                    self._conclude([job], rows, attempt(model, rows))
            return
        scores, results = outcome
        values = scores.tolist()
        if isfinite(sum(values)) or finite(scores):
            self._answer(jobs, x, scores, values, results)
        else:
            self._answer_one_by_one(jobs, x, scores, results)

    def _scored_large(self, job: Job, done: asyncio.Future[Scored]) -> None:
        error = done.exception()
        if error is None:
            x, scores, results = done.result()
            self._answer_one_by_one([job], x, scores, results)
        elif isinstance(error, TimeoutError):
            self._counters.add("expired")
            self._refuse(job, 504, LATE)
        elif isinstance(error, BadInput):
            self._refuse(job, 400, str(error))
        elif isinstance(error, HomeostatError):
            plain = job.model.plain
            rows = stack([job.inputs], job.model.width) if plain else join([job.inputs])
            self._fail(job, rows, str(error), None)
        else:
            self._refuse(job, 500, str(unforeseen(job.model, error)))

    # ------------------------------------------------------------ answers

    def _answer(
        self, jobs: list[Job], x: Batch, scores: Matrix, values: list[float], results: Columns
    ) -> None:
        """values: the scores as Python's numbers."""
        clock, first = perf_counter(), jobs[0]
        served, version = first.served, first.model.version
        answers = Answers(served, version, values, scores, results)
        try:
            encoded = self._encoded(jobs, answers)
        except Exception as error:  # noqa: BLE001 - models return whatever they like
            if len(jobs) > 1:
                self._answer_one_by_one(jobs, x, scores, results)
            else:
                why = f"its answer cannot be encoded: {type(error).__name__}: {error}"
                self._fail(first, x, why, None)
            return
        seconds = [clock - job.started for job in jobs]
        # logged, counted, answered: killed in between, nothing acknowledged is missing from the
        # counters, and nothing counted from the log
        self._log.block(answered(jobs, x, scores, seconds, self._now_us(), self._explore))
        series = self._counters.series(served.model, version, first.chosen.arm)
        series.answered_all([job.n for job in jobs], seconds)
        self._counters.answered(len(jobs))
        self.in_flight -= len(jobs)
        self.rows -= len(values)
        for job, answer in zip(jobs, encoded, strict=True):
            job.request.write(answer)
        if served.paired:
            at = 0
            for job in jobs:
                self._pair(job, part(x, at, at + job.n))
                at += job.n
        if self._traces is not None:
            self._traces.answered(jobs)

    def _encoded(self, jobs: list[Job], answers: Answers) -> list[bytes]:
        """Before anything is logged or counted: what cannot be encoded was never answered."""
        at, explore, values = 0, self._explore > 0, answers.scores
        encoded = []
        for job in jobs:
            through = explore and self._let_through(job, values, at)
            encoded.append(job.dialect.encode(job, answers, at, through))
            at += job.n
        return encoded

    def _let_through(self, job: Job, scores: list[float], at: int) -> bool:
        drawn = bucket(EXPLORE_SALT, job.id) < self._explore * BUCKETS
        return drawn and max(scores[at : at + job.n]) >= job.model.threshold

    def _answer_one_by_one(
        self, jobs: list[Job], x: Batch, scores: Matrix, results: Columns
    ) -> None:
        at = 0
        for job in jobs:
            end = at + job.n
            mine, rows = scores[at:end], part(x, at, end)
            if finite(mine):
                self._answer([job], rows, mine, mine.tolist(), part(results, at, end))
            else:
                self._fail(job, rows, NO_NUMBER, mine)
            at = end

    def _fail(self, job: Job, x: Batch, why: str, scores: NDArray[np.float32] | None) -> None:
        """The version could not score: an error for this request, and in the log."""
        why = why.encode(errors="replace").decode()  # a model's words may be no text in UTF-8
        latency = perf_counter() - job.started
        self._log.predictions(failed(job, x, why, scores, latency, self._now_us()))
        model = job.served.model
        self._counters.series(model, job.model.version, job.chosen.arm).failed(job.n)
        self._end(job)
        job.request.fail(500, f"version {job.model.version} of {model}: {why}")
        if self._traces is not None:
            self._traces.failed(job, why)
        if job.served.paired:
            self._pair(job, x)

    def _refuse(self, job: Job, status: int, message: str) -> None:
        self._end(job)
        self.refuse(job.served.model, job.request, status, message, job.started, job.id)

    def _end(self, job: Job) -> None:
        self.in_flight -= 1
        self.rows -= job.n

    def _finite(self, jobs: list[Job], x: Matrix) -> list[Job]:
        """Refuse the requests with numbers that are none in float32; -> the others."""
        fine, at = [], 0
        for job in jobs:
            error = not_finite(job.model, x[at : at + job.n])
            at += job.n
            if error is None:
                fine.append(job)
            else:
                self._refuse(job, 400, str(error))
        return fine

    def _pair(self, job: Job, x: Batch) -> None:
        """Let the other versions score the sampled requests too, later."""
        served = job.served
        for other in served.shadows(job.model, job.id):
            rows = x
            if other.columns != job.model.columns or other.plain != job.model.plain:
                try:
                    inputs = inputs_for(other, job.rows, job.order)
                except BadInput as error:
                    self.shadows.failed(served.model, other, job.id, job.n, str(error))
                    continue
                rows = stack([inputs], other.width) if other.plain else join([inputs])
            self.shadows.submit(served.model, other, job.id, rows)


def _split(jobs: list[Job], rows: int) -> tuple[list[Job], list[Job], int]:
    """The first jobs with at most so many rows together (at least one job), the others, and the
    rows of the first."""
    taken = 0
    for k, job in enumerate(jobs):
        n = job.n
        if taken + n > rows and k:
            return jobs[:k], jobs[k:], taken
        taken += n
    return jobs, [], taken
