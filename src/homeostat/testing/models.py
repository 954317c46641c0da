"""Tiny models for tests: a logistic unit written straight as ONNX, in microseconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from homeostat.core.route import Servable
from homeostat.core.servable import REFERENCE, Manifest, file_digest


def tiny_servable(
    folder: Path,
    *,
    inputs: Sequence[str] = ("a", "b"),
    weights: Sequence[float] | None = None,
    bias: float = 0.0,
    name: str = "tiny",
    version: str = "1",
    hidden: Sequence[int] = (),
    rows: int = 200,
    seed: int = 0,
) -> Servable:
    """Write `model.onnx`, `servable.json` and `reference.parquet`; return where they are.

    The score is sigmoid(weights . x + bias) with float32 inputs (d); weights default to ones.
    Non-finite weights make a model that answers NaN. `hidden` puts ReLU layers with seeded random
    weights in between, for a model that costs something; `weights` is then of the last layer.
    reference.parquet has `rows` standard normal rows, their scores, and labels drawn from them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    layers = _layers(len(inputs), hidden, weights, bias, seed)
    _write_onnx(folder / "model.onnx", layers)
    digest = file_digest(folder / "model.onnx")
    Manifest(
        name=name,
        inputs=tuple(inputs),
        file="model.onnx",
        digest=digest,
        output="probabilities",
        threshold=0.5,
    ).write(folder)
    _write_reference(folder / REFERENCE, tuple(inputs), layers, rows, seed)
    return Servable(version, str(folder), digest)


Layer = tuple[np.ndarray, np.ndarray]


def _layers(
    width: int, hidden: Sequence[int], weights: Sequence[float] | None, bias: float, seed: int
) -> list[Layer]:
    random = np.random.default_rng(seed)
    layers: list[Layer] = []
    for size in hidden:
        w = random.normal(0, np.sqrt(2 / width), (width, size)).astype(np.float32)
        layers.append((w, np.zeros(size, np.float32)))
        width = size
    last = np.ones(width) if weights is None else np.asarray(weights)
    if last.shape != (width,):
        raise ValueError(f"expected {width} weights, found {last.size}")
    layers.append((last.astype(np.float32).reshape(width, 1), np.array([bias], np.float32)))
    return layers


def _write_onnx(path: Path, layers: list[Layer]) -> None:
    from onnx import TensorProto, checker, helper, numpy_helper, save

    nodes, constants, value = [], [], "X"
    for i, (w, b) in enumerate(layers):
        constants += [numpy_helper.from_array(w, f"w{i}"), numpy_helper.from_array(b, f"b{i}")]
        nodes.append(helper.make_node("Gemm", [value, f"w{i}", f"b{i}"], [f"z{i}"]))
        value = f"z{i}"
        if i < len(layers) - 1:
            nodes.append(helper.make_node("Relu", [value], [f"h{i}"]))
            value = f"h{i}"
    constants.append(numpy_helper.from_array(np.array([1.0], np.float32), "one"))
    nodes += [
        helper.make_node("Sigmoid", [value], ["positive"]),
        helper.make_node("Sub", ["one", "positive"], ["negative"]),
        helper.make_node("Concat", ["negative", "positive"], ["probabilities"], axis=1),
    ]
    width = layers[0][0].shape[0]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])],
        constants,
    )
    model = helper.make_model(
        graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)], producer_name="homeostat"
    )
    checker.check_model(model)
    save(model, str(path))


def _write_reference(
    path: Path, inputs: tuple[str, ...], layers: list[Layer], rows: int, seed: int
) -> None:
    import polars as pl

    random = np.random.default_rng(seed + 1)
    x = random.normal(size=(rows, len(inputs))).astype(np.float32)
    h = x
    for w, b in layers[:-1]:
        h = np.maximum(h @ w + b, 0)
    with np.errstate(all="ignore"):
        z = (h @ layers[-1][0] + layers[-1][1]).astype(np.float64)[:, 0]
        score = 1 / (1 + np.exp(-z))
    label = (random.random(rows) < score).astype(np.int8)
    frame = pl.DataFrame({name: x[:, i] for i, name in enumerate(inputs)})
    frame.with_columns(pl.Series("score", score), pl.Series("label", label)).write_parquet(path)
