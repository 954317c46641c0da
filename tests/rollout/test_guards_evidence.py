"""Each kind of guard on traffic whose truth is known, and how often its bounds are wrong."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import polars as pl
import pytest
from gbstats.gbstats import check_srm
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from homeostat.core.duration import Duration
from homeostat.core.records import LABELS, PREDICTIONS
from homeostat.core.verdict import Outcome, Verdict
from homeostat.rollout import sequences, two_by_two
from homeostat.rollout.evidence import (
    ROUTER,
    Sufficiency,
    measure,
    spent,
    sufficiency,
)
from homeostat.rollout.guards.common import Alpha
from homeostat.rollout.guards.estimate import SPENT, narrowed
from homeostat.rollout.guards.router import Drawn
from homeostat.rollout.seen.answers import Answers
from homeostat.rollout.seen.columns import Array, Flags
from homeostat.rollout.seen.observations import Observations, observe
from homeostat.rollout.seen.records import logged
from homeostat.rollout.spec import (
    BiasGuard,
    ErrorGuard,
    Guards,
    ObjectiveGuard,
    QualityGuard,
    RolloutSpec,
    RouterGuard,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


def traffic(
    n: int,
    seed: int = 1,
    *,
    shift: tuple[float, float] = (0.0, 0.0),
    share: float = 0.1,
    split: float | None = None,
    labelled: float = 1.0,
    latency: tuple[float, float] = (0.02, 0.02),
    errors: tuple[float, float] = (0.0, 0.0),
    apart: float = 1.0,
    skill: float = 1.5,
    garbled: float = 0.0,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """n requests, half of them positive, in two groups (feature `group`, 0 or 1). shift: how much
    the candidate's score is moved against the truth in each. split: the share that the candidate
    really gets. labelled: the first so many have a label. apart: seconds between requests.
    garbled: the share of requests for which the candidate says the opposite."""
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < 0.5).astype(float)
    group = (rng.random(n) < 0.3).astype(int)
    logit = skill * (2 * label - 1) + rng.normal(size=n)
    pushed = logit - np.array(shift)[group] * (2 * label - 1)
    pushed = np.where(rng.random(n) < garbled, -pushed, pushed)
    canary = rng.random(n) < (share if split is None else split)
    times = pl.Series((1e6 * apart * np.arange(n)).astype(int)).cast(pl.Duration("us")) + START
    parts = []
    for k, (version, value) in enumerate((("1", logit), ("2", pushed))):
        mine = canary == bool(k)
        failed = mine & (rng.random(n) < errors[k])
        chance = share if k else 1 - share
        parts.append(
            pl.DataFrame(
                {
                    "id": [f"r{i}" for i in range(n)],
                    "time": times,
                    "model": "m",
                    "version": version,
                    "arm": np.where(mine, ("champion", "canary")[k], "shadow"),
                    "probability": np.where(mine, chance, 1.0),
                    "latency": latency[k] * np.exp(0.3 * rng.normal(size=n)),
                    "features": [[float(g)] for g in group],
                    "score": 1 / (1 + np.exp(-value)),
                    "error": np.where(failed, "it broke", ""),
                    "inputs": None,
                    "propensity": 1.0,
                }
            ).with_columns(
                pl.when(pl.col("error") == "").then("score").alias("score"),
                pl.when(pl.col("error") != "").then("error").alias("error"),
            )
        )
    log = pl.concat(parts).select(pl.col(c).cast(t) for c, t in PREDICTIONS.items())
    labels = pl.DataFrame(
        {"id": [f"r{i}" for i in range(n)], "label": label, "time": times, "known": times}
    ).head(round(labelled * n))
    return log, labels.select(pl.col(c).cast(t) for c, t in LABELS.items())


def see(log: pl.DataFrame, labels: pl.DataFrame, **more: object) -> Observations:
    asked = {"groups": {"group": logged("group", ("group",))}, **more}
    return observe(log, labels, champion="1", candidate="2", since=START, **asked)  # type: ignore[arg-type]


def in_turn(*parts: pl.DataFrame) -> Observations:
    """Logs one after the other."""
    log = pl.concat(
        part.with_columns(
            id=pl.lit(f"{k}-") + pl.col("id"), time=pl.col("time") + timedelta(days=k)
        )
        for k, part in enumerate(parts)
    )
    return see(log, traffic(1)[1])


def only(guards: Guards, seen: Observations) -> Verdict:
    plan = RolloutSpec(guards=guards)
    return next(v for v in measure(plan, seen) if v.check != ROUTER)


def router(seen: Observations, tolerance: float = 0.0) -> Verdict:
    plan = RolloutSpec(guards=Guards(), router=RouterGuard(tolerance))
    return next(v for v in measure(plan, seen) if v.check == ROUTER)


def answers(canary: Flags, share: Array) -> Answers:
    """To as many requests, each a draw of its own."""
    n = len(canary)
    none, each = np.zeros(n, np.bool_), np.ones(n, np.bool_)
    return Answers(np.arange(n), canary, none, np.zeros(n), share, each)


def drawn(canary: Flags, share: Array) -> Drawn:
    """The same, as the router's guard folds them."""
    folded = Drawn()
    folded.add(answers(canary, share))
    return folded


# -- slices, bias, latency ---------------------------------------------------------------------


def test_a_slice_that_is_harmed_shows_although_the_whole_gains() -> None:
    seen = see(*traffic(3000, shift=(-0.6, 0.8)))
    whole = only(Guards(quality=QualityGuard(margin=0.05)), seen)
    assert whole.outcome is Outcome.PASS, whole.sentence
    sliced = only(Guards(quality=QualityGuard(margin=0.05, by="group")), seen)
    assert sliced.outcome is Outcome.FAIL
    assert "quality[group=1.0]" in sliced.sentence
    assert [p.outcome for p in sliced.parts if p.check == "quality[group=0.0]"] == [Outcome.PASS]


def test_slices_without_harm_let_it_pass() -> None:
    verdict = only(
        Guards(quality=QualityGuard(margin=0.05, by="group")),
        see(*traffic(3000, shift=(-0.2, -0.2))),
    )
    assert verdict.outcome is Outcome.PASS, verdict.sentence
    assert len(verdict.parts) == 2


def test_a_column_that_is_not_logged_is_an_error_and_no_pass() -> None:
    seen = see(*traffic(500))
    for guards in (Guards(quality=QualityGuard(by="age")), Guards(bias=BiasGuard("age"))):
        verdict = only(guards, seen)
        assert verdict.outcome is Outcome.ERROR
        assert "no column age" in verdict.sentence


def test_a_candidate_that_treats_groups_alike_passes_and_one_that_does_not_fails() -> None:
    metric = "equal_opportunity_difference"
    fair = only(Guards(bias=BiasGuard("group", metric, 0.15)), see(*traffic(6000)))
    assert fair.outcome is Outcome.PASS, fair.sentence
    unfair = see(*traffic(6000, shift=(0.0, 2.0)))
    for name in (metric, "equalized_odds_difference"):
        verdict = only(Guards(bias=BiasGuard("group", name, 0.15)), unfair)
        assert verdict.outcome is Outcome.FAIL, verdict.sentence
        assert "between 0.0 and 1.0" in verdict.sentence


def test_nobody_waits_for_a_small_group_and_one_that_is_harmed_shows() -> None:
    log, labels = traffic(6000)

    def judged(alerts: float, min_share: float) -> Verdict:
        """A third group of 60 requests, with a share of alerts of its own."""
        row = pl.col("id").str.slice(1).cast(pl.Int64)
        small, score = row < 60, pl.when(row < 60 * alerts).then(0.9).otherwise(0.1)
        third = log.with_columns(
            features=pl.when(small).then(pl.lit([2.0])).otherwise("features"),
            score=pl.when(small).then(score).otherwise("score"),
        )
        seen = see(third, labels)
        return only(Guards(bias=BiasGuard("group", max=0.15, min_share=min_share)), seen)

    assert judged(0.5, 0.05).passed
    assert judged(0.5, 0.0).outcome is Outcome.INCONCLUSIVE
    assert judged(1.0, 0.05).failed
    assert "2.0" in judged(1.0, 0.05).sentence


def test_answers_slower_than_the_objective_show_long_before_their_p99_does() -> None:
    guard = Guards(latency=ObjectiveGuard(Duration(milliseconds=40), 0.01))
    slow = only(guard, see(*traffic(600, latency=(0.02, 0.06))))
    assert slow.outcome is Outcome.FAIL, slow.sentence
    equal = only(guard, see(*traffic(12_000, share=0.5)))
    assert equal.outcome is Outcome.PASS, equal.sentence


def test_a_batch_that_fails_counts_as_one_request() -> None:
    log, labels = traffic(400)
    ids = [f"b/{k}" for k in range(60)]
    batch = log.filter(pl.col("arm") == "canary").head(1)
    rows = pl.concat(
        [batch.with_columns(id=pl.lit(i), score=None, error=pl.lit("too wide")) for i in ids]
    )
    before, after = see(log, labels), see(pl.concat([log, rows.cast(log.schema)]), labels)  # type: ignore[arg-type]
    assert after.answers.canary.sum() == before.answers.canary.sum() + 1
    assert not only(Guards(error_rate=ErrorGuard()), after).failed


def test_a_later_look_at_two_rates_only_adds_to_what_an_earlier_one_saw() -> None:
    rng = np.random.default_rng(4)
    canary, event = rng.random(3000) < 0.3, rng.random(3000) < 0.1
    changes = np.array([1000, 2000])

    def wealth(n: int) -> list[float]:
        ends = two_by_two.cuts(n, changes)
        blocks = two_by_two.in_blocks(canary[:n], event[:n], ends)
        return two_by_two.log_wealth(blocks, 0.02, above=False, margin=0.02).tolist()

    last = wealth(3000)
    for n in (1, 2, 13, 40, 333, 1001, 2500, 2999):
        seen = wealth(n)
        assert seen == pytest.approx(last[: len(seen)])


def test_a_group_that_appears_later_costs_those_before_nothing() -> None:
    guards = Guards(bias=BiasGuard("group", max=0.5, min_share=0.0))
    log, labels = traffic(3000)
    group = pl.col("features").list.get(0)
    log = log.with_columns(score=pl.when(group == 1).then(0.9).otherwise("score"))
    few = log.filter(pl.col("version") == "2").filter(group == 0).head(40)
    late = few.with_columns(
        id=pl.lit("late-") + pl.col("id"),
        time=pl.col("time") + timedelta(days=1),
        features=pl.lit([2.0], dtype=pl.List(pl.Float64)).cast(few.schema["features"]),
    )
    before, after = (
        only(guards, see(log, labels)),
        only(guards, see(pl.concat([log, late]), labels)),
    )
    assert (before.n or 0) > 40 == after.n
    assert before.low is not None
    assert before.low > 0
    assert after.low == before.low


RATE = Guards(error_rate=ErrorGuard(0.02))


@pytest.mark.parametrize(
    ("errors", "outcome"),
    [(0.5, Outcome.FAIL), (0.01, Outcome.PASS), (0.025, Outcome.INCONCLUSIVE)],
)
def test_a_candidate_that_answers_alone_is_held_against_the_champion_before(
    errors: float, outcome: Outcome
) -> None:
    """As after a blue/green switch; less than the margin may have come with time."""
    before, after = (traffic(4000, share=s, errors=(0.01, errors))[0] for s in (0.0, 1.0))
    verdict = only(RATE, in_turn(before, after))
    assert verdict.outcome is outcome, verdict.sentence
    assert "alone against the champion before" in verdict.sentence


def test_what_fails_only_at_the_last_step_is_seen_there() -> None:
    good = traffic(8000, share=0.5, errors=(0.01, 0.01))[0]
    assert only(RATE, see(good, traffic(1)[1])).outcome is Outcome.PASS
    for errors, outcome in ((0.012, Outcome.PASS), (0.5, Outcome.FAIL)):
        last = traffic(1000, 2, share=1.0, errors=(0.0, errors))[0]
        verdict = only(RATE, in_turn(good, last))
        assert verdict.outcome is outcome, verdict.sentence
        assert verdict.low is not None
        assert (verdict.low > 0.02) == verdict.failed


# -- the router --------------------------------------------------------------------------------


def test_a_router_that_gives_other_shares_is_called_broken_and_a_sound_one_is_not() -> None:
    assert router(see(*traffic(4000))).outcome is Outcome.PASS
    broken = router(see(*traffic(4000, split=0.05)))
    assert broken.outcome is Outcome.FAIL
    assert "the router is broken" in broken.sentence
    assert router(see(*traffic(4000, split=0.09)), tolerance=0.3).outcome is Outcome.PASS


def test_shares_that_change_by_step_are_no_broken_router() -> None:
    parts = [traffic(2000, seed, share=s)[0] for seed, s in enumerate((0.1, 0.5, 0.75))]
    log = pl.concat(
        part.with_columns(
            id=pl.format("{}-{}", pl.lit(k), "id"), time=pl.col("time") + timedelta(days=k)
        )
        for k, part in enumerate(parts)
    )
    verdict = router(see(log, traffic(1)[1]))
    assert verdict.outcome is Outcome.PASS
    assert verdict.threshold == pytest.approx(0.45)


def test_the_former_candidates_last_answers_do_not_speak_against_the_router() -> None:
    log, labels = traffic(2000)
    early = pl.col("time") < START + timedelta(seconds=1000)
    old = log.filter(~(early & (pl.col("version") == "2")))
    other = log.filter(early, pl.col("arm") == "canary").with_columns(version=pl.lit("9"))
    assert router(see(pl.concat([old, other]), labels)).outcome is Outcome.PASS


def test_one_caller_with_a_key_counts_once() -> None:
    log, labels = traffic(3000, split=0.0)
    keyed = see(log, labels, entity=pl.lit("the only caller"))
    verdict = router(keyed)
    assert (verdict.outcome, verdict.n) == (Outcome.PASS, 1)


def test_what_chance_gave_one_step_is_not_held_against_the_next() -> None:
    """Callers are kept on their version, so that the luck of the first share comes again."""
    rng = np.random.default_rng(3)
    at = rng.random(1000)
    at[:24] = rng.uniform(0, 0.1, 24)  # by chance about 24 too many
    shares = (0.1, 0.15, 0.2, 0.25)
    apart = [drawn(at < p, np.full(1000, p)).log_evidence() for p in shares]
    together = drawn(np.concatenate([at < p for p in shares]), np.repeat(np.array(shares), 1000))
    assert together.log_evidence() <= max(apart)


def test_the_router_is_called_broken_where_gbstats_finds_a_sample_ratio_mismatch() -> None:
    rng = np.random.default_rng(3)
    for true in (0.1, 0.07):
        canary = rng.random(8000) < true
        theirs = check_srm([int((~canary).sum()), int(canary.sum())], [0.9, 0.1])
        ours = drawn(canary, np.full(8000, 0.1)).log_evidence() >= math.log(1000)
        assert ours == (theirs < 1e-3) == (true != 0.1)


def test_a_sound_router_is_called_broken_less_often_than_its_alpha() -> None:
    alpha, runs = 0.1, 150
    canary = np.random.default_rng(8).random((runs, 2000)) < 0.25
    looks = np.unique(np.geomspace(10, 2000, 25).astype(int))
    wrong = []
    for c in canary:
        folded = Drawn()
        found = []
        for k in looks:
            folded.add(answers(c[:k], np.full(k, 0.25)))
            found.append(folded.log_evidence())
        assert folded.counts == {0.25: (2000, np.count_nonzero(c))}
        wrong.append(max(found) >= math.log(1 / alpha))
    assert np.mean(wrong) <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)


# -- two rates ---------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [0.5, 0.01, 0.001])
@pytest.mark.parametrize("margin", [0.0, 0.004])
def test_two_by_two_capital_is_ever_large_less_often_than_its_alpha(
    base: float, margin: float
) -> None:
    """Without harm, and with harm of the margin, while the split moves and rates with it."""
    alpha, runs, n = 0.1, 300, 6000
    rng = np.random.default_rng([9, int(base * 1000)])
    late = np.arange(n) >= n // 2
    canary = rng.random((runs, n)) < np.where(late, 0.5, 0.1)
    rate = np.where(late, min(3 * base, 0.9), base)
    event = rng.random((runs, n)) < rate + margin * canary
    blocks = two_by_two.in_blocks(canary, event, two_by_two.cuts(n, np.array([n // 2])))
    wealth = two_by_two.log_wealth(blocks, margin, above=margin == 0.0, margin=0.004)
    wrong = float((wealth >= math.log(1 / alpha)).any(axis=1).mean())
    assert wrong <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)


@given(
    seed=st.integers(0, 10_000),
    share=st.floats(0.05, 0.95),
    one=st.floats(0.0, 0.5),
    two=st.floats(0.0, 0.5),
    alpha=st.floats(0.001, 0.2),
)
@settings(max_examples=25, deadline=None)
def test_bounds_of_two_rates_hold_their_difference_and_tighten_with_alpha(
    seed: int, share: float, one: float, two: float, alpha: float
) -> None:
    rng = np.random.default_rng(seed)
    canary = rng.random(800) < share
    event = rng.random(800) < np.where(canary, two, one)
    blocks = two_by_two.in_blocks(canary, event, two_by_two.cuts(800))
    bounds = two_by_two.difference(blocks, alpha=(alpha, alpha), margin=0.05)
    wider = two_by_two.difference(blocks, alpha=(alpha / 10, alpha / 10), margin=0.05)
    assert -1 <= bounds.low <= bounds.point <= bounds.high <= 1
    assert wider.low <= bounds.low + 0.02
    assert wider.high >= bounds.high - 0.02


@pytest.mark.parametrize("base", [0.5, 0.01, 0.0001])
def test_the_nearest_rates_that_obey_a_bound_are_those_of_the_least_divergence(base: float) -> None:
    rng = np.random.default_rng(5)
    n = 200
    a, b = (base * rng.uniform(0.1, 1.9, n) for _ in range(2))
    na, nb = (rng.integers(0, 60, n).astype(np.float64) for _ in range(2))
    na[:5] = nb[:5] = 0.0  # blocks without requests: every rate is as near
    bound = rng.uniform(-3 * base, 3 * base, n).clip(-0.99, 0.99)
    nearest = two_by_two._nearest(a, b, na, nb, bound)

    def divergence(at: NDArray[np.float64]) -> NDArray[np.float64]:
        found = np.zeros(n)
        for weight, rate, null in ((na, a, at), (nb, b, at + bound)):
            for p, q in ((rate, null), (1 - rate, 1 - null)):
                found -= weight * p * np.log(np.clip(q, 1e-15, 1.0) / p)
        return found

    low, high = np.maximum(0.0, -bound), np.minimum(1.0, 1.0 - bound)
    assert ((low <= nearest) & (nearest <= high)).all()
    for part in np.linspace(0, 1, 2001):
        assert (divergence(nearest) <= divergence(low + part * (high - low)) + 1e-9).all()


def test_a_block_without_requests_leaves_the_evidence_as_it_was() -> None:
    blocks = two_by_two.Blocks(*(np.array(v, float) for v in ([9, 5], [2, 0], [1, 5], [0, 3])))
    longer = two_by_two.Blocks(*(np.append(v, 0.0) for v in blocks))
    for above in (True, False):
        before = two_by_two.log_wealth(blocks, 0.1, above=above, margin=0.1)
        after = two_by_two.log_wealth(longer, 0.1, above=above, margin=0.1)
        assert after.tolist() == [*before.tolist(), before[-1]]


def test_two_by_two_tells_with_far_fewer_requests_than_the_difference_of_two_bounds() -> None:
    rng = np.random.default_rng(4)
    n = int(two_by_two.cuts(9200)[-1])  # the end of a block
    canary = rng.random(n) < 0.5
    event = rng.random(n) < np.where(canary, 0.02, 0.01)
    blocks = two_by_two.in_blocks(canary, event, two_by_two.cuts(n))
    ours = two_by_two.difference(blocks, alpha=(0.05, 0.05), margin=0.01)
    each = [
        sequences.rate(int(a.sum()), int(event[a].sum()), alpha=(0.025, 0.025))
        for a in (~canary, canary)
    ]
    theirs = (each[1].high - each[0].low) - (each[1].low - each[0].high)
    assert ours.high - ours.low < 0.85 * theirs


# -- blocks, weights, labels -------------------------------------------------------------------


@pytest.mark.parametrize("block", [False, True])
def test_bounds_of_repeated_requests_hold_declared_as_one_block_or_not(block: bool) -> None:
    alpha, runs, n = 0.1, 150, 4000
    rng = np.random.default_rng(6)
    wrong = 0
    numbers = np.repeat(np.arange(n // 20), 20) if block else None
    for _ in range(runs):
        x = np.repeat(rng.normal(0, 0.3, n // 20).clip(-1, 1), 20)
        for k in (1000, 2000, 3000, 4000):
            part = None if numbers is None else numbers[:k]
            low = sequences.mean(x[:k], (-1, 1), alpha=(alpha, alpha), block=part).low
            if low > 0:
                wrong += 1
                break
    assert wrong / runs <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)


def test_blocks_are_merged_as_far_as_they_depend_on_each_other_and_no_further() -> None:
    rng = np.random.default_rng(7)
    ones = np.ones(4000)
    alike = np.repeat(rng.normal(size=500), 8)
    assert len(sequences.merged(alike, ones)[0]) == 4000 / 8
    kept = [len(sequences.merged(rng.normal(size=4000), ones)[0]) for _ in range(50)]
    assert min(kept) == 4000
    assert len(sequences.merged(alike[:40], ones[:40])[0]) == 40, "too few to see it"


def test_weights_undo_labels_that_were_drawn_unevenly() -> None:
    rng = np.random.default_rng(7)
    harm = np.where(rng.random(40_000) < 0.2, 0.5, -0.1)
    chance = np.where(harm > 0, 0.1, 1.0)
    known = rng.random(40_000) < chance
    alpha = (0.05, 0.05)
    naive = sequences.mean(harm[known], (-1, 1), alpha=alpha)
    weighted = sequences.mean(harm[known], (-1, 1), alpha=alpha, weight=1 / chance[known])
    assert not naive.low <= harm.mean() <= naive.high
    assert weighted.low <= harm.mean() <= weighted.high


def test_a_block_that_is_not_over_is_left_out() -> None:
    plan = RolloutSpec(guards=Guards(quality=QualityGuard(margin=0.05)), block=Duration(minutes=10))
    log, labels = traffic(900)
    seen = see(log, labels, now=START + timedelta(seconds=899))
    assert measure(plan, seen)[0].n == 600


def test_requests_without_a_label_narrow_the_bounds_and_the_verdict_says_by_how_much() -> None:
    seen = see(*traffic(12_000, skill=3.0, garbled=0.1, labelled=0.1))
    guard = QualityGuard("brier", margin=0.02)
    told = only(Guards(quality=guard), seen)
    plain = only(Guards(quality=msgspec.structs.replace(guard, estimate=False)), seen)
    assert "more without a label (worth" in told.sentence
    assert told.high is not None
    assert told.low is not None
    assert plain.high is not None
    assert plain.low is not None
    assert told.high - told.low < plain.high - plain.low
    assert told.n == plain.n == 1200


def test_bursts_of_one_group_are_not_taken_for_bias() -> None:
    """Of each group a hundred bursts of fifty alike requests, which say as much as a hundred."""
    log, labels = traffic(10_000, apart=0.02)
    second = pl.col("id").str.slice(1).cast(pl.Int64) // 50
    alerts = (second // 2) % 20 < pl.when(second % 2 == 0).then(13).otherwise(9)
    bursts = log.with_columns(
        score=alerts.cast(pl.Float64), features=pl.concat_list((second % 2).cast(pl.Float32))
    )
    plan = RolloutSpec(guards=Guards(bias=BiasGuard(by="group", max=0.1)))
    (verdict, *_) = measure(plan, see(bursts, labels))
    assert verdict.figure == pytest.approx(0.2)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    mixed = bursts.with_columns(time=pl.col("time").shuffle(3).over("version"))
    (apart, *_) = measure(msgspec.structs.replace(plan, block=Duration(0)), see(mixed, labels))
    assert apart.failed


def test_bounds_are_not_narrowed_on_fewer_blocks_than_they_need() -> None:
    seen = see(*traffic(12_000, skill=3.0, garbled=0.1, labelled=0.1))
    guards = Guards(quality=QualityGuard("brier", margin=0.02))
    for block, used in ((Duration(seconds=1), True), (Duration(minutes=5), False)):
        verdict = measure(RolloutSpec(guards=guards, block=block), seen)[0]
        assert ("without a label" in verdict.sentence) == used, verdict.sentence


def test_neighbours_are_one_block_in_whatever_order_their_labels_come() -> None:
    log, labels = traffic(12_000, apart=0.25, skill=3.0, garbled=0.1, labelled=0.2)
    late = np.random.default_rng(8).permutation(labels.height).tolist()
    mixed = labels.with_columns(known=pl.col("known").gather(late) + timedelta(hours=1))
    bounds = sequences.Bounds(0.0, -9.0, 9.0, 2400)
    found = [
        narrowed("brier", seen, Duration(seconds=1), bounds, Alpha(0.05, 0.05))[0]
        for seen in (see(log, labels), see(log, mixed))
    ]
    assert (found[0].low, found[0].high) == pytest.approx((found[1].low, found[1].high))


def test_what_may_be_narrowed_spends_on_both_bounds_no_more_than_alpha() -> None:
    """Where nothing is left to narrow, the labels' own bounds are those of their part."""
    seen = see(*traffic(600))
    narrow, wide = (
        measure(RolloutSpec(guards=Guards(quality=QualityGuard(estimate=e)), alpha=a), seen)[0]
        for e, a in ((True, 0.05), (False, 0.05 * (1 - SPENT)))
    )
    assert (narrow.low, narrow.high) == pytest.approx((wide.low, wide.high))


@pytest.mark.slow
def test_bounds_that_labels_correct_are_ever_wrong_less_often_than_their_alpha() -> None:
    """Scores that are worth something and yet not calibrated, looked at as labels come in."""
    runs, used, wrong, world = 12, 0, 0, {"skill": 3.0, "garbled": 0.1}
    guard = QualityGuard("brier", margin=0.02)
    plan = RolloutSpec(guards=Guards(quality=guard), alpha=0.1)
    truth = measure(plan, see(*traffic(40_000, 99, **world)))[0].figure  # type: ignore[arg-type]
    assert truth is not None
    for seed in range(runs):
        log, labels = traffic(6000, seed, **world)  # type: ignore[arg-type]
        for k in (500, 1000, 2000):
            asked = log.filter(pl.col("time") < START + timedelta(seconds=3 * k))
            verdict = measure(plan, see(asked, labels.head(k)))[0]
            used += "without a label" in verdict.sentence
            assert verdict.low is not None
            assert verdict.high is not None
            if not verdict.low - 0.002 <= truth <= verdict.high + 0.002:
                wrong += 1
                break
    assert used > runs
    assert wrong / runs <= 0.2


# -- sufficiency -------------------------------------------------------------------------------


def test_sufficiency_is_the_least_of_all_guards() -> None:
    def v(check: str, outcome: Outcome, n: int) -> Verdict:
        return Verdict(check, outcome, "", n=n)

    passed, open_ = v("a", Outcome.PASS, 9), v("b", Outcome.INCONCLUSIVE, 9)
    nothing, split = v("c", Outcome.INCONCLUSIVE, 0), v(ROUTER, Outcome.PASS, 9)
    assert sufficiency([passed, split]) is Sufficiency.ENOUGH
    assert sufficiency([passed, open_]) is Sufficiency.NOT_ENOUGH
    assert sufficiency([passed, open_, nothing]) is Sufficiency.NO_DATA
    assert sufficiency([nothing, v("d", Outcome.FAIL, 9)]) is Sufficiency.ENOUGH
    assert sufficiency([split]) is Sufficiency.NO_DATA


def test_the_guards_and_the_router_spend_no_more_than_alpha_on_rollbacks() -> None:
    plan = RolloutSpec(alpha=0.04)
    assert sum(a.rollback for a in spent(plan).values()) == pytest.approx(0.04)
    assert {a.promotion for a in spent(plan).values()} == {0.04, 0.0}


def test_an_open_guard_says_how_long_it_will_take_at_the_rate_so_far() -> None:
    seen = see(*traffic(200, apart=60.0), now=START + timedelta(minutes=200))
    verdict = only(Guards(quality=QualityGuard(margin=0.005)), seen)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "at this rate" in verdict.sentence
