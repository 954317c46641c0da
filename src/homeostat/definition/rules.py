"""Cross-checks: what one part of the definition asks of another.

Every rule is a function of the project that yields mistakes; those in `WARNINGS` describe what is
allowed but probably not meant. `given` holds the paths that are written in the file, for rules
that judge what was said and not what was left to a default.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from datetime import timedelta
from itertools import pairwise

from homeostat.core.duration import Duration
from homeostat.core.names import METRICS
from homeostat.definition.mistakes import Mistake, Where, did_you_mean, one_of
from homeostat.definition.project import Project
from homeostat.definition.rules_data import data_rules, is_sql
from homeostat.definition.rules_rollout import (
    approvals,
    freezes,
    rollout_time,
    strategies,
)
from homeostat.definition.rules_training import bound_mistakes, gate_rules, tune_rules
from homeostat.monitoring.spec import Quality

Rule = Callable[[Project, Collection[Where]], Iterator[Mistake]]

__all__ = ["RULES", "WARNINGS", "cross_check", "is_sql", "warnings"]


def cross_check(project: Project, given: Collection[Where]) -> list[Mistake]:
    """Every mistake that the rules find."""
    return [mistake for rule in RULES for mistake in rule(project, given)]


def warnings(project: Project, given: Collection[Where]) -> list[Mistake]:
    """What is allowed, and probably not meant."""
    return [warning for rule in WARNINGS for warning in rule(project, given)]


def positive_durations(project: Project, given: Collection[Where]) -> Iterator[Mistake]:
    lengths: dict[Where, timedelta | None] = {
        ("training", "split", "train"): project.training.split.train,
        ("training", "split", "test"): project.training.split.test,
        ("training", "timeout"): project.training.timeout,
        ("serving", "seal"): project.serving.seal,
        ("rollout", "max_duration"): project.rollout.max_duration,
        ("monitoring", "window"): project.monitoring.window,
    }
    if project.monitoring.quality is not None:
        lengths["monitoring", "quality", "window"] = project.monitoring.quality.window
    for where, length in lengths.items():
        if length is not None and length <= timedelta(0):
            yield Mistake(where, "no time at all", expected="more than 0s", found=str(length))


def steps(project: Project, given: Collection[Where]) -> Iterator[Mistake]:
    where: Where = ("rollout", "steps")
    numbers = project.rollout.steps
    for i, (before, after) in enumerate(pairwise(numbers)):
        if after <= before:
            yield Mistake(
                (*where, i + 1),
                "the steps have to grow",
                expected=f"more than {before:g}",
                found=f"{after:g}",
                remedy=f"write {_list(sorted(set(numbers)))}",
            )
    if numbers[-1] != 100 and max(numbers) != 100:
        yield Mistake(
            (*where, len(numbers) - 1),
            "the last step is not all of the traffic",
            expected="100",
            found=f"{numbers[-1]:g}",
            remedy=f"write {_list([*numbers, 100])}",
        )


def guards(project: Project, given: Collection[Where]) -> Iterator[Mistake]:
    if not project.rollout.guards.names():
        yield Mistake(
            ("rollout", "guards"),
            "without a guard nothing is measured, and nothing measured never passes",
            expected="at least one of `quality`, `latency_p99`, `error_rate`, `latency`, `bias`",
            remedy="leave `guards` out to have all three, with their defaults",
        )


def live_quality(project: Project, given: Collection[Where]) -> Iterator[Mistake]:
    quality = project.monitoring.quality
    if quality is not None:
        where: Where = ("monitoring", "quality")
        yield from bound_mistakes(where, quality.metric, quality.min, quality.max)


def triggers(project: Project, given: Collection[Where]) -> Iterator[Mistake]:
    spec, where = project.retraining, ("retraining", "on")
    scheduled = "schedule" in spec.on
    if scheduled and spec.schedule is None:
        yield Mistake(
            where,
            "`schedule` may start a retraining, but there is none",
            remedy="add `schedule: weekly` to `retraining`, or take it out of `on`",
            touches=(("retraining", "schedule"),),
        )
    if spec.schedule is not None and not scheduled:
        yield Mistake(
            ("retraining", "schedule"),
            "the schedule starts nothing",
            remedy="add `schedule` to `retraining.on`",
            touches=(where,),
        )
    if where in given and "quality" in spec.on and project.monitoring.quality is None:
        yield Mistake(
            where,
            "`quality` may start a retraining, but live quality is not monitored",
            remedy="add `monitoring.quality`, such as `{metric: auc, min: 0.8}`",
            touches=(("monitoring", "quality"),),
        )
    for i, trigger in enumerate(spec.on):
        if trigger in spec.on[:i]:
            yield Mistake((*where, i), f"`{trigger}` is listed twice", remedy="keep one of them")


def serving(project: Project, given: Collection[Where]) -> Iterator[Mistake]:
    spec, features = project.serving, project.data.features
    if spec.replicas.min > spec.replicas.max and ("serving", "replicas", "max") in given:
        yield Mistake(
            ("serving", "replicas"),
            "`min` is above `max`",
            found=f"min {spec.replicas.min}, max {spec.replicas.max}",
        )
    if spec.sticky is not None and features is not None and spec.sticky not in features:
        yield Mistake(
            ("serving", "sticky"),
            f"`{spec.sticky}` is not a feature, so no request brings it",
            expected=one_of(features),
            remedy=did_you_mean(spec.sticky, features) or "leave it out and send x-homeostat-key",
            touches=(("data", "features"),),
        )


def notify(project: Project, given: Collection[Where]) -> Iterator[Mistake]:
    words = ("console", "alertmanager")
    for i, target in enumerate(project.monitoring.notify):
        if target not in words and "://" not in target:
            yield Mistake(
                ("monitoring", "notify", i),
                f"`{target}` is nowhere that a notice can be sent",
                expected="`console`, `alertmanager` or a URL such as https://example.com/hook",
                remedy=did_you_mean(target, words),
            )


def _warn_labels(project: Project, given: Collection[Where]) -> Iterator[Mistake]:
    split, matures = project.training.split, project.data.label.matures_after
    if split.gap < matures:
        yield Mistake(
            ("training", "split", "gap"),
            f"the gap ({split.gap}) is shorter than labels take ({matures}): the test flatters the "
            "model, which in production would not have known its latest labels",
            remedy=f"write `gap: {matures}`",
        )
    plan = project.rollout
    first = Duration(seconds=(plan.bake + (plan.shadow or timedelta(0))).total_seconds())
    if plan.guards.quality is not None and plan.max_duration <= matures:
        yield Mistake(
            ("rollout", "max_duration"),
            f"a rollout ends after {plan.max_duration}, labels are final after {matures}: the "
            "quality guard has nothing to judge by, and every rollout will be rolled back",
            remedy="make `max_duration` longer than `data.label.matures_after`",
        )
    elif plan.guards.quality is not None and plan.no_data == "abort" and first <= matures:
        yield Mistake(
            ("rollout", "no_data"),
            f"the first step is judged after {first}, labels are final after {matures}: "
            "the quality guard has measured nothing by then, and every rollout will be aborted",
            remedy="write `no_data: hold`, or make `bake` longer than `data.label.matures_after`",
        )


def _warn_quality(project: Project, given: Collection[Where]) -> Iterator[Mistake]:
    quality: Quality | None = project.monitoring.quality
    if quality is None:
        if set(project.retraining.on) & {"quality", "drift_with_harm"}:
            yield Mistake(
                ("monitoring", "quality"),
                "live quality is not monitored, so harm is never seen and nothing but a schedule "
                "starts a retraining",
                remedy="add `monitoring.quality`, such as `{metric: auc, min: 0.8}`",
            )
        return
    if quality.min is None and quality.max is None and quality.tolerance is None:
        bound = "min" if METRICS[quality.metric].higher_is_better else "max"
        yield Mistake(
            ("monitoring", "quality"),
            "neither a bound nor a `tolerance`: no level of quality starts a retraining by itself",
            remedy=f"add `{bound}: ...`",
        )
    if quality.estimate and quality.metric == "calibration_error":
        yield Mistake(
            ("monitoring", "quality", "estimate"),
            "the calibration error cannot be estimated without labels; this has no effect",
            remedy="estimate another metric, such as auc",
        )


def _warn_gates(project: Project, given: Collection[Where]) -> Iterator[Mistake]:
    gates = project.gates
    if not gates.bounds() and not (gates.against_champion or gates.bias or gates.anchor):
        yield Mistake(
            ("gates",),
            "no gates: every model that trains is registered and rolled out",
            remedy="add `gates: {auc: {min: 0.8}}`",
        )
    if project.training.tune is not None:
        yield Mistake(
            ("training", "tune"),
            "parameters are not yet tuned; this has no effect in this version",
        )


RULES: tuple[Rule, ...] = (
    data_rules,
    positive_durations,
    gate_rules,
    tune_rules,
    serving,
    steps,
    approvals,
    rollout_time,
    strategies,
    freezes,
    guards,
    live_quality,
    notify,
    triggers,
)
WARNINGS: tuple[Rule, ...] = (_warn_labels, _warn_gates, _warn_quality)


def _list(numbers: Collection[float]) -> str:
    return "[" + ", ".join(f"{n:g}" for n in numbers) + "]"
