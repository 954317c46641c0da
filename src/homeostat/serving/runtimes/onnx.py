"""ONNX Runtime on one thread."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from homeostat.core.errors import Damaged
from homeostat.core.servable import Manifest
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
        """Raises Damaged."""
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
        x = np.zeros((WHOLE, width), np.float32)
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


def _session(path: Path) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(path.read_bytes(), options, ["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common error type
        raise Damaged("not a model that can be loaded", path=str(path), found=str(error)) from error
