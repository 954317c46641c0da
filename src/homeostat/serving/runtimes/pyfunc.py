"""MLflow's pyfunc models: code of their own, so only when opted into."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from homeostat.core.errors import Damaged
from homeostat.core.servable import Manifest
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
