"""V1 `:explain`: Shapley values, computed beside the predictions and never in their way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from weakref import WeakKeyDictionary

import msgspec
import numpy as np

from homeostat.core.errors import HomeostatError, Unavailable
from homeostat.core.servable import BACKGROUND, read_background
from homeostat.serving.batch import join, part, stack
from homeostat.serving.intake import Unsupported
from homeostat.serving.jobs import Job
from homeostat.serving.runtime import SCORE, Columns, LoadedModel
from homeostat.serving.scoring import not_finite
from homeostat.serving.shadow import stand_back
from homeostat.serving.shapley import Vector, explain

MOST = 100
"""Rows of one request: each takes as long as some thousands of predictions."""
WAITING = 100
"""Requests that wait for their turn before others are shed."""

_encode = msgspec.json.Encoder().encode


class Explainer:
    """One thread that stands back behind the answers, one request after the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = ThreadPoolExecutor(1, "explain", initializer=stand_back)
        self._backgrounds: WeakKeyDictionary[LoadedModel, Columns] = WeakKeyDictionary()
        self.waiting = 0

    def submit(self, job: Job, done: Callable[[bytes | BaseException], None]) -> None:
        """done(body or error) is called on the event loop; the error is a HomeostatError, or
        TimeoutError past the deadline. Raises Unavailable: too many wait."""
        if self.waiting >= WAITING:
            raise Unavailable(
                f"more than {WAITING} requests for explanations are waiting",
                remedy="try again in a moment",
            )
        self.waiting += 1

        def ended(future: asyncio.Future[bytes]) -> None:
            self.waiting -= 1
            error = future.exception()
            done(future.result() if error is None else error)

        self._loop.run_in_executor(self._thread, self._explain, job).add_done_callback(ended)

    def close(self) -> None:
        self._thread.shutdown(wait=True)

    def _explain(self, job: Job) -> bytes:
        """In the thread. Raises HomeostatError, TimeoutError."""
        model = job.model
        background = self._background(model)
        columns = _columns(job)

        def score(some: Columns) -> Vector:
            if job.deadline is not None and job.deadline <= perf_counter():
                raise TimeoutError
            found = model.run(some)[SCORE].astype(np.float64)
            if not np.isfinite(found).all():
                raise HomeostatError(f"version {model.version}: the model returned no number")
            return found

        scores = score(columns)
        rows = [explain(score, part(columns, k, k + 1), background) for k in range(job.n)]
        answer = {
            "predictions": scores.tolist(),
            "explanations": [
                {"base": one.base, "contributions": one.contributions, "errors": one.errors}
                for one in rows
            ],
            "model_version": model.version,
            "id": job.id,
        }
        return _encode(answer)

    def _background(self, model: LoadedModel) -> Columns:
        found = self._backgrounds.get(model)
        if found is None:
            try:
                found = read_background(Path(model.servable.path), model.columns)
            except FileNotFoundError:
                raise Unsupported(
                    f"version {model.version} gives no explanations",
                    expected=f"rows to compare with in its {BACKGROUND}",
                    remedy="train it again: training writes them",
                ) from None
            self._backgrounds[model] = found
        return found


def _columns(job: Job) -> Columns:
    """The rows of a request, by input. Raises BadInput."""
    model = job.model
    if not model.plain:
        return join([job.inputs])
    x = stack([job.inputs], model.width)
    if (error := not_finite(model, x)) is not None:
        raise error
    return {name: x[:, j] for j, name in enumerate(model.inputs)}
