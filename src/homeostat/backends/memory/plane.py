"""A data plane in memory: the same routing and pairing as the real one, on whole batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.backends.memory.log import MemoryPredictionLog
from homeostat.core.clock import to_us
from homeostat.core.names import Arm
from homeostat.core.ports import Gauge, Observed
from homeostat.core.records import PREDICTIONS
from homeostat.core.route import BUCKETS, PAIRING_SALT, Route, Servable, bucket

Scorer = Callable[[Servable, NDArray[np.float32], Sequence[str]], NDArray[np.float64]]
"""(version, features (n, d), request ids (n)) -> scores (n); NaN where the version fails."""

NO_NUMBER = "the model returned no number"
NOT_READY = "no model is ready"


class Part(NamedTuple):
    """The rows (indices) of a batch that one version scores; None, and no arm: nobody can."""

    version: Servable | None
    arm: Arm | None
    probability: float
    rows: NDArray[np.intp]


class MemoryDataPlane:
    """Applies a route at once. `scorer` stands for the model files.

    latency: seconds a request takes, by version; NaN scores are logged as errors.
    """

    def __init__(
        self,
        log: MemoryPredictionLog,
        scorer: Scorer,
        *,
        latency: Callable[[Servable, Sequence[str]], NDArray[np.float64]] | None = None,
    ) -> None:
        self.routes: dict[str, Route] = {}
        self.gauges: list[Gauge] = []
        self.failures: dict[str, str] = {}
        self._log, self._scorer = log, scorer
        self._latency = latency or (lambda version, ids: np.full(len(ids), 0.001))

    def publish(self, route: Route) -> None:
        current = self.routes.get(route.model)
        if current is None or route.generation >= current.generation:
            self.routes[route.model] = route

    def observed(self, model: str) -> Observed:
        route = self.routes.get(model)
        return Observed(route.generation if route else -1, 1, dict(self.failures))

    def show(self, gauges: Sequence[Gauge]) -> None:
        self.gauges = list(gauges)

    def serve(
        self,
        model: str,
        ids: Sequence[str],
        features: NDArray[np.float32],
        times: datetime | Sequence[datetime],
        keys: Sequence[str] | None = None,
        inputs: Sequence[str] | None = None,
    ) -> pl.DataFrame:
        """Answer a batch: ids (n), features (n, d), and the inputs that are no float32 numbers as
        JSON objects (n). -> the answers' log records, shadows apart."""
        route = self.routes.get(model)
        if route is None or route.champion is None:
            everything = np.arange(len(ids))
            batch = self._records(
                model, [Part(None, None, 0.0, everything)], ids, features, times, inputs
            )
            self._log.append(model, batch)
            return batch
        parts = _split(route, ids, keys or ids)
        parts = [part for part in parts if len(part.rows)]
        if not parts:
            return pl.DataFrame(schema=PREDICTIONS)
        batch = self._records(model, parts, ids, features, times, inputs)
        self._log.append(model, batch)
        return batch.head(sum(len(part.rows) for part in parts if part.arm is not Arm.SHADOW))

    def _records(
        self,
        model: str,
        parts: Sequence[Part],
        ids: Sequence[str],
        features: NDArray[np.float32],
        times: datetime | Sequence[datetime],
        others: Sequence[str] | None,
    ) -> pl.DataFrame:
        """One table for all parts: many small ones would take most of a simulation's time."""
        picked = [[ids[i] for i in part.rows.tolist()] for part in parts]
        nothing = np.empty(0)
        scores, latencies = [nothing], [nothing]
        for part, names in zip(parts, picked, strict=True):
            unanswered = np.full(len(names), np.nan)
            served, seen = part.version, features[part.rows]
            scores.append(self._scorer(served, seen, names) if served else unanswered)
            latencies.append(self._latency(served, names) if served else np.zeros(len(names)))
        rows = np.concatenate([part.rows for part in parts])
        n = len(rows)

        def of_part(values: Sequence[Any]) -> list[Any]:
            """The value of a row's part, row by row."""
            return [v for v, part in zip(values, parts, strict=True) for _ in range(len(part.rows))]

        score = np.concatenate(scores)
        failed = of_part([NO_NUMBER if part.version else NOT_READY for part in parts])
        wrong = np.isnan(score).tolist()
        numbers = pl.Series(features[rows], dtype=pl.Array(pl.Float32, features.shape[1]))
        if parts[0].version is None:  # nobody looked at them
            none = pl.Series([[]], dtype=PREDICTIONS["features"])
            numbers, others = none.new_from_index(0, n), None
        columns: dict[str, Any] = {
            "id": list(chain.from_iterable(picked)),
            "time": pl.Series(np.full(n, to_us(times))).cast(PREDICTIONS["time"])
            if isinstance(times, datetime)
            else [times[i] for i in rows.tolist()],
            "model": [model] * n,
            "version": of_part([part.version.version if part.version else "" for part in parts]),
            "arm": of_part([str(part.arm or "") for part in parts]),
            "probability": np.repeat([p.probability for p in parts], [len(p.rows) for p in parts]),
            "latency": np.concatenate(latencies),
            "features": numbers.cast(PREDICTIONS["features"]),
            "score": [None if bad else s for s, bad in zip(score.tolist(), wrong, strict=True)],
            "error": [
                why if is_wrong else None for why, is_wrong in zip(failed, wrong, strict=True)
            ],
            "inputs": [others[i] for i in rows.tolist()] if others else [None] * n,
            "propensity": np.ones(n),
        }
        return pl.DataFrame(
            [pl.Series(name, columns[name], kind) for name, kind in PREDICTIONS.items()]
        )


def _split(route: Route, ids: Sequence[str], keys: Sequence[str]) -> list[Part]:
    """`core.route.assign` and `shadows` on whole batches: answers, the champion's first; then
    shadows."""
    assert route.champion is not None
    challengers = route.challengers
    if not challengers:
        return [Part(route.champion, Arm.CHAMPION, 1.0, np.arange(len(ids)))]
    drawn = np.array([bucket(route.salt, key) for key in keys], dtype=np.int64)
    sampled = np.array([bucket(PAIRING_SALT, i) for i in ids], dtype=np.int64)
    everybodys, unpaired = np.ones(len(ids), bool), np.ones(len(ids), bool)
    left, answers, pairs = 100.0, [], []
    for c in challengers:
        start, width = round(c.at * BUCKETS / 100), c.percent * (BUCKETS // 100)
        mine = (drawn - start) % BUCKETS < width
        answers.append(Part(c.servable, Arm.CANARY, c.percent / 100, np.flatnonzero(mine)))
        paired = sampled < c.paired * BUCKETS
        pairs.append(Part(c.servable, Arm.SHADOW, 1.0, np.flatnonzero(paired & ~mine)))
        everybodys &= ~mine
        unpaired &= ~paired
        left -= c.percent
    champion = Part(route.champion, Arm.CHAMPION, left / 100, np.flatnonzero(everybodys))
    too = Part(route.champion, Arm.SHADOW, 1.0, np.flatnonzero(~everybodys & ~unpaired))
    return [champion, *answers, *pairs, too]
