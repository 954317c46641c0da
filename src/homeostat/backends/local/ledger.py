"""The label ledger as a Delta table: readable by DuckDB, Polars and Spark without this project.

Columns: those of core.records.LABELS and `arrival`, which numbers the facts as they came.
Appending is serialised by a lock beside the table's log (released by the system when its holder
dies); a commit of Delta is atomic, so a killed writer leaves the table as it was.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import polars as pl

from homeostat.backends.local.commits import is_latest
from homeostat.core.errors import Unavailable
from homeostat.data import ledger

COMPACT_FROM = 64  # files
_KEEP_REMOVED_HOURS = 1  # for readers that opened the table before a compaction


class DeltaLedger:
    """core.ports.LabelLedger on a folder.

    Raises Unavailable when the table cannot be read or written, and when the lock is not to be
    had within `patience` seconds.
    """

    def __init__(self, folder: Path, *, patience: float = 30.0) -> None:
        self._folder = folder
        self._patience = patience
        self._files: dict[str, pl.DataFrame] = {}  # a file of a Delta table never changes
        self._facts = _empty()
        self._version = -1  # of the table, when it was read last

    def append(self, labels: pl.DataFrame) -> int:
        given = ledger.facts(labels)
        if given.is_empty():
            return 0
        with self._told("written"), self._alone():
            kept = self._read()
            new = ledger.new_facts(kept.select(ledger.COLUMNS), given)
            if new.height:
                self._write(new.with_row_index("arrival", offset=kept.height))
            return new.height

    def as_known(self, at: datetime, ids: pl.Series | None = None) -> pl.DataFrame:
        with self._told("read"):
            facts = self._read()
        return ledger.as_known(facts, at, ids)

    def news(self, mark: int = 0) -> tuple[pl.DataFrame, int]:
        with self._told("read"):
            facts = self._read()
        return facts.slice(mark).select(ledger.COLUMNS), facts.height

    def _read(self) -> pl.DataFrame:
        """Every fact in the order of arrival; only files that are new are opened."""
        from deltalake import DeltaTable

        if is_latest(self._folder, self._version):
            return self._facts
        for attempt in range(3):
            table = DeltaTable(str(self._folder))
            names = table.file_uris()
            try:
                files = {n: self._files.get(n) for n in names}
                loaded = {
                    n: pl.read_parquet(n, glob=False) if f is None else f for n, f in files.items()
                }
                break
            except FileNotFoundError:
                if attempt == 2:  # not a compaction that overtook us
                    raise
        grown = self._files.keys() <= loaded.keys()  # else a compaction joined some
        new = [f for n, f in loaded.items() if not grown or n not in self._files]
        came = pl.concat([_empty(), *(f.select(_empty().columns) for f in new)]).sort("arrival")
        self._facts = pl.concat([self._facts, came]) if grown else came
        self._files, self._version = loaded, table.version()
        return self._facts

    def _write(self, new: pl.DataFrame) -> None:
        from deltalake import DeltaTable, write_deltalake

        new = new.with_columns(pl.col("arrival").cast(pl.Int64))
        write_deltalake(str(self._folder), new.to_arrow(), mode="append")
        if len(self._files) + 1 >= COMPACT_FROM:
            table = DeltaTable(str(self._folder))
            table.optimize.compact()
            table.vacuum(
                retention_hours=_KEEP_REMOVED_HOURS,
                enforce_retention_duration=False,
                dry_run=False,
            )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        until = time.monotonic() + self._patience
        with (self._folder / "_lock").open("a") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() > until:
                        raise Unavailable(
                            "the label ledger is locked",
                            path=str(self._folder),
                            found=f"another writer for {self._patience:g} s",
                            remedy="is a process stopped in the middle of an append?",
                        ) from error
                    time.sleep(0.005)
            yield

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        from deltalake.exceptions import DeltaError

        try:
            yield
        except (OSError, DeltaError, pl.exceptions.PolarsError) as error:
            raise Unavailable(
                f"the label ledger cannot be {what}",
                path=str(self._folder),
                found=str(error).strip().splitlines()[0][:300],
            ) from error


def _empty() -> pl.DataFrame:
    return ledger.empty().with_columns(pl.lit(None, pl.Int64).alias("arrival"))
