"""The words everybody uses: stages, arms, metrics."""

from __future__ import annotations

import enum
from typing import Literal, NamedTuple

Format = Literal["onnx", "skops", "pyfunc"]
"""Of a model's file."""


class Stage(enum.StrEnum):
    """The stages of the pipeline, in the order in which they run."""

    INGEST = "ingest"
    TRANSFORM = "transform"
    VALIDATE = "validate"
    TRAIN = "train"
    EVALUATE = "evaluate"
    REGISTER = "register"


class Arm(enum.StrEnum):
    """Which part a version played in a request."""

    CHAMPION = "champion"
    CANARY = "canary"
    SHADOW = "shadow"


CHAMPION_ALIAS = "champion"
CHALLENGER_ALIAS = "challenger"


class Metric(NamedTuple):
    """How to read a metric of a binary classifier: direction and range."""

    name: str
    higher_is_better: bool
    low: float
    high: float
    thresholded: bool  # needs a decision threshold or a k


METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric("auc", True, 0.0, 1.0, False),
        Metric("average_precision", True, 0.0, 1.0, False),
        Metric("log_loss", False, 0.0, float("inf"), False),
        Metric("brier", False, 0.0, 1.0, False),
        Metric("calibration_error", False, 0.0, 1.0, False),
        Metric("accuracy", True, 0.0, 1.0, True),
        Metric("precision", True, 0.0, 1.0, True),
        Metric("recall", True, 0.0, 1.0, True),
        Metric("precision_at_k", True, 0.0, 1.0, True),
    )
}

PAIRED_LOSSES: tuple[str, ...] = ("log_loss", "brier", "error")
"""Per-request losses that a rollout guard can pair between champion and candidate."""

BIAS_METRICS: tuple[str, ...] = (
    "demographic_parity_difference",
    "equalized_odds_difference",
    "equal_opportunity_difference",
)
