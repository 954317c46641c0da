"""Tables in files: Parquet and CSV (.gz), one, a glob, a folder, on disk or on S3."""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from homeostat.core.errors import BadInput, NotFound, Unavailable
from homeostat.data import s3
from homeostat.data.names import listed, suggestion

SUFFIXES = (".parquet", ".csv", ".csv.gz")


def read(source: str, root: Path) -> pl.DataFrame:
    """All rows, files in the order of their names. Raises NotFound, BadInput, Unavailable."""
    names = _names(source, root)
    tables = [read_file(name) for name in names]
    _same_columns(names, tables)
    return tables[0] if len(tables) == 1 else pl.concat(tables, how="vertical_relaxed")


def columns(source: str, root: Path) -> list[str]:
    """The names of the first file's columns, its rows unread. Raises as `read`."""
    name = _names(source, root)[0]
    return read_file(name, rows=0).columns


def fingerprint(source: str, root: Path) -> str:
    """Digest of the files' names, sizes and times of change. Raises NotFound."""
    hasher = hashlib.sha256()
    for name in _names(source, root):
        if s3.is_s3(name):
            size, changed = s3.sizes(name)[name]
        else:
            stat = Path(name).stat()
            size, changed = stat.st_size, stat.st_mtime_ns
        hasher.update(f"{Path(name).name}\x00{size}\x00{changed}\n".encode())
    return hasher.hexdigest()


def read_file(name: str, *, rows: int | None = None) -> pl.DataFrame:
    """One Parquet or CSV file, or its first rows. Raises NotFound, BadInput, Unavailable."""
    data: bytes | str = s3.read(name) if s3.is_s3(name) else name
    empty = not data if isinstance(data, bytes) else Path(data).stat().st_size == 0
    if empty:
        raise BadInput("the file is empty", path=name, expected="a table with rows")
    source = io.BytesIO(data) if isinstance(data, bytes) else data
    try:
        if name.endswith(".parquet"):
            return pl.read_parquet(source, glob=False, hive_partitioning=False, n_rows=rows)
        return pl.read_csv(
            source, try_parse_dates=True, infer_schema_length=10_000, glob=False, n_rows=rows
        )
    except pl.exceptions.NoDataError as error:
        raise BadInput("the file has no columns", path=name, expected="a table") from error
    except pl.exceptions.PolarsError as error:
        kind = "Parquet" if name.endswith(".parquet") else "CSV"
        raise BadInput(
            f"cannot be read as {kind}",
            path=name,
            found=str(error).strip().splitlines()[0],
            remedy="is it complete, and of the kind that its name says?",
        ) from error
    except OSError as error:
        raise Unavailable("cannot be read", path=name, found=str(error)) from error


def _names(source: str, root: Path) -> list[str]:
    names = _on_s3(source) if s3.is_s3(source) else _on_disk(source, root)
    for name in names:
        if not name.endswith(SUFFIXES):
            raise BadInput(
                "not a kind of file that can be read",
                path=name,
                expected=" or ".join(SUFFIXES),
            )
    if len({name.endswith(".parquet") for name in names}) > 1:
        raise BadInput(
            "both Parquet and CSV files",
            path=source,
            expected="one kind",
            found=listed(Path(n).name for n in names),
            remedy="name them by a glob such as data/*.parquet",
        )
    return names


def _on_disk(source: str, root: Path) -> list[str]:
    path = root / source
    if path.is_file():
        return [str(path)]
    if path.is_dir():
        inside = sorted(str(p) for p in path.rglob("*") if str(p).endswith(SUFFIXES))
        if (path / "_delta_log").is_dir():
            raise BadInput(
                "a Delta table's files may hold rows that were removed from it",
                path=str(path),
                expected="a folder of plain Parquet or CSV files",
            )
        if not inside:
            raise NotFound(f"no {' or '.join(SUFFIXES)} file in the folder", path=str(path))
        return inside
    if glob.has_magic(source):
        found = sorted(p for p in glob.glob(str(path), recursive=True) if Path(p).is_file())
        if found:
            return found
    beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    raise _missing(str(path), path.name, beside)


def _on_s3(source: str) -> list[str]:
    s3.bucket_named(source)
    if glob.has_magic(source):
        head = source.split("*")[0].split("?")[0].split("[")[0].rpartition("/")[0]
        below = s3.sizes(head)
        found = sorted(u for u in below if fnmatch.fnmatch(u, source))
    else:
        below = s3.sizes(source)
        found = sorted(u for u in below if u == source or u.endswith(SUFFIXES))
    if found:
        return found
    folder, _, name = source.rstrip("/").rpartition("/")
    beside = s3.sizes(folder) if len(folder) > len(s3.SCHEME) else {}
    raise _missing(source, name, [u.removeprefix(folder + "/") for u in beside])


def _missing(path: str, name: str, beside: Sequence[str]) -> NotFound:
    return NotFound(
        "no file matches" if glob.has_magic(name) else "there is no such file",
        path=path,
        found=f"beside it {listed(sorted(beside), 5)}" if beside else None,
        remedy=suggestion(name, beside) or "correct $.data.source",
    )


def _same_columns(names: Sequence[str], tables: Sequence[pl.DataFrame]) -> None:
    """Raises BadInput naming the first file whose columns or types are not those of the first."""
    first = tables[0].schema
    for name, table in zip(names[1:], tables[1:], strict=True):
        lacking = [c for c in first if c not in table.columns]
        extra = [c for c in table.columns if c not in first]
        other = [
            f"{c} is {table.schema[c]}, not {first[c]}"
            for c in first
            if c in table.schema and not _alike(first[c], table.schema[c])
        ]
        told = [f"lacks {listed(lacking)}"] if lacking else []
        told += [f"has also {listed(extra)}"] if extra else []
        told += other
        if told:
            raise BadInput(
                "its columns are not those of the first file",
                path=name,
                expected=f"the columns and types of {Path(names[0]).name}",
                found="; ".join(told),
            )
        if table.columns != tables[0].columns:
            raise BadInput(
                "its columns are in another order",
                path=name,
                expected=listed(first),
                found=listed(table.columns),
            )


def _alike(a: pl.DataType, b: pl.DataType) -> bool:
    return a == b or (a.is_numeric() and b.is_numeric()) or pl.Null in (a, b)
