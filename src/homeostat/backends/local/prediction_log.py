"""The prediction log on this machine: a Delta table, and the segments that will go into it.

The table can be read by DuckDB, Polars or Spark without this project.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from homeostat.backends.local.commits import added
from homeostat.core.clock import to_ns
from homeostat.core.errors import Unavailable
from homeostat.core.records import PREDICTIONS
from homeostat.serving.layout import Layout
from homeostat.serving.segment import (
    HEADER,
    Name,
    PredictionRecord,
    listed,
    predictions,
    read_bytes,
    read_from,
)

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
            for name, (data, _) in segments.items()
            if table is None or not _has(table, name)
            for record in predictions(data)
            if record.model == model and low <= record.time < high
        ]
        frames.append(to_frame(waiting).drop("day"))
        return pl.concat(frames).sort(_ORDER)

    def news(self, model: str, since: datetime, mark: object = None) -> tuple[pl.DataFrame, object]:
        """Raises Unavailable. The mark: how much of each segment, and which commits were read."""
        mark = mark if isinstance(mark, _Mark) else None
        try:
            seen = {} if mark is None else mark.ends
            segments = self._segments(seen)
            records = [
                record
                for name, (data, _) in segments.items()
                for record in predictions(data, start=0 if name in seen else HEADER)
                if record.model == model
            ]
            frames, version = self._committed(model, since, mark)
        except OSError as error:
            raise self._unavailable(error) from error
        if records:
            low = pl.lit(since)
            frames.append(to_frame(records).drop("day").filter(pl.col("time") >= low))
        news = pl.concat(frames).sort(_ORDER) if frames else pl.DataFrame(schema=PREDICTIONS)
        return news, _Mark(version, {name: end for name, (_, end) in segments.items()})

    def _committed(
        self, model: str, since: datetime, mark: _Mark | None
    ) -> tuple[list[pl.DataFrame], int]:
        """-> rows that were delivered since, and the table's version."""
        if mark is not None:
            try:
                return self._read_files(model, since, mark.version)
            except FileNotFoundError:
                pass  # compacted, and tidied away since: all of it is read again
        table = self._table()
        if table is None:
            return [], -1
        return [self._delivered(table, model, since, None)], table.version()

    def _read_files(
        self, model: str, since: datetime, version: int
    ) -> tuple[list[pl.DataFrame], int]:
        frames = []
        for commit, adds in added(self._layout.table, version):
            version = commit
            for add in adds:
                if add["partitionValues"]["model"] != model:
                    continue
                rows = pl.read_parquet(self._layout.table / add["path"], glob=False)
                there = set(rows.columns)
                lacking = [value for name, value in _ADDED.items() if name not in there]
                rows = rows.with_columns(pl.lit(model).alias("model"), *lacking)
                frames.append(_as_logged(rows.lazy(), pl.col("time") >= since).collect())
        return frames, version

    def _segments(
        self, seen: Mapping[Name, int] = MappingProxyType({})
    ) -> dict[Name, tuple[bytes, int]]:
        """-> per segment its bytes (of one that was seen, those from that offset on), and up to
        where it was read."""
        found: dict[Name, tuple[bytes, int]] = {}
        live = [(*one, self._layout.sealed) for one in listed(self._layout.live, "live")]
        sealed = [(*one, None) for one in listed(self._layout.sealed, "sealed")]
        for name, path, moved in (*live, *sealed):
            if name in found:
                continue
            try:
                found[name] = read_from(path, seen.get(name, 0))
            except FileNotFoundError:
                if moved is None:
                    continue  # delivered just now
                try:
                    found[name] = read_from(moved / f"{path.stem}.sealed", seen.get(name, 0))
                except FileNotFoundError:
                    continue  # sealed and delivered just now, or it was empty
        return found

    def _delivered(
        self, table: DeltaTable, model: str, since: datetime, until: datetime | None
    ) -> pl.DataFrame:
        time, day = pl.col("time"), pl.col("day")
        period = [time >= since, day >= _day(since)]
        if until is not None:
            period += [time < until, day <= _day(until)]
        there = {field.name for field in table.schema().fields}
        rows = pl.scan_delta(table).with_columns(
            value for name, value in _ADDED.items() if name not in there
        )
        try:
            return _as_logged(rows, pl.col("model") == model, *period).collect()
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


class _Mark(NamedTuple):
    """version: of the table (-1: there was none). ends: up to where segments were read."""

    version: int
    ends: dict[Name, int]


def _day(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d")


def _as_logged(rows: pl.LazyFrame, *wanted: pl.Expr) -> pl.LazyFrame:
    columns = [pl.col(name).cast(kind) for name, kind in PREDICTIONS.items()]
    found = rows.filter(*wanted).select(columns)
    return found.with_columns(pl.col("propensity").fill_null(1.0))


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
