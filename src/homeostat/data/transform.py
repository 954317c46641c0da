"""The user's transform: a function of a Polars frame that returns one."""

from __future__ import annotations

import linecache
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from homeostat.core.errors import BadInput, HomeostatError
from homeostat.data.names import suggestion
from homeostat.data.spec import DataSpec

Transform = Callable[[pl.DataFrame], Any]


def apply(raw: pl.DataFrame, fn: Transform | None, spec: DataSpec) -> pl.DataFrame:
    """Run the transform and check what came back; without one the rows are the table.

    The table has the key, time and label columns, the same or fewer rows, none of them invented.
    Raises BadInput, for an error of the user's code with the line where it happened.
    """
    name = str(spec.transform or getattr(fn, "__name__", "transform"))
    if fn is None:
        table: Any = raw
    else:
        try:
            table = fn(raw.clone())
            # a lazy frame fails where it is collected: that is still the user's code
            table = table.collect() if isinstance(table, pl.LazyFrame) else table
        except HomeostatError:
            raise
        except Exception as error:
            raise failed("transform", name, fn, error) from error
    if not isinstance(table, pl.DataFrame):
        raise BadInput(
            "the transform must return a Polars frame",
            path=name,
            expected="polars.DataFrame or LazyFrame",
            found=f"{type(table).__module__}.{type(table).__qualname__}",
        )
    _check(raw, table, spec, name)
    return table


def failed(what: str, name: str, fn: Transform, error: Exception) -> BadInput:
    """An error of the user's code, with the file, line and text of its deepest own line."""
    frames = traceback.extract_tb(error.__traceback__)
    home = Path(getattr(getattr(fn, "__code__", None), "co_filename", "")).parent
    own = [f for f in frames if Path(f.filename).parent == home] or list(frames)
    file, line = own[-1].filename, own[-1].lineno or 0
    text = linecache.getline(file, line).strip()
    told = str(error).strip().splitlines()
    return BadInput(
        f"the {what} {name} failed",
        path=f"{Path(file).name}:{line}",
        found=f"{type(error).__name__}: {told[0] if told else ''}",
        remedy=f"in the line `{text}`" if text else None,
    )


def _check(raw: pl.DataFrame, table: pl.DataFrame, spec: DataSpec, name: str) -> None:
    for role, column in (("key", spec.key), ("time", spec.time), ("label", spec.label.column)):
        if column not in table.columns:
            raise BadInput(
                f"the transform lost the {role} column {column!r}",
                path=name,
                found=f"the columns {', '.join(table.columns)}",
                remedy=suggestion(column, table.columns) or "keep it in what is returned",
            )
    if table.schema[spec.time] != raw.schema[spec.time]:
        raise BadInput(
            f"the transform changed the type of the time column {spec.time!r}",
            path=name,
            expected=str(raw.schema[spec.time]),
            found=str(table.schema[spec.time]),
        )
    if table.height > raw.height:
        raise BadInput(
            "the transform returned more rows than it was given",
            path=name,
            expected=f"at most {raw.height:,}",
            found=f"{table.height:,}",
            remedy="does a join multiply rows?",
        )
    if table.is_empty():
        raise BadInput("the transform returned no rows", path=name, found=f"{raw.height:,} given")
