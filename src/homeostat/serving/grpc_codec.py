"""Tensors in the messages of gRPC: typed or raw contents, in both directions. Pure.

Raises BadInput with a sentence that says what was expected, or TooManyRows.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from homeostat.core.errors import BadInput
from homeostat.core.servable import DTYPES, Datatype
from homeostat.serving import oip
from homeostat.serving.tensors import Array, Tensor, Tensors, announced, from_bytes, text, to_bytes

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


def read_tensors(message: Any, max_rows: int) -> Tensors:
    """The inputs of a ModelInferRequest: all of them typed, or all of them raw."""
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise BadInput(
            "raw_input_contents does not go with inputs",
            expected=f"{len(message.inputs)}, one for each input",
            found=str(len(raw)),
        )
    tensors = []
    for i, tensor in enumerate(message.inputs):
        path, shape = f"inputs[{i}]", list(tensor.shape)
        if not raw:
            tensors.append(_typed(tensor, shape, path))
            continue
        if tensor.HasField("contents"):
            raise BadInput("both raw and typed contents", path=path, remedy="send one of them")
        tensors.append(from_bytes(tensor.name, tensor.datatype, shape, raw[i], path))
    return Tensors(message.id or None, tensors, max_rows)


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
