"""Bodies of requests and answers: V1, and V2 of the Open Inference Protocol, as JSON. Pure.

Every function raises BadInput with a sentence that says what was expected, or TooManyRows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from homeostat.core.errors import BadInput
from homeostat.core.servable import Field

OUTPUT = "score"
"""Name of the one output tensor: the positive class's probability, FP32, shape [n]."""

_WHOLE = frozenset(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))
DATATYPES = _WHOLE | {"FP16", "FP32", "FP64"}
_MAX_ID = 256
_LARGEST = 3.4028234663852886e38  # float32


class TooManyRows(BadInput):
    """More rows in one request than the server takes."""


class Rows:
    """The rows of one request, as they were sent: by position (flat, row after row, in the
    champion's order) or by name (one column per feature)."""

    __slots__ = ("columns", "flat", "id", "n", "width")

    def __init__(
        self,
        id: str | None,
        n: int,
        *,
        flat: list[float] | None = None,
        width: int = 0,
        columns: dict[str, list[Any]] | None = None,
    ) -> None:
        self.id, self.n = id, n
        self.flat, self.width, self.columns = flat, width, columns

    def matrix(self, inputs: tuple[str, ...], order: tuple[str, ...]) -> list[float]:
        """Flat values (n x d) in the order of `inputs`; `order`: what positions mean."""
        if self.flat is not None:
            if self.width != len(order):
                raise BadInput(
                    "wrong number of features in a row",
                    expected=f"{len(order)} ({_some(order)})",
                    found=str(self.width),
                )
            if inputs == order:
                return self.flat
            return self._picked({name: i for i, name in enumerate(order)}, inputs)
        assert self.columns is not None
        missing = [name for name in inputs if name not in self.columns]
        if missing:
            raise BadInput("features are missing", expected=_some(missing))
        columns = [_numbers(self.columns[name], name) for name in inputs]
        return [value for row in zip(*columns, strict=True) for value in row]

    def typed(self, fields: tuple[Field, ...], order: tuple[str, ...]) -> dict[str, NDArray[Any]]:
        """An array (n, *shape) of its dtype per field; `order`: what positions mean."""
        columns = self.columns
        if columns is None:
            assert self.flat is not None
            if self.width != len(order):
                raise BadInput(
                    "wrong number of features in a row",
                    expected=f"{len(order)} ({_some(order)})",
                    found=str(self.width),
                )
            columns = {name: self.flat[i :: self.width] for i, name in enumerate(order)}
        missing = [field.name for field in fields if field.name not in columns]
        if missing:
            raise BadInput("features are missing", expected=_some(missing))
        return {field.name: _array(columns[field.name], field) for field in fields}

    def _picked(self, where: dict[str, int], inputs: tuple[str, ...]) -> list[float]:
        assert self.flat is not None
        missing = [name for name in inputs if name not in where]
        if missing:
            raise BadInput(
                "this version needs features that rows by position do not carry",
                expected=_some(missing),
                remedy="send the features by name",
            )
        at = [where[name] for name in inputs]
        starts = range(0, self.n * self.width, self.width)
        return [self.flat[start + i] for start in starts for i in at]

    def value(self, name: str, order: tuple[str, ...]) -> str | None:
        """A feature of the first row as text, for sticky assignment; None when it is not there."""
        if self.columns is not None:
            column = self.columns.get(name)
            found = column[0] if column else None
        elif self.flat is not None and name in order and self.width == len(order):
            found = self.flat[order.index(name)]
        else:
            found = None
        if found is None:
            return None
        return repr(float(found)) if isinstance(found, int | float) else str(found)

    def check_names(self, known: frozenset[str]) -> None:
        """Refuse names that are no feature of any served version."""
        if self.columns is not None:
            unknown = [name for name in self.columns if name not in known]
            if unknown:
                raise BadInput(
                    "unknown features", expected=_some(sorted(known)), found=_some(unknown)
                )


# ---------------------------------------------------------------- V1


class _V1Lists(msgspec.Struct):
    instances: list[list[float]]
    id: str | None = None


class _V1Any(msgspec.Struct):
    instances: list[Any]
    id: str | None = None


_v1_lists = msgspec.json.Decoder(_V1Lists).decode
_v1_any = msgspec.json.Decoder(_V1Any).decode


def read_v1(body: bytes, max_rows: int) -> Rows:
    """`{"instances": [[...], ...]}` or `{"instances": [{"feature": value}, ...]}`, and an
    optional `id`."""
    try:
        request: _V1Lists | _V1Any = _v1_lists(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        request = _decode(_v1_any, body, 'an object {"instances": [[...], ...]}')
    _check(request.id, len(request.instances), max_rows, "instances")
    if isinstance(request, _V1Any):
        return _v1_loose(request)
    rows = request.instances
    width = len(rows[0])
    if len(rows) > 1:
        for i, row in enumerate(rows):
            if len(row) != width:
                raise BadInput(
                    "rows of different lengths",
                    path=f"$.instances[{i}]",
                    expected=f"{width} values as in the first row",
                    found=str(len(row)),
                )
    flat = rows[0] if len(rows) == 1 else [value for row in rows for value in row]
    return Rows(request.id, len(rows), flat=flat, width=width)


def _v1_loose(request: _V1Any) -> Rows:
    """What is not all lists of numbers: rows by name, or a mistake to explain."""
    names: list[str] | None = None
    for i, row in enumerate(request.instances):
        path = f"$.instances[{i}]"
        if isinstance(row, list):
            for j, value in enumerate(row):
                _number(value, f"{path}[{j}]")
        if not isinstance(row, dict):
            raise BadInput(
                "not a row like the others",
                path=path,
                expected="all rows lists of numbers, or all objects {feature: number}",
                found=_kind(row),
            )
        if names is None:
            names = list(row)
        elif row.keys() != set(names):
            raise BadInput(
                "rows with different features",
                path=path,
                expected=_some(sorted(names)),
                found=_some(sorted(row)),
            )
    columns = {name: [row[name] for row in request.instances] for name in names or ()}
    return Rows(request.id, len(request.instances), columns=columns)


def write_v1(id: str, version: str, scores: list[float], explore: bool = False) -> bytes:
    answer = {"predictions": scores, "model_version": version, "id": id}
    return _encode({**answer, "explore": True} if explore else answer)


# ---------------------------------------------------------------- V2


class _Wanted(msgspec.Struct):
    name: str


class _FlatTensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class _AnyTensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[Any]


class _V2Flat(msgspec.Struct):
    inputs: list[_FlatTensor]
    id: str | None = None
    outputs: list[_Wanted] | None = None


class _V2Any(msgspec.Struct):
    inputs: list[_AnyTensor]
    id: str | None = None
    outputs: list[_Wanted] | None = None


_v2_flat = msgspec.json.Decoder(_V2Flat).decode
_v2_any = msgspec.json.Decoder(_V2Any).decode


def read_v2(body: bytes, max_rows: int) -> Rows:
    """One tensor of shape [n, d], or one tensor of shape [n] or [n, 1] per feature."""
    try:
        request: _V2Flat | _V2Any = _v2_flat(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        request = _decode(_v2_any, body, 'an object {"inputs": [...]}')
    tensors: Sequence[_FlatTensor | _AnyTensor] = request.inputs
    if not tensors:
        raise BadInput("no inputs", path="$.inputs", expected="at least one tensor")
    for wanted in request.outputs or ():
        if wanted.name != OUTPUT:
            raise BadInput(
                "no such output", path="$.outputs", expected=OUTPUT, found=repr(wanted.name)
            )
    flats = [_tensor(tensor, f"$.inputs[{i}]") for i, tensor in enumerate(tensors)]
    n = tensors[0].shape[0]
    _check(request.id, n, max_rows, "inputs")
    first = tensors[0]
    if len(tensors) == 1 and len(first.shape) == 2:
        return Rows(request.id, n, flat=flats[0], width=first.shape[1])
    columns: dict[str, list[Any]] = {}
    for i, (tensor, flat) in enumerate(zip(tensors, flats, strict=True)):
        path = f"$.inputs[{i}]"
        if tensor.shape not in ([n], [n, 1]):
            raise BadInput(
                "wrong shape",
                path=f"{path}.shape",
                expected=f"one tensor [n, d], or a tensor [{n}] or [{n}, 1] per feature",
                found=str(tensor.shape),
            )
        if tensor.name in columns:
            raise BadInput("the same tensor twice", path=path, found=repr(tensor.name))
        columns[tensor.name] = flat
    return Rows(request.id, n, columns=columns)


def _tensor(tensor: _FlatTensor | _AnyTensor, path: str) -> list[float]:
    """Check datatype, shape and data; -> flat numbers."""
    if tensor.datatype not in DATATYPES:
        raise BadInput(
            "unsupported datatype",
            path=f"{path}.datatype",
            expected=_some(sorted(DATATYPES)),
            found=repr(tensor.datatype),
        )
    shape = tensor.shape
    if not 1 <= len(shape) <= 2 or min(shape) < 0:
        raise BadInput(
            "wrong shape", path=f"{path}.shape", expected="[n, d] or [n]", found=str(shape)
        )
    loose = isinstance(tensor, _AnyTensor)
    flat = _flatten(tensor.data, shape, path) if loose else tensor.data
    if len(flat) != math.prod(shape):
        raise BadInput(
            "data and shape do not agree",
            path=f"{path}.data",
            expected=f"{math.prod(shape)} values for shape {shape}",
            found=str(len(flat)),
        )
    if tensor.datatype in _WHOLE and not all(float(value).is_integer() for value in flat):
        raise BadInput("fractions in whole numbers", path=f"{path}.data", expected=tensor.datatype)
    return flat


def _flatten(data: list[Any], shape: list[int], path: str) -> list[float]:
    flat: list[float] = []
    nested = len(shape) == 2 and any(isinstance(row, list) for row in data)
    for i, row in enumerate(data):
        at = f"{path}.data[{i}]"
        if not nested:
            flat.append(_number(row, at))
        elif not isinstance(row, list) or len(row) != shape[1]:
            raise BadInput(
                "ragged data",
                path=at,
                expected=f"a row of {shape[1]} numbers",
                found=f"{len(row)} values" if isinstance(row, list) else _kind(row),
            )
        else:
            flat += [_number(value, f"{at}[{j}]") for j, value in enumerate(row)]
    return flat


def v2_prefix(model: str, version: str) -> bytes:
    """What all answers of a version begin with."""
    head = _encode({"model_name": model, "model_version": version})
    return head[:-1] + b',"id":'


def write_v2(prefix: bytes, id: str, scores: list[float], explore: bool = False) -> bytes:
    return b'%b%b%b,"outputs":[{"name":"score","shape":[%d],"datatype":"FP32","data":%b}]}' % (
        prefix,
        _encode(id),
        b',"parameters":{"explore":true}' if explore else b"",
        len(scores),
        _encode(scores),
    )


# ---------------------------------------------------------------- shared

_encode = msgspec.json.Encoder().encode


def _decode(decoder: Any, body: bytes, expected: str) -> Any:
    try:
        return decoder(body)
    except msgspec.ValidationError as error:
        raise BadInput("the request is not as expected", expected=expected, found=str(error)) from (
            error
        )
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput("the body is not JSON", expected=expected, found=str(error)) from error


def _check(id: str | None, n: int, max_rows: int, field: str) -> None:
    if id is not None and not 0 < len(id) <= _MAX_ID:
        raise BadInput("unusable id", path="$.id", expected=f"1 to {_MAX_ID} characters")
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
            raise BadInput("not text", path=f"feature {field.name!r}, row {i}", found=_kind(value))
        if not text and not field.shape and type(value) not in (int, float, bool):
            _number(value, f"feature {field.name!r}, row {i}")
    try:
        return np.array(column, dtype=field.dtype).reshape(len(column), *field.shape)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadInput(
            "not values of this feature",
            path=f"feature {field.name!r}",
            expected=f"{field.datatype} of shape {list(field.shape)}",
            found=str(error),
        ) from error


def _number(value: Any, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadInput("not a number", path=path, expected="a finite number", found=_kind(value))
    if not -_LARGEST <= value <= _LARGEST:
        raise BadInput("not a finite float32", path=path, found=_kind(value))
    return value


def _numbers(column: Sequence[Any], name: str) -> Sequence[float]:
    for i, value in enumerate(column):
        if type(value) is not float:
            _number(value, f"feature {name!r}, row {i}")
    return column


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(list(names)[:12])
    return f"{shown} and {len(names) - 12} more" if len(names) > 12 else shown
