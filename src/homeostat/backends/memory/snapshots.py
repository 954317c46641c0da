"""Content-addressed tables in memory: for tests and rehearsal."""

from __future__ import annotations

import polars as pl

from homeostat.data.snapshots import checked, table_digest


class MemorySnapshots:
    """core.ports.SnapshotStore; lives and dies with the process."""

    def __init__(self) -> None:
        self._tables: dict[str, tuple[str, pl.DataFrame]] = {}

    def put(self, key: str, table: pl.DataFrame) -> str:
        if checked(key) not in self._tables:
            self._tables[key] = (table_digest(table), table.clone())
        return self._tables[key][0]

    def get(self, key: str) -> pl.DataFrame | None:
        found = self._tables.get(checked(key))
        return None if found is None else found[1].clone()

    def digest(self, key: str) -> str | None:
        found = self._tables.get(checked(key))
        return None if found is None else found[0]

    def remove(self, key: str) -> None:
        self._tables.pop(checked(key), None)
