"""Runs the user's `fit(train, params)` and checks what came back."""

from __future__ import annotations

import os
import random
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.errors import BadInput
from homeostat.core.servable import Field

if TYPE_CHECKING:
    import pandas as pd

_TEXT = (pl.String, pl.Categorical, pl.Enum)

Features = NDArray[np.float32]
Inputs: TypeAlias = "Features | pd.DataFrame"
"""Rows as the model takes them: a matrix (n, d), or, where some features are text, a pandas table
with a float32 column per number and a column of `str` per text."""


class TrainingSet(msgspec.Struct, frozen=True):
    """What `fit` is given.

    X: (n, d) float32, NaN where a value is missing; where some features are text, a pandas table
    with these columns. y: (n,) int8, 0 or 1. features: the d names of X's columns. frame: the
    same rows with every column of the transformed table. seed: of `training.seed`; random, numpy
    and keras are seeded with it already.
    """

    X: Inputs
    y: NDArray[np.int8]
    features: tuple[str, ...]
    frame: pl.DataFrame
    seed: int = 0

    @classmethod
    def of(
        cls, frame: pl.DataFrame, features: Sequence[str], label: str, *, seed: int = 0
    ) -> TrainingSet:
        """Raises BadInput for columns that are missing, no numbers, or a label beside 0 and 1."""
        labels = frame[label].cast(pl.Float64, strict=False)
        if not labels.is_in([0.0, 1.0]).fill_null(value=False).all():
            raise BadInput(
                f"column {label!r} cannot be the label",
                expected="0 or 1 in every row",
                found=", ".join(str(v) for v in frame[label].unique(maintain_order=True)[:5]),
            )
        y = labels.cast(pl.Int8).to_numpy()
        return cls(inputs_of(frame, features), y, tuple(features), frame, seed)


class FittedModel(msgspec.Struct, frozen=True):
    """kind: scikit-learn | lightgbm | xgboost | keras. model: the object that `fit` returned."""

    kind: str
    model: Any


def matrix(frame: pl.DataFrame, features: Sequence[str]) -> Features:
    """Columns of a table as (n, d) float32; null becomes NaN. Raises BadInput."""
    missing = [f for f in features if f not in frame.columns]
    if missing:
        raise BadInput(
            f"the table lacks {len(missing)} of the {len(features)} features of the model",
            found=f"no column {', '.join(map(repr, missing[:5]))}",
        )
    kinds = frame.select(features).schema
    wrong = [f"{n!r} ({t})" for n, t in kinds.items() if not (t.is_numeric() or t == pl.Boolean)]
    if wrong:
        raise BadInput(
            "features must be numbers or text",
            found=", ".join(wrong[:5]),
            remedy="encode them in the transform, or leave them out of its result",
        )
    exact = frame.select(pl.col(f).cast(pl.Float64) for f in features)
    with np.errstate(over="ignore"):
        X = exact.cast(pl.Float32).to_numpy()
    infinite = np.isinf(X).any(axis=0)
    if infinite.any():
        name = features[int(np.argmax(infinite))]
        raise BadInput(
            f"feature {name!r} holds values that are infinite in float32",
            expected="magnitudes below 3.4e38",
            remedy="clip it in the transform, or make it null where it is not defined",
        )
    return np.ascontiguousarray(X, dtype=np.float32)


def inputs_of(frame: pl.DataFrame, features: Sequence[str]) -> Inputs:
    """Columns of a table as a model takes them; a text that is null becomes "". Raises BadInput."""
    schema = frame.schema
    text = [f for f in features if f in schema and schema[f] in _TEXT]
    if not text:
        return matrix(frame, features)
    import pandas as pd

    numbers = [f for f in features if f not in text]
    values = matrix(frame, numbers)
    columns: dict[str, NDArray[Any]] = {f: values[:, i] for i, f in enumerate(numbers)}
    for name in text:
        columns[name] = frame[name].cast(pl.String).fill_null("").to_numpy().astype(object)
    return pd.DataFrame({name: columns[name] for name in features})


def as_table(X: Inputs, features: Sequence[str]) -> pl.DataFrame:
    """The rows as a table: float32 numbers and text."""
    if isinstance(X, np.ndarray):
        return pl.DataFrame(X, schema=list(features))
    return pl.DataFrame({name: X[name].to_numpy() for name in features})


def fields_of(X: Inputs, features: Sequence[str]) -> tuple[Field, ...]:
    """Name and datatype of each column of X."""
    if isinstance(X, np.ndarray):
        return tuple(Field(name) for name in features)
    return tuple(Field(n, "BYTES" if X[n].dtype == object else "FP32") for n in features)


def run(
    fn: Callable[[TrainingSet, dict[str, Any]], Any],
    train: TrainingSet,
    params: Mapping[str, Any],
) -> FittedModel:
    """Call the user's function with the seeds set; -> its model, checked by scoring two rows.

    Raises BadInput with the file and line in the user's code when it raises, or when it returns
    something that cannot be served.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    seed_everything(train.seed)
    try:
        model = fn(train, dict(params))
    except Exception as error:
        raise BadInput(
            f"fit raised {type(error).__name__}: {error}", path=_where(fn, error)
        ) from error
    fitted = FittedModel(_kind(fn, model), model)
    try:
        sample = score(fitted, train.X[:2])
    except Exception as error:
        raise BadInput(
            f"the {fitted.kind} model that fit returned cannot score the rows it was fitted on",
            path=_where(fn),
            expected="probabilities from (n, d) float32",
            found=f"{type(error).__name__}: {error}",
        ) from error
    if not np.all((sample >= 0) & (sample <= 1)):
        raise BadInput(
            f"the {fitted.kind} model that fit returned does not give probabilities",
            path=_where(fn),
            expected="scores within 0 and 1",
            found=str(sample[0]),
            remedy="end a Keras model with a sigmoid, or with a softmax over two classes",
        )
    return fitted


def seed_everything(seed: int) -> None:
    """random, numpy's global generator, and keras where the process has it loaded."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # what users' code and scikit-learn's default draw from
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(seed % 2**32)


def score(fitted: FittedModel, X: Inputs) -> NDArray[np.float64]:
    """Probability of class 1 for each of the n rows of X; shape (n,)."""
    if fitted.kind == "keras":
        found = np.asarray(fitted.model.predict(X, batch_size=8192, verbose=0))
    else:
        found = np.asarray(fitted.model.predict_proba(X))
    return positive(found)


def positive(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """(n, 2), (n, 1) or (n,) model output -> the probability of class 1, (n,)."""
    if probabilities.ndim > 2 or (probabilities.ndim == 2 and probabilities.shape[1] > 2):
        raise BadInput(
            "the model's output is not that of a binary classifier",
            expected="shape (n, 1) or (n, 2)",
            found=str(probabilities.shape),
        )
    column = probabilities if probabilities.ndim == 1 else probabilities[:, -1]
    return column.astype(np.float64)


def _kind(fn: Callable[..., Any], model: Any) -> str:
    roots = [base.__module__.partition(".")[0] for base in type(model).__mro__]
    if "keras" in roots:
        return "keras"
    known = {"lightgbm": "LGBMClassifier", "xgboost": "XGBClassifier", "sklearn": "a classifier"}
    library = next((r for r in roots if r in known), None)
    if library is None or not hasattr(model, "predict_proba"):
        remedy = "return the fitted model itself, not its predictions or a tuple"
        if model is None:
            remedy = "end fit with `return model`"
        elif library is not None:
            remedy = f"return {known[library]} that has predict_proba"
        raise BadInput(
            "fit did not return a model that can be served",
            path=_where(fn),
            expected="a fitted scikit-learn, LightGBM or XGBoost classifier, or a Keras model",
            found=f"{type(model).__module__}.{type(model).__name__}",
            remedy=remedy,
        )
    classes = [float(c) for c in np.asarray(model.classes_)] if hasattr(model, "classes_") else []
    if classes != [0.0, 1.0]:
        raise BadInput(
            "the model that fit returned is not a fitted binary classifier",
            path=_where(fn),
            expected="classes 0 and 1",
            found=f"classes {classes}" if classes else "a model that is not fitted",
        )
    return "scikit-learn" if library == "sklearn" else library


def _where(fn: Callable[..., Any], error: BaseException | None = None) -> str:
    """file:line of the deepest frame in the folder of the user's function."""
    code = getattr(fn, "__code__", None)
    if code is None:
        return getattr(fn, "__name__", "fit")
    folder, place = Path(code.co_filename).parent, f"{code.co_filename}:{code.co_firstlineno}"
    for frame in traceback.extract_tb(error.__traceback__) if error else ():
        path = Path(frame.filename)
        if path.is_relative_to(folder) and "site-packages" not in path.parts:
            place = f"{frame.filename}:{frame.lineno}"
    return place
