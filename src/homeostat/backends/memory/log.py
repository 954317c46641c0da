"""A prediction log in memory, for tests, simulation and rehearsal."""

from __future__ import annotations

from datetime import datetime
from functools import reduce
from itertools import pairwise

import polars as pl

from homeostat.core.records import PREDICTIONS, instant

_NAMES, _KINDS = list(PREDICTIONS), list(PREDICTIONS.values())
NOTHING = pl.DataFrame(schema=PREDICTIONS)


class MemoryPredictionLog:
    """Keeps batches as they come; a read looks only at the batches its period touches."""

    def __init__(self) -> None:
        self._batches: dict[str, list[tuple[datetime, datetime, pl.DataFrame]]] = {}

    def append(self, model: str, batch: pl.DataFrame) -> None:
        """batch: columns of `records.PREDICTIONS`."""
        if batch.is_empty():
            return
        if batch.columns != _NAMES or batch.dtypes != _KINDS:
            batch = batch.select(pl.col(name).cast(kind) for name, kind in PREDICTIONS.items())
        batch = batch.sort("time", "id", "arm")
        first, last = batch["time"][0], batch["time"][-1]
        assert isinstance(first, datetime)
        assert isinstance(last, datetime)
        self._batches.setdefault(model, []).append((first, last, batch))

    def read(self, model: str, since: datetime, until: datetime) -> pl.DataFrame:
        touched = [
            (first, last, batch)
            for first, last, batch in self._batches.get(model, [])
            if first < until and last >= since
        ]
        if not touched:
            return NOTHING.clone()
        return self._joined(touched, since, until)

    def news(self, model: str, since: datetime, mark: object = None) -> tuple[pl.DataFrame, object]:
        """The mark: how many batches there were."""
        batches = self._batches.get(model, [])
        seen = mark if isinstance(mark, int) else 0
        new = [kept for kept in batches[seen:] if kept[1] >= since]
        return self._joined(new, since, None) if new else NOTHING, len(batches)

    @staticmethod
    def _joined(
        touched: list[tuple[datetime, datetime, pl.DataFrame]],
        since: datetime,
        until: datetime | None,
    ) -> pl.DataFrame:
        parts = []
        for first, last, batch in touched:
            kept = batch
            if first < since:
                kept = kept.filter(pl.col("time") >= instant(since))
            if until is not None and last >= until:
                kept = kept.filter(pl.col("time") < instant(until))
            parts.append(kept)
        found = reduce(pl.DataFrame.vstack, parts)
        one_by_one = all(last < first for (_, last, _), (first, _, _) in pairwise(touched))
        return found if one_by_one else found.sort("time", "id", "arm")
