"""Names of columns: found, missing, and nearly right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import polars as pl

from homeostat.core.errors import BadInput


def suggestion(name: str, known: Iterable[str]) -> str | None:
    """`did you mean 'amount'?` where a known name is near; None otherwise."""
    by_lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f"did you mean {by_lower[near[0]]!r}?" if near else None


def listed(names: Iterable[object], most: int = 8) -> str:
    """`a, b, c (and 4 more)`."""
    shown = [str(n) for n in names]
    more = f" (and {len(shown) - most} more)" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more


def need(table: pl.DataFrame, name: str, *, what: str, path: str, field: str) -> None:
    """Raises BadInput when the table has no such column, with the nearest one it has."""
    if name not in table.columns:
        raise BadInput(
            f"there is no {what} {name!r}",
            path=path,
            found=f"the columns {listed(table.columns, 20)}",
            remedy=suggestion(name, table.columns) or f"correct {field}",
        )
