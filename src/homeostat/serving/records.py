"""What the log says of one run: blocks of predictions, records of failures. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from homeostat.serving.batch import Batch, Matrix, log_inputs
from homeostat.serving.jobs import Job
from homeostat.serving.segment import PredictionBlock, PredictionRecord, frame

EXPLORE_SALT = "explore"
"""Which requests are let through all the same is a pure function of their id."""


def answered(
    jobs: Sequence[Job], x: Batch, scores: Matrix, seconds: list[float], now: int, explore: float
) -> PredictionBlock:
    """jobs: of one version and assignment; x, scores: their rows (n); seconds: how long each took.
    explore: `serving.explore`."""
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
        together,
        seconds,
        features,
        scores.astype(np.float32, copy=False).tobytes(),
        inputs,
        propensities,
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
