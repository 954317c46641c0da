from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.core.duration import Duration
from homeostat.core.errors import BadInput
from homeostat.core.metrics import Estimate
from homeostat.core.verdict import Outcome, Verdict
from homeostat.training.evaluate import Evaluation, evaluate
from homeostat.training.gates import Anchored, decide
from homeostat.training.spec import (
    AgainstChampion,
    Anchor,
    Bias,
    Bound,
    GatesSpec,
    Split,
    TrainingSpec,
)

DAY = Duration.parse("1d")
SPEC = TrainingSpec(fit="m:f", split=Split(DAY, DAY, DAY), k=20)


def draw(rows: int = 2000, noise: float = 0.3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = (rng.random(rows) < 0.3).astype(float)
    return label, np.clip(0.3 * label + 0.3 + rng.normal(0, noise, rows), 0, 1)


def judge(spec: GatesSpec, label, score, champion=None, groups=None) -> Verdict:
    measured = evaluate(label, score, SPEC, groups)
    return decide(spec, measured, label=label, candidate=score, champion=champion)


def test_every_gate_is_a_part_with_figure_threshold_interval_and_n() -> None:
    label, score = draw()
    verdict = judge(GatesSpec(auc=Bound(min=0.6), log_loss=Bound(max=0.9)), label, score)
    assert verdict.check == "gates"
    assert verdict.passed
    auc, loss = verdict.parts
    assert (auc.check, auc.threshold, auc.n) == ("auc", 0.6, 2000)
    assert auc.low < auc.figure < auc.high
    assert "at least 0.6 is asked for" in auc.sentence
    assert "2,000 rows" in auc.sentence
    assert (loss.check, loss.threshold) == ("log_loss", 0.9)


def test_a_figure_beyond_its_bound_fails_and_is_the_sentence_of_the_whole() -> None:
    label, score = draw()
    verdict = judge(GatesSpec(auc=Bound(min=0.99), brier=Bound(max=0.5)), label, score)
    assert verdict.outcome is Outcome.FAIL
    assert [p.outcome for p in verdict.parts] == [Outcome.FAIL, Outcome.PASS]
    assert verdict.sentence.startswith("AUC is 0.7")


def test_what_could_not_be_measured_is_inconclusive() -> None:
    score = np.full(50, 0.4)
    verdict = judge(GatesSpec(auc=Bound(min=0.0), brier=Bound(max=1.0)), np.zeros(50), score)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.parts[0].figure is None
    assert "could not be measured" in verdict.sentence


def found(value: float, low: float, high: float) -> Evaluation:
    return Evaluation({"auc": Estimate(value, low, high, 100)})


@pytest.mark.parametrize(
    ("interval", "outcome"),
    [
        ((0.9, 0.85, 0.95), Outcome.PASS),
        ((0.9, 0.75, 0.95), Outcome.INCONCLUSIVE),
        ((0.7, 0.60, 0.85), Outcome.FAIL),
    ],
)
def test_a_confident_bound_is_held_by_the_intervals_end(interval, outcome) -> None:
    spec = GatesSpec(auc=Bound(min=0.8, confident=True))
    assert decide(spec, found(*interval), label=[], candidate=[]).outcome is outcome


def test_without_a_champion_there_is_no_part_for_the_comparison() -> None:
    label, score = draw()
    spec = GatesSpec(auc=Bound(min=0.5), against_champion=AgainstChampion("auc", 0.01))
    assert [p.check for p in judge(spec, label, score).parts] == ["auc"]


@pytest.mark.parametrize("metric", ["auc", "log_loss", "recall", "average_precision"])
def test_a_candidate_worse_than_the_champion_by_more_than_the_margin_fails(metric: str) -> None:
    label, good = draw(noise=0.2)
    _, bad = draw(noise=0.6)
    spec = GatesSpec(against_champion=AgainstChampion(metric, 0.01))
    worse = judge(spec, label, bad, champion=good)
    assert worse.outcome is Outcome.FAIL
    assert worse.parts[0].figure < -0.01
    assert "worse than the champion's" in worse.sentence
    assert judge(spec, label, good, champion=bad).passed
    assert judge(spec, label, good, champion=good).passed


def test_with_nothing_to_check_the_candidate_must_still_beat_chance() -> None:
    label, score = draw()
    assert judge(GatesSpec(), label, score).passed
    first = GatesSpec(against_champion=AgainstChampion("auc"))
    assert judge(first, label, score).parts[0].check == "auc"
    noise = np.random.default_rng(1).random(len(label))
    assert not judge(GatesSpec(), label, noise).passed


def test_a_bias_gate_fails_on_unequal_treatment_and_passes_on_equal() -> None:
    label, score = draw(4000)
    half = np.arange(4000) % 2
    spec = GatesSpec(bias=(Bias("sex", "demographic_parity_difference", 0.1),))
    fair = judge(spec, label, score, groups={"sex": half})
    assert fair.passed
    unfair = judge(spec, label, np.clip(score + 0.3 * half, 0, 1), groups={"sex": half})
    assert unfair.outcome is Outcome.FAIL
    assert unfair.parts[0].check == "bias.sex.demographic_parity_difference"


def test_a_group_without_the_rows_it_needs_makes_the_bias_gate_inconclusive() -> None:
    label, score = draw(200)
    group = np.where(label > 0, "a", "b")
    spec = GatesSpec(bias=(Bias("g", "equal_opportunity_difference", 1.0),))
    assert judge(spec, label, score, groups={"g": group}).outcome is Outcome.INCONCLUSIVE
    with pytest.raises(BadInput, match="'g'"):
        judge(spec, label, score)


@given(st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_a_gate_never_passes_with_a_figure_beyond_its_bound(value, bound, confident) -> None:
    low, high = max(0.0, value - 0.1), min(1.0, value + 0.1)
    for spec, beyond in (
        (GatesSpec(auc=Bound(min=bound, confident=confident)), value < bound),
        (GatesSpec(auc=Bound(max=bound, confident=confident)), value > bound),
    ):
        verdict = decide(spec, found(value, low, high), label=[], candidate=[])
        assert verdict.failed == beyond
        assert not (verdict.passed and beyond)


def test_a_candidate_must_keep_the_golden_set() -> None:
    label, score = draw()
    golden, good = draw(300, noise=0.1, seed=1)
    bad = 1 - good
    measured = evaluate(label, score, SPEC)

    def kept(anchor: Anchor, candidate: np.ndarray, champion: np.ndarray | None) -> Verdict:
        anchored = Anchored(golden, candidate, champion)
        spec = GatesSpec(auc=Bound(min=0.6), anchor=anchor)
        return decide(spec, measured, label=label, candidate=score, anchored=anchored)

    assert kept(Anchor("golden.csv"), good, good).passed
    lost = kept(Anchor("golden.csv", margin=0.01), bad, good)
    assert lost.failed
    assert lost.sentence.startswith("golden set: AUC is worse than the champion's")
    assert lost.parts[-1].check == "anchor.against_champion"
    assert kept(Anchor("golden.csv", min=0.9, margin=None), bad, None).failed
    assert kept(Anchor("golden.csv", min=0.9), good, good).passed
    assert kept(Anchor("golden.csv"), good, None).passed
    empty = Anchored(golden[:0], good[:0], None)
    spec = GatesSpec(auc=Bound(min=0.6), anchor=Anchor("golden.csv"))
    none = decide(spec, measured, label=label, candidate=score, anchored=empty)
    assert none.outcome is Outcome.INCONCLUSIVE
