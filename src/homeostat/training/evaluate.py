"""Figures of a candidate on the test set."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from numpy.typing import ArrayLike

from homeostat.core.metrics import Estimate, measure
from homeostat.training.bias import Groups, bias
from homeostat.training.spec import TrainingSpec


class Evaluation(msgspec.Struct, frozen=True):
    """metrics: by name. bias: column -> metric -> estimate. threshold, k: with which measured."""

    metrics: dict[str, Estimate]
    bias: dict[str, dict[str, Estimate]] = {}
    threshold: float = 0.5
    k: int = 100


def evaluate(
    label: ArrayLike,
    score: ArrayLike,
    spec: TrainingSpec,
    groups: Mapping[str, Groups] | None = None,
) -> Evaluation:
    """Every metric with its interval, and the bias between the groups of each given column.

    label: 0/1 (n,). score: probability of 1 (n,). groups: column -> the group of each row (n,).
    Raises BadInput for scores that are NaN or outside [0, 1].
    """
    return Evaluation(
        measure(label, score, threshold=spec.threshold, k=spec.k),
        {by: bias(label, score, of, threshold=spec.threshold) for by, of in (groups or {}).items()},
        spec.threshold,
        spec.k,
    )
