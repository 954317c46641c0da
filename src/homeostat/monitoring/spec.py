"""The `monitoring:` section."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from homeostat.core.duration import Duration, default
from homeostat.core.names import METRICS

Positive = Annotated[float, Meta(gt=0)]
Test = Literal["ks", "psi", "js", "wasserstein", "hellinger", "chi2", "g", "cvm", "ad"]


class Drift(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """tests: `auto` is KS and PSI of tables, and the sequential test of shares over windows.
    min_effect: movement below it is no drift, whatever the sample size (a distance in cumulative
    probability for KS; other tests are held against what it is in theirs).
    false_alarms_per_month: the budget, over all features, slices and windows. by: features whose
    values' slices are watched by themselves too. weeks: compare with the same window of that many
    last weeks instead of the training and test period (0: no). joint: also look at all features
    together, on a sample of each window; always against the training and test period."""

    tests: Literal["auto"] | tuple[Test, ...] = "auto"
    min_effect: Annotated[float, Meta(ge=0, lt=1)] = 0.1
    false_alarms_per_month: Positive = 1.0
    by: tuple[str, ...] = ()
    weeks: Annotated[int, Meta(ge=0, le=8)] = 0
    joint: bool = False


class Quality(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """metric: on matured labels. min or max: the floor (or ceiling) below which it alarms, when
    the whole interval is beyond it. window: how much event time one figure covers (the
    monitoring window if unset). tolerance: loss against the champion's own test figure that
    counts as harm, in the metric's unit. estimate: also estimate without labels."""

    metric: Literal[tuple(METRICS)] = "auc"  # type: ignore[valid-type]
    min: float | None = None
    max: float | None = None
    window: Duration | None = None
    tolerance: Positive | None = None
    estimate: bool = False


class MonitoringSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """window: how much event time is looked at together. notify: `alertmanager`, `console`,
    a webhook (http://, https://) or a URL of a notification service. escalate: an alert that is
    open for so long is told again, a warning as critical, and again each time after (unset:
    never)."""

    window: Duration = default("1h")
    drift: Drift = Drift()
    quality: Quality | None = None
    notify: tuple[str, ...] = ("console",)
    escalate: Duration | None = None
