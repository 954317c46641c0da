"""Requests as bytes in each server's dialect, and the scores in its answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from benchmarks.serving.load import MakeWire
from benchmarks.serving.models import NAMES, rows
from benchmarks.serving.wire import Grpc, Http1
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
DIFFERENT = 32
"""Different requests that a run sends in turn."""


class Payload(NamedTuple):
    """kind: json, binary (tensors after a JSON head) or grpc (raw tensors); for ours alone also v1
    (lists), objects (V1 by name) and columns (V2, a tensor per feature); rows per request."""

    kind: str
    rows: int

    def __str__(self) -> str:
        return f"{self.kind}, {self.rows} row{'s' if self.rows > 1 else ''}"


class Dialect(NamedTuple):
    """How a server is asked. path: of the HTTP request, {model} is filled in.

    write(x) -> body, further header lines. read(status, headers, body) -> scores; raises
    ValueError, KeyError, IndexError when there are none.
    """

    path: str
    write: Callable[[Matrix], tuple[bytes, bytes]]
    read: Callable[[Any, bytes], list[float]]


JSON = b"content-type: application/json\r\n"


# ---------------------------------------------------------------- V2


def _tensor(x: Matrix) -> dict[str, Any]:
    return {"name": "input", "shape": list(x.shape), "datatype": "FP32"}


def _numbers(x: Matrix) -> list[float]:
    return [round(float(v), 4) for v in x.ravel()]


def v2_json(x: Matrix) -> tuple[bytes, bytes]:
    return json.dumps({"inputs": [{**_tensor(x), "data": _numbers(x)}]}).encode(), JSON


def v2_binary(x: Matrix) -> tuple[bytes, bytes]:
    """The binary tensor extension, in both directions."""
    raw = x.astype("<f4").tobytes()
    head = json.dumps(
        {
            "inputs": [{**_tensor(x), "parameters": {"binary_data_size": len(raw)}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    length = b"inference-header-content-length: %d\r\n" % len(head)
    return head + raw, b"content-type: application/octet-stream\r\n" + length


def read_v2(headers: Any, body: bytes) -> list[float]:
    head = headers.get("inference-header-content-length")
    split = int(head) if head else len(body)
    output = json.loads(body[:split])["outputs"][0]
    if "data" in output:
        return _positive(output["data"], output["shape"])
    raw = np.frombuffer(body[split:], "<f4" if output["datatype"] == "FP32" else "<f8")
    return _positive(raw.tolist(), output["shape"])


def _positive(data: Any, shape: Sequence[int]) -> list[float]:
    """Scores of the positive class, from [n], [n, 1] or [n, 2]."""
    flat = np.asarray(data, dtype=np.float64).reshape(shape)
    return (flat if flat.ndim == 1 else flat[:, -1]).tolist()


# ---------------------------------------------------------------- the others


def v1_json(x: Matrix) -> tuple[bytes, bytes]:
    table = [[round(float(v), 4) for v in row] for row in x]
    return json.dumps({"instances": table}).encode(), JSON


def v1_objects(x: Matrix) -> tuple[bytes, bytes]:
    objects = [{name: round(float(v), 4) for name, v in zip(NAMES, row, strict=True)} for row in x]
    return json.dumps({"instances": objects}).encode(), JSON


def v2_columns(x: Matrix) -> tuple[bytes, bytes]:
    tensors = [
        {"name": name, "shape": [len(x)], "datatype": "FP32", "data": _numbers(x[:, i])}
        for i, name in enumerate(NAMES)
    ]
    return json.dumps({"inputs": tensors}).encode(), JSON


def mlflow_json(x: Matrix) -> tuple[bytes, bytes]:
    table = [[round(float(v), 4) for v in row] for row in x]
    return json.dumps({"inputs": table}).encode(), JSON


def bento_json(x: Matrix) -> tuple[bytes, bytes]:
    table = [[round(float(v), 4) for v in row] for row in x]
    return json.dumps({"x": table}).encode(), JSON


def read_predictions(_: Any, body: bytes) -> list[float]:
    found = json.loads(body)["predictions"]
    if isinstance(found, dict):
        found = next(iter(found.values()))
    return _positive(found, np.shape(found))


def read_list(_: Any, body: bytes) -> list[float]:
    found = json.loads(body)
    return _positive(found, np.shape(found))


V2 = Dialect("/v2/models/{model}/infer", v2_json, read_v2)
V2_BINARY = Dialect("/v2/models/{model}/infer", v2_binary, read_v2)
V1 = Dialect("/v1/models/{model}:predict", v1_json, read_predictions)
NAMED = {
    "v1": V1,
    "objects": Dialect("/v1/models/{model}:predict", v1_objects, read_predictions),
    "columns": Dialect("/v2/models/{model}/infer", v2_columns, read_v2),
}
MLFLOW = Dialect("/invocations", mlflow_json, read_predictions)
BENTO = Dialect("/{model}", bento_json, read_list)

GRPC_PATH = "/inference.GRPCInferenceService/ModelInfer"


def grpc_message(model: str, x: Matrix) -> bytes:
    """A ModelInferRequest with raw contents (fields 1, 5 and 7; the tensor's 1, 2 and 3)."""

    def field(number: int, value: bytes) -> bytes:
        return _varint(number << 3 | 2) + _varint(len(value)) + value

    shape = b"".join(map(_varint, x.shape))
    tensor = field(1, b"input") + field(2, b"FP32") + field(3, shape)
    return field(1, model.encode()) + field(5, tensor) + field(7, x.astype("<f4").tobytes())


def _varint(n: int) -> bytes:
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def read_grpc(message: bytes) -> list[float]:
    """Scores in a ModelInferResponse, raw or typed."""
    output: dict[int, list[bytes]] = {}
    for number, value in _fields(message):
        output.setdefault(number, []).append(value)
    tensor: dict[int, bytes] = dict(_fields(output[5][0]))
    width = "<f8" if tensor[2] == b"FP64" else "<f4"
    if 6 in output:
        flat = np.frombuffer(output[6][0], width)
    else:
        kinds = {6: "<f4", 7: "<f8"}
        number, values = next((n, v) for n, v in _fields(tensor[5]) if n in kinds)
        flat = np.frombuffer(values, kinds[number])
    shape = []
    at = 0
    while at < len(tensor[3]):
        value, at = _read_varint(tensor[3], at)
        shape.append(value)
    return _positive(flat.tolist(), shape)


def _fields(message: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        match tag & 7:
            case 2:
                size, at = _read_varint(message, at)
                found.append((tag >> 3, message[at : at + size]))
                at += size
            case 0:
                _, at = _read_varint(message, at)
            case 5:
                at += 4
            case 1:
                at += 8
    return found


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


# ---------------------------------------------------------------- as wires


def batches(n: int) -> list[Matrix]:
    """The rows of the DIFFERENT requests of n rows each."""
    every = rows(DIFFERENT * n, seed=1000 + n)
    return [every[k * n : (k + 1) * n] for k in range(DIFFERENT)]


def http_request(dialect: Dialect, model: str, x: Matrix) -> bytes:
    body, headers = dialect.write(x)
    path = dialect.path.format(model=model).encode()
    return (
        b"POST %b HTTP/1.1\r\nhost: localhost\r\n%bcontent-length: %d\r\n\r\n%b"
        % (path, headers, len(body), body)
    )  # fmt: skip


def http_wires(dialect: Dialect, model: str, n: int) -> MakeWire:
    requests = [http_request(dialect, model, x) for x in batches(n)]
    return lambda k: Http1(requests, k)


def grpc_wires(model: str, n: int) -> MakeWire:
    messages = [grpc_message(model, x) for x in batches(n)]
    return lambda k: Grpc(GRPC_PATH, messages, first=k)
