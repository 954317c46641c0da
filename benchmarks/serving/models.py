"""The two models that every server serves, made with a seed: an MLP and boosted trees, as ONNX.

One file for all, run by ONNX Runtime on one thread everywhere: what differs is the server.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from homeostat.core.route import Servable
from homeostat.core.servable import Field, Manifest, file_digest
from homeostat.testing.models import tiny_servable

FEATURES = 30
NAMES = tuple(f"f{i}" for i in range(FEATURES))
MLP, GBM = "mlp", "gbm"
TITLES = {
    MLP: "MLP 30-128-64-32-1",
    GBM: "gradient boosting, 200 trees of 31 leaves",
}
TREES = 200


class Model(NamedTuple):
    """file: the ONNX model; feed: its input, FP32 [n, 30]; output: the one with the scores,
    FP32 [n, 2], the second column the positive class."""

    name: str
    servable: Servable
    file: Path
    feed: str
    output: str

    def score(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """What every server has to answer for x (n, 30)."""
        import onnxruntime as ort

        session = ort.InferenceSession(str(self.file), providers=["CPUExecutionProvider"])
        scores: NDArray[np.float32] = session.run([self.output], {self.feed: x})[0][:, 1]
        return scores


def make(folder: Path, seed: int = 7) -> dict[str, Model]:
    """Write both models below `folder`; what is there already is taken as it is."""
    return {MLP: _mlp(folder / MLP, seed), GBM: _gbm(folder / GBM, seed)}


def rows(n: int, seed: int) -> NDArray[np.float32]:
    """n rows of standard normal features, rounded so that JSON holds them exactly enough."""
    values = np.random.default_rng(seed).normal(size=(n, FEATURES))
    return values.round(4).astype(np.float32)


def _mlp(folder: Path, seed: int) -> Model:
    weights = np.random.default_rng(seed).normal(0, 0.2, 32)
    servable = tiny_servable(
        folder, inputs=NAMES, weights=weights.tolist(), hidden=(128, 64, 32), name=MLP, seed=seed
    )
    return Model(MLP, servable, folder / "model.onnx", "X", "probabilities")


def _gbm(folder: Path, seed: int) -> Model:
    file = folder / "model.onnx"
    if not (folder / "servable.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        output = _boosted(file, seed)
        manifest = Manifest(GBM, NAMES, file.name, file_digest(file), output, 0.5)
        manifest.write(folder)
    manifest = Manifest.read(folder)
    return Model(GBM, Servable("1", str(folder), manifest.digest), file, "input", manifest.output)


def _boosted(file: Path, seed: int) -> str:
    from lightgbm import LGBMClassifier

    from homeostat.training.fit import FittedModel
    from homeostat.training.onnx import convert

    x = rows(20_000, seed)
    signal = x[:, 0] * x[:, 1] + np.sin(2 * x[:, 2]) + 0.5 * x[:, 3:8].sum(axis=1)
    y = (signal + np.random.default_rng(seed + 1).normal(size=len(x)) > 0).astype(int)
    model = LGBMClassifier(
        n_estimators=TREES, num_leaves=31, random_state=seed, n_jobs=1, deterministic=True,
        verbose=-1,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converters' own deprecations
        model.fit(x, y)
        return convert(FittedModel("lightgbm", model), [Field(name) for name in NAMES], file)
