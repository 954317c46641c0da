"""What has changed, and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from homeostat.core.verdict import Outcome, Verdict
from homeostat.monitoring.alerts.change import change_point
from homeostat.monitoring.alerts.triage import Change, triage
from homeostat.monitoring.quality.model import Outcomes
from homeostat.monitoring.quality.outcomes import Meaning

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
MOVED = Verdict("drift", Outcome.FAIL, "a moved", n=100)
STILL = Verdict("drift", Outcome.PASS, "nothing moved", n=100)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def sample(n: int, seed: int, *, prior: float = 0.2, shift: float = 0.0, flip: bool = False):  # type: ignore[no-untyped-def]
    """A calibrated score of one normal feature per class."""
    random = np.random.default_rng(seed)
    y = (random.random(n) < prior).astype(float)
    x = random.normal(size=n) + 2 * y
    if shift:  # the inputs move and the outcomes follow them
        x = x + shift
        y = (random.random(n) < sigmoid(2 * x - 2 + np.log(0.25))).astype(float)
    return sigmoid(2 * x - 2 + np.log(0.25)), 1 - y if flip else y


@pytest.fixture(scope="module")
def meaning() -> Meaning:
    found = Meaning.learn(*sample(20_000, 0))
    assert found is not None
    return found


def seen(meaning: Meaning, score: np.ndarray, label: np.ndarray) -> Outcomes:
    found = meaning.outcomes(score, label, np.ones(label.size), confidence=0.999)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("world", "drift", "change"),
    [
        ({}, STILL, None),
        ({}, MOVED, Change.COVARIATE),
        ({"shift": -0.8}, MOVED, Change.COVARIATE),
        ({"prior": 0.5}, MOVED, Change.LABELS),
        ({"flip": True}, STILL, Change.CONCEPT),
        ({"flip": True, "shift": 1.0}, MOVED, Change.CONCEPT),
    ],
)
def test_the_cause_is_named_rightly(
    meaning: Meaning, world: dict[str, float], drift: Verdict, change: Change | None
) -> None:
    for seed in range(1, 11):
        labels = seen(meaning, *sample(4000, seed, **world))  # type: ignore[arg-type]
        found = triage(broken=None, drift=drift, moved=("a",), labels=labels)
        assert (found.change if found else None) == change, labels


def test_broken_data_come_first_and_without_labels_nothing_is_claimed(meaning: Meaning) -> None:
    labels = seen(meaning, *sample(4000, 1, flip=True))
    found = triage(broken="half have no a", drift=MOVED, moved=("a",), labels=labels)
    assert found is not None
    assert found.change is Change.DATA
    found = triage(broken=None, drift=MOVED, moved=("a",), labels=None)
    assert found is not None
    assert found.change is Change.MOVED
    assert triage(broken=None, drift=None, moved=(), labels=None) is None
    assert meaning.outcomes(np.ones(5), np.ones(5), np.ones(5)) is None


def test_coverage_counts_what_could_have_come(meaning: Meaning) -> None:
    score, label = sample(1000, 1)
    label[500:] = np.nan
    assert meaning.outcomes(score, label, np.ones(1000)).coverage == 0.5  # type: ignore[union-attr]
    blocked = np.where(np.isnan(label), 0.1, 1.0)
    assert meaning.outcomes(score, label, blocked).coverage == pytest.approx(500 / 550)  # type: ignore[union-attr]


def series(n: int, at: int, by: float, seed: int) -> list[tuple[datetime, float]]:
    random = np.random.default_rng(seed)
    y = random.normal(size=n) + np.where(np.arange(n) >= at, by, 0.0)
    return [(START + i * HOUR, float(v)) for i, v in enumerate(y)]


def test_the_change_point_is_where_the_mean_changed_and_quiet_series_have_none() -> None:
    for seed in range(20):
        found = change_point(series(60, 40, 3.0, seed))
        assert found is not None
        assert abs(found - (START + 40 * HOUR)) <= 2 * HOUR
    quiet = [change_point(series(100, 0, 0.0, seed)) for seed in range(300)]
    # a chance of at most 2 %: more than 14 of 300 has a chance below 1 in 300
    assert sum(found is not None for found in quiet) <= 14
    assert change_point([]) is None
    assert change_point([(START, 1.0)] * 10) is None
