"""Where the columns of a table come from: memory, or files of any size, a piece at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from glob import glob, has_magic
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl

from homeostat.core.errors import BadInput, NotFound

PIECE = 2_000_000
"""Rows of one column that are in memory together."""
PARQUET = (".parquet", ".pq")
SCANNED = (".csv", ".csv.gz", ".tsv", ".jsonl", ".ndjson", ".arrow", ".feather", ".ipc")
DRAWN = 20_000
"""Rows that a sample has where more would take longer and say no more."""
ENDINGS = (*PARQUET, *SCANNED, ".json")
_WANTED = "a Polars, pandas or Arrow table, or the path of a Parquet or CSV file"


class Source(Protocol):
    """A table that is read column by column. pieces: a column in its rows' order, at most PIECE
    rows at a time, at least one piece."""

    @property
    def schema(self) -> pl.Schema: ...

    @property
    def rows(self) -> int: ...

    def pieces(self, column: str) -> Iterator[pl.Series]: ...


class Frame:
    """A table in memory."""

    def __init__(self, table: pl.DataFrame) -> None:
        self._table = table

    @property
    def schema(self) -> pl.Schema:
        return self._table.schema

    @property
    def rows(self) -> int:
        return self._table.height

    def pieces(self, column: str) -> Iterator[pl.Series]:
        yield self._table.get_column(column)


class Pandas:
    """A pandas table; each column is converted when it is read."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self.rows = len(table)
        self.schema = pl.Schema(pl.from_pandas(table.head(0)).schema)
        for name, kind in self.schema.items():
            if kind in (pl.Null, pl.Object):  # an object column tells its type by its values
                self.schema[name] = self._column(name).dtype

    def _column(self, name: str) -> pl.Series:
        return pl.Series(name, pl.from_pandas(self._table[name], nan_to_null=False))

    def pieces(self, column: str) -> Iterator[pl.Series]:
        yield self._column(column)


class Parquet:
    """Parquet files with the same columns, read a piece of one column at a time."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._scans = [pl.scan_parquet(path) for path in paths]
        self.schema = self._scans[0].collect_schema()
        self._heights = [int(s.select(pl.len()).collect().item()) for s in self._scans]
        self.rows = sum(self._heights)

    def pieces(self, column: str) -> Iterator[pl.Series]:
        if not self.rows:
            yield pl.Series(column, dtype=self.schema[column])
        for scan, height in zip(self._scans, self._heights, strict=True):
            for start in range(0, height, PIECE):
                yield scan.select(column).slice(start, PIECE).collect().to_series()


class Where:
    """The rows of a source for which `mask` (n,) holds."""

    def __init__(self, source: Source, mask: np.ndarray) -> None:
        self._source, self._mask = source, mask
        self.schema = source.schema
        self.rows = int(mask.sum())

    def pieces(self, column: str) -> Iterator[pl.Series]:
        start = 0
        for piece in self._source.pieces(column):
            yield piece.filter(pl.Series(self._mask[start : start + piece.len()]))
            start += piece.len()


@contextmanager
def opened(source: Any) -> Iterator[Source]:
    """A source from what people have: a table, or the path of a file (or a glob of Parquet files);
    what is a source already stays open.

    Text files are turned into Parquet once, beside other temporary files, as a stream: their size
    is bounded by the disk and not by the memory. Raises BadInput, NotFound."""
    if isinstance(source, Frame | Pandas | Parquet | Where):
        yield source
        return
    if not isinstance(source, str | Path):
        yield _frame(source)
        return
    with tempfile.TemporaryDirectory(prefix="homeostat-drift-") as folder:
        yield _file(Path(source), Path(folder))


def sample(source: Source, columns: Sequence[str], rows: int, seed: int) -> pl.DataFrame:
    """At most `rows` rows, drawn without replacement, in their order."""
    wanted = np.arange(source.rows)
    if source.rows > rows:
        random = np.random.default_rng(seed)
        wanted = np.sort(random.choice(source.rows, rows, replace=False, shuffle=False))
    return pl.DataFrame([_at(source, name, wanted) for name in columns])


def _at(source: Source, column: str, rows: np.ndarray) -> pl.Series:
    found, start = [], 0
    for piece in source.pieces(column):
        low, high = np.searchsorted(rows, (start, start + piece.len()))
        found.append(piece.gather(rows[low:high] - start))
        start += piece.len()
    return pl.concat(found).alias(column)


def _frame(source: Any) -> Source:
    if isinstance(source, pl.LazyFrame):
        source = source.collect(engine="streaming")
    if type(source).__module__.split(".")[0] == "pandas" and hasattr(source, "columns"):
        return _some(Pandas(source), "the table")
    if not isinstance(source, pl.DataFrame):
        if not hasattr(source, "__arrow_c_stream__"):
            raise BadInput("not a table", expected=_WANTED, found=type(source).__name__)
        source = pl.DataFrame(source)
    return _some(Frame(source), "the table")


def _some(source: Source, name: str) -> Source:
    if not source.schema or not source.rows:
        raise BadInput(f"{name} has no rows", expected="a table with a header and rows")
    return source


def _file(path: Path, folder: Path) -> Source:
    paths = [Path(p) for p in sorted(glob(str(path)))] if has_magic(str(path)) else [path]
    if path.is_dir():
        paths = sorted(path.rglob("*.parquet"))
    if not paths or not paths[0].exists():
        raise NotFound(f"{path} does not exist", expected="a Parquet or CSV file")
    for one in paths:
        if one.stat().st_size == 0:
            raise BadInput(f"{one} is empty", expected="a table with a header and rows")
    ending = "".join(paths[0].suffixes[-2:]).lower()
    ending = ending if ending in ENDINGS else paths[0].suffix.lower()
    if ending not in ENDINGS:
        raise BadInput(
            f"{path}: cannot tell what it is",
            expected=" or ".join(ENDINGS),
            found=ending or "no ending",
        )
    try:
        if ending == ".json":
            return _some(Frame(pl.read_json(path)), str(path))
        if ending not in PARQUET:
            paths = [_parquet(one, ending, folder / f"{i}.parquet") for i, one in enumerate(paths)]
        return _some(Parquet(paths), str(path))
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        raise BadInput(
            f"{path} cannot be read as {ending[1:]}", found=str(error).splitlines()[0]
        ) from error


def _parquet(path: Path, ending: str, to: Path) -> Path:
    try:
        _scan(path, ending, 10_000).sink_parquet(to, compression="lz4")
    except pl.exceptions.ComputeError:
        if ending in (".arrow", ".feather", ".ipc"):
            raise
        # a type that shows only far down: look at all rows for it
        _scan(path, ending, None).sink_parquet(to, compression="lz4")
    return to


def _scan(path: Path, ending: str, look: int | None) -> pl.LazyFrame:
    if ending in (".arrow", ".feather", ".ipc"):
        return pl.scan_ipc(path)
    if ending in (".jsonl", ".ndjson"):
        return pl.scan_ndjson(path, infer_schema_length=look)
    separator = "\t" if ending == ".tsv" else ","
    return pl.scan_csv(path, separator=separator, infer_schema_length=look, try_parse_dates=True)
