"""scikit-learn models that skops kept: for what has no form in ONNX, and only when opted into."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from homeostat.core.errors import BadInput, Damaged, Refused
from homeostat.core.servable import Field, Manifest
from homeostat.serving.declared import Declared
from homeostat.serving.runtime import SCORE, Columns, Matrix

CLASSES = ("numpy.", "scipy.", "sklearn.", "lightgbm.", "xgboost.", "collections.OrderedDict")
FUNCTIONS = ("scipy.", "sklearn.")
"""Classes, and functions, of these packages are taken. Others are refused: those of the user's own
modules, and functions that make code of what they are given (`eval`, NumPy's `runstring`), which a
pipeline would call with the rows of a request."""


class SkopsModel:
    """Answers with `predict_proba`."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        """Raises BadInput, Damaged, Refused."""
        self._model = read(path)
        self._inputs = manifest.inputs
        self._named = hasattr(self._model, "feature_names_in_")

    def score(self, x: Matrix) -> Matrix:
        if not self._named:
            return self._answer(x)
        import pandas as pd

        # with names scikit-learn sees to their order, and does not warn of every batch
        return self._answer(pd.DataFrame(x, columns=list(self._inputs)))

    def run(self, columns: Columns) -> Columns:
        import pandas as pd

        return {
            SCORE: self._answer(pd.DataFrame({name: list(columns[name]) for name in self._inputs}))
        }

    def _answer(self, rows: Any) -> Matrix:
        return np.asarray(self._model.predict_proba(rows), dtype=np.float32)


def declared(path: Path) -> Declared:
    """The columns it was fitted on, where it remembers their names. Raises BadInput, Damaged,
    Refused."""
    model = read(path)
    if not hasattr(model, "predict_proba"):
        raise BadInput(
            "the model gives no probabilities",
            path=str(path),
            expected="a classifier with predict_proba",
            found=type(model).__name__,
        )
    names = getattr(model, "feature_names_in_", ())
    width = getattr(model, "n_features_in_", None)
    return Declared(tuple(Field(str(name)) for name in names), width)


def read(path: Path) -> Any:
    """The model in a file of skops. Raises BadInput, Damaged, Refused."""
    try:
        from skops import io
    except ImportError as error:
        raise BadInput(
            "a model kept by skops needs skops to be read",
            found=str(error),
            remedy="pip install 'homeostat[skops]'",
        ) from error
    try:
        unknown = list(io.get_untrusted_types(file=path))
        foreign = [name for name in unknown if not _trusted(name)]
        if foreign:
            raise Refused(
                "the model holds types that are not trusted",
                path=str(path),
                expected="classes of NumPy, SciPy, scikit-learn, LightGBM and XGBoost",
                found=", ".join(foreign[:5]),
            )
        return io.load(path, trusted=unknown)
    except Refused:
        raise
    except Exception as error:  # zip, JSON and whatever the types' own loaders raise
        raise Damaged("not a model that can be loaded", path=str(path), found=str(error)) from error


def _trusted(name: str) -> bool:
    if not name.startswith(CLASSES):
        return False
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError):
        return False
    return isinstance(found, type) or name.startswith(FUNCTIONS)
