"""The `training:` and `gates:` sections."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from homeostat.core.duration import Duration, default
from homeostat.core.names import BIAS_METRICS, METRICS

Unit = Annotated[float, Meta(ge=0, le=1)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]


class Split(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """By time, the test period last, all labels matured: | train | gap | test |. A gap as long as
    labels take shows what a model that cannot yet know them would be worth."""

    train: Duration
    gap: Duration
    test: Duration


class Space(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"whole": "int"}):
    """One of: log, range (floats), int (bounds), choice."""

    log: tuple[float, float] | None = None
    range: tuple[float, float] | None = None
    whole: tuple[int, int] | None = None
    choice: tuple[str | float, ...] | None = None


class Tune(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    space: dict[str, Space]
    maximize: str | None = None
    minimize: str | None = None
    goal: float | None = None
    algorithm: Literal["tpe", "random", "grid", "cmaes"] = "tpe"
    trials: Annotated[int, Meta(ge=1)] = 20
    parallel: Annotated[int, Meta(ge=1)] = 1
    max_failed: Annotated[int, Meta(ge=0)] = 3


class TrainingSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """fit: `fit(train, params) -> model`. threshold: scores from it on are alerts (accuracy,
    precision, recall and bias are at this threshold). k: for precision_at_k.
    timeout: a run that takes longer is stopped and counts as failed."""

    fit: Name
    split: Split
    params: dict[str, Any] = {}
    threshold: Unit = 0.5
    k: Annotated[int, Meta(ge=1)] = 100
    seed: int = 0
    timeout: Duration = default("6h")
    tune: Tune | None = None


class Bound(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """At least `min`, at most `max`; by the interval's end when `confident`, else by the figure."""

    min: float | None = None
    max: float | None = None
    confident: bool = False


class AgainstChampion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The candidate's metric may be worse than the champion's on the same rows by `margin`."""

    metric: Literal[tuple(METRICS)]  # type: ignore[valid-type]
    margin: Annotated[float, Meta(ge=0)] = 0.0


class Bias(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """by: a column of the transformed table that is not a feature, or is."""

    by: str
    metric: Literal[BIAS_METRICS]  # type: ignore[valid-type]
    max: Unit


class Anchor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rows that every model has to keep getting right, whatever the traffic becomes: cases that
    experts chose, or that once went wrong. source: a Parquet or CSV file of them, with the
    features and the label as the transform leaves them. min or max: bounds of the metric there.
    margin: how much worse than the champion's it may be (unset: not compared)."""

    source: str
    metric: Literal[tuple(METRICS)] = "auc"  # type: ignore[valid-type]
    min: float | None = None
    max: float | None = None
    margin: Annotated[float, Meta(ge=0)] | None = 0.0


class GatesSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds on the test set, named by metric, and two comparisons."""

    auc: Bound | None = None
    average_precision: Bound | None = None
    log_loss: Bound | None = None
    brier: Bound | None = None
    calibration_error: Bound | None = None
    accuracy: Bound | None = None
    precision: Bound | None = None
    recall: Bound | None = None
    precision_at_k: Bound | None = None
    against_champion: AgainstChampion | None = None
    bias: tuple[Bias, ...] = ()
    anchor: Anchor | None = None

    def bounds(self) -> dict[str, Bound]:
        return {m: b for m in METRICS if (b := getattr(self, m)) is not None}
