"""Whether a rollout can decide in time is said before it starts; what happens if it does not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import polars as pl
import pytest

from homeostat.core.duration import Duration
from homeostat.core.verdict import Outcome, Verdict
from homeostat.rollout import commands, sequences
from homeostat.rollout.decide import decide
from homeostat.rollout.experiment import plan_of_one
from homeostat.rollout.model import ApprovalAsked, Phase, RolledBack, Rollout, Stepped, evolve
from homeostat.rollout.preflight import Traffic, preflight, requests_for, traffic
from homeostat.rollout.spec import ErrorGuard, Guards, LatencyGuard, QualityGuard, RolloutSpec

START = datetime(2026, 1, 1, tzinfo=UTC)
QUALITY = RolloutSpec(guards=Guards(quality=QualityGuard(margin=0.005)))
BUSY = Traffic(per_second=50.0, base_rate=0.01, loss_sd=0.3, harm_sd=0.05, error_rate=0.01, n=500)
replace = msgspec.structs.replace


def test_busy_traffic_can_decide_and_a_trickle_cannot() -> None:
    assert preflight(QUALITY, BUSY).outcome is Outcome.PASS
    trickle = preflight(QUALITY, replace(BUSY, per_second=0.001))
    assert trickle.outcome is Outcome.FAIL
    assert trickle.figure is not None
    assert trickle.threshold is not None
    assert trickle.figure > 2 * trickle.threshold


def test_no_traffic_yet_leaves_it_open() -> None:
    verdict = preflight(QUALITY, Traffic())
    assert (verdict.outcome, verdict.n) == (Outcome.INCONCLUSIVE, 0)


def test_labels_that_mature_after_the_end_are_hopeless_whatever_the_traffic() -> None:
    late = replace(BUSY, label_delay=timedelta(days=8))
    assert preflight(QUALITY, late).failed
    assert not preflight(replace(QUALITY, max_duration=Duration(days=9)), late).failed


def test_a_refusal_says_what_would_make_it_able_and_that_does() -> None:
    unpaired = QualityGuard(margin=0.005, paired=False)
    slow = replace(BUSY, per_second=0.2)
    told = preflight(replace(QUALITY, guards=Guards(quality=unpaired)), slow)
    assert told.failed
    assert "paired: true" in told.sentence
    assert "a margin of" in told.sentence
    assert "max_duration: " in told.sentence
    assert not preflight(QUALITY, slow).failed


def test_many_challengers_share_alpha_and_the_requests() -> None:
    plan = replace(QUALITY, strategy="experiment", guards=Guards(error_rate=ErrorGuard(0.005)))
    one, ten = (preflight(plan_of_one(plan, n), BUSY).figure for n in (1, 10))
    assert one is not None
    assert ten is not None
    assert ten > 2 * one


def test_a_first_step_is_proposed_only_where_there_are_steps() -> None:
    guards = Guards(error_rate=ErrorGuard(0.0001))
    for strategy, proposed in (("canary", True), ("blue_green", False)):
        plan = RolloutSpec(strategy=strategy, guards=guards, max_duration=Duration(hours=1))  # type: ignore[arg-type]
        told = preflight(plan, BUSY)
        assert told.failed
        assert ("a first step of" in told.sentence) == proposed


def test_rare_errors_at_a_tenth_of_the_traffic_ask_for_a_larger_first_step() -> None:
    plan = RolloutSpec(guards=Guards(error_rate=ErrorGuard(0.001)), max_duration=Duration(hours=1))
    verdict = preflight(plan, BUSY)
    assert verdict.failed
    assert "a first step of 50 %" in verdict.sentence


@pytest.mark.parametrize("share", [10.0, 50.0])
def test_what_an_error_guard_needs_is_about_what_it_takes_in_simulation(share: float) -> None:
    """The median of `make bench-rollout`'s table of two rates, within a factor of two."""
    plan = RolloutSpec(steps=(share, 100.0), guards=Guards(error_rate=ErrorGuard(0.005)))
    wanted = requests_for("error_rate", plan, BUSY)
    assert wanted is not None
    assert 0.5 < wanted / {10.0: 42_700, 50.0: 12_500}[share] < 2


def test_without_a_split_the_versions_are_held_against_each_other_in_turn() -> None:
    """Blue/green needs more than half of the requests to each: a bound of its own for each rate."""
    plan = RolloutSpec(steps=(50.0, 100.0), guards=Guards(error_rate=ErrorGuard(0.005)))
    split = requests_for("error_rate", plan, BUSY)
    turns = requests_for("error_rate", replace(plan, strategy="blue_green"), BUSY)
    assert turns is not None
    assert split is not None
    each = sequences.rate(round(turns / 2), round(turns / 200), alpha=(0.025, 0.025))
    assert each.high - each.low == pytest.approx(0.005, rel=0.05)
    assert turns > 1.5 * split


def test_a_p99_needs_some_hundred_requests_to_the_smaller_arm() -> None:
    plan = RolloutSpec(guards=Guards(latency_p99=LatencyGuard()))
    wanted = requests_for("latency_p99", plan, BUSY)
    assert wanted is not None
    assert wanted > 4000


def test_traffic_is_read_from_the_log_and_from_test_sets_of_the_same_rows() -> None:
    rng = np.random.default_rng(1)
    label = (rng.random(500) < 0.1).astype(float)
    score = np.clip(0.1 + 0.6 * label + 0.1 * rng.random(500), 0, 1)
    one = pl.DataFrame({"x": rng.random(500), "score": score, "label": label})
    two = one.with_columns(score=pl.col("score") * 0.98)
    log = pl.DataFrame(
        {
            "arm": ["champion"] * 90 + ["shadow"] * 10,
            "latency": [0.01] * 100,
            "error": ["no"] * 9 + [None] * 91,
        }
    )
    hour = timedelta(hours=1)
    seen = traffic(QUALITY, log, hour, champion=one, candidate=two)
    assert seen.per_second == pytest.approx(90 / 3600)
    assert (seen.error_rate, seen.base_rate) == (pytest.approx(0.1), pytest.approx(label.mean()))
    assert seen.harm_sd is not None
    assert seen.loss_sd is not None
    assert seen.harm_sd < seen.loss_sd
    other = traffic(QUALITY, log, hour, champion=one, candidate=two.head(400))
    assert other.harm_sd is None


# -- when it does not suffice ------------------------------------------------------------------

OPEN = Verdict("quality", Outcome.INCONCLUSIVE, "quality: too few", n=10)
NOTHING = Verdict("quality", Outcome.INCONCLUSIVE, "quality: nothing", n=0)
LATE = START + timedelta(hours=3)


def begun(insufficient: str) -> Rollout:
    plan = replace(
        QUALITY,
        steps=(10.0, 100.0),
        max_duration=Duration(hours=2),
        insufficient=insufficient,
    )
    state: Rollout | None = None
    for event in commands.start(None, id="r", candidate="2", champion="1", plan=plan):
        state = evolve(state, event, START)
    assert state is not None
    return state


def test_abort_rolls_back_and_hold_holds_until_evidence_moves_it() -> None:
    (event,) = decide(begun("abort"), [OPEN], LATE)
    assert isinstance(event, RolledBack)
    held = begun("hold")
    assert not any(isinstance(e, RolledBack | Stepped) for e in decide(held, [OPEN], LATE))
    (event,) = decide(held, [Verdict("quality", Outcome.PASS, "", n=99)], LATE)
    assert isinstance(event, Stepped)


def test_extend_gives_as_long_again_where_something_was_measured() -> None:
    state = begun("extend")
    assert not any(isinstance(e, RolledBack) for e in decide(state, [OPEN], LATE))
    (event,) = decide(state, [OPEN], START + timedelta(hours=4))
    assert isinstance(event, RolledBack)
    assert "extended once" in event.reason
    (event,) = decide(state, [NOTHING], LATE)
    assert isinstance(event, RolledBack)


def test_ask_lets_a_person_take_the_steps_that_evidence_did_not() -> None:
    state: Rollout | None = begun("ask")
    (event,) = decide(state, [OPEN], LATE)
    assert isinstance(event, ApprovalAsked)
    state = evolve(state, event, LATE)
    assert state is not None
    assert not any(isinstance(e, RolledBack) for e in decide(state, [OPEN], LATE))
    for approved in commands.approve(state, by="anna"):
        state = evolve(state, approved, LATE)
    (event,) = decide(state, [OPEN], LATE)
    assert isinstance(event, Stepped)
    assert "approved although" in event.reason
    state = evolve(state, event, LATE)
    assert state is not None
    assert state.percent == 100
    later = LATE + timedelta(hours=9)
    assert not any(isinstance(e, Stepped | RolledBack) for e in decide(state, [OPEN], later))
    assert state.phase is Phase.STEP


@pytest.mark.parametrize("insufficient", ["abort", "hold", "extend", "ask"])
def test_harm_rolls_back_whatever_is_wanted_of_too_little_evidence(insufficient: str) -> None:
    harm = Verdict("quality", Outcome.FAIL, "harm", n=99)
    (event,) = decide(begun(insufficient), [harm], LATE)
    assert isinstance(event, RolledBack)
