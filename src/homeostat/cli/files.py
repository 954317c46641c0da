"""Tables in files that people name on the command line."""

from __future__ import annotations

from datetime import datetime
from glob import has_magic
from pathlib import Path

import polars as pl

from homeostat.core.errors import BadInput, NotFound, Unavailable
from homeostat.core.records import LABELS, TIME
from homeostat.definition.mistakes import did_you_mean


def read_table(path: Path) -> pl.DataFrame:
    """Parquet, CSV, JSON or JSON lines, told apart by the name. Raises BadInput, NotFound."""
    readers = {
        ".parquet": pl.read_parquet,
        ".csv": lambda p: pl.read_csv(p, try_parse_dates=True, infer_schema_length=10_000),
        ".json": pl.read_json,
        ".jsonl": pl.read_ndjson,
        ".ndjson": pl.read_ndjson,
    }
    there(path)
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise BadInput(
            f"{path}: cannot tell what it is",
            expected=" or ".join(readers),
            found=path.suffix or "no ending",
        )
    try:
        table: pl.DataFrame = reader(path)
    except pl.exceptions.NoDataError:
        raise BadInput(f"{path} is empty", expected="a header and rows") from None
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise BadInput(f"{path} cannot be read as {path.suffix[1:]}: {reason}") from error
    if table.height == 0:
        raise BadInput(f"{path} has no rows", expected="at least one")
    return table


def there(path: Path) -> None:
    """Raises NotFound, with the name that may have been meant; a pattern is taken as it is."""
    if not path.exists() and not has_magic(str(path)):
        names = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
        raise NotFound(f"there is no file {path}", remedy=did_you_mean(path.name, names))


def read_labels(path: Path, known: datetime) -> pl.DataFrame:
    """A file of labels in the ledger's columns. id and label are needed; time (of the outcome)
    is `known` where it is missing. Raises BadInput, naming the first row that is wrong."""
    table = read_table(path)
    for column in ("id", "label"):
        if column not in table.columns:
            raise BadInput(
                f"{path} has no column `{column}`",
                expected="id, label and, if there is one, time",
                found=", ".join(table.columns),
                remedy=did_you_mean(column, table.columns),
            )
    rows = table.select(
        pl.col("id").cast(pl.String),
        pl.col("label").cast(pl.Float64, strict=False),
        _time(table, path, known),
        known=pl.lit(known, TIME),
    )
    wrong = rows.with_row_index("row", offset=1).filter(
        pl.col("id").is_null() | pl.col("label").is_null() | ~pl.col("label").is_in([0.0, 1.0])
    )
    if wrong.height:
        row = wrong["row"][0]
        raise BadInput(
            f"{path} row {row}: not a label",
            expected="an id and a label of 0 or 1",
            found=f"id {table['id'][row - 1]!r}, label {table['label'][row - 1]!r}",
            remedy=f"correct it ({wrong.height:,} rows are wrong); nothing was taken in",
        )
    return rows.select(list(LABELS))


def write_text(path: Path, text: str) -> None:
    """Raises Unavailable."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Unavailable(
            f"{path} cannot be written: {error.strerror}",
            remedy="name a file in a folder that exists and may be written to",
        ) from error


def _time(table: pl.DataFrame, path: Path, known: datetime) -> pl.Expr:
    if "time" not in table.columns:
        return pl.lit(known, TIME).alias("time")
    kind = table.schema["time"]
    time = pl.col("time")
    if kind == pl.String:
        parsed = table["time"].str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
        if parsed.null_count() > table["time"].null_count():
            bad = table["time"].filter(parsed.is_null()).first()
            raise BadInput(
                f"{path}: a time that cannot be read",
                expected="such as 2026-01-31T12:00:00Z",
                found=repr(bad),
            )
        return pl.lit(parsed).fill_null(known).alias("time")
    if isinstance(kind, pl.Datetime):
        zoned = (
            time.dt.convert_time_zone("UTC") if kind.time_zone else time.dt.replace_time_zone("UTC")
        )
        return zoned.cast(TIME).fill_null(known)
    if kind == pl.Date:
        return time.cast(pl.Datetime("us")).dt.replace_time_zone("UTC").fill_null(known)
    raise BadInput(f"{path}: `time` has to be a time", found=str(kind))
