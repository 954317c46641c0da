"""Rows from where they are: files, globs, folders, `s3://`, or a SQL query.

What comes back is ordered by time (rows of one instant keep the order of the source, for a SQL
query that of the key), with the time column as Datetime(us, UTC); everything else is as it was.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from homeostat.core.errors import BadInput
from homeostat.core.records import TIME
from homeostat.data import files, sql
from homeostat.data.names import need
from homeostat.data.spec import DataSpec


def ingest(spec: DataSpec, root: Path) -> pl.DataFrame:
    """Read the declared source; relative paths are relative to `root`.

    Raises NotFound (no such file, bucket or object), BadInput (unreadable or empty file, a column
    that is missing, a time that is none), Unavailable (a store that does not answer).
    """
    if sql.is_sql(spec.source):
        rows = sql.read(spec.source, spec.query, root)
    elif spec.query is not None:
        raise BadInput(
            "a query needs a database as its source",
            path="$.data.query",
            expected="source: postgresql://... or sqlite:///...",
            found=repr(spec.source),
        )
    else:
        rows = files.read(spec.source, root)
    where = sql.shown(spec.source)
    if rows.is_empty():
        raise BadInput("there are no rows", path=where, remedy="check the source")
    need(rows, spec.time, what="time column", path=where, field="$.data.time")
    need(rows, spec.key, what="key column", path=where, field="$.data.key")
    rows = rows.with_columns(as_time(rows[spec.time], where))
    by = [spec.time, spec.key] if sql.is_sql(spec.source) else [spec.time]
    return rows.sort(by, maintain_order=True)


def fingerprint(spec: DataSpec, root: Path) -> str | None:
    """A cheap identity of the source's content: names, sizes and times of change of its files.

    None where it cannot be known without reading (SQL). Raises NotFound.
    """
    return None if sql.is_sql(spec.source) else files.fingerprint(spec.source, root)


def as_time(column: pl.Series, where: str) -> pl.Series:
    """Dates, datetimes and ISO 8601 text -> Datetime(us, UTC); without a zone they are UTC.

    Raises BadInput, with an example, for anything else and for rows without a time.
    """
    kind, given = column.dtype, column
    if kind == pl.String:
        column = parsed_time(column)
    elif kind == pl.Date:
        column = column.cast(pl.Datetime("us"))
    elif not isinstance(kind, pl.Datetime):
        raise BadInput(
            f"the time column {column.name!r} is not a time",
            path=where,
            expected="dates, datetimes or text such as 2026-01-31T12:00:00Z",
            found=f"{kind} such as {given[0]!r}",
            remedy="convert it at the source, or name another column in data.time",
        )
    bad = column.null_count()
    if bad:
        row = int(column.is_null().arg_true()[0])
        raise BadInput(
            f"{bad:,} of {len(column):,} rows have no readable time in {column.name!r}",
            path=where,
            expected="a date or datetime in every row",
            found=f"{given[row]!r} in row {row + 1:,}",
        )
    zone = getattr(column.dtype, "time_zone", None)
    column = column.dt.replace_time_zone("UTC") if zone is None else column
    return column.dt.convert_time_zone("UTC").cast(TIME)


def parsed_time(column: pl.Series) -> pl.Series:
    """ISO 8601 text -> datetimes; null where it is none (one text may have a zone, another not)."""
    text = column.str.strip_chars()
    aware = text.str.contains(r"(Z|[+-]\d{2}:?\d{2})$") & text.str.contains(r"\d:\d")
    frame = pl.DataFrame({"text": text, "aware": aware})
    zoned = pl.when("aware").then("text").str.to_datetime(time_zone="UTC", strict=False)
    plain = pl.when(~pl.col("aware")).then("text")
    naive = plain.str.to_datetime(time_unit="us", strict=False)
    day = plain.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
    both = pl.coalesce(
        zoned.cast(TIME),
        naive.dt.replace_time_zone("UTC"),
        day.dt.replace_time_zone("UTC"),
    )
    return frame.select(both.alias(column.name)).to_series()
