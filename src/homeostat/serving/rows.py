"""The rows of a request as they were sent: numbers by position, or columns by name. Pure.

Every function raises BadInput with a sentence that says what was expected, or TooManyRows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from homeostat.core.errors import BadInput
from homeostat.core.servable import Field

MAX_ID = 256
_LARGEST = 3.4028234663852886e38  # float32


class TooManyRows(BadInput):
    """More rows in one request than the server takes."""


class Positional(msgspec.Struct, gc=False, eq=False):
    """The rows of one request by position, all of numbers: flat, row after row, in the champion's
    order."""

    id: str | None
    n: int
    flat: list[float]
    width: int

    def matrix(self, inputs: tuple[str, ...], order: tuple[str, ...]) -> list[float]:
        """Flat values (n x d) in the order of `inputs`; `order`: what positions mean."""
        self._check_width(order)
        if inputs == order:
            return self.flat
        where = {name: i for i, name in enumerate(order)}
        missing = [name for name in inputs if name not in where]
        if missing:
            raise BadInput(
                "this version needs features that rows by position do not carry",
                expected=some(missing),
                remedy="send the features by name",
            )
        at = [where[name] for name in inputs]
        starts = range(0, self.n * self.width, self.width)
        return [self.flat[start + i] for start in starts for i in at]

    def typed(self, fields: tuple[Field, ...], order: tuple[str, ...]) -> dict[str, NDArray[Any]]:
        """An array (n, *shape) of its dtype per field; `order`: what positions mean."""
        self._check_width(order)
        return _typed({name: self.flat[i :: self.width] for i, name in enumerate(order)}, fields)

    def value(self, name: str, where: dict[str, int]) -> str | None:
        """A feature of the first row as text, for sticky assignment; None when it is not there."""
        at = where.get(name)
        return None if at is None or self.width != len(where) else repr(self.flat[at])

    def check_names(self, known: frozenset[str]) -> None:
        """There are none."""

    def _check_width(self, order: tuple[str, ...]) -> None:
        if self.width != len(order):
            raise BadInput(
                "wrong number of features in a row",
                expected=f"{len(order)} ({some(order)})",
                found=str(self.width),
            )


class ByName:
    """The rows of one request by name, whatever their values: one column per feature."""

    __slots__ = ("columns", "id", "n")

    def __init__(self, id: str | None, n: int, columns: dict[str, list[Any]]) -> None:
        self.id, self.n, self.columns = id, n, columns

    def matrix(self, inputs: tuple[str, ...], order: tuple[str, ...]) -> list[float]:
        """Flat values (n x d) in the order of `inputs`."""
        missing = [name for name in inputs if name not in self.columns]
        if missing:
            raise BadInput("features are missing", expected=some(missing))
        columns = [_numbers(self.columns[name], name) for name in inputs]
        return [value for row in zip(*columns, strict=True) for value in row]

    def typed(self, fields: tuple[Field, ...], order: tuple[str, ...]) -> dict[str, NDArray[Any]]:
        """An array (n, *shape) of its dtype per field."""
        return _typed(self.columns, fields)

    def value(self, name: str, where: dict[str, int]) -> str | None:
        """A feature of the first row as text, for sticky assignment; None when it is not there."""
        column = self.columns.get(name)
        return _text(column[0], name) if column else None

    def check_names(self, known: frozenset[str]) -> None:
        """Refuse names that are no feature of any served version."""
        check_known(self.columns, known)


class Named:
    """The rows of one request by name, all of numbers: flat, row after row as `names` are."""

    __slots__ = ("flat", "id", "n", "names")

    def __init__(self, id: str | None, n: int, flat: list[float], names: tuple[str, ...]) -> None:
        self.id, self.n, self.flat, self.names = id, n, flat, names

    def matrix(self, inputs: tuple[str, ...], order: tuple[str, ...]) -> list[float]:
        """Flat values (n x d) in the order of `inputs`."""
        if inputs == self.names:
            return self.flat
        pick, flat, width = _pick(self.names, inputs), self.flat, len(self.names)
        if self.n == 1:
            return list(pick(flat))
        rows = [pick(flat[at : at + width]) for at in range(0, len(flat), width)]
        return list(chain.from_iterable(rows))

    def typed(self, fields: tuple[Field, ...], order: tuple[str, ...]) -> dict[str, NDArray[Any]]:
        """An array (n, *shape) of its dtype per field."""
        width = len(self.names)
        return _typed({name: self.flat[i::width] for i, name in enumerate(self.names)}, fields)

    def value(self, name: str, where: dict[str, int]) -> str | None:
        """A feature of the first row as text, for sticky assignment; None when it is not there."""
        return repr(self.flat[self.names.index(name)]) if name in self.names else None

    def check_names(self, known: frozenset[str]) -> None:
        """Refuse names that are no feature of any served version."""
        if not known.issuperset(self.names):
            check_known(self.names, known)


@lru_cache(256)
def _pick(
    names: tuple[str, ...], inputs: tuple[str, ...]
) -> Callable[[list[float]], tuple[float, ...]]:
    """Makes a row in the order of `inputs` of one in the order of `names`. Raises BadInput."""
    where = {name: i for i, name in enumerate(names)}
    missing = [name for name in inputs if name not in where]
    if missing:
        raise BadInput("features are missing", expected=some(missing))
    at = [where[name] for name in inputs]
    if len(at) == 1:  # of which itemgetter makes no tuple
        return lambda row: (row[at[0]],)
    return itemgetter(*at)


def _typed(
    columns: Mapping[str, Sequence[Any]], fields: tuple[Field, ...]
) -> dict[str, NDArray[Any]]:
    missing = [field.name for field in fields if field.name not in columns]
    if missing:
        raise BadInput("features are missing", expected=some(missing))
    return {field.name: _array(columns[field.name], field) for field in fields}


def check_id(id: str | None) -> None:
    if id is not None and not 0 < len(id) <= MAX_ID:
        raise BadInput("unusable id", path="$.id", expected=f"1 to {MAX_ID} characters")


def check_rows(n: int, max_rows: int, field: str) -> None:
    if n == 0:
        raise BadInput("no rows", path=f"$.{field}", expected="at least one row")
    if n > max_rows:
        raise TooManyRows(
            "too many rows",
            path=f"$.{field}",
            expected=f"at most {max_rows}",
            found=str(n),
            remedy="split the request",
        )


def _array(column: Sequence[Any], field: Field) -> NDArray[Any]:
    """A column as the model takes it: numbers as they are, text only where text is expected."""
    text = field.datatype == "BYTES"
    for i, value in enumerate(column):
        if text and not isinstance(value, str):
            raise BadInput("not text", path=f"feature {field.name!r}, row {i}", found=kind(value))
        if not text and not field.shape and type(value) not in (int, float, bool):
            number(value, f"feature {field.name!r}, row {i}")
    try:
        with np.errstate(over="ignore"):
            array = np.array(column, dtype=field.dtype).reshape(len(column), *field.shape)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadInput(
            "not values of this feature",
            path=f"feature {field.name!r}",
            expected=f"{field.datatype} of shape {list(field.shape)}",
            found=str(error),
        ) from error
    if array.dtype.kind == "f" and not np.isfinite(array).all():  # JSON has nothing infinite
        raise BadInput(f"out of range for {field.datatype}", path=f"feature {field.name!r}")
    return array


def number(value: Any, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadInput("not a number", path=path, expected="a finite number", found=kind(value))
    if not -_LARGEST <= value <= _LARGEST:
        raise BadInput("not a finite float32", path=path, found=kind(value))
    return value


def _text(value: Any, name: str) -> str | None:
    """A feature as the key of an assignment: numbers as floats, however they were written."""
    if value is None or not isinstance(value, int | float):
        return None if value is None else str(value)
    try:
        return repr(float(value))
    except OverflowError:
        raise BadInput("not a finite number", path=f"feature {name!r}") from None


def _numbers(column: Sequence[Any], name: str) -> Sequence[float]:
    for i, value in enumerate(column):
        if type(value) is not float:
            number(value, f"feature {name!r}, row {i}")
    return column


def kind(value: Any) -> str:
    """A value as an error shows it."""
    if value is None:
        return "null"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def check_known(names: Collection[str], known: frozenset[str]) -> None:
    """Refuse names that no served version takes. A single one may be no feature at all, but what
    a client calls rows that it sends flat."""
    unknown = [name for name in names if name not in known]
    if unknown:
        flat = "rows by position have two dimensions: [rows, features]" if len(names) == 1 else None
        raise BadInput(
            "unknown features", expected=some(sorted(known)), found=some(unknown), remedy=flat
        )


def some(names: Sequence[str]) -> str:
    """Names as an error lists them."""
    shown = ", ".join(list(names)[:12])
    return f"{shown} and {len(names) - 12} more" if len(names) > 12 else shown
