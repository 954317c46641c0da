"""Tensors of the Open Inference Protocol: typed arrays from JSON or bytes, and back. Pure.

Every function raises BadInput with a sentence that says what was expected, or TooManyRows.
"""

from __future__ import annotations

import math
import struct
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from homeostat.core.errors import BadInput
from homeostat.core.servable import DTYPES, Datatype, Field
from homeostat.serving.rows import check_id, check_known, check_rows, kind, some

Array = NDArray[Any]
_SIDES, _MOST = 32, 2**32
"""Of a tensor: far more than a body can hold, and less than what NumPy cannot describe."""
_FLOAT = struct.Struct("<f")
_JSON_TYPES: dict[str, tuple[type, ...]] = {"b": (bool,), "i": (int,), "u": (int,)}


class Tensor(NamedTuple):
    """array: of the shape and (BYTES: str objects) the dtype that were announced."""

    name: str
    datatype: Datatype
    array: Array


class Tensors:
    """The tensors of one request as rows: one [n, d] of numbers by position, or one per input,
    [n, *shape] (a column of numbers also as [n, 1])."""

    __slots__ = ("_by_name", "id", "n")

    def __init__(self, id: str | None, tensors: list[Tensor], max_rows: int) -> None:
        if not tensors:
            raise BadInput("no inputs", path="$.inputs", expected="at least one tensor")
        self.id, self.n = id, len(tensors[0].array)
        check_id(id)
        check_rows(self.n, max_rows, "inputs")
        self._by_name: dict[str, Tensor] = {}
        for i, tensor in enumerate(tensors):
            path = f"$.inputs[{i}]"
            if tensor.name in self._by_name:
                raise BadInput("the same tensor twice", path=path, found=repr(tensor.name))
            if len(tensor.array) != self.n:
                raise BadInput(
                    "tensors of different numbers of rows",
                    path=f"{path}.shape",
                    expected=f"{self.n} rows as in the first",
                    found=str(len(tensor.array)),
                )
            self._by_name[tensor.name] = tensor

    def matrix(self, inputs: tuple[str, ...], order: tuple[str, ...]) -> NDArray[np.float32]:
        """(n, d) float32 in the order of `inputs`; what does not fit becomes infinite."""
        table = self._table(order)
        if table is not None:
            if inputs == order:
                return numbers(table)
            where = {name: i for i, name in enumerate(order)}
            self._present(inputs, where)
            return numbers(table)[:, [where[name] for name in inputs]]
        self._present(inputs, self._by_name)
        return np.stack([self._column(name) for name in inputs], axis=1)

    def typed(self, fields: tuple[Field, ...], order: tuple[str, ...]) -> dict[str, Array]:
        """An array (n, *shape) of its dtype per field; `order`: what positions mean."""
        table = None if self._names({f.name for f in fields}) else self._table(order)
        if table is not None:
            columns = {
                name: Tensor(name, self._only.datatype, table.array[:, i])
                for i, name in enumerate(order)
            }
        else:
            columns = self._by_name
        self._present(tuple(field.name for field in fields), columns)
        return {field.name: fitted(columns[field.name], field) for field in fields}

    def value(self, name: str, where: dict[str, int]) -> str | None:
        """A feature of the first row as text, for sticky assignment; None when it is not there."""
        if tensor := self._by_name.get(name):
            first = tensor.array.flat[0] if tensor.array.size else None
        elif name in where and self._positional and self._only.array.shape[1] == len(where):
            first = self._only.array[0, where[name]]
        else:
            return None
        return first if isinstance(first, str) or first is None else repr(float(first))

    def check_names(self, known: frozenset[str]) -> None:
        """Refuse names that are no feature of any served version."""
        if not self._positional:
            check_known(self._by_name, known)

    @property
    def _only(self) -> Tensor:
        return next(iter(self._by_name.values()))

    @property
    def _positional(self) -> bool:
        return len(self._by_name) == 1 and self._only.array.ndim == 2

    def _names(self, known: set[str]) -> bool:
        return self._by_name.keys() <= known

    def _table(self, order: tuple[str, ...]) -> Tensor | None:
        """The tensor that carries all features by position; None when they come by name."""
        if not self._positional:
            return None
        table = self._only
        if table.name in order and table.array.shape[1] == 1:
            return None
        if table.array.shape[1] != len(order):
            raise BadInput(
                "wrong number of features in a row",
                expected=f"{len(order)} ({some(order)})",
                found=str(table.array.shape[1]),
            )
        return table

    def _present(self, wanted: tuple[str, ...], there: dict[str, Any]) -> None:
        missing = [name for name in wanted if name not in there]
        if missing:
            raise BadInput(
                "features are missing", expected=some(missing), remedy="send one tensor for each"
            )

    def _column(self, name: str) -> NDArray[np.float32]:
        tensor = self._by_name[name]
        shape = tensor.array.shape
        if shape not in ((self.n,), (self.n, 1)):
            raise BadInput(
                "wrong shape",
                path=f"input {name!r}",
                expected=f"[{self.n}] or [{self.n}, 1]",
                found=str(list(shape)),
            )
        return numbers(tensor).reshape(self.n)


class Packed:
    """One FP32 tensor [n, d] by position, d > 1, as the bytes that came: nothing is made of them
    that a batch would not take as they are."""

    __slots__ = ("_name", "_raw", "_width", "id", "n")

    def __init__(self, id: str | None, n: int, name: str, raw: bytes, width: int) -> None:
        self.id, self.n = id, n
        self._name, self._raw, self._width = name, raw, width

    def matrix(
        self, inputs: tuple[str, ...], order: tuple[str, ...]
    ) -> bytes | NDArray[np.float32]:
        if inputs == order and self._width == len(order):
            return self._raw
        return self._tensors().matrix(inputs, order)

    def typed(self, fields: tuple[Field, ...], order: tuple[str, ...]) -> dict[str, Array]:
        return self._tensors().typed(fields, order)

    def value(self, name: str, where: dict[str, int]) -> str | None:
        if name != self._name and name in where and self._width == len(where):
            return repr(_FLOAT.unpack_from(self._raw, 4 * where[name])[0])
        return self._tensors().value(name, where)

    def check_names(self, known: frozenset[str]) -> None:
        """Its columns have no names."""

    def _tensors(self) -> Tensors:
        array = np.frombuffer(self._raw, "<f4").reshape(self.n, self._width)
        return Tensors(self.id, [Tensor(self._name, "FP32", array)], self.n)


def numbers(tensor: Tensor) -> NDArray[np.float32]:
    """Any numbers as float32; BYTES are refused, what is too large becomes infinite."""
    if tensor.datatype == "BYTES":
        raise BadInput("not numbers", path=f"input {tensor.name!r}", found="BYTES")
    if tensor.datatype == "FP32":
        return tensor.array
    with np.errstate(over="ignore"):
        return tensor.array.astype(np.float32)


def fitted(tensor: Tensor, field: Field) -> Array:
    """A tensor as `field` wants it: its shape, and its type if every value has a place in it."""
    array, path = tensor.array, f"input {tensor.name!r}"
    shape = (len(array), *field.shape)
    if array.shape not in (shape, (len(array), 1)) or array.size != math.prod(shape):
        raise BadInput(
            "wrong shape", path=path, expected=str(list(shape)), found=str(list(array.shape))
        )
    array = array.reshape(shape)
    if array.dtype.kind == "f" and not np.isfinite(array).all():  # JSON cannot say it either
        raise BadInput("not a finite number", path=path, expected="finite numbers")
    if tensor.datatype == field.datatype:
        return array
    groups = {"b": 0, "u": 1, "i": 1, "f": 2}
    source, target = groups.get(array.dtype.kind), groups.get(field.dtype.kind)
    if source is None or target is None or source > target:
        raise BadInput("wrong datatype", path=path, expected=field.datatype, found=tensor.datatype)
    with np.errstate(over="ignore"):
        converted = array.astype(field.dtype)
    if target == 1:
        fine = bool(np.array_equal(converted, array)) and not np.any((converted < 0) != (array < 0))
    else:
        fine = bool(np.isfinite(converted).all())
    if not fine:
        raise BadInput("values out of range", path=path, expected=field.datatype)
    return converted


def announced(name: str, datatype: str, shape: list[int], path: str) -> int:
    """Check what a tensor says about itself; -> its number of values."""
    if datatype not in DTYPES:
        raise BadInput(
            "unsupported datatype",
            path=f"{path}.datatype",
            expected=some(sorted(DTYPES)),
            found=repr(datatype),
        )
    sides = [side for side in shape if side]
    if not 0 < len(shape) <= _SIDES or min(shape) < 0 or math.prod(sides) > _MOST:
        raise BadInput(
            "wrong shape",
            path=f"{path}.shape",
            expected=f"[rows, ...]: at most {_SIDES}, none of them negative, for at most "
            f"{_MOST} values",
            found=str(shape),
        )
    return math.prod(shape)


def from_json(name: str, datatype: str, shape: list[int], data: Any, path: str) -> Tensor:
    """`data` flat or nested as `shape` says; whole numbers within the range of their type."""
    size = announced(name, datatype, shape, path)
    flat = _flat(data, shape, path) if _nested(data) else data
    if not isinstance(flat, list):
        raise BadInput(
            "no data", path=f"{path}.data", expected="a list of values", found=kind(data)
        )
    if len(flat) != size:
        raise BadInput(
            "data and shape do not agree",
            path=f"{path}.data",
            expected=f"{size} values for shape {shape}",
            found=str(len(flat)),
        )
    known = cast(Datatype, datatype)
    array = _values(flat, known, path).reshape(shape)
    return Tensor(name, known, array)


def _nested(data: Any) -> bool:
    return isinstance(data, list) and bool(data) and isinstance(data[0], list)


def _flat(data: Any, shape: list[int], path: str) -> list[Any]:
    """Nested lists, row-major, each of the length that `shape` says."""
    level = [data]
    for depth, width in enumerate(shape):
        below: list[Any] = []
        for row in level:
            if not isinstance(row, list) or len(row) != width:
                raise BadInput(
                    "ragged data",
                    path=f"{path}.data",
                    expected=f"lists of {width} at depth {depth + 1} for shape {shape}",
                    found=f"{len(row)} values" if isinstance(row, list) else kind(row),
                )
            below += row
        level = below
    return level


def _values(flat: list[Any], datatype: Datatype, path: str) -> Array:
    dtype = DTYPES[datatype]
    if datatype == "BYTES":
        accepted: tuple[type, ...] = (str,)
    else:
        accepted = _JSON_TYPES.get(dtype.kind, (int, float))
    kinds = set(map(type, flat))
    for i, value in enumerate(flat if not kinds.issubset(accepted) else ()):
        if type(value) not in accepted and not _whole(value, accepted):
            raise BadInput(
                f"not a value of type {datatype}", path=f"{path}.data[{i}]", found=kind(value)
            )
    if dtype.kind in "iu" and flat:
        limits = np.iinfo(dtype)
        fits = limits.min <= min(flat) and max(flat) <= limits.max
        for i, value in enumerate(flat if not fits else ()):
            if not limits.min <= value <= limits.max:
                raise BadInput(
                    f"out of range for {datatype}",
                    path=f"{path}.data[{i}]",
                    expected=f"{limits.min} to {limits.max}",
                    found=kind(value),
                )
        if float in kinds:
            flat = [int(value) for value in flat]
    try:
        with np.errstate(over="ignore"):
            return np.array(flat, dtype=dtype)
    except OverflowError:  # a whole number beyond float64
        raise BadInput(f"out of range for {datatype}", path=f"{path}.data") from None


def _whole(value: Any, accepted: tuple[type, ...]) -> bool:
    """2.0 is a whole number too; JSON does not tell them apart."""
    return accepted == (int,) and type(value) is float and value.is_integer()


def from_bytes(
    name: str, datatype: str, shape: list[int], raw: bytes | memoryview, path: str
) -> Tensor:
    """Little-endian, row-major values; BYTES: each with its length as 4 bytes before it."""
    size = announced(name, datatype, shape, path)
    known = cast(Datatype, datatype)
    if known == "BYTES":
        return Tensor(name, known, _texts(memoryview(raw), size, path).reshape(shape))
    dtype = DTYPES[known].newbyteorder("<")
    if len(raw) != size * dtype.itemsize:
        raise BadInput(
            "data and shape do not agree",
            path=path,
            expected=f"{size * dtype.itemsize} bytes for shape {shape} of {datatype}",
            found=str(len(raw)),
        )
    if known == "BOOL" and size and int(np.frombuffer(raw, np.uint8).max()) > 1:
        raise BadInput("not a value of type BOOL", path=path, expected="bytes of 0 or 1")
    return Tensor(name, known, np.frombuffer(raw, dtype).reshape(shape))


def _texts(raw: memoryview, size: int, path: str) -> Array:
    found: list[str] = []
    at = 0
    while at < len(raw):
        end = at + 4
        if end <= len(raw):
            end += int(struct.unpack_from("<I", raw, at)[0])
        if end < at + 4 or end > len(raw):
            raise BadInput("a text is cut short", path=path, expected="its length, then its bytes")
        found.append(text(bytes(raw[at + 4 : end]), path))
        at = end
    if len(found) != size:
        raise BadInput(
            "data and shape do not agree",
            path=path,
            expected=f"{size} texts",
            found=str(len(found)),
        )
    array = np.empty(size, object)
    array[:] = found
    return array


def text(raw: bytes, path: str) -> str:
    """BYTES are text in UTF-8 here."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise BadInput("not text in UTF-8", path=path, found=str(error)) from error


def to_bytes(array: Array, datatype: Datatype) -> bytes:
    """As `from_bytes` reads it."""
    if datatype != "BYTES":
        return array.astype(DTYPES[datatype].newbyteorder("<"), copy=False).tobytes()
    encoded = [str(value).encode() for value in array.flat]
    return b"".join(struct.pack("<I", len(value)) + value for value in encoded)
