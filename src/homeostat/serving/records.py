"""What the log says of one run: blocks of predictions, records of failures. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from homeostat.serving.batch import Batch, Matrix, log_inputs, part
from homeostat.serving.jobs import Job
from homeostat.serving.segment import LARGEST, PredictionBlock, PredictionRecord, frame

EXPLORE_SALT = "explore"
"""Which requests are let through all the same is a pure function of their id."""


def answered(
    jobs: Sequence[Job], x: Batch, scores: Matrix, seconds: list[float], now: int, explore: float
) -> Iterator[PredictionBlock]:
    """Blocks of at most LARGEST bytes. jobs: of one version and assignment; x, scores: their rows
    (n); seconds: how long each took. explore: `serving.explore`."""
    size = 4 * jobs[0].model.width
    if size * len(scores) <= LARGEST:
        yield _block(jobs, x, scores, seconds, now, explore, None)
        return
    at, step = 0, max(1, LARGEST // size)
    for job, taken in zip(jobs, seconds, strict=True):
        for start in range(0, job.n, step):
            end = min(job.n, start + step)
            rows, mine = part(x, at + start, at + end), scores[at + start : at + end]
            yield _block([job], rows, mine, [taken], now, explore, start if job.n > 1 else None)
        at += job.n


def _block(
    jobs: Sequence[Job],
    x: Batch,
    scores: Matrix,
    seconds: list[float],
    now: int,
    explore: float,
    first: int | None,
) -> PredictionBlock:
    job = jobs[0]
    inputs: list[str] = []
    if isinstance(x, dict):
        rows, inputs = log_inputs(job.model, x)
        features = b"".join(rows)
    else:
        features = x.tobytes()
    propensities: list[float] = []
    if explore:
        alerts = scores.astype(np.float64) >= job.model.threshold
        propensities = np.where(alerts, explore, 1.0).tolist()
    n = len(scores)
    together = [] if n == len(jobs) else [job.n for job in jobs]
    return PredictionBlock(
        now,
        job.served.model,
        job.model.version,
        job.chosen.arm,
        job.chosen.probability,
        [job.id for job in jobs],
        together if first is None else [n],
        seconds,
        features,
        scores.astype(np.float32, copy=False).tobytes(),
        inputs,
        propensities,
        first,
    )


def failed(
    job: Job, x: Batch, why: str, scores: Matrix | None, latency: float, now: int
) -> list[bytes]:
    """Frames, one per row. scores (n): what the version returned, NaN where it failed."""
    features, inputs = log_inputs(job.model, x)
    spoilt = np.ones(job.n, bool) if scores is None else ~np.isfinite(scores)
    return [
        frame(
            PredictionRecord(
                job.id if job.n == 1 else f"{job.id}/{k}",
                now,
                job.served.model,
                job.model.version,
                job.chosen.arm,
                job.chosen.probability,
                latency,
                features[k],
                None,
                why if spoilt[k] else "another row of the request failed",
                inputs[k] if inputs else None,
            )
        )
        for k in range(job.n)
    ]
