"""Cross-checks of the `rollout:` section: whether the strategy has what it rests on."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import timedelta

from homeostat.core.errors import BadInput
from homeostat.definition.mistakes import Mistake, Where
from homeostat.definition.project import Project
from homeostat.rollout import freeze
from homeostat.rollout.strategy import steps, watches_shadow


def approvals(project: Project, given: Collection[Where]) -> Iterator[Mistake]:
    plan = project.rollout
    asked: tuple[float, ...] = (100,) if plan.strategy == "experiment" else steps(plan)
    for i, percent in enumerate(plan.approve):
        if percent not in asked:
            yield Mistake(
                ("rollout", "approve", i),
                "there is no such step to approve",
                expected="one of the steps [" + ", ".join(f"{n:g}" for n in asked) + "]",
                found=f"{percent:g}",
                touches=(("rollout", "steps"),),
            )


def rollout_time(project: Project, given: Collection[Where]) -> Iterator[Mistake]:
    plan = project.rollout
    least = len(steps(plan)) * plan.bake + (plan.shadow or timedelta(0))
    if plan.max_duration < least:
        yield Mistake(
            ("rollout", "max_duration"),
            "a rollout could never reach 100 %",
            expected=f"at least {least} (every step's `bake`, and `shadow`)",
            found=str(plan.max_duration),
            touches=(("rollout", "bake"), ("rollout", "steps"), ("rollout", "shadow")),
        )


def strategies(project: Project, given: Collection[Where]) -> Iterator[Mistake]:
    plan = project.rollout
    where: Where = ("rollout", "strategy")
    if plan.strategy in ("shadow", "blue_green") and not watches_shadow(plan):
        yield Mistake(
            where,
            f"{plan.strategy} decides on scores in the shadow, and no guard measures them",
            remedy="add `guards: {quality: {paired: true}}`",
        )
    if plan.strategy == "experiment" and plan.guards.quality is None:
        yield Mistake(
            where,
            "an experiment is won by quality, and no guard measures it",
            remedy="add `quality` to `guards`",
        )
    if plan.strategy in ("blue_green", "experiment", "dark") and ("rollout", "steps") in given:
        yield Mistake(
            ("rollout", "steps"),
            f"a {plan.strategy} rollout has no steps of its own",
            remedy="leave `steps` out, or write `strategy: canary`",
        )
    if plan.strategy != "experiment" and plan.share is not None:
        yield Mistake(
            ("rollout", "share"),
            "only the challengers of an experiment have a share",
            remedy="write `strategy: experiment`, or leave `share` out",
        )
    if plan.strategy == "experiment" and plan.share is not None and plan.share > 50:
        yield Mistake(
            ("rollout", "share"),
            "a challenger would have more of the requests than the champion",
            expected="at most 50; of several, each has at most as much as is left to the champion",
            found=f"{plan.share:g}",
        )


def freezes(project: Project, given: Collection[Where]) -> Iterator[Mistake]:
    for i, window in enumerate(project.rollout.freeze):
        where: Where = ("rollout", "freeze", i)
        try:
            freeze.check(window)
        except BadInput as error:
            yield Mistake.of(where, error)
