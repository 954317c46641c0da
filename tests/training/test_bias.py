from __future__ import annotations

import numpy as np
import pytest

from homeostat.core.errors import BadInput
from homeostat.core.names import BIAS_METRICS
from homeostat.training import bias as bias_module
from homeostat.training.bias import bias


def draw(rows: int, rates: tuple[float, ...], seed: int) -> tuple[np.ndarray, ...]:
    """Groups whose alerts fall with these rates, whatever the label."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, len(rates), rows)
    label = (rng.random(rows) < 0.4).astype(float)
    score = (rng.random(rows) < np.array(rates)[group]).astype(float)
    return label, score, group


def test_figures_are_fairlearns() -> None:
    label = np.array([1, 1, 0, 0, 1, 1, 0, 0])
    score = np.array([0.9, 0.9, 0.9, 0.1, 0.9, 0.1, 0.1, 0.1])
    found = bias(label, score, ["a"] * 4 + ["b"] * 4)
    assert found["demographic_parity_difference"].value == pytest.approx(0.5)
    assert found["equal_opportunity_difference"].value == pytest.approx(0.5)
    assert found["equalized_odds_difference"].value == pytest.approx(0.5)


@pytest.mark.parametrize("rates", [(0.3, 0.3), (0.2, 0.5), (0.1, 0.1, 0.2)])
def test_intervals_hold_the_true_difference_at_least_as_often_as_stated(rates) -> None:
    # the intervals alone: fairlearn needs a tenth of a second for a figure
    true, covered, seeds = max(rates) - min(rates), dict.fromkeys(BIAS_METRICS, 0), 200
    for seed in range(seeds):
        sample = bias_module._sample(*draw(600, rates, seed), 0.5)
        for name in BIAS_METRICS:
            low, high = bias_module._interval(name, sample, 0.95)
            covered[name] += low <= true <= high
    assert min(covered.values()) >= 0.93 * seeds, covered


def test_one_group_is_not_compared_with_itself() -> None:
    found = bias([0, 1, 1], [0.1, 0.9, 0.4], ["a", "a", "a"])
    assert {e.value for e in found.values()} == {None}


def test_a_missing_group_is_a_group() -> None:
    found = bias([0, 1, 0, 1], [0.1, 0.9, 0.1, 0.1], ["a", "a", None, None])
    assert found["demographic_parity_difference"].value == pytest.approx(0.5)


def test_lengths_that_differ_are_bad_input() -> None:
    with pytest.raises(BadInput, match="do not match"):
        bias([0, 1], [0.1, 0.9], ["a"])
