from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn import metrics as sk

from homeostat.core.errors import BadInput
from homeostat.core.metrics import LOG_LOSS_MAX, difference, measure
from homeostat.core.names import METRICS


def draw(rows: int, seed: int, base: float = -2.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    score = expit(rng.normal(base, 1.5, rows))
    return (rng.random(rows) < score).astype(float), score


def test_figures_are_those_of_scikit_learn_with_and_without_ties() -> None:
    for digits in (16, 1):
        label, score = draw(3000, 1)
        score = score.round(digits).clip(0.01, 0.99)
        found = {m: e.value for m, e in measure(label, score, threshold=0.3).items()}
        alert = score >= 0.3
        assert found["auc"] == pytest.approx(sk.roc_auc_score(label, score))
        assert found["average_precision"] == pytest.approx(sk.average_precision_score(label, score))
        assert found["log_loss"] == pytest.approx(sk.log_loss(label, score))
        assert found["brier"] == pytest.approx(sk.brier_score_loss(label, score))
        assert found["accuracy"] == pytest.approx(sk.accuracy_score(label, alert))
        assert found["precision"] == pytest.approx(sk.precision_score(label, alert))
        assert found["recall"] == pytest.approx(sk.recall_score(label, alert))


def test_calibration_error_is_the_gap_between_promised_and_seen() -> None:
    score = np.full(1000, 0.2)
    label = (np.arange(1000) < 500).astype(float)
    found = measure(label, score, only=["calibration_error"])["calibration_error"]
    assert found.value == pytest.approx(0.3)
    assert found.low > 0.2


def test_precision_at_k_shares_ties_at_the_cut() -> None:
    label = np.array([1, 1, 0, 0, 0])
    score = np.array([0.9, 0.5, 0.5, 0.5, 0.1])
    # the first is taken, and one of the three at 0.5
    found = measure(label, score, k=2, only=["precision_at_k"])["precision_at_k"]
    assert found.value == pytest.approx((1 + 1 / 3) / 2)


@pytest.mark.parametrize("label", [[], [0.0] * 20, [1.0] * 20])
def test_what_is_not_defined_is_none_and_never_raises(label: list[float]) -> None:
    found = measure(label, [0.3] * len(label))
    assert set(found) == set(METRICS)
    assert found["auc"].value is None
    assert found["average_precision"].value is None
    assert found["precision"].value is None  # no alerts
    assert found["precision"].n == 0
    assert found["precision_at_k"].value is None  # fewer than k rows
    assert (found["recall"].value is None) == (sum(label) == 0)
    assert (found["brier"].value is None) == (len(label) == 0)


def test_only_what_is_asked_for_is_measured() -> None:
    assert list(measure([0, 1], [0.1, 0.9], only=["auc"])) == ["auc"]
    with pytest.raises(BadInput, match="no such metric"):
        measure([0, 1], [0.1, 0.9], only=["ROC"])


@pytest.mark.parametrize(
    ("label", "score", "says"),
    [
        ([0, 1], [0.1, np.nan], "row 1"),
        ([0, 1], [0.1, 7.0], "not probabilities"),
        ([0, np.nan], [0.1, 0.2], "not 0 or 1"),
        ([0, 1, 1], [0.1, 0.2], "do not match"),
    ],
)
def test_scores_that_are_no_probabilities_are_bad_input(
    label: list[float], score: list[float], says: str
) -> None:
    with pytest.raises(BadInput, match=says):
        measure(label, score)


def test_a_certain_mistake_costs_at_most_sixteen() -> None:
    found = measure([1.0, 1.0], [0.0, 0.0], only=["log_loss"])["log_loss"]
    assert found.value == pytest.approx(LOG_LOSS_MAX)
    assert found.high <= LOG_LOSS_MAX


def test_a_perfect_ranking_of_few_is_not_certain() -> None:
    label = np.array([0.0] * 50 + [1.0] * 3)
    found = measure(label, np.linspace(0, 1, 53))
    assert found["auc"].value == 1.0
    assert found["auc"].low < 0.5


rows = st.integers(0, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.sampled_from([0.0, 1.0]), min_size=n, max_size=n),
        st.lists(st.floats(0, 1), min_size=n, max_size=n),
    )
)


@settings(deadline=None, max_examples=300)
@given(rows, st.floats(0, 1), st.integers(1, 20))
def test_an_interval_holds_its_figure_within_the_metrics_range(
    sample: tuple[list[float], list[float]], threshold: float, k: int
) -> None:
    for name, found in measure(*sample, threshold=threshold, k=k).items():
        if found.value is None:
            assert (found.low, found.high) == (None, None)
            continue
        assert found.low - 1e-9 <= found.value <= found.high + 1e-9, name
        assert METRICS[name].low <= found.low
        assert found.high <= METRICS[name].high
        assert np.isfinite(found.high)
        assert found.n > 0


@pytest.mark.parametrize("rows", [200, 2000])
def test_intervals_cover_as_often_as_they_say(rows: int) -> None:
    seeds = 300
    true = {m: e.value for m, e in measure(*draw(400_000, 10**6), k=400_000 // 20).items()}
    # calibrated by construction; coverage of the paired interval is in test_paired
    true["calibration_error"] = 0.0
    covered = dict.fromkeys(METRICS, 0)
    for seed in range(seeds):
        for name, found in measure(*draw(rows, seed), k=rows // 20).items():
            covered[name] += found.low <= true[name] <= found.high
    # 95 % nominal; six standard errors below 0.93
    assert min(covered.values()) >= 0.87 * seeds, covered


def test_the_paired_difference_covers_and_is_narrower_than_two_intervals() -> None:
    seeds, covered = 300, dict.fromkeys(("auc", "average_precision", "log_loss", "recall"), 0)

    def world(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        label, score = draw(rows, seed)
        noise = np.random.default_rng(seed + 10**7).normal(0, 0.7, rows)
        return label, score, expit(np.log(score / (1 - score)) + noise)

    large = world(400_000, 10**6)
    for metric in covered:
        true = difference(metric, *large).value
        for seed in range(seeds):
            found = difference(metric, *world(500, seed))
            covered[metric] += found.low <= true <= found.high
    assert min(covered.values()) >= 0.87 * seeds, covered
    label, a, b = world(500, 0)
    alone = measure(label, a, only=["auc"])["auc"]
    paired = difference("auc", label, a, b)
    assert paired.high - paired.low < alone.high - alone.low


def test_equal_scores_differ_by_exactly_nothing() -> None:
    label, score = draw(500, 3)
    for metric in METRICS:
        found = difference(metric, label, score, score)
        assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_the_difference_is_undefined_where_the_metric_is() -> None:
    assert difference("auc", [0, 0], [0.1, 0.2], [0.1, 0.3]).value is None
