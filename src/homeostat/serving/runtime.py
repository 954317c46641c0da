"""Load a servable and run it: ONNX Runtime on one thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from homeostat.core.errors import BadInput, Damaged, HomeostatError, NotFound
from homeostat.core.route import Servable
from homeostat.core.servable import MANIFEST, Manifest, file_digest


class LoadedModel:
    """A version that can answer. inputs: feature names, in the model's order."""

    def __init__(self, servable: Servable, manifest: Manifest, session: Any) -> None:
        self.servable, self.version = servable, servable.version
        self.inputs = manifest.inputs
        self.width = len(manifest.inputs)
        self.threshold = manifest.threshold
        self._session = session
        self._feed = session.get_inputs()[0].name
        self._outputs = [manifest.output]

    def score(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """x (n, d) -> probability of the positive class (n); NaN where there is none.
        Raises HomeostatError when the model fails."""
        try:
            answer = self._session.run(self._outputs, {self._feed: x})[0]
        except Exception as error:  # onnxruntime has no common error type
            raise HomeostatError("the model failed", found=str(error)) from error
        scores: NDArray[np.float32] = answer[:, -1] if answer.ndim == 2 else answer
        return scores


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
        answer = model.score(np.zeros((rows, model.width), np.float32))
        if answer.shape != (rows,):
            raise BadInput(
                f"output {manifest.output!r} does not hold one score per row",
                path=model.servable.path,
                expected=f"({rows}, 2) or ({rows}, 1)",
                found=str(answer.shape),
            )
    return model
