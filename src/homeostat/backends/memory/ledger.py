"""The label ledger in memory: for tests and rehearsal."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from homeostat.data import ledger


class MemoryLedger:
    """core.ports.LabelLedger; lives and dies with the process."""

    def __init__(self) -> None:
        self._facts = ledger.empty()
        self._ids: set[str] = set()

    def append(self, labels: pl.DataFrame) -> int:
        new = ledger.facts(labels)
        ids = new["id"].to_list()
        if not self._ids.isdisjoint(ids):
            new = ledger.new_facts(self._facts, new)
        self._ids.update(ids)
        self._facts = self._facts.vstack(new)
        return new.height

    def as_known(self, at: datetime, ids: pl.Series | None = None) -> pl.DataFrame:
        self._facts = self._facts.rechunk()  # many small pieces take longer to look through
        return ledger.as_known(self._facts, at, ids)

    def news(self, mark: int = 0) -> tuple[pl.DataFrame, int]:
        return self._facts.slice(mark), self._facts.height
