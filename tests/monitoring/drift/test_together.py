"""All features together, over windows: what no column shows, and no more false alarms for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import polars as pl
import pytest

from homeostat.core.verdict import Outcome
from homeostat.monitoring.alerts.decide import decide
from homeostat.monitoring.drift.together import Together
from homeostat.monitoring.model import AlertRaised, Evidence, MonitorState, evolve
from homeostat.monitoring.spec import Drift, MonitoringSpec
from homeostat.monitoring.window import Reference, observe

START, HOUR = datetime(2026, 1, 1, tzinfo=UTC), timedelta(hours=1)
SPEC = MonitoringSpec(drift=Drift(joint=True))
NAMES = tuple("abcd")
Rows = np.ndarray


def rows(n: int, seed: int, bond: float = 0.9) -> Rows:
    """Four columns, each standard normal whatever the bond between them."""
    random = np.random.default_rng(seed)
    common = random.normal(size=(n, 1))
    return np.sqrt(bond) * common + np.sqrt(1 - bond) * random.normal(size=(n, 4))


@pytest.fixture(scope="module")
def reference() -> Reference:
    x = rows(8000, 0)
    table = pl.DataFrame(x, schema=list(NAMES)).with_columns(
        score=pl.Series(1 / (1 + np.exp(-x[:, 0]))), label=pl.Series((x[:, 0] > 0) * 1.0)
    )
    return Reference.build(table, NAMES, SPEC)


def log(x: Rows, start: datetime) -> pl.DataFrame:
    n = len(x)
    return pl.DataFrame(
        {
            "id": [f"{start}/{i}" for i in range(n)],
            "time": [start + HOUR * (i + 0.5) / n for i in range(n)],
            "version": "1",
            "arm": "champion",
            "features": pl.Series(x.tolist(), dtype=pl.List(pl.Float32)),
            "score": 1 / (1 + np.exp(-x[:, 0])),
            "error": pl.Series([None] * n, dtype=pl.String),
        }
    )


def test_features_that_come_apart_are_seen_though_none_of_them_moved(reference: Reference) -> None:
    state, raised = MonitorState(), []
    for hour in range(12):
        start = START + hour * HOUR
        x = rows(3000, 10 + hour, 0.9 if hour < 4 else 0.0)
        window = observe(
            log(x, start),
            reference,
            SPEC,
            start=start,
            end=start + HOUR,
            version="1",
            before=state.evidence,
        )
        events = decide(state, window, SPEC, window.end)
        for event in (window, *events):
            state = evolve(state, event, window.end)
        raised += [(hour, e) for e in events if isinstance(e, AlertRaised)]
    ((hour, alert),) = raised
    assert 4 <= hour <= 6
    assert (alert.kind, alert.severity) == ("drift", "info")
    assert "taken together the features moved" in alert.text
    assert not any(m.drifted for m in window.moved)
    assert window.joint is not None
    assert window.joint.n == 200  # what it costs does not grow with traffic
    assert window.joint in window.verdicts


def test_quiet_windows_alarm_no_more_than_declared_and_small_ones_say_nothing() -> None:
    found = Together.learn(rows(20_000, 1))
    assert found is not None
    evidence: tuple[Evidence, ...] = ()
    alpha, alarms = 1 / 20, 0
    for window in range(400):
        before = any(e.named for e in evidence)
        verdict, evidence = found.look(rows(200, 100 + window), 200, SPEC.drift, alpha, evidence)
        alarms += verdict.failed and not before
    assert alarms <= 400 * alpha
    verdict, kept = found.look(rows(5, 1), 5, SPEC.drift, alpha, evidence)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert kept == evidence
    # too little to learn from is nothing to judge by
    assert Together.learn(rows(100, 1)) is None
    assert Together.learn(rows(1000, 1)[:, :1]) is None


def test_missing_values_and_constant_columns_are_no_obstacle() -> None:
    x = np.column_stack((rows(4000, 2), np.ones(4000)))
    x[::7, 1] = np.nan
    found = Together.learn(x)
    assert found is not None
    assert np.isfinite(found.figures(x)).all()


def test_it_is_off_unless_declared() -> None:
    off = msgspec.structs.replace(SPEC, drift=Drift())
    table = pl.DataFrame(rows(1000, 3), schema=list(NAMES)).with_columns(score=0.5, label=1.0)
    assert Reference.build(table, NAMES, off).together is None
