"""Bodies of requests and answers: V1, and V2 of the Open Inference Protocol. Pure.

What is common (float numbers in JSON) has a way of its own, typed by the decoder; everything
else goes through `tensors`. Every function raises BadInput with a sentence that says what was
expected, or TooManyRows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, Literal, TypeVar

import msgspec

from homeostat.core.errors import BadInput
from homeostat.core.servable import Datatype
from homeostat.serving.pieces import HERE, UNREADABLE, Cut, Numbers
from homeostat.serving.rows import (
    MAX_ID,
    ByName,
    Named,
    Positional,
    check_id,
    check_rows,
    kind,
    number,
    some,
)
from homeostat.serving.tensors import (
    Array,
    Packed,
    Tensor,
    Tensors,
    from_bytes,
    from_json,
    to_bytes,
)

OUTPUT = "score"
"""Name of the first output tensor: the positive class's probability, FP32, shape [n]."""

T = TypeVar("T")
_encode = msgspec.json.Encoder().encode


# ---------------------------------------------------------------- V1


class _V1Lists(msgspec.Struct):
    instances: list[list[float]]
    id: str | None = None


class _V1Objects(msgspec.Struct):
    instances: list[dict[str, float]]
    id: str | None = None


class _V1Any(msgspec.Struct):
    instances: list[Any]
    id: str | None = None


_v1_lists = msgspec.json.Decoder(_V1Lists).decode
_v1_objects = msgspec.json.Decoder(_V1Objects).decode
_v1_any = msgspec.json.Decoder(_V1Any).decode


def read_v1(body: bytes, max_rows: int, cut: Cut | None = None) -> Positional | Named | ByName:
    """`{"instances": [[...], ...]}` or `{"instances": [{"feature": value}, ...]}`, and an
    optional `id`. cut: the same body without its numbers, and these."""
    if cut is not None and len(cut.lists) == 1 and len(cut.lists[0].shape) == 2:
        rest = _rest(_v1_any, cut)
        if rest is not None and rest.instances == [HERE]:
            values, (n, width), names = cut.lists[0]
            check_id(rest.id)
            check_rows(n, max_rows, "instances")
            if names:
                return Named(rest.id, n, values, names)
            return Positional(rest.id, n, values, width)
    if body.find(b"{", 1, 64) > 0 and (named := _v1_named(body, max_rows)) is not None:
        return named
    try:
        request: _V1Lists | _V1Any = _v1_lists(body)
    except UNREADABLE:
        request = _decode(_v1_any, body, 'an object {"instances": [[...], ...]}')
    check_id(request.id)
    check_rows(len(request.instances), max_rows, "instances")
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
    return Positional(request.id, len(rows), flat, width)


def _v1_named(body: bytes, max_rows: int) -> Named | None:
    """Rows of numbers by name; None for everything else, mistakes included."""
    try:
        request = _v1_objects(body)
    except UNREADABLE:
        return None
    rows = request.instances
    if not rows or not rows[0]:
        return None
    check_id(request.id)
    check_rows(len(rows), max_rows, "instances")
    names = tuple(rows[0])
    if len(rows) == 1:
        return Named(request.id, 1, list(rows[0].values()), names)
    get, width = itemgetter(*names), len(names)
    if width == 1 or any(len(row) != width for row in rows):
        return None
    try:
        flat = list(chain.from_iterable(map(get, rows)))
    except KeyError:
        return None
    return Named(request.id, len(rows), flat, names)


def _v1_loose(request: _V1Any) -> ByName:
    """What is not all lists of numbers: rows by name, or a mistake to explain."""
    names: list[str] | None = None
    for i, row in enumerate(request.instances):
        path = f"$.instances[{i}]"
        if isinstance(row, list):
            for j, value in enumerate(row):
                number(value, f"{path}[{j}]")
        if not isinstance(row, dict):
            raise BadInput(
                "not a row like the others",
                path=path,
                expected="all rows lists of numbers, or all objects {feature: number}",
                found=kind(row),
            )
        if names is None:
            names = list(row)
        elif row.keys() != set(names):
            raise BadInput(
                "rows with different features",
                path=path,
                expected=some(sorted(names)),
                found=some(sorted(row)),
            )
    columns = {name: [row[name] for row in request.instances] for name in names or ()}
    return ByName(request.id, len(request.instances), columns)


def write_v1(id: str, version: str, scores: list[float], explore: bool = False) -> bytes:
    answer = {"predictions": scores, "model_version": version, "id": id}
    return _encode({**answer, "explore": True} if explore else answer)


def write_v1_results(
    id: str, version: str, scores: list[float], results: dict[str, Array], explore: bool
) -> bytes:
    """As `write_v1` for a model with further outputs: an object per row."""
    columns = {OUTPUT: scores, **{name: array.tolist() for name, array in results.items()}}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    answer = {"predictions": rows, "model_version": version, "id": id}
    return _encode({**answer, "explore": True} if explore else answer)


# ---------------------------------------------------------------- V2 requests

Parameters = dict[str, bool | int | float | str]
_Floats = Literal["FP32", "FP64"]


class _Wanted(msgspec.Struct):
    name: str
    parameters: Parameters | None = None


class _FlatTensor(msgspec.Struct, gc=False):
    name: str
    shape: list[int]
    datatype: _Floats
    data: list[float]


class _NestedTensor(msgspec.Struct, gc=False):
    name: str
    shape: list[int]
    datatype: _Floats
    data: list[list[float]]


class _Size(msgspec.Struct, gc=False):
    binary_data_size: int


class _RawTensor(msgspec.Struct, gc=False):
    name: str
    shape: tuple[int, int]
    datatype: Literal["FP32"]
    parameters: _Size


class _AnyTensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: Any = None
    parameters: Parameters | None = None


class _Request(msgspec.Struct, gc=False):
    id: str | None = None
    outputs: list[_Wanted] | None = None
    parameters: Parameters | None = None


class _Flat(_Request, kw_only=True):
    inputs: list[_FlatTensor]


class _Nested(_Request, kw_only=True):
    inputs: list[_NestedTensor]


class _Raw(_Request, kw_only=True):
    inputs: tuple[_RawTensor]


class _Any(_Request, kw_only=True):
    inputs: list[_AnyTensor]


_flat = msgspec.json.Decoder(_Flat).decode
_nested = msgspec.json.Decoder(_Nested).decode
_raw = msgspec.json.Decoder(_Raw).decode
_any = msgspec.json.Decoder(_Any).decode
_EXPECTED = 'an object {"inputs": [{"name", "shape", "datatype", "data"}]}'


class Outputs:
    """What the caller wants back. names: None for everything; binary: those that it wants as
    raw bytes after the JSON."""

    __slots__ = ("all_binary", "binary", "names")

    def __init__(
        self, names: tuple[str, ...] | None, binary: frozenset[str], all_binary: bool = False
    ) -> None:
        self.names, self.binary, self.all_binary = names, binary, all_binary

    def is_binary(self, name: str) -> bool:
        return name in self.binary or self.all_binary

    def check(self, there: tuple[str, ...]) -> None:
        """Refuse names that the version does not give."""
        for name in self.names or ():
            if name not in there:
                raise BadInput(
                    "no such output", path="$.outputs", expected=some(there), found=repr(name)
                )


def read_v2(
    body: bytes, max_rows: int, cut: Cut | None = None
) -> tuple[Positional | Named | Tensors, Outputs | None]:
    """-> the rows (one tensor [n, d], or one tensor per input), and what is wanted back.
    cut: the same body without its numbers, and these."""
    rest = None if cut is None else _rest(_any, cut)
    if cut is not None and rest is not None and len(rest.inputs) == len(cut.lists):
        plain = all(map(_is_cut, rest.inputs, cut.lists))
        rows = _fast(rest, [one.values for one in cut.lists], max_rows) if plain else None
        if rows is not None:
            return rows, _outputs(rest)
    try:
        flat = _flat(body)
    except UNREADABLE:
        return _read_nested(body, max_rows)
    if len(flat.inputs) == 1 and flat.outputs is None and not flat.parameters:
        # what is nearly always asked, with as few steps as can be
        id, shape, data = flat.id, flat.inputs[0].shape, flat.inputs[0].data
        fits = len(shape) == 2 and shape[0] * shape[1] == len(data) and 0 < shape[0] <= max_rows
        if fits and data and (id is None or 0 < len(id) <= MAX_ID):
            return Positional(id, shape[0], data, shape[1]), None
    rows = _fast(flat, [tensor.data for tensor in flat.inputs], max_rows)
    if rows is None:
        return _read_any(body, max_rows)
    if flat.outputs is None and not flat.parameters:
        return rows, None
    return rows, _outputs(flat)


def _is_cut(tensor: _AnyTensor, numbers: Numbers) -> bool:
    """Whether these are a tensor's data, and as its shape says."""
    fits = len(numbers.shape) == 1 or list(numbers.shape) == tensor.shape
    return tensor.data == [HERE] and tensor.datatype in ("FP32", "FP64") and fits


def _read_nested(body: bytes, max_rows: int) -> tuple[Positional | Named | Tensors, Outputs | None]:
    """Numbers in rows, or whatever else there is."""
    try:
        nested = _nested(body)
    except UNREADABLE:
        return _read_any(body, max_rows)
    flats = []
    for tensor in nested.inputs:
        shape = tensor.shape
        width = shape[1] if len(shape) == 2 else -1
        if shape[:1] == [len(tensor.data)] and all(len(row) == width for row in tensor.data):
            flats.append([value for row in tensor.data for value in row])
    rows = _fast(nested, flats, max_rows) if len(flats) == len(nested.inputs) else None
    return (rows, _outputs(nested)) if rows is not None else _read_any(body, max_rows)


def _read_any(body: bytes, max_rows: int) -> tuple[Tensors, Outputs | None]:
    request = _decode(_any, body, _EXPECTED)
    tensors = [
        from_json(t.name, t.datatype, t.shape, t.data, f"$.inputs[{i}]")
        for i, t in enumerate(request.inputs)
    ]
    return Tensors(request.id, tensors, max_rows), _outputs(request)


def _fast(
    request: _Flat | _Nested | _Any, flats: list[list[float]], max_rows: int
) -> Positional | Named | None:
    """The rows of FP32 or FP64 numbers: one tensor [n, d], or a tensor [n] or [n, 1] per
    feature. None for everything else, mistakes included: they are explained elsewhere."""
    tensors: Sequence[_FlatTensor | _NestedTensor | _AnyTensor] = request.inputs
    if not tensors or not tensors[0].shape:
        return None
    shape = tensors[0].shape
    if len(tensors) == 1 and len(shape) == 2:
        n, width = shape
        if n * width != len(flats[0]) or n < 1 or width < 1:
            return None
        check_id(request.id)
        check_rows(n, max_rows, "inputs")
        return Positional(request.id, n, flats[0], width)
    n = shape[0]
    one, column = [n], [n, 1]
    for tensor, flat in zip(tensors, flats, strict=True):
        if len(flat) != n or (tensor.shape != one and tensor.shape != column):
            return None
    names = tuple([tensor.name for tensor in tensors])
    if n < 1 or len(set(names)) < len(names):
        return None
    check_id(request.id)
    check_rows(n, max_rows, "inputs")
    if n == 1:
        return Named(request.id, 1, [flat[0] for flat in flats], names)
    return Named(request.id, n, list(chain.from_iterable(zip(*flats, strict=True))), names)


def _outputs(request: _Request) -> Outputs | None:
    all_binary = (request.parameters or {}).get("binary_data_output", False)
    if not request.outputs:
        return Outputs(None, frozenset(), True) if all_binary is True else None
    for i, wanted in enumerate(request.outputs):
        if "classification" in (wanted.parameters or {}):
            raise BadInput("classifications are not made here", path=f"$.outputs[{i}].parameters")
    binary = frozenset(
        wanted.name
        for wanted in request.outputs
        if (wanted.parameters or {}).get("binary_data", all_binary) is True
    )
    return Outputs(tuple(wanted.name for wanted in request.outputs), binary)


# ---------------------------------------------------------------- V2, binary tensors


def read_v2_binary(
    body: bytes, header: bytes, max_rows: int
) -> tuple[Packed | Tensors, Outputs | None]:
    """A JSON object of `header` bytes (`Inference-Header-Content-Length`), then the tensors that
    have a `binary_data_size`, one after the other."""
    length = header_length(header, len(body))
    head = memoryview(body)[:length]
    try:
        raw = _raw(head)
    except UNREADABLE:
        return _read_parts(body, length, max_rows)
    (tensor,) = raw.inputs
    (n, width), size = tensor.shape, tensor.parameters.binary_data_size
    if size != len(body) - length or size != 4 * n * width or n < 1 or width < 2:
        return _read_parts(body, length, max_rows)
    check_id(raw.id)
    check_rows(n, max_rows, "inputs")
    return Packed(raw.id, n, tensor.name, body[length:], width), _outputs(raw)


def _read_parts(body: bytes, length: int, max_rows: int) -> tuple[Tensors, Outputs | None]:
    request = _decode(_any, memoryview(body)[:length], _EXPECTED)
    tensors: list[Tensor] = []
    at = length
    for i, tensor in enumerate(request.inputs):
        path = f"$.inputs[{i}]"
        size = (tensor.parameters or {}).get("binary_data_size")
        if size is None:
            tensors.append(from_json(tensor.name, tensor.datatype, tensor.shape, tensor.data, path))
            continue
        if type(size) is not int or not 0 <= size <= len(body) - at:
            raise BadInput(
                "no such size",
                path=f"{path}.parameters.binary_data_size",
                expected=f"0 to {len(body) - at}, the bytes that are left",
                found=kind(size),
            )
        raw = memoryview(body)[at : at + size]
        tensors.append(from_bytes(tensor.name, tensor.datatype, tensor.shape, raw, path))
        at += size
    if at != len(body):
        raise BadInput("bytes after the last tensor", found=f"{len(body) - at} bytes")
    return Tensors(request.id, tensors, max_rows), _outputs(request)


def header_length(header: bytes, size: int) -> int:
    """The value of `Inference-Header-Content-Length`."""
    if header.isdigit() and len(header) < 19 and int(header) <= size:
        return int(header)
    raise BadInput(
        "not a length of the JSON",
        path="Inference-Header-Content-Length",
        expected=f"0 to {size}, the bytes of the body",
        found=repr(header.decode("latin-1")),
    )


def read_raw(body: bytes, name: str, datatype: Datatype, shape: list[int]) -> Tensors:
    """A body that is nothing but the one row of a model's only input (header length 0); its
    outputs go back as bytes too."""
    return Tensors(None, [from_bytes(name, datatype, shape, body, "body")], 1)


# ---------------------------------------------------------------- V2 answers


_EXPLORED = b',"parameters":{"explore":true}'


def v2_prefix(model: str, version: str) -> bytes:
    """What all answers of a version begin with."""
    head = _encode({"model_name": model, "model_version": version})
    return head[:-1] + b',"id":'


def write_v2(prefix: bytes, id: str, scores: list[float], explore: bool = False) -> bytes:
    return b'%b%b%b,"outputs":[{"name":"score","shape":[%d],"datatype":"FP32","data":%b}]}' % (
        prefix,
        _encode(id),
        _EXPLORED if explore else b"",
        len(scores),
        _encode(scores),
    )


def write_v2_raw(prefix: bytes, id: str, raw: bytes, explore: bool) -> tuple[bytes, int]:
    """The scores as float32 after the JSON -> the body, and the length of its JSON."""
    head = (
        b'%b%b%b,"outputs":[{"name":"score","shape":[%d],"datatype":"FP32",'
        b'"parameters":{"binary_data_size":%d}}]}'
    ) % (prefix, _encode(id), _EXPLORED if explore else b"", len(raw) // 4, len(raw))
    return head + raw, len(head)


def write_v2_tensors(
    prefix: bytes, id: str, tensors: list[Tensor], outputs: Outputs, explore: bool
) -> tuple[bytes, int | None]:
    """-> the body, and the length of its JSON when raw tensors follow (else None)."""
    described: list[dict[str, Any]] = []
    raw: list[bytes] = []
    for name, datatype, array in tensors:
        said = {"name": name, "shape": array.shape, "datatype": datatype}
        if outputs.is_binary(name):
            raw.append(to_bytes(array, datatype))
            described.append({**said, "parameters": {"binary_data_size": len(raw[-1])}})
        else:
            described.append({**said, "data": array.ravel().tolist()})
    head = b'%b%b%b,"outputs":%b}' % (
        prefix,
        _encode(id),
        _EXPLORED if explore else b"",
        _encode(described),
    )
    return (b"".join([head, *raw]), len(head)) if raw else (head, None)


def _rest(decoder: Callable[[bytes], T], cut: Cut) -> T | None:
    try:
        return decoder(cut.rest)
    except UNREADABLE:
        return None


def _decode(decoder: Any, body: bytes | memoryview, expected: str) -> Any:
    try:
        return decoder(body)
    except msgspec.ValidationError as error:
        raise BadInput("the request is not as expected", expected=expected, found=str(error)) from (
            error
        )
    except UNREADABLE as error:
        raise BadInput("the body is not JSON", expected=expected, found=str(error)) from error
