"""Run a version on rows, here or in a thread, and say what came of it."""

from __future__ import annotations

import logging
from time import perf_counter, thread_time

import numpy as np

from homeostat.core.errors import BadInput, HomeostatError
from homeostat.serving.batch import Batch, Matrix, join, part, score, stack
from homeostat.serving.jobs import Job
from homeostat.serving.runtime import Columns, LoadedModel

FAILED = "the server failed, and has logged why"
_logger = logging.getLogger(__name__)

SLICE = 1024
"""Rows of a large request that are converted and scored at a time."""

Scored = tuple[Batch, Matrix, Columns]
Outcome = tuple[Matrix, Columns] | HomeostatError


def attempt(model: LoadedModel, x: Batch) -> Outcome:
    """The outcome, whatever happens: somebody waits for it."""
    try:
        return score(model, x)
    except HomeostatError as error:
        return error
    except Exception as error:  # noqa: BLE001 - a mistake of ours
        return unforeseen(model, error)


def unforeseen(model: LoadedModel, error: BaseException) -> HomeostatError:
    """Log a mistake of ours; -> what is said of it."""
    _logger.error("version %s gave no answer", model.version, exc_info=error)
    return HomeostatError(FAILED)


def timed(model: LoadedModel, x: Batch) -> tuple[Outcome, float]:
    """-> the outcome, and the seconds of processor that it took."""
    began = thread_time()
    return attempt(model, x), thread_time() - began


def not_finite(model: LoadedModel, x: Matrix) -> BadInput | None:
    """The first number that is none in float32; None when all are."""
    good = np.isfinite(x)
    if good.all():
        return None
    row, column = (int(i) for i in np.argwhere(~good)[0])
    return BadInput(
        "not a finite float32",
        path=f"row {row}, feature {model.inputs[column]!r}",
        expected="a finite number",
    )


def large(job: Job) -> Scored:
    """In the thread: a request of many rows, slice by slice, so that the event loop's thread
    gets its turn. Raises BadInput, HomeostatError, and TimeoutError past the deadline."""
    parts: list[Scored] = []
    for at in range(0, job.n, SLICE):
        if job.deadline is not None and job.deadline <= perf_counter():
            raise TimeoutError
        parts.append(_slice(job, at, min(job.n, at + SLICE)))
    xs, scores, results = zip(*parts, strict=True)
    x: Batch = np.concatenate(xs) if job.model.plain else join(xs)
    return x, np.concatenate(scores), join(results) if job.model.results else {}


def _slice(job: Job, start: int, end: int) -> Scored:
    model, inputs = job.model, job.inputs
    x: Batch
    if not model.plain:
        x = join([inputs])
        x = part(x, start, end)
    elif isinstance(inputs, list | bytes):
        width = model.width * (4 if isinstance(inputs, bytes) else 1)
        x = stack([inputs[start * width : end * width]], model.width)
    else:
        x = stack([part(inputs, start, end)], model.width)
    if isinstance(x, np.ndarray):
        error = not_finite(model, x)
        if error is not None:
            raise error
    outcome = attempt(model, x)
    if isinstance(outcome, HomeostatError):
        raise outcome
    return (x, *outcome)
