"""The `rollout:` section: the plan by which a candidate takes over."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from homeostat.core.duration import Duration, default
from homeostat.core.names import BIAS_METRICS, PAIRED_LOSSES

Percent = Annotated[float, Meta(gt=0, le=100)]
NotNegative = Annotated[float, Meta(ge=0)]
Unit = Annotated[float, Meta(gt=0, lt=1)]


class QualityGuard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A per-request loss on matured labels; harm is its mean excess over the champion's.
    margin: in the metric's unit. paired: both versions score the same requests.
    by: a column whose every value (slice) must not be harmed either. slice_margin: how much a
    slice may be harmed (3 x margin if unset). min_share: smaller slices can show harm, but nobody
    waits for them to show that there is none.
    estimate: let both versions' scores of requests without a label narrow the bounds."""

    metric: Literal[PAIRED_LOSSES] = "log_loss"  # type: ignore[valid-type]
    margin: Annotated[float, Meta(gt=0)] = 0.005
    paired: bool = True
    by: str | None = None
    slice_margin: Annotated[float, Meta(gt=0)] | None = None
    min_share: Annotated[float, Meta(ge=0, lt=1)] = 0.05
    estimate: bool = True


class LatencyGuard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """max_ratio: the candidate's p99 over the champion's may be at most this.
    slack: differences below it (seconds) are noise, not harm."""

    max_ratio: Annotated[float, Meta(ge=1)] = 1.10
    slack: Duration = default("1ms")


class ObjectiveGuard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """objective: an answer that takes longer is too slow. margin: how much higher the candidate's
    share of answers that are too slow may be."""

    objective: Duration = default("50ms")
    margin: Annotated[float, Meta(gt=0, lt=1)] = 0.005


class ErrorGuard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """margin: how much higher the candidate's share of failed requests may be."""

    margin: Annotated[float, Meta(gt=0, lt=1)] = 0.001


class BiasGuard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """by: a column that tells the groups apart. metric: which rates of alerts are compared.
    max: how far apart the candidate's rates of two groups may be. min_share: smaller groups can
    show harm, but nobody waits for them to show that there is none."""

    by: str
    metric: Literal[BIAS_METRICS] = "demographic_parity_difference"  # type: ignore[valid-type]
    max: Annotated[float, Meta(gt=0, lt=1)] = 0.10
    min_share: Annotated[float, Meta(ge=0, lt=1)] = 0.05


class RouterGuard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether the traffic is split as declared; it runs in every rollout, and a router that is
    shown to be broken ends it. tolerance: a share may be off by this part of itself. Leave it at 0
    unless few callers with keys of their own (`x-homeostat-key`) make most of the traffic."""

    tolerance: Annotated[float, Meta(ge=0, lt=1)] = 0.0


class Guards(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    quality: QualityGuard | None = None
    latency_p99: LatencyGuard | None = None
    error_rate: ErrorGuard | None = None
    latency: ObjectiveGuard | None = None
    bias: BiasGuard | None = None

    @classmethod
    def all(cls) -> Guards:
        return cls(QualityGuard(), LatencyGuard(), ErrorGuard())

    def names(self) -> tuple[str, ...]:
        return tuple(n for n in self.__struct_fields__ if getattr(self, n))


class Freeze(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A time in which nothing advances.
    from: when it begins: `22:00` (every day), `fri 16:00` (every week) or `2026-12-20 16:00`.
    to: when it ends, in the same form. zone: whose clocks. why: shown while it holds."""

    start: str = msgspec.field(name="from")
    to: str
    zone: str = "UTC"
    why: str = ""


class RolloutSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """strategy: canary (step by step), shadow (the same, once its scores in the shadow pass),
    blue_green (from 0 to 100 once they pass, the champion kept loaded for `bake`), experiment
    (several challengers side by side, a winner or none), dark (in the shadow until a person
    decides).
    steps: percent of traffic, ascending, ending at 100. bake: the least time at each step.
    alpha: the chance, over the whole rollout, of a wrong promotion, and of a wrong rollback.
    no_data: what to do with a guard that nothing was measured for: hold, or abort the rollout.
    approve: steps (percent) before which a person has to say yes.
    shadow: score in the shadow for this long before the first step.
    max_duration: how long a rollout may take to decide.
    share: percent of the requests for each challenger of an experiment, and at most as many as are
    left to the champion; as many as the champion's if unset.
    freeze: times in which nothing advances, and `max_duration` stands still.
    on_new_candidate: a version that is registered during a rollout waits for its end (queue), or
    ends it and takes its place (supersede); a paused rollout is never superseded.
    insufficient: what to do when the evidence has not sufficed by then: abort (roll back), hold
    the step until it does, extend (once by as long again, where every guard has measured
    something, else abort), or ask a person for each further step.
    block: requests within this time of each other count as one observation, because what makes
    one of them fail or hard to tell may be common to them.
    preflight: what becomes of a rollout that could not decide in time at today's traffic: refuse
    it, warn (record that) and start it all the same, or off (do not ask).
    router: of the split itself."""

    strategy: Literal["canary", "shadow", "blue_green", "experiment", "dark"] = "canary"
    steps: Annotated[tuple[Percent, ...], Meta(min_length=1)] = (10, 25, 50, 75, 100)
    bake: Duration = default("10m")
    alpha: Unit = 0.05
    guards: Guards = msgspec.field(default_factory=Guards.all)
    no_data: Literal["hold", "abort"] = "hold"
    approve: tuple[Percent, ...] = ()
    shadow: Duration | None = None
    max_duration: Duration = default("7d")
    share: Percent | None = None
    freeze: tuple[Freeze, ...] = ()
    on_new_candidate: Literal["queue", "supersede"] = "queue"
    insufficient: Literal["abort", "hold", "extend", "ask"] = "abort"
    block: Duration = default("1s")
    preflight: Literal["refuse", "warn", "off"] = "refuse"
    router: RouterGuard = RouterGuard()
