"""Cross-checks of the `training:` and `gates:` sections."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from homeostat.core.names import METRICS
from homeostat.definition.mistakes import Mistake, Where, did_you_mean, one_of
from homeostat.definition.project import Project
from homeostat.training.spec import Space, Tune


def bound_mistakes(
    where: Where, name: str, low: float | None, high: float | None
) -> Iterator[Mistake]:
    """Whether bounds make sense for a metric: its direction, its range, min below max."""
    metric = METRICS[name]
    right, wrong = ("min", "max") if metric.higher_is_better else ("max", "min")
    if (low if wrong == "min" else high) is not None:
        better = "higher" if metric.higher_is_better else "lower"
        yield Mistake(
            (*where, wrong),
            f"{name} is better when {better}: `{wrong}` would refuse the good ones",
            remedy=f"write `{right}`",
        )
    for key, bound in (("min", low), ("max", high)):
        if bound is not None and not metric.low <= bound <= metric.high:
            upper = f" to {metric.high:g}" if metric.high != float("inf") else " and up"
            percent = metric.high == 1 < bound <= 100
            yield Mistake(
                (*where, key),
                f"{name} never gets there",
                expected=f"{metric.low:g}{upper}",
                found=f"{bound:g}",
                remedy=f"write {bound / 100:g}" if percent else None,
            )


def gate_rules(project: Project, given: Collection[Where]) -> Iterator[Mistake]:
    gates, data = project.gates, project.data
    for name, bound in gates.bounds().items():
        where: Where = ("gates", name)
        if bound.min is None and bound.max is None:
            yield Mistake(where, "a gate without a bound", expected="`min` or `max`")
        yield from bound_mistakes(where, name, bound.min, bound.max)
    anchor = gates.anchor
    if anchor is not None:
        where = ("gates", "anchor")
        yield from bound_mistakes(where, anchor.metric, anchor.min, anchor.max)
        if anchor.min is None and anchor.max is None and anchor.margin is None:
            yield Mistake(where, "a gate without a bound", expected="`min`, `max` or `margin`")
    roles = {data.label.column: "label", data.key: "key", data.time: "time"}
    for i, bias in enumerate(gates.bias):
        if bias.by in roles:
            yield Mistake(
                ("gates", "bias", i, "by"),
                f"`{bias.by}` is the {roles[bias.by]} and makes no groups",
                expected="a column that says which group a row belongs to",
            )
        if (bias.by, bias.metric) in {(b.by, b.metric) for b in gates.bias[:i]}:
            yield Mistake(
                ("gates", "bias", i), "the same gate as one above", remedy="keep one of them"
            )


def tune_rules(project: Project, given: Collection[Where]) -> Iterator[Mistake]:
    tune = project.training.tune
    if tune is None:
        return
    where: Where = ("training", "tune")
    yield from _goal(where, tune)
    if not tune.space:
        yield Mistake((*where, "space"), "empty", expected="at least one parameter to search")
    if tune.parallel > tune.trials:
        yield Mistake(
            (*where, "parallel"),
            "more trials at once than there are",
            expected=f"at most {tune.trials}",
            found=str(tune.parallel),
        )
    for name, space in tune.space.items():
        yield from _space((*where, "space", name), space)


def _goal(where: Where, tune: Tune) -> Iterator[Mistake]:
    wanted = [("maximize", tune.maximize), ("minimize", tune.minimize)]
    named = [(key, metric) for key, metric in wanted if metric is not None]
    if len(named) != 1:
        yield Mistake(
            where,
            "what to search for is not clear",
            expected="one of `maximize` and `minimize`",
            found="both" if named else "neither",
        )
        return
    key, name = named[0]
    metric = METRICS.get(name)
    if metric is None:
        yield Mistake(
            (*where, key),
            f"`{name}` is not a metric that is computed",
            expected=one_of(METRICS),
            remedy=did_you_mean(name, METRICS),
        )
        return
    if metric.higher_is_better != (key == "maximize"):
        other = "minimize" if key == "maximize" else "maximize"
        yield Mistake(
            (*where, key), f"this would look for the worst {name}", remedy=f"write `{other}`"
        )
    if tune.goal is not None and not metric.low <= tune.goal <= metric.high:
        yield Mistake((*where, "goal"), f"{name} never gets there", found=f"{tune.goal:g}")


def _space(where: Where, space: Space) -> Iterator[Mistake]:
    kinds = {"log": space.log, "range": space.range, "int": space.whole, "choice": space.choice}
    given = {kind: values for kind, values in kinds.items() if values is not None}
    if len(given) != 1:
        yield Mistake(
            where,
            "how to search is not clear",
            expected=f"one of {one_of(kinds)}",
            found=" and ".join(given) or "none",
        )
        return
    ((kind, values),) = given.items()
    if kind == "choice":
        if not values:
            yield Mistake((*where, kind), "empty", expected="values to choose from")
        return
    low, high = float(values[0]), float(values[1])
    if low >= high:
        yield Mistake(
            (*where, kind),
            "the lower bound has to be below the upper",
            found=f"[{low:g}, {high:g}]",
        )
    if kind == "log" and low <= 0:
        yield Mistake((*where, kind), "a logarithm needs bounds above 0", found=f"{low:g}")
