"""What counts as evidence, how it comes out, and how often the bounds are wrong."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeostat.core.duration import Duration
from homeostat.core.records import LABELS, PREDICTIONS
from homeostat.core.verdict import Outcome, Verdict
from homeostat.rollout import sequences
from homeostat.rollout.evidence import CLIP, ROUTER, losses, measure
from homeostat.rollout.seen.observations import Observations, observe
from homeostat.rollout.spec import (
    ErrorGuard,
    Guards,
    LatencyGuard,
    QualityGuard,
    RolloutSpec,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


def record(id: str, version: str, arm: str, score: float | None = 0.5, **more: object) -> dict:
    return {
        "id": id,
        "time": START,
        "model": "m",
        "version": version,
        "arm": arm,
        "probability": 1.0,
        "latency": 0.002,
        "features": [],
        "score": score,
        "error": None if score is not None else "it broke",
        **more,
    }


def table(*records: dict) -> pl.DataFrame:
    return pl.DataFrame(list(records), schema=PREDICTIONS)


def labelled(**labels: float) -> pl.DataFrame:
    rows = [{"id": i, "label": y, "time": START, "known": START} for i, y in labels.items()]
    return pl.DataFrame(rows, schema=LABELS)


def see(log: pl.DataFrame, labels: pl.DataFrame, **more: object) -> Observations:
    asked = {"champion": "1", "candidate": "2", "since": START, **more}
    return observe(log, labels, **asked)  # type: ignore[arg-type]


def world(
    n: int,
    seed: int = 1,
    *,
    base: float = 0.01,
    champion: float = 3.0,
    candidate: float = 3.0,
    latency: tuple[float, float] = (0.002, 0.002),
    errors: tuple[float, float] = (0.0, 0.0),
    percent: float = 25.0,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """n requests answered by two versions of a given skill, each shadowing the other."""
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < base).astype(float)
    prior = np.log(base / (1 - base))
    to_canary = rng.random(n) < percent / 100
    ids = np.array([f"r{i}" for i in range(n)])
    parts = []
    for k, (version, arm, skill) in enumerate(
        (("1", "champion", champion), ("2", "canary", candidate))
    ):
        answers = to_canary == bool(k)
        score = 1 / (1 + np.exp(-(prior + skill * label + 0.5 * rng.normal(size=n))))
        failed = (rng.random(n) < errors[k]) & answers
        parts.append(
            pl.DataFrame(
                {
                    "id": ids,
                    "time": [START + timedelta(seconds=i) for i in range(n)],
                    "model": "m",
                    "version": version,
                    "arm": np.where(answers, arm, "shadow"),
                    "probability": np.where(answers, (1 - k) + (2 * k - 1) * percent / 100, 1.0),
                    "latency": latency[k] * np.exp(0.3 * rng.normal(size=n)),
                    "features": [[]] * n,
                    "score": np.where(failed, np.nan, score),
                    "error": np.where(failed, "it broke", ""),
                    "inputs": None,
                    "propensity": 1.0,
                }
            ).with_columns(
                pl.col("score").fill_nan(None),
                pl.when(pl.col("error") != "").then(pl.col("error")).alias("error"),
            )
        )
    log = pl.concat(parts).select(pl.col(c).cast(t) for c, t in PREDICTIONS.items())
    times = log["time"][:n]
    labels = pl.DataFrame({"id": ids, "label": label, "time": times, "known": times})
    return log, labels.select(pl.col(c).cast(t) for c, t in LABELS.items())


QUALITY = RolloutSpec(guards=Guards(quality=QualityGuard(margin=0.005)))
LATENCY = RolloutSpec(guards=Guards(latency_p99=LatencyGuard(max_ratio=1.1)))
ERRORS = RolloutSpec(guards=Guards(error_rate=ErrorGuard(margin=0.005)))


def only(plan: RolloutSpec, seen: Observations) -> Verdict:
    (verdict,) = (v for v in measure(plan, seen) if v.check != ROUTER)
    return verdict


# -- what counts -------------------------------------------------------------------------------


def ids(seen: Observations) -> list[str]:
    """Of the pairs that count, in their order."""
    return [seen.ids[row] for row in seen.paired.rows().row]


def answered(seen: Observations) -> list[str]:
    """Which arm answered each request that counts, in the order of time and id."""
    return ["candidate" if canary else "champion" for canary in seen.answers.canary]


def test_scores_are_paired_in_both_directions() -> None:
    log = table(
        record("a", "1", "champion", 0.1),
        record("a", "2", "shadow", 0.2),
        record("b", "2", "canary", 0.8),
        record("b", "1", "shadow", 0.7),
        record("alone", "1", "champion", 0.5),
    )
    seen = see(log, labelled(a=0, b=1, alone=1))
    rows = seen.paired.rows()
    assert [*zip(ids(seen), rows.champion, rows.candidate, rows.label, strict=True)] == [
        ("a", 0.1, 0.2, 0.0),
        ("b", 0.7, 0.8, 1.0),
    ]


def test_shadow_records_do_not_count_as_answers() -> None:
    log = table(
        record("a", "1", "champion"),
        record("a", "2", "shadow", None),
        record("b", "2", "canary", latency=0.5),
        record("c", "2", "canary", None),
    )
    seen = see(log, labelled())
    assert answered(seen) == ["champion", "candidate", "candidate"]
    assert seen.answers.failed.tolist() == [False, False, True]
    assert seen.answers.latency[1] == 0.5
    assert np.isnan(seen.answers.latency[2])


def test_a_request_sent_again_counts_once() -> None:
    once = record("a", "2", "canary", 0.9)
    seen = see(table(once, once, record("a", "1", "shadow", 0.5)), labelled(a=1))
    assert answered(seen) == ["candidate"]
    assert (len(seen.paired), len(seen.single)) == (1, 1)


def test_other_versions_and_earlier_requests_do_not_count() -> None:
    log = table(
        record("a", "7", "canary"),
        record("b", "2", "canary", time=START - timedelta(seconds=1)),
    )
    assert answered(see(log, labelled(a=1, b=1))) == []


def test_a_request_no_version_could_answer_counts_against_its_arm() -> None:
    seen = see(table(record("a", "", "canary", None)), labelled())
    assert answered(seen) == ["candidate"]
    assert seen.answers.failed.tolist() == [True]


def test_quality_leaves_out_requests_whose_labels_are_not_settled() -> None:
    log = table(
        record("a", "1", "champion"),
        record("a", "2", "shadow"),
        record("b", "1", "champion", time=START + timedelta(days=2)),
        record("b", "2", "shadow", time=START + timedelta(days=2)),
    )
    seen = see(log, labelled(a=0, b=1), settled=START + timedelta(days=1))
    assert ids(seen) == ["a"]
    assert answered(seen) == ["champion", "champion"]


def test_evidence_is_ordered_by_when_it_became_known() -> None:
    rows = [record(i, v, a) for i in "abc" for v, a in (("1", "champion"), ("2", "shadow"))]
    labels = labelled(a=1, b=0, c=1).with_columns(
        known=pl.Series(
            [START + timedelta(hours=h) for h in (3, 1, 2)], dtype=pl.Datetime("us", "UTC")
        )
    )
    assert ids(see(table(*rows), labels)) == ["b", "c", "a"]


def test_a_later_look_only_adds_to_the_end_of_the_evidence() -> None:
    """Frauds are reported before honest payments are cleared, and count when both have settled."""
    rows = [
        record(i, v, a, time=START + timedelta(hours=h))
        for h, i in enumerate("abcd")
        for v, a in (("1", "champion"), ("2", "shadow"))
    ]
    known = [START + timedelta(hours=h) for h in (12, 11, 3, 14)]  # c is reported at once
    labels = labelled(a=0, b=0, c=1, d=0).with_columns(
        known=pl.Series(known, dtype=pl.Datetime("us", "UTC"))
    )
    matures, looks = timedelta(hours=10), []
    for hour in range(10, 20):
        now = START + timedelta(hours=hour)
        told = labels.filter(pl.col("known") <= now)
        seen = see(table(*rows), told, settled=now - matures, matures_after=matures)
        looks.append(ids(seen))
    assert looks[-1] == ["b", "a", "c", "d"]
    for before, after in pairwise(looks):
        assert after[: len(before)] == before


# -- verdicts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", [QUALITY, LATENCY, ERRORS], ids=["quality", "latency", "errors"])
def test_nothing_measured_is_inconclusive(plan: RolloutSpec) -> None:
    verdict = only(plan, see(table(), labelled()))
    assert (verdict.outcome, verdict.n) == (Outcome.INCONCLUSIVE, 0)
    assert "nothing can be said" in verdict.sentence


def test_there_is_one_verdict_per_declared_guard_in_order() -> None:
    checks = [v.check for v in measure(RolloutSpec(), see(table(), labelled()))]
    assert checks == ["quality", "latency_p99", "error_rate"]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("percent", [0.0, 10.0, 100.0])
def test_three_thousand_rare_frauds_tell_a_good_candidate_from_a_broken_champion(
    seed: int, percent: float
) -> None:
    seen = see(*world(3000, seed, champion=0.0, candidate=6.0, percent=percent))
    verdict = only(QUALITY, seen)
    assert verdict.outcome is Outcome.PASS, verdict.sentence
    assert verdict.high is not None
    assert verdict.high < 0.005


@pytest.mark.parametrize("seed", range(3))
def test_three_thousand_rare_frauds_show_a_bad_candidate(seed: int) -> None:
    seen = see(*world(3000, seed, champion=6.0, candidate=0.0, percent=10))
    verdict = only(QUALITY, seen)
    assert verdict.outcome is Outcome.FAIL, verdict.sentence


def test_a_hundred_requests_are_too_few_and_it_says_how_many_more() -> None:
    verdict = only(QUALITY, see(*world(100, champion=3.0, candidate=3.0)))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "more labelled requests would tell" in verdict.sentence


def test_unpaired_quality_is_decided_on_the_arms_alone() -> None:
    plan = RolloutSpec(
        guards=Guards(quality=QualityGuard(metric="error", margin=0.1, paired=False))
    )
    seen = see(*world(4000, base=0.5, champion=0.5, candidate=6.0, percent=50))
    assert only(plan, seen).outcome is Outcome.PASS
    seen = see(*world(4000, base=0.5, champion=6.0, candidate=0.5, percent=50))
    assert only(plan, seen).outcome is Outcome.FAIL


def test_a_candidate_that_answers_with_no_number_loses_the_most() -> None:
    loss = losses("log_loss", np.array([0.0, 1.0]), np.array([np.nan, 0.0]))
    assert loss == pytest.approx([-np.log(CLIP)] * 2)


def test_the_error_loss_uses_each_versions_own_threshold() -> None:
    log = table(record("a", "1", "champion", 0.3), record("a", "2", "shadow", 0.3))
    plan = RolloutSpec(guards=Guards(quality=QualityGuard(metric="error", margin=0.1)))
    seen = see(log, labelled(a=1), thresholds=(0.2, 0.5))
    assert only(plan, seen).figure == 1.0


def test_a_candidate_twice_as_slow_is_rolled_back_and_an_equal_one_passes() -> None:
    slow = only(LATENCY, see(*world(4000, latency=(0.02, 0.04), percent=50)))
    assert slow.outcome is Outcome.FAIL, slow.sentence
    equal = only(LATENCY, see(*world(8000, latency=(0.001, 0.001), percent=50)))
    assert equal.outcome is Outcome.PASS, equal.sentence


def test_two_hundred_latencies_say_nothing_about_their_p99() -> None:
    verdict = only(LATENCY, see(*world(200, percent=50)))
    assert verdict.outcome is Outcome.INCONCLUSIVE


def test_a_candidate_that_fails_requests_is_shown_and_an_equal_one_passes() -> None:
    failing = only(ERRORS, see(*world(1000, errors=(0.0, 0.2), percent=10)))
    assert failing.outcome is Outcome.FAIL, failing.sentence
    equal = only(ERRORS, see(*world(6000, percent=50)))
    assert equal.outcome is Outcome.PASS, equal.sentence


def test_a_candidate_that_fails_every_request_is_shown_within_twenty() -> None:
    seen = see(*world(140, errors=(0.0, 1.0), percent=10))
    assert seen.answers.canary.sum() <= 25
    assert only(ERRORS, seen).failed


def test_slack_forgives_differences_too_small_to_matter() -> None:
    log, labels = world(6000, latency=(0.0001, 0.0003), percent=50)
    plan = RolloutSpec(guards=Guards(latency_p99=LatencyGuard(slack=Duration(milliseconds=1))))
    assert only(plan, see(log, labels)).outcome is Outcome.PASS


# -- bounds ------------------------------------------------------------------------------------


def test_no_observation_bounds_nothing() -> None:
    empty = np.empty(0)
    for bounds in (
        sequences.mean(empty, (0, 1), alpha=(0.05, 0.05)),
        sequences.rate(0, 0, alpha=(0.05, 0.05)),
        sequences.quantile(empty, 0.99, alpha=(0.05, 0.05)),
    ):
        assert (bounds.low, bounds.high, bounds.n) == (-np.inf, np.inf, 0)


@given(
    x=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=200),
    alpha=st.floats(0.001, 0.2),
)
@settings(max_examples=60)
def test_bounds_of_a_mean_hold_its_estimate_and_mirror_each_other(
    x: list[float], alpha: float
) -> None:
    values = np.array(x)
    bounds = sequences.mean(values, (0, 1), alpha=(alpha, alpha))
    mirrored = sequences.mean(1 - values, (0, 1), alpha=(alpha, alpha))
    assert 0 <= bounds.low <= bounds.point + 1e-9
    assert bounds.point - 1e-9 <= bounds.high <= 1
    assert bounds.low == pytest.approx(1 - mirrored.high, abs=1e-6)


@given(n=st.integers(1, 5000), share=st.floats(0, 1), alpha=st.floats(0.001, 0.2))
@settings(max_examples=60)
def test_bounds_of_a_rate_hold_its_estimate_and_tighten_with_alpha(
    n: int, share: float, alpha: float
) -> None:
    k = round(n * share)
    bounds = sequences.rate(n, k, alpha=(alpha, alpha))
    wider = sequences.rate(n, k, alpha=(alpha / 10, alpha / 10))
    assert wider.low <= bounds.low <= k / n <= bounds.high <= wider.high


@pytest.mark.parametrize("base", [0.5, 0.01])
def test_the_bound_of_a_mean_is_ever_wrong_less_often_than_its_alpha(base: float) -> None:
    alpha, runs, n = 0.1, 200, 3000
    looks = np.unique(np.geomspace(5, n, 40).astype(int)).tolist()
    rng = np.random.default_rng(3)
    wrong = 0
    for _ in range(runs):
        label = (rng.random(n) < base).astype(float)
        x = label * rng.normal(0, 2, n).clip(-6, 6) + 0.02 * rng.normal(size=n).clip(-5, 5)
        mean = sequences.Mean((-7.0, 7.0), (alpha / 2, alpha / 2))
        found = [
            mean.add(x[a:b], label=label[a:b]).bounds() for a, b in itertools.pairwise([0, *looks])
        ]
        wrong += any(not b.low <= 0 <= b.high for b in found)
    # alpha and three Monte-Carlo standard errors
    assert wrong / runs <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / runs)


@pytest.mark.parametrize("seed", range(8))
def test_the_bound_of_a_mean_is_the_same_however_often_it_was_looked_at_before(seed: int) -> None:
    """Before its switch and after it, and where blocks hang together: every second run."""
    rng = np.random.default_rng(seed)
    x = rng.choice([-1.0, 0.0, 1.0], 400, p=[0.02, 0.9, 0.08])
    x = np.repeat(x, 3)[:400] if seed % 2 else x
    often = sequences.Mean((-1.0, 1.0), (0.05, 0.01))
    for part in np.split(np.arange(400), np.sort(rng.integers(0, 400, 60))):
        found = often.add(x[part], like=x[part]).bounds()
        once = sequences.Mean((-1.0, 1.0), (0.05, 0.01))
        n = part[-1] + 1 if len(part) else found.n
        wanted = once.add(x[:n], like=x[:n]).bounds()
        assert (found.point, found.low, found.high, found.n) == pytest.approx(
            (wanted.point, wanted.low, wanted.high, wanted.n), abs=1e-9, nan_ok=True
        )


@pytest.mark.parametrize("p", [0.5, 0.01])
def test_the_bounds_of_a_rate_are_ever_wrong_less_often_than_their_alphas(p: float) -> None:
    alpha, runs = 0.1, 200
    looks = np.unique(np.geomspace(5, 4000, 40).astype(int))
    counts = np.cumsum(np.random.default_rng(4).random((runs, 4000)) < p, axis=1)[:, looks - 1]
    wrong = [
        any(
            not b.low <= p <= b.high
            for n, k in zip(looks, row, strict=True)
            for b in [sequences.rate(int(n), int(k), alpha=(alpha / 2, alpha / 2))]
        )
        for row in counts
    ]
    assert np.mean(wrong) <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / runs)


def test_the_bounds_of_a_p99_are_ever_wrong_less_often_than_their_alphas() -> None:
    alpha, runs = 0.1, 200
    looks = np.unique(np.geomspace(5, 6000, 40).astype(int))
    draws = np.random.default_rng(5).random((runs, 6000))
    wrong = [
        any(
            not b.low <= 0.99 <= b.high
            for n in looks
            for b in [sequences.quantile(np.sort(row[:n]), 0.99, alpha=(alpha / 2, alpha / 2))]
        )
        for row in draws
    ]
    assert np.mean(wrong) <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / runs)


def test_the_fewest_requests_for_a_p99_are_told_exactly() -> None:
    n = sequences.least_for_quantile(0.99, 0.05)
    for count, finite in ((n - 1, False), (n, True)):
        bounds = sequences.quantile(np.linspace(0, 1, count), 0.99, alpha=(0.05, 0.05))
        assert np.isfinite(bounds.high) == finite


def test_equal_losses_of_requests_that_come_again_say_less_before_any_loss_varies() -> None:
    """Two hundred and fifty requests without a difference of losses, five times the same each."""
    rng, none = np.random.default_rng(2), np.zeros(250)
    again, apart = np.repeat(rng.random(50), 5), rng.random(250)

    def high(like: np.ndarray | None) -> float:
        mean = sequences.Mean((-1.0, 1.0), (0.05, 0.05))
        return mean.add(none, like=like).bounds().high

    assert high(apart) == high(None)
    assert high(again) > 3 * high(None)
