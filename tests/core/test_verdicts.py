"""The worst part decides, and nothing measured never passes."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.core.verdict import Outcome, Verdict, all_of, worst

outcomes = st.sampled_from(Outcome)
leaves = st.builds(
    lambda check, outcome: Verdict(check, outcome, f"{check} {outcome}", n=10),
    st.sampled_from(["rows", "nulls", "auc"]),
    outcomes,
)
verdicts = st.recursive(
    leaves, lambda v: st.builds(all_of, st.just("sum"), st.lists(v, max_size=3)), max_leaves=8
)


def test_from_best_to_worst() -> None:
    in_order = [Outcome.PASS, Outcome.INCONCLUSIVE, Outcome.ERROR, Outcome.FAIL]
    assert sorted(Outcome, key=lambda o: o.rank) == in_order


@given(st.lists(outcomes, min_size=1))
def test_the_worst_is_among_them_and_none_is_worse(some: list[Outcome]) -> None:
    assert worst(some) in some
    assert all(o.rank <= worst(some).rank for o in some)


@given(st.lists(outcomes), st.lists(outcomes, min_size=1))
def test_more_checks_never_make_it_better(some: list[Outcome], more: list[Outcome]) -> None:
    if some:
        assert worst(some + more).rank >= worst(some).rank


def test_of_nothing_the_worst_is_inconclusive() -> None:
    assert worst([]) is Outcome.INCONCLUSIVE
    assert all_of("gates", []).outcome is Outcome.INCONCLUSIVE
    assert not all_of("gates", []).passed


@given(st.lists(verdicts, max_size=4))
def test_a_sum_passes_only_when_there_is_something_and_all_of_it_passed(
    parts: list[Verdict],
) -> None:
    whole = all_of("whole", parts)
    assert whole.passed == (bool(parts) and all(p.passed for p in parts))
    assert whole.failed == any(p.failed for p in parts)
    assert whole.sentence


@given(verdicts)
def test_the_failures_are_the_leaves_that_did_not_pass_worst_first(verdict: Verdict) -> None:
    found = verdict.failures()
    assert bool(found) == (not verdict.passed)
    assert all(not leaf.parts and not leaf.passed for leaf in found)
    ranks = [leaf.outcome.rank for leaf in found]
    assert ranks == sorted(ranks, reverse=True)
    if found:
        assert found[0].outcome is verdict.outcome


def test_a_sum_says_what_did_not_pass() -> None:
    parts = [
        Verdict("auc", Outcome.PASS, "auc is fine"),
        Verdict("rows", Outcome.FAIL, "too few rows"),
        Verdict("nulls", Outcome.FAIL, "nulls in amount"),
        Verdict("drift", Outcome.INCONCLUSIVE, "too early"),
    ]
    assert all_of("data", parts).sentence == "too few rows (and 1 more)"


def test_a_pass_on_no_observations_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="no observations cannot pass"):
        Verdict("auc", Outcome.PASS, "fine", n=0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_figure_that_is_no_number_was_not_measured(value: float) -> None:
    verdict = Verdict("auc", Outcome.FAIL, "undefined", figure=value, low=value, high=value)
    assert verdict.figure is verdict.low is verdict.high is None


@given(verdicts)
def test_json_and_back_is_the_same_verdict(verdict: Verdict) -> None:
    assert msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict) == verdict
