"""MLflow's pyfunc models: code of their own, so only when opted into."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from homeostat.core.errors import BadInput, Damaged
from homeostat.core.servable import Datatype, Field, Manifest
from homeostat.serving.declared import Declared
from homeostat.serving.runtime import SCORE, Columns, Matrix


class PyfuncModel:
    """A folder that `mlflow.pyfunc.save_model` wrote. Its `predict` is given a pandas table with
    the inputs as columns, and returns the scores, or a table with a column for the output of the
    manifest and for each result."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        """Raises Damaged."""
        import mlflow.pyfunc

        try:
            self._model = mlflow.pyfunc.load_model(str(path))
        except Exception as error:  # a model of any kind, which raises anything
            raise Damaged(
                "not a model that can be loaded", path=str(path), found=str(error)
            ) from error
        self._inputs, self._output = manifest.inputs, manifest.output
        self._results = tuple(field.name for field in manifest.results)

    def score(self, x: Matrix) -> Matrix:
        return self.run({name: x[:, i] for i, name in enumerate(self._inputs)})[SCORE]

    def run(self, columns: Columns) -> Columns:
        import pandas as pd

        frame = pd.DataFrame({name: list(columns[name]) for name in self._inputs})
        answer = self._model.predict(frame)
        if isinstance(answer, pd.DataFrame):
            found = {name: answer[name].to_numpy() for name in self._results}
            found[SCORE] = answer[self._output].to_numpy().astype(np.float32)
            return found
        return {SCORE: np.asarray(answer, dtype=np.float32)}


_TYPES: dict[str, Datatype] = {
    "boolean": "BOOL", "double": "FP64", "float": "FP32", "integer": "INT32", "long": "INT64",
    "string": "BYTES",
}  # fmt: skip


def declared(path: Path) -> Declared:
    """The signature that MLflow keeps beside the model, whose code is not run. Raises BadInput,
    Damaged."""
    from mlflow.models import Model

    try:
        signature = Model.load(str(path)).signature
    except Exception as error:  # YAML, and whatever the types in it raise
        raise Damaged(
            "the file MLmodel cannot be read", path=str(path), found=str(error)
        ) from error
    if signature is None:
        return Declared()
    inputs, outputs = signature.inputs, signature.outputs
    if inputs is None or not inputs.is_tensor_spec():
        return Declared(_fields(inputs, path), outputs=_fields(outputs, path))
    if inputs.has_input_names():
        raise BadInput(
            "the signature is of tensors",
            path=str(path),
            expected="columns: `mlflow.models.infer_signature` of a pandas table",
        )
    width = inputs.inputs[0].shape[-1]
    return Declared(width=width if width > 0 else None, outputs=_fields(outputs, path))


def _fields(schema: Any, path: Path) -> tuple[Field, ...]:
    """Of the columns that have names."""
    if schema is None or schema.is_tensor_spec() or not schema.has_input_names():
        return ()
    kinds = {one.name: str(getattr(one.type, "name", one.type)) for one in schema.inputs}
    unknown = [f"{name!r} ({kind})" for name, kind in kinds.items() if kind not in _TYPES]
    if unknown:
        raise BadInput(
            "the signature has columns that no request can bring",
            path=str(path),
            expected=f"one of: {', '.join(_TYPES)}",
            found=", ".join(unknown),
        )
    return tuple(Field(name, _TYPES[kind]) for name, kind in kinds.items())
