"""The label ledger in memory: for tests and rehearsal."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime

import numpy as np
import polars as pl

from homeostat.data import ledger


class MemoryLedger:
    """core.ports.LabelLedger; lives and dies with the process."""

    def __init__(self) -> None:
        self._facts = ledger.empty()
        self._rows: dict[str, list[int]] = defaultdict(list)  # of each id

    def append(self, labels: pl.DataFrame) -> int:
        new = ledger.facts(labels)
        if not self._rows.keys().isdisjoint(new["id"].to_list()):
            new = ledger.new_facts(self._facts, new)
        for row, id in enumerate(new["id"].to_list(), self._facts.height):
            self._rows[id].append(row)
        self._facts = self._facts.vstack(new)
        return new.height

    def as_known(self, at: datetime, ids: pl.Series | None = None) -> pl.DataFrame:
        if ids is None:
            return ledger.as_known(self._facts, at)
        asked = dict.fromkeys(ids.cast(pl.String).to_list())
        rows = sorted(row for id in asked for row in self._rows.get(id, ()))
        return ledger.as_known(self._facts[np.array(rows, np.int64)], at)

    def news(self, mark: int = 0) -> tuple[pl.DataFrame, int]:
        return self._facts.slice(mark), self._facts.height
