"""The prediction log on this machine: a Delta table, and the segments that will go into it.

The table can be read by DuckDB, Polars or Spark without this project.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from homeostat.core.clock import to_ns
from homeostat.core.errors import Unavailable
from homeostat.core.records import PREDICTIONS
from homeostat.serving.layout import Layout
from homeostat.serving.segment import Name, PredictionRecord, predictions, read_bytes

_SCHEMA = {**PREDICTIONS, "day": pl.String()}
_ORDER = ("time", "id", "arm")
_ADDED = {
    "inputs": pl.lit(None, PREDICTIONS["inputs"]).alias("inputs"),
    "propensity": pl.lit(1.0).alias("propensity"),
}
"""What rows say that were written before there was such a column."""
KEEP = timedelta(hours=1)
"""How long files that compaction replaced stay, for readers that still use them."""


class DeltaPredictionLog:
    """Implements `core.ports.PredictionLog`; the keeper writes through it (`serving.keeper`).

    Table columns: those of `core.records.PREDICTIONS` and `day` (UTC date of `time`), partitioned
    by model and day. Each writer's highest delivered segment is an application transaction of
    the same commit as its rows, so a segment is in the table exactly once whatever is killed when.
    """

    def __init__(self, home: Path) -> None:
        self._layout = Layout(home).make()
        self._uri = str(self._layout.table)

    # ------------------------------------------------------------ reading

    def read(self, model: str, since: datetime, until: datetime) -> pl.DataFrame:
        """since <= time < until, aware datetimes. Raises Unavailable."""
        # segments first: what is delivered meanwhile is then in the table, and what is in both
        # is known by its transaction
        segments = self._segments()
        table = self._table()
        frames = [self._delivered(table, model, since, until)] if table else []
        low, high = to_ns(since) // 1000, to_ns(until) // 1000
        waiting = [
            record
            for name, data in segments.items()
            if table is None or not _has(table, name)
            for record in predictions(data)
            if record.model == model and low <= record.time < high
        ]
        frames.append(to_frame(waiting).drop("day"))
        return pl.concat(frames).sort(_ORDER)

    def _segments(self) -> dict[Name, bytes]:
        found: dict[Name, bytes] = {}
        live = [(path, self._layout.sealed) for path in self._layout.live.glob("*.live")]
        sealed = [(path, None) for path in self._layout.sealed.glob("*.sealed")]
        for path, moved in (*live, *sealed):
            name = Name.of(path)
            if name in found:
                continue
            try:
                found[name] = read_bytes(path)
            except FileNotFoundError:
                if moved is None:
                    continue  # delivered just now
                try:
                    found[name] = read_bytes(moved / f"{path.stem}.sealed")
                except FileNotFoundError:
                    continue  # sealed and delivered just now, or it was empty
        return found

    def _delivered(
        self, table: DeltaTable, model: str, since: datetime, until: datetime
    ) -> pl.DataFrame:
        time = pl.col("time")
        first, last = (at.astimezone(UTC).strftime("%Y-%m-%d") for at in (since, until))
        rows = pl.scan_delta(table)
        there = {field.name for field in table.schema().fields}
        wanted = (
            rows.with_columns(value for name, value in _ADDED.items() if name not in there)
            .filter(
                pl.col("model") == model,
                pl.col("day") >= first,
                pl.col("day") <= last,
                time >= since,
                time < until,
            )
            .select(pl.col(name).cast(kind) for name, kind in PREDICTIONS.items())
            .with_columns(pl.col("propensity").fill_null(1.0))
        )
        try:
            return wanted.collect()
        except (DeltaError, OSError, pl.exceptions.PolarsError) as error:
            raise self._unavailable(error) from error

    def _table(self) -> DeltaTable | None:
        try:
            return DeltaTable(self._uri)
        except TableNotFoundError:
            return None
        except (DeltaError, OSError) as error:
            raise self._unavailable(error) from error

    # ------------------------------------------------------------ writing (the keeper only)

    def write(self, segments: Sequence[tuple[Name, bytes]]) -> None:
        """Deliver segments, in one commit; those that are in the table already are left out.

        segments: of each writer in order of seq, none missing in between. Raises Unavailable, and
        then nothing was delivered.
        """
        table = self._table()
        fresh = [(n, data) for n, data in segments if table is None or not _has(table, n)]
        rows = to_frame(record for _, data in fresh for record in predictions(data))
        if rows.is_empty():
            return
        last = {name.writer: name.seq for name, _ in sorted(fresh)}
        properties = CommitProperties(
            app_transactions=[Transaction(writer, seq) for writer, seq in last.items()]
        )
        try:
            write_deltalake(
                self._uri,
                rows.sort("model", "day", *_ORDER),
                mode="append",
                schema_mode="merge",
                partition_by=["model", "day"],
                commit_properties=properties,
            )
        except (DeltaError, OSError) as error:
            raise self._unavailable(error) from error

    def write_segment(self, path: Path) -> None:
        """Deliver one sealed segment file. Raises Unavailable, FileNotFoundError."""
        self.write([(Name.of(path), read_bytes(path))])

    def compact(self) -> None:
        """Join small files and remove those that were joined `KEEP` ago. Raises Unavailable."""
        table = self._table()
        if table is None:
            return
        try:
            table.optimize.compact()
            hours = int(KEEP.total_seconds() // 3600)
            table.vacuum(hours, dry_run=False, enforce_retention_duration=False)
        except (DeltaError, OSError) as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> Unavailable:
        return Unavailable("the prediction log does not answer", path=self._uri, found=str(error))


def _has(table: DeltaTable, name: Name) -> bool:
    delivered = table.transaction_version(name.writer)
    return delivered is not None and delivered >= name.seq


def to_frame(records: Iterable[PredictionRecord]) -> pl.DataFrame:
    """Records -> the table's columns (those of PREDICTIONS, and `day`)."""
    rows = list(records)
    if not rows:
        return pl.DataFrame(schema=_SCHEMA)
    return pl.DataFrame(
        {
            "id": [r.id for r in rows],
            "time": pl.Series([r.time for r in rows], dtype=pl.Int64).cast(PREDICTIONS["time"]),
            "model": [r.model for r in rows],
            "version": [r.version for r in rows],
            "arm": [r.arm for r in rows],
            "probability": [r.probability for r in rows],
            "latency": [r.latency for r in rows],
            "features": _features([r.features for r in rows]),
            "score": pl.Series([r.score for r in rows], dtype=pl.Float64),
            "error": pl.Series([r.error for r in rows], dtype=pl.String),
            "inputs": pl.Series([r.inputs for r in rows], dtype=pl.String),
            "propensity": pl.Series([r.propensity for r in rows], dtype=pl.Float64),
        }
    ).with_columns(day=pl.col("time").dt.strftime("%Y-%m-%d"))


def _features(raw: list[bytes]) -> pl.Series:
    """float32 bytes per row -> List(Float32), without a Python float per value."""
    import pyarrow as pa

    offsets = np.zeros(len(raw) + 1, np.int64)
    np.cumsum([len(r) // 4 for r in raw], out=offsets[1:])
    values = np.frombuffer(b"".join(raw), dtype="<f4")
    lists = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values, pa.float32()))
    return pl.Series("features", lists, dtype=pl.List(pl.Float32))
