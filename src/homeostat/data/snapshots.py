"""Content-addressed tables: the name of a result, and the digest of a content."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import polars as pl

from homeostat.core.errors import BadInput

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_ROWS = 100_000  # at a time: text is joined in memory


def key(*parts: str) -> str:
    """The address of what is computed from these (fingerprint, code digest, definition, ...).

    Unambiguous: ("ab", "c") and ("a", "bc") differ. 64 hex digits.
    """
    hasher = hashlib.sha256()
    for part in parts:
        data = part.encode()
        hasher.update(f"{len(data)}:".encode() + data)
    return hasher.hexdigest()


def checked(key: str) -> str:
    """The key itself; raises BadInput where it could not be the name of a file."""
    if not _KEY.fullmatch(key):
        raise BadInput(
            "not a snapshot key", expected="letters, digits, '.', '_', '-'", found=repr(key)
        )
    return key


def table_digest(table: pl.DataFrame) -> str:
    """`sha256:...` of names, types and values, in order.

    The same however the rows are chunked in memory; NaNs are alike, and so are 0.0 and -0.0.
    Raises BadInput for a column of Python objects.
    """
    hasher = hashlib.sha256(str(table.height).encode())
    for column in table:
        hasher.update(f"\x00{column.name}\x00{column.dtype!r}\x00".encode())
        for start in range(0, table.height, _ROWS):
            _feed(hasher, column.slice(start, _ROWS))
    return "sha256:" + hasher.hexdigest()


def _feed(hasher: Any, values: pl.Series) -> None:
    """Which values there are, then the values in one canonical form."""
    hasher.update(values.is_not_null().to_numpy().tobytes())
    present, kind = values.drop_nulls(), values.dtype
    if present.is_empty():
        return
    if kind.is_float():
        hasher.update(_canonical(present).tobytes())
    elif isinstance(kind, pl.List | pl.Array):
        lists = present.cast(pl.List(kind.inner)) if isinstance(kind, pl.Array) else present
        sizes = lists.list.len()
        hasher.update(sizes.to_numpy().tobytes())
        _feed(hasher, lists.filter(sizes > 0).explode())
    elif isinstance(kind, pl.Struct):
        for field in present.struct.fields:
            _feed(hasher, present.struct.field(field))
    elif isinstance(kind, pl.Binary):
        _feed(hasher, present.bin.encode("hex"))
    elif isinstance(kind, pl.Object):
        raise BadInput(f"column {values.name!r} holds Python objects", expected="plain values")
    elif kind == pl.Boolean or kind.is_integer() or kind.is_temporal():
        hasher.update(present.to_physical().to_numpy().tobytes())
    else:  # String, Categorical, Enum, Decimal
        text = present.cast(pl.String)
        hasher.update(text.str.len_bytes().to_numpy().tobytes())
        hasher.update("".join(text.to_list()).encode())


def _canonical(values: pl.Series) -> Any:
    import numpy as np

    array = values.to_numpy() + values.to_numpy().dtype.type(0)  # -0.0 becomes 0.0
    array[np.isnan(array)] = np.nan  # NaN has many bit patterns
    return array
