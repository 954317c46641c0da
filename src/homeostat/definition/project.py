"""The whole declared project: YAML in, typed objects out, cross-checks between stages."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from homeostat.core.duration import PATTERN, Duration, default
from homeostat.data.spec import DataSpec
from homeostat.monitoring.spec import MonitoringSpec
from homeostat.rollout.spec import RolloutSpec
from homeostat.serving.spec import ServingSpec
from homeostat.training.spec import GatesSpec, TrainingSpec

Schedule = Annotated[str, Meta(pattern=f"^(hourly|daily|weekly|monthly)$|{PATTERN}")]
Trigger = Literal["quality", "drift_with_harm", "schedule"]


class RetrainingSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """on: what may start a retraining. schedule: hourly, daily, weekly, monthly or a duration.
    cooldown: the least time between two. per_week: the budget over any seven days.
    stop_after_no_gain: after so many retrainings without a promotion, ask a person.
    wait: how long after the first sign of harm to gather matured labels before training.
    coverage: the share of labels that should be final by now and has to be there.
    window: what to train on: the last `split.train` (sliding), everything up to the test period
    (expanding), or the last `split.train`, but nothing from before the change (since_change)."""

    on: tuple[Trigger, ...] = ("quality", "drift_with_harm")
    schedule: Schedule | None = None
    cooldown: Duration = default("6h")
    per_week: Annotated[int, Meta(ge=0)] = 3
    stop_after_no_gain: Annotated[int, Meta(ge=1)] = 2
    wait: Duration = default("0s")
    coverage: Annotated[float, Meta(ge=0, le=1)] = 0.5
    window: Literal["sliding", "expanding", "since_change"] = "sliding"


class Project(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A project folder's homeostat.yaml, checked."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$", max_length=63)]
    data: DataSpec
    training: TrainingSpec
    gates: GatesSpec = GatesSpec()
    serving: ServingSpec = msgspec.field(default_factory=ServingSpec)
    rollout: RolloutSpec = msgspec.field(default_factory=RolloutSpec)
    monitoring: MonitoringSpec = msgspec.field(default_factory=MonitoringSpec)
    retraining: RetrainingSpec = msgspec.field(default_factory=RetrainingSpec)
