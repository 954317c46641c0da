"""Load a servable and run it: ONNX Runtime on one thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from homeostat.core.errors import BadInput, Damaged, HomeostatError, NotFound
from homeostat.core.route import Servable
from homeostat.core.servable import MANIFEST, Field, Manifest, file_digest
from homeostat.serving.pace import Pace

Columns = dict[str, NDArray[Any]]
"""Arrays by name, (n, *shape) each, of the dtype of their `core.servable.Field`."""

SCORE = "score"
"""Name of the score among what `run` returns."""


class LoadedModel:
    """A version that can answer.

    inputs: names in the model's order; columns: the same with their types; plain: all of them
    are float32 numbers, so `score` takes a matrix; results: further outputs beside the score.
    """

    def __init__(self, servable: Servable, manifest: Manifest, session: Any) -> None:
        self.servable, self.version = servable, servable.version
        self.inputs = manifest.inputs
        self.columns: tuple[Field, ...] = manifest.fields
        self.results: tuple[Field, ...] = manifest.results
        self.plain = manifest.plain and not manifest.results
        self.width = len(manifest.inputs)
        self.threshold = manifest.threshold
        self.format = manifest.format
        self.pace = Pace()
        self._session = session
        self._feed = session.get_inputs()[0].name
        self._matrix = manifest.plain
        self._outputs = [manifest.output]
        self._all = [manifest.output, *(field.name for field in manifest.results)]

    def score(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """x (n, d) -> probability of the positive class (n); NaN where there is none.
        Raises HomeostatError when the model fails."""
        try:
            answer = self._session.run(self._outputs, {self._feed: x})[0]
        except Exception as error:  # onnxruntime has no common error type
            raise HomeostatError("the model failed", found=str(error)) from error
        scores: NDArray[np.float32] = answer[:, -1] if answer.ndim == 2 else answer
        return scores

    def run(self, columns: Columns) -> Columns:
        """One array (n, *shape) per input -> SCORE (n) and one array (n, *shape) per result.

        For every model; the only way for those that are not plain. Raises HomeostatError when
        the model fails.
        """
        if self._matrix:
            feeds = {self._feed: np.stack([columns[name] for name in self.inputs], axis=1)}
        else:
            feeds = {f.name: _column(columns[f.name]) for f in self.columns}
        try:
            answers = self._session.run(self._all, feeds)
        except Exception as error:  # onnxruntime has no common error type
            raise HomeostatError("the model failed", found=str(error)) from error
        scores = answers[0]
        found = {SCORE: scores[:, -1] if scores.ndim == 2 else scores}
        for field, answer in zip(self.results, answers[1:], strict=True):
            found[field.name] = answer.reshape(len(answer), *field.shape)
        return found


def _column(values: NDArray[Any]) -> NDArray[Any]:
    """(n) -> (n, 1), which is how converters describe a column."""
    return values.reshape(-1, 1) if values.ndim == 1 else values


def load(servable: Servable) -> LoadedModel:
    """Check the files against the registered digest, load and warm up.

    Raises NotFound, Damaged, BadInput: each says which file and why.
    """
    folder = Path(servable.path)
    manifest = _manifest(folder)
    path = folder / manifest.file
    if not path.is_file():
        raise NotFound("the model file is missing", path=str(path))
    digest = file_digest(path)
    if digest != servable.digest:
        raise Damaged(
            "the model file is not the one that was registered",
            path=str(path),
            expected=servable.digest,
            found=digest,
        )
    return _warm(LoadedModel(servable, manifest, _session(path)), manifest)


def _manifest(folder: Path) -> Manifest:
    try:
        return Manifest.read(folder)
    except FileNotFoundError:
        raise NotFound("the version has no manifest", path=str(folder / MANIFEST)) from None
    except (msgspec.DecodeError, OSError) as error:
        raise Damaged(
            "the manifest cannot be read", path=str(folder / MANIFEST), found=str(error)
        ) from error


def _session(path: Path) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(path.read_bytes(), options, ["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common error type
        raise Damaged("not a model that can be loaded", path=str(path), found=str(error)) from error


def _warm(model: LoadedModel, manifest: Manifest) -> LoadedModel:
    for rows in (1, 32):
        if model.plain:
            answer = model.score(np.zeros((rows, model.width), np.float32))
        else:
            answer = model.run({f.name: _blank(f, rows) for f in model.columns})[SCORE]
        if answer.shape != (rows,):
            raise BadInput(
                f"output {manifest.output!r} does not hold one score per row",
                path=model.servable.path,
                expected=f"({rows}, 2) or ({rows}, 1)",
                found=str(answer.shape),
            )
    return model


def _blank(field: Field, rows: int) -> NDArray[Any]:
    shape = (rows, *field.shape)
    return np.full(shape, "", object) if field.datatype == "BYTES" else np.zeros(shape, field.dtype)
