"""ONNX Runtime on one thread."""

from __future__ import annotations

import os
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from homeostat.core.errors import BadInput, Damaged
from homeostat.core.servable import Datatype, Field, Manifest
from homeostat.serving.declared import Declared
from homeostat.serving.runtime import SCORE, Columns, Matrix

SLICE = 32
WHOLE = 8 * SLICE
"""Rows with which it is tried whether a batch is scored faster in slices. ONNX Runtime takes
another way through tree ensembles from about 50 rows on, which on one thread costs up to twice
as much per row."""
SMALL = 0.002
"""Seconds: a model that takes longer for a slice is not tried, nor worth it."""


class OnnxModel:
    """A session. A plain model has one input (n, d); others have one input per column."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        """Raises BadInput, Damaged."""
        self._session = _session(path)
        self._one = manifest.plain
        self._feed = self._session.get_inputs()[0].name
        self._inputs = manifest.inputs
        self._output = [manifest.output]
        self._outputs = [manifest.output, *(field.name for field in manifest.results)]
        self._results = tuple(field.name for field in manifest.results)
        self._sliced = False
        if manifest.plain and not manifest.results:
            self._sliced = self._slices_are_faster(len(manifest.inputs))

    def score(self, x: Matrix) -> Matrix:
        if self._sliced and len(x) > SLICE:
            return np.concatenate([self._score(x[at : at + SLICE]) for at in _starts(len(x))])
        return self._score(x)

    def _score(self, x: Matrix) -> Matrix:
        answer: Matrix = self._session.run(self._output, {self._feed: x})[0]
        return answer

    def run(self, columns: Columns) -> Columns:
        if self._one:
            feeds = {self._feed: np.stack([columns[name] for name in self._inputs], axis=1)}
        else:
            feeds = {name: _column(columns[name]) for name in self._inputs}
        answers = self._session.run(self._outputs, feeds)
        return dict(zip((SCORE, *self._results), answers, strict=True))

    def _slices_are_faster(self, width: int) -> bool:
        # rows that differ: with all alike, every branch of a tree is foreseen, and the way that
        # suffers most from branches looks the faster one
        x = np.random.default_rng(0).standard_normal((WHOLE, width), np.float32)
        try:
            if _seconds(lambda: self._score(x[:SLICE])) > SMALL:
                return False
            whole = _seconds(lambda: self._score(x))
            slices = _seconds(lambda: [self._score(x[at : at + SLICE]) for at in _starts(WHOLE)])
        except Exception:  # noqa: BLE001 - what it cannot score is told by the warm-up, in words
            return False
        return slices < 0.9 * whole


def _starts(n: int) -> range:
    return range(0, n, SLICE)


def _seconds(work: Any) -> float:
    taken = []
    for _ in range(4):
        started = perf_counter()
        work()
        taken.append(perf_counter() - started)
    return min(taken)


def _column(values: NDArray[Any]) -> NDArray[Any]:
    """(n) -> (n, 1), which is how converters describe a column."""
    return values.reshape(-1, 1) if values.ndim == 1 else values


_TYPES: dict[str, Datatype] = {
    "bool": "BOOL", "string": "BYTES", "float16": "FP16", "float": "FP32", "double": "FP64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
}  # fmt: skip


def declared(path: Path) -> Declared:
    """Inputs and outputs of the graph, and the width of its matrix when it takes only that.
    Outputs that are no tensors of a known type are left out. Raises BadInput, Damaged."""
    session = _session(path)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    found = tuple(field for one in outputs if (field := _field(one)) is not None)
    first = inputs[0]
    if len(inputs) == 1 and first.type == "tensor(float)" and len(first.shape) == 2:
        width = first.shape[1] if isinstance(first.shape[1], int) else None
        if width != 1:
            return Declared(width=width, outputs=found)
    fields = tuple(field for one in inputs if (field := _field(one)) is not None)
    if len(fields) < len(inputs):
        raise BadInput(
            "the model takes what no request can bring",
            path=str(path),
            expected="one matrix of float32, or tensors with a known shape for a row",
            found=", ".join(f"{one.name}: {one.type} {one.shape}" for one in inputs),
            remedy="export it with named inputs of the protocol's types",
        )
    return Declared(fields, outputs=found)


def _field(one: Any) -> Field | None:
    """As a field of the protocol; None when it is not one. (n, 1) is one value for each row."""
    datatype = _TYPES.get(one.type.removeprefix("tensor(").removesuffix(")"))
    shape = one.shape[1:]
    if datatype is None or not all(isinstance(size, int) for size in shape):
        return None
    return Field(one.name, datatype, () if shape == [1] else tuple(shape))


def _session(path: Path) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # weights in a file beside it would be read from wherever we were started, and nobody has
    # compared them with a digest: look for them where there are no files
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", os.devnull
    )
    try:
        return ort.InferenceSession(path.read_bytes(), options, ["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common error type
        if "External data" in str(error):
            raise BadInput(
                "the model keeps its weights in another file",
                path=str(path),
                expected="all of it in the file that is registered",
                remedy="save it whole: onnx.save(onnx.load(OLD), NEW)",
            ) from error
        raise Damaged("not a model that can be loaded", path=str(path), found=str(error)) from error
