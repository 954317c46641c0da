"""Callers who are kept on one version: what their requests are worth, and what they may show."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from homeostat.core.duration import Duration
from homeostat.core.verdict import Outcome, Verdict
from homeostat.rollout import two_by_two
from homeostat.rollout.callers import Callers, effect
from homeostat.rollout.evidence import measure
from homeostat.rollout.preflight import Traffic, preflight, requests_for
from homeostat.rollout.preflight import traffic as read_traffic
from homeostat.rollout.spec import ErrorGuard, Guards, LatencyGuard, ObjectiveGuard, RolloutSpec

from .test_guards_evidence import see, traffic

ALPHA = 0.05
ERRORS = RolloutSpec(guards=Guards(error_rate=ErrorGuard(0.02)))


def test_requests_of_callers_that_come_once_are_worth_one_each() -> None:
    wrong = np.zeros(1000)
    wrong[:30] = 1.0
    found = effect(np.ones(1000), wrong)
    assert (found.low, found.high) == (pytest.approx(1.0), pytest.approx(1.0))


def test_callers_that_always_fail_are_worth_one_request_each() -> None:
    wrong = np.zeros(1000)
    wrong[:30] = 50.0
    assert effect(np.full(1000, 50.0), wrong).low == pytest.approx(50.0)


def test_where_nothing_ever_went_wrong_callers_are_counted() -> None:
    found = effect(np.full(1000, 50.0), np.zeros(1000))
    assert (found.low, found.high, found.callers) == (50.0, 50.0, 1000)


def test_counting_callers_in_parts_is_counting_them_at_once() -> None:
    rng = np.random.default_rng(1)
    who, wrong = rng.integers(0, 300, 5000), rng.random(5000) < 0.1
    parts = Callers()
    for part in np.array_split(np.arange(5000), 7):
        parts.add(who[part], wrong[part])
    at_once = effect(np.bincount(who, minlength=300), np.bincount(who[wrong], minlength=300))
    assert parts.effect() == at_once


def ever(margin: float, extra: float, runs: int) -> tuple[float, float, float]:
    """1,000 callers of 20 requests, of whom one in a hundred nearly always fails; extra: so many
    more do with the candidate. -> how often harm, and no harm, is ever shown, and harm where
    requests are counted."""
    rng, shown = np.random.default_rng(5), np.zeros(3)
    n = 20_000
    ends = two_by_two.cuts(n)
    looks = ends[ends > 500][::6]
    for _ in range(runs):
        own = np.where(rng.random(1000) < 0.01, 0.95, 0.0)
        worse = np.where(rng.random(1000) < extra, 1.0, own)
        mine, who = rng.random(1000) < 0.3, rng.integers(0, 1000, n)
        canary = mine[who]
        failed = rng.random(n) < np.where(canary, worse[who], own[who])
        said = np.zeros(3, np.bool_)
        for look in looks:
            over = ends[ends <= look]
            blocks = two_by_two.in_blocks(canary[:look], failed[:look], over)
            versions = []
            for arm in (False, True):
                counted = Callers()
                those = canary[:look] == arm
                counted.add(who[:look][those], failed[:look][those])
                versions.append(counted.effect())
            one, two = versions
            goal = -np.log(ALPHA)
            harmful, harmless = blocks.counted(one.high, two.low), blocks.counted(one.low, two.high)
            said |= [
                two_by_two.log_wealth(b, bound, above=above, margin=margin)[-1] >= goal
                for b, bound, above in (
                    (harmful, 0.0, True),
                    (harmless, margin, False),
                    (blocks, 0.0, True),
                )
            ]
        shown += said
    harm, no_harm, of_requests = shown / runs
    return harm, no_harm, of_requests


def test_callers_that_fail_with_either_version_show_no_harm_that_is_not_there() -> None:
    harm, _, of_requests = ever(0.02, 0.0, 60)
    assert harm <= 0.1 < of_requests, "requests are not what was drawn"


def test_harm_of_the_margin_that_a_few_callers_bear_is_not_shown_harmless() -> None:
    _, no_harm, _ = ever(0.02, 0.02, 60)
    assert no_harm <= 0.1


def kept() -> pl.Expr:
    """50 callers of each version."""
    number = pl.col("id").str.slice(1).cast(pl.Int64) % 50
    return pl.concat_str(pl.col("arm"), number.cast(pl.String), separator="-")


def one_of(fifty: int, column: pl.Expr, otherwise: pl.Expr) -> pl.Expr:
    """One caller of the candidate's."""
    mine = pl.col("id").str.slice(1).cast(pl.Int64) % 50 == fifty
    return pl.when((pl.col("arm") == "canary") & mine).then(column).otherwise(otherwise)


def judge(plan: RolloutSpec, log: pl.DataFrame, labels: pl.DataFrame, *, sticky: bool) -> Verdict:
    return measure(plan, see(log, labels, **({"entity": kept()} if sticky else {})))[0]


def test_one_caller_whose_every_request_fails_is_no_harm_and_people_are_told_why() -> None:
    log, labels = traffic(10_000, share=0.5)
    broken = log.with_columns(error=one_of(7, pl.lit("it broke"), pl.col("error")))
    assert judge(ERRORS, broken, labels, sticky=False).failed
    verdict = judge(ERRORS, broken, labels, sticky=True)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "callers are kept on their version (50 on the candidate, 50 on the" in verdict.sentence
    assert "more callers of each version would tell, not more requests" in verdict.sentence


@pytest.mark.parametrize("guard", [LatencyGuard(), ObjectiveGuard(Duration(milliseconds=100))])
def test_one_caller_whose_every_request_is_slow_is_no_harm(
    guard: LatencyGuard | ObjectiveGuard,
) -> None:
    name = "latency_p99" if isinstance(guard, LatencyGuard) else "latency"
    plan = RolloutSpec(guards=Guards(**{name: guard}))  # type: ignore[arg-type]
    log, labels = traffic(10_000, share=0.5)
    slow = log.with_columns(latency=one_of(7, pl.lit(5.0), pl.col("latency")))
    assert judge(plan, slow, labels, sticky=False).failed
    assert judge(plan, slow, labels, sticky=True).outcome is Outcome.INCONCLUSIVE


def test_harm_to_all_callers_is_shown_although_they_are_kept() -> None:
    log, labels = traffic(3000, share=0.5, errors=(0.01, 0.3))
    assert judge(ERRORS, log, labels, sticky=True).failed


def test_callers_are_worth_the_same_however_often_one_looks() -> None:
    log, labels = traffic(3000, share=0.5, errors=(0.02, 0.03))
    guards = Guards(latency_p99=LatencyGuard(), error_rate=ErrorGuard(0.02))
    plan = RolloutSpec(guards=guards)
    often = see(log.head(0), labels.head(0), entity=kept())
    for part in log.sort("time").iter_slices(170):
        often.add(part)
        often.settle()
        measure(plan, often)
    at_once = see(log, labels.head(0), entity=kept())
    assert measure(plan, often) == measure(plan, at_once)


def test_callers_that_come_once_change_nothing() -> None:
    log, labels = traffic(3000, share=0.5, errors=(0.01, 0.02))
    each = measure(ERRORS, see(log, labels, entity=pl.col("id")))
    assert each == measure(ERRORS, see(log, labels))


# -- before it starts --------------------------------------------------------------------------

BUSY = Traffic(per_second=5.0, error_rate=0.01, n=5000)
FEW = Traffic(per_second=5.0, error_rate=0.01, n=5000, callers=500, same=1 / 500)


def test_too_few_callers_cannot_decide_however_many_requests_they_send() -> None:
    verdict = preflight(ERRORS, FEW)
    assert verdict.failed
    assert "500 callers are too few, however many requests they send" in verdict.sentence
    assert "a margin of" in verdict.sentence
    assert "max_duration" not in verdict.sentence.partition("->")[2]


def test_who_comes_again_is_read_from_the_log() -> None:
    who = ["a"] * 5 + ["b"] * 3 + [None] * 2  # who says nothing is drawn by its request
    log = pl.DataFrame(
        {
            "id": [f"r{i}" for i in range(10)],
            "arm": "champion",
            "latency": 0.01,
            "error": pl.Series([None] * 10, dtype=pl.String),
            "who": who,
        }
    )
    none = pl.DataFrame({"x": []})
    seen = read_traffic(ERRORS, log, timedelta(hours=1), champion=none, caller=pl.col("who"))
    assert (seen.callers, seen.fresh) == (4, pytest.approx(0.2))
    assert seen.same == pytest.approx((5 * 4 + 3 * 2) / 90)


def test_callers_that_go_on_coming_are_waited_for() -> None:
    drawn, more = (requests_for("error_rate", ERRORS, t) or 0.0 for t in (BUSY, FEW))
    fresh = Traffic(per_second=5.0, error_rate=0.01, n=5000, callers=500, same=1 / 500, fresh=0.2)
    enough = requests_for("error_rate", ERRORS, fresh)
    assert enough is not None
    assert drawn < enough < more
