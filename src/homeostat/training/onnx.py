"""Models as ONNX: a float32 input (n, d), or an input per column where some are text; one output
with the probabilities.

scikit-learn goes through skl2onnx, with LightGBM's and XGBoost's converters registered there so
that they also work inside a Pipeline; Keras exports itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from homeostat.core.errors import BadInput
from homeostat.core.servable import Field
from homeostat.training.fit import FittedModel

_OPTIONS = {"zipmap": [False, True, "columns"], "nocl": [False, True]}
_OPSETS = {"": 18, "ai.onnx.ml": 3}  # what LightGBM's and XGBoost's converters know


def convert(fitted: FittedModel, fields: Sequence[Field], path: Path) -> str:
    """Write the model with these inputs to `path`; -> name of the output with the scores, (n, 2)
    or (n, 1). All numbers: one input (n, d); else one input (n, 1) per field. Raises BadInput when
    it has no form in ONNX, with what to do instead."""
    try:
        if fitted.kind == "keras":
            return _keras(fitted.model, path)
        return _scikit_learn(fitted.model, fields, path)
    except (BadInput, MemoryError, OSError):
        raise
    except Exception as error:  # converters raise whatever their library raised
        reason = str(error).splitlines()[0][:200] if str(error) else ""
        raise BadInput(
            f"this {fitted.kind} model ({_named(fitted.model)}) cannot be exported to ONNX",
            found=f"{type(error).__name__}: {reason}",
            remedy="use parts that ONNX has: linear models, trees, MLPs and standard scalers of "
            "scikit-learn, LightGBM, XGBoost, or Keras layers on an Input((features,))",
        ) from error


def _named(model: Any) -> str:
    steps = getattr(model, "steps", None)
    if steps is None:
        return type(model).__name__
    return " > ".join(type(step).__name__ for _, step in steps)


def _scikit_learn(model: Any, fields: Sequence[Field], path: Path) -> str:
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    kinds = {"FP32": FloatTensorType, "BYTES": StringTensorType}
    types = [(field.name, kinds[field.datatype]([None, 1])) for field in fields]
    if all(field.plain for field in fields):
        types = [("input", FloatTensorType([None, len(fields)]))]
    _register_converters()
    proto = to_onnx(
        model,
        initial_types=types,
        options={"zipmap": False},
        target_opset=_OPSETS,
    )
    # the labels are for nobody: the threshold is the manifest's
    scores = [o for o in proto.graph.output if o.name == "probabilities"] or [
        proto.graph.output[-1]
    ]
    name = str(scores[0].name)
    for output in list(proto.graph.output):
        if output.name != name:
            proto.graph.output.remove(output)
    # the converter collects them in a set: in another process, another order and another digest
    opsets = sorted(proto.opset_import, key=lambda opset: opset.domain)
    del proto.opset_import[:]
    proto.opset_import.extend(opsets)
    path.write_bytes(proto.SerializeToString())
    return name


@cache
def _register_converters() -> None:
    """Once per process: the converters that skl2onnx does not bring, or brings broken."""
    from lightgbm import LGBMClassifier
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
    from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
    from skl2onnx import update_registered_converter
    from skl2onnx.common._registration import get_converter, get_shape_calculator
    from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes
    from sklearn.ensemble import HistGradientBoostingClassifier
    from xgboost import XGBClassifier

    def convert_histogram(scope: Any, operator: Any, container: Any) -> None:
        thresholds = _histogram_thresholds(operator.raw_operator)
        histogram(scope, operator, _Nodes(container, thresholds))

    def convert_leaves(scope: Any, operator: Any, container: Any) -> None:
        convert_lightgbm(scope, operator, _Nodes(container))

    for kind, alias, convert_one in (
        (LGBMClassifier, "LightGbmLGBMClassifier", convert_leaves),
        (XGBClassifier, "XGBoostXGBClassifier", convert_xgboost),
    ):
        update_registered_converter(
            kind,
            alias,
            calculate_linear_classifier_output_shapes,
            convert_one,
            options=_OPTIONS,
        )
    alias = "SklearnHistGradientBoostingClassifier"
    histogram = get_converter(alias)
    update_registered_converter(
        HistGradientBoostingClassifier,
        alias,
        get_shape_calculator(alias),
        convert_histogram,
        options={**_OPTIONS, "raw_scores": [True, False], "output_class_labels": [False, True]},
    )


class _Nodes:
    """A converter's container that mends the nodes it is given.

    Thresholds of trees are doubles, ONNX keeps them as float32: rounded down, `x <= threshold`
    decides the same for every float32 x; rounded to nearest, as the converters do, it does not.
    And skl2onnx 1.20 describes histogram boosting with arrays and booleans, which onnx 1.23 no
    longer takes for lists of integers.
    """

    def __init__(self, container: Any, thresholds: NDArray[np.float64] | None = None) -> None:
        self._container, self._thresholds = container, thresholds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, *args: Any, **attributes: Any) -> None:
        if "nodes_values" in attributes:
            exact = attributes["nodes_values"] if self._thresholds is None else self._thresholds
            attributes["nodes_values"] = rounded_down(exact, attributes["nodes_modes"])
        self._container.add_node(*args, **{k: _plain(v) for k, v in attributes.items()})


def rounded_down(thresholds: ArrayLike, modes: Sequence[str]) -> list[float]:
    """Thresholds of `<=` nodes as the largest float32 that is not above; others as they are."""
    exact = np.asarray(thresholds, dtype=np.float64)
    with np.errstate(over="ignore"):
        near = exact.astype(np.float32)
    below = np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near)
    leq = np.array([mode == "BRANCH_LEQ" for mode in modes], dtype=bool)
    return [float(v) for v in np.where(leq, below, exact)]


def _histogram_thresholds(model: Any) -> NDArray[np.float64]:
    """Of all nodes, trees in order, as skl2onnx lists them (but before it rounds)."""
    trees = [tree.nodes for iteration in model._predictors for tree in iteration]
    return np.concatenate([np.where(n["is_leaf"], 0.0, n["num_threshold"]) for n in trees])


def _plain(value: Any) -> Any:
    values = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(values, list):
        return values
    return [int(v) if isinstance(v, bool | np.bool_) else v for v in values]


def _keras(model: Any, path: Path) -> str:
    import onnx

    try:
        with warnings.catch_warnings():
            # keras 3.15 asks numpy for names that numpy 2 warns about
            warnings.filterwarnings("ignore", message=".*np.object.*", category=FutureWarning)
            model.export(str(path), format="onnx", verbose=False)
    except ImportError as error:
        raise BadInput(
            "a Keras model needs tf2onnx to be exported",
            found=str(error),
            remedy="pip install 'homeostat[keras]'",
        ) from error
    outputs = onnx.load(str(path)).graph.output
    if len(outputs) != 1:
        raise BadInput(
            "the Keras model has several outputs",
            expected="one, with the probability",
            found=", ".join(o.name for o in outputs),
        )
    return str(outputs[0].name)
