"""The expected loss of a regression, without labels: a second model learns how wrong the first
one is where (direct loss estimation, NannyML). As every estimate it stands and falls with the
assumption that the errors at given inputs are what they were."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import special

from homeostat.core.errors import BadInput
from homeostat.core.metrics import Estimate

Floats = NDArray[np.float64]

LOSSES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "absolute": lambda truth, prediction: np.abs(truth - prediction),
    "squared": lambda truth, prediction: (truth - prediction) ** 2,
}
FOLDS = 10
LEAST = 100


class LossModel:
    """Learns the loss of each row from its features and its prediction."""

    def __init__(
        self, features: Floats, prediction: Floats, truth: Floats, loss: str = "absolute"
    ) -> None:
        """features: (n, d). prediction, truth: (n,), n at least LEAST. loss: `absolute` or
        `squared`. Raises BadInput."""
        if loss not in LOSSES:
            raise BadInput("no such loss", expected=" or ".join(LOSSES), found=repr(loss))
        if len(truth) < LEAST:
            raise BadInput(
                "too few rows to learn the loss from", expected=f"{LEAST}", found=str(len(truth))
            )
        table = np.column_stack([features, prediction])
        y = LOSSES[loss](truth, prediction)
        fold = np.random.default_rng(0).permutation(len(y)) % FOLDS
        self._models = [self._fit(table[fold != f], y[fold != f]) for f in range(FOLDS)]
        # on rows that a model has not seen: how far single losses are from what it says, and where
        held = [(fold == f, m.predict(table[fold == f])) for f, m in enumerate(self._models)]
        said = np.empty_like(y)
        for rows, values in held:
            said[rows] = values
        self._bias, self._n = float((y - said).mean()), len(y)
        self._spread = self._fit(table, (y - said) ** 2)
        self._scatter = float((y - said).var(ddof=1))

    @staticmethod
    def _fit(table: Floats, loss: Floats):  # type: ignore[no-untyped-def]
        from lightgbm import Dataset, train

        settings = {
            "objective": "l2", "learning_rate": 0.05, "num_leaves": 15, "min_data_in_leaf": 30,
            "num_threads": 1, "verbosity": -1, "deterministic": True, "seed": 0,
        }  # fmt: skip
        return train(settings, Dataset(table, loss), num_boost_round=100)

    def estimate(
        self, features: Floats, prediction: Floats, *, confidence: float = 0.95
    ) -> Estimate:
        """The mean loss to be expected on rows (m, d), with the interval for the mean loss that
        will be seen on them: scatter of single losses, of the estimate, and of the folds'
        models. Raises BadInput without rows."""
        if not len(prediction):
            raise BadInput("no rows to estimate the loss of")
        table = np.column_stack([features, prediction])
        folds = np.array([m.predict(table).mean() for m in self._models])
        value = max(0.0, float(folds.mean()) + self._bias)
        there = np.maximum(self._spread.predict(table), 0.05 * self._scatter)
        variance = float(there.mean()) / len(prediction) + self._scatter / self._n
        variance += (FOLDS - 1) * float(folds.var())  # the jackknife over the folds
        half = float(special.ndtri((1 + confidence) / 2)) * variance**0.5
        return Estimate(value, max(0.0, value - half), value + half, len(prediction))
