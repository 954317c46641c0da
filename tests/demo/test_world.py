"""The demo's world: the same however time is cut, and a story that a real model tells."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from sklearn.metrics import precision_score, recall_score

from homeostat.core.errors import BadInput
from homeostat.demo.project import fraud
from homeostat.demo.world import SCHEMA, World

DAY = timedelta(days=1)
START = datetime(2026, 3, 2, tzinfo=UTC)
SHIFT = START + 10 * DAY
PARAMS = {"n_estimators": 80, "learning_rate": 0.1, "num_leaves": 15, "min_child_samples": 50}


@pytest.fixture(scope="module")
def world() -> World:
    return World(7, per_hour=500, shift_at=SHIFT)


@settings(deadline=None, max_examples=20)
@given(cuts=st.lists(st.integers(0, 6 * 3_600_000_000), max_size=6))
def test_the_rows_are_the_same_however_time_is_cut(cuts: list[int]) -> None:
    world, end = World(3, per_hour=50, shift_at=START + timedelta(hours=2)), 6
    edges = [
        START,
        *(START + timedelta(microseconds=c) for c in sorted(cuts)),
        START + timedelta(hours=end),
    ]
    whole = World(3, per_hour=50, shift_at=START + timedelta(hours=2)).transactions(
        START, START + timedelta(hours=end)
    )
    parts = [world.transactions(a, b) for a, b in itertools.pairwise(edges)]
    assert_frame_equal(pl.concat(parts), whole)


def test_another_seed_is_another_world() -> None:
    one, two = (World(seed).transactions(START, START + DAY / 24) for seed in (1, 2))
    assert not one.equals(two)


def test_before_the_shift_the_world_does_not_know_of_it() -> None:
    calm = World(7, per_hour=500).transactions(SHIFT - DAY, SHIFT)
    assert_frame_equal(
        World(7, per_hour=500, shift_at=SHIFT).transactions(SHIFT - DAY, SHIFT), calm
    )


def test_rows_are_complete_ordered_and_named_once(world: World) -> None:
    rows = world.transactions(START, START + DAY)
    assert dict(rows.schema) == SCHEMA
    assert rows["TRANSACTION_ID"].is_unique().all()
    assert rows["TX_DATETIME"].is_sorted()
    assert rows.null_count().sum_horizontal().item() == 0
    assert rows.height == pytest.approx(24 * 500, rel=0.03)
    assert 0.02 < rows["TX_FRAUD"].mean() < 0.04  # type: ignore[operator]


def test_no_time_at_all_is_an_empty_table(world: World) -> None:
    assert world.transactions(START, START).schema == pl.Schema(SCHEMA)


def test_a_shift_off_the_hour_is_refused() -> None:
    with pytest.raises(BadInput, match="on the hour"):
        World(1, shift_at=START + timedelta(minutes=5))


def test_features_need_no_label_and_are_finite(world: World) -> None:
    rows = world.transactions(SHIFT, SHIFT + DAY)
    asked = fraud.features(rows.drop("TX_FRAUD")).select(list(fraud.FEATURES))
    assert np.isfinite(asked.to_numpy()).all()
    assert_frame_equal(asked, fraud.features(rows).select(list(fraud.FEATURES)))


def matrix(rows: pl.DataFrame) -> tuple[Any, Any]:
    table = fraud.features(rows)
    return table.select(list(fraud.FEATURES)).to_numpy(), table["TX_FRAUD"].to_numpy()


def fitted(X: Any, y: Any) -> Any:
    return fraud.fit(SimpleNamespace(X=X, y=y, seed=0), PARAMS)


def alerts(model: Any, X: Any) -> Any:
    return model.predict_proba(X)[:, 1] >= 0.5


@pytest.mark.filterwarnings("ignore:X does not have valid feature names:UserWarning")
def test_detection_falls_with_the_shift_and_a_day_of_labels_brings_it_back(world: World) -> None:
    old = matrix(world.transactions(START, START + 8 * DAY))
    frozen = fitted(*old)
    X, y = matrix(world.transactions(SHIFT - 2 * DAY, SHIFT))
    assert 0.83 < recall_score(y, alerts(frozen, X)) < 0.91
    assert precision_score(y, alerts(frozen, X)) > 0.85

    new = matrix(world.transactions(SHIFT, SHIFT + 1.5 * DAY))
    X, y = matrix(world.transactions(SHIFT + 2 * DAY, SHIFT + 4 * DAY))
    assert 0.28 < recall_score(y, alerts(frozen, X)) < 0.40
    again = fitted(*(np.concatenate(pair) for pair in zip(old, new, strict=True)))
    assert recall_score(y, alerts(again, X)) > 0.80
    assert precision_score(y, alerts(again, X)) > 0.75


@pytest.mark.filterwarnings("ignore:X does not have valid feature names:UserWarning")
def test_the_bad_candidate_is_as_good_offline_and_worse_on_what_requests_carry(
    world: World,
) -> None:
    raw = world.transactions(START, START + 7 * DAY)
    later = world.transactions(START + 7 * DAY, START + 8 * DAY)
    names = list(fraud.FEATURES)
    tidied = fraud.features_in_euros(raw)
    bad = fitted(tidied.select(names).to_numpy(), tidied["TX_FRAUD"].to_numpy())
    X, y = matrix(later)
    offline = bad.predict_proba(fraud.features_in_euros(later).select(names).to_numpy())[:, 1]
    assert recall_score(y, offline >= 0.5) > 0.83
    excess = log_losses(y, bad.predict_proba(X)[:, 1]) - log_losses(y, offline)
    assert excess.mean() > 0.02


def log_losses(y: Any, score: Any) -> Any:
    score = np.clip(score, 1e-7, 1 - 1e-7)
    return -np.where(y == 1, np.log(score), np.log1p(-score))
