"""Tensors in the messages of gRPC: typed or raw contents, in both directions. Pure.

Raises BadInput with a sentence that says what was expected, or TooManyRows.
"""

from __future__ import annotations

import array as arrays
from functools import lru_cache
from typing import Any, cast

import numpy as np

from homeostat.core.errors import BadInput
from homeostat.core.servable import DTYPES, Datatype
from homeostat.serving import oip
from homeostat.serving.codec import OUTPUT
from homeostat.serving.rows import MAX_ID
from homeostat.serving.tensors import (
    Array,
    Packed,
    Tensor,
    Tensors,
    announced,
    from_bytes,
    text,
    to_bytes,
)

_CONTENTS: dict[str, str] = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where typed values are; FP16 has no place there and comes raw."""
_Response = oip.message("ModelInferResponse")
_Output = oip.message("ModelInferResponse.InferOutputTensor")


def read_tensors(message: Any, max_rows: int) -> tuple[Packed | Tensors, bool]:
    """-> the inputs of a ModelInferRequest, all of them typed or all of them raw, and whether
    they were raw."""
    raw, inputs = message.raw_input_contents, message.inputs
    if len(inputs) == 1 and (packed := _packed(message, inputs[0], raw, max_rows)) is not None:
        return packed, bool(raw)
    if raw and len(raw) != len(inputs):
        raise BadInput(
            "raw_input_contents does not go with inputs",
            expected=f"{len(inputs)}, one for each input",
            found=str(len(raw)),
        )
    tensors = []
    for i, tensor in enumerate(inputs):
        path, shape = f"inputs[{i}]", list(tensor.shape)
        if not raw:
            tensors.append(_typed(tensor, shape, path))
            continue
        if tensor.HasField("contents"):
            raise BadInput("both raw and typed contents", path=path, remedy="send one of them")
        tensors.append(from_bytes(tensor.name, tensor.datatype, shape, raw[i], path))
    return Tensors(message.id or None, tensors, max_rows), bool(raw)


def _packed(message: Any, tensor: Any, raw: Any, max_rows: int) -> Packed | None:
    """One FP32 tensor [n, d], as nearly everybody sends it; None for everything else, mistakes
    included."""
    shape, id = tensor.shape, message.id
    if len(shape) != 2 or tensor.datatype != "FP32" or len(id) > MAX_ID:
        return None
    n, width = shape
    if not 0 < n <= max_rows or width < 2:
        return None
    if len(raw) == 1:
        values = None if tensor.HasField("contents") else raw[0]
    elif raw:
        return None
    else:
        values = arrays.array("f", tensor.contents.fp32_contents).tobytes()
    if values is None or len(values) != 4 * n * width:
        return None
    return Packed(id or None, n, tensor.name, values, width)


def _typed(tensor: Any, shape: list[int], path: str) -> Tensor:
    datatype = tensor.datatype
    size = announced(tensor.name, datatype, shape, path)
    field = _CONTENTS.get(datatype)
    if field is None:
        raise BadInput(
            f"{datatype} has no typed contents", path=path, remedy="send raw_input_contents"
        )
    values = getattr(tensor.contents, field)
    if len(values) != size:
        raise BadInput(
            "data and shape do not agree",
            path=f"{path}.contents.{field}",
            expected=f"{size} values for shape {shape}",
            found=str(len(values)),
        )
    return Tensor(tensor.name, datatype, _array(values, datatype, path).reshape(shape))


def _array(values: Any, datatype: Datatype, path: str) -> Array:
    dtype = DTYPES[datatype]
    if datatype == "BYTES":
        array = np.empty(len(values), object)
        array[:] = [text(value, path) for value in values]
        return array
    if dtype.kind in "iu" and dtype.itemsize < 4:  # they travel as 32 bits
        wide = np.fromiter(values, np.int64, len(values))
        limits = np.iinfo(dtype)
        if wide.size and not (limits.min <= wide.min() and wide.max() <= limits.max):
            expected = f"{limits.min} to {limits.max}"
            raise BadInput(f"out of range for {datatype}", path=path, expected=expected)
        return wide.astype(dtype)
    return np.fromiter(values, dtype, len(values))


def write_tensors(
    model: str, version: str, id: str, tensors: list[Tensor], *, raw: bool, explore: bool
) -> bytes:
    """A ModelInferResponse; raw: its contents as the request's were."""
    message = _Response(model_name=model, model_version=version, id=id)
    if explore:
        message.parameters["explore"].bool_param = True
    raw = raw or any(tensor.datatype not in _CONTENTS for tensor in tensors)
    for name, datatype, array in tensors:
        output = message.outputs.add(name=name, datatype=datatype, shape=array.shape)
        if raw:
            message.raw_output_contents.append(to_bytes(array, datatype))
            continue
        values = array.ravel().tolist()
        if datatype == "BYTES":
            values = [str(value).encode() for value in values]
        getattr(output.contents, _CONTENTS[datatype]).extend(values)
    return cast(bytes, message.SerializeToString())


# ---------------------------------------------------------------- scores alone, by hand

_EXPLORED = _Response()
_EXPLORED.parameters["explore"].bool_param = True
_EXPLORE: bytes = _EXPLORED.SerializeToString()


def write_scores(
    model: str, version: str, id: str, scores: bytes, *, raw: bool, explore: bool
) -> bytes:
    """What `write_tensors` makes of the float32 scores of a model that gives nothing else: what
    is nearly always answered, with as few steps as can be. A packed field of floats has the bytes
    that raw contents have."""
    said = id.encode()
    begin = b"%b\x1a%b%b%b" % (
        _named(model, version),
        _varint(len(said)),
        said,
        _EXPLORE if explore else b"",
    )
    n = len(scores)
    if raw:
        return b"%b%b2%b%b" % (begin, _scores(n // 4), _varint(n), scores)
    contents = b"*%b2%b%b" % (_varint(1 + len(_varint(n)) + n), _varint(n), scores)
    tensor = _tensor(n // 4)
    return b"%b*%b%b%b" % (begin, _varint(len(tensor) + len(contents)), tensor, contents)


@lru_cache(256)
def _named(model: str, version: str) -> bytes:
    """Fields 1 and 2."""
    return cast(bytes, _Response(model_name=model, model_version=version).SerializeToString())


@lru_cache(256)
def _scores(n: int) -> bytes:
    """Field 5: a tensor without contents."""
    message = _Response()
    message.outputs.add(name=OUTPUT, datatype="FP32", shape=[n])
    return cast(bytes, message.SerializeToString())


@lru_cache(256)
def _tensor(n: int) -> bytes:
    """The same without what is around it."""
    message = _Output(name=OUTPUT, datatype="FP32", shape=[n])
    return cast(bytes, message.SerializeToString())


def _varint(n: int) -> bytes:
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)
