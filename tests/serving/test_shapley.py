"""Shapley values, without a server."""

from __future__ import annotations

from itertools import permutations
from math import factorial

import numpy as np
import pytest

from homeostat.serving.runtime import Columns
from homeostat.serving.shapley import EXACT, Explanation, Vector, explain

RANDOM = np.random.default_rng(5)


def table(n: int, d: int) -> Columns:
    return {f"x{j}": RANDOM.normal(size=n).astype(np.float32) for j in range(d)}


def bent(columns: Columns) -> Vector:
    """No sum of functions of one input: neighbours multiply."""
    x = np.stack(list(columns.values()), axis=1).astype(np.float64)
    found: Vector = np.tanh(x[:, :-1] * x[:, 1:]).sum(axis=1) + np.sin(x).sum(axis=1)
    return found


def steep(columns: Columns) -> Vector:
    x = np.stack(list(columns.values()), axis=1).astype(np.float64)
    found: Vector = x @ np.arange(1, x.shape[1] + 1)
    return found


@pytest.mark.parametrize("d", [1, 2, 5, EXACT, EXACT + 1, 30])
def test_contributions_and_base_sum_to_the_score(d: int) -> None:
    background, row = table(40, d), table(1, d)
    found = explain(bent, row, background)
    assert found.base == pytest.approx(bent(background).mean())
    assert found.base + sum(found.contributions.values()) == pytest.approx(bent(row)[0])


@pytest.mark.parametrize("d", [3, 30])
def test_of_a_linear_model_each_is_the_weight_times_the_distance_from_the_mean(d: int) -> None:
    background, row = table(40, d), table(1, d)
    found = explain(steep, row, background)
    for j, (name, value) in enumerate(found.contributions.items()):
        away = float(row[name][0]) - background[name].astype(np.float64).mean()
        assert value == pytest.approx((j + 1) * away, abs=1e-6)
        assert found.errors[name] == pytest.approx(0, abs=1e-6)


def test_few_inputs_are_exact() -> None:
    d = 5
    background, row = table(20, d), table(1, d)
    expected = dict.fromkeys(row, 0.0)
    for order in permutations(row):  # the definition
        mixed = dict(background)
        before = bent(mixed).mean()
        for name in order:
            mixed[name] = np.broadcast_to(row[name], 20)
            after = bent(mixed).mean()
            expected[name] += (after - before) / factorial(d)
            before = after
    found = explain(bent, row, background)
    assert found.contributions == pytest.approx(expected)
    assert set(found.errors.values()) == {0.0}


def test_many_inputs_are_estimated_the_same_each_time_and_within_their_errors() -> None:
    d = EXACT + 1
    background, row = table(30, d), table(1, d)
    found = explain(bent, row, background)
    assert explain(bent, row, background) == found
    others = [explain(bent, row, background, seed) for seed in range(1, 40)]
    for name in row:
        mean = np.mean([other.contributions[name] for other in others])
        assert abs(found.contributions[name] - mean) < 4 * found.errors[name] + 1e-9


def test_what_the_model_does_not_look_at_adds_nothing() -> None:
    background, row = table(30, 12), table(1, 12)

    def first(columns: Columns) -> Vector:
        return np.tanh(columns["x0"]).astype(np.float64)

    found = explain(first, row, background)
    assert [name for name, value in found.contributions.items() if abs(value) > 1e-9] == ["x0"]
    assert isinstance(found, Explanation)
