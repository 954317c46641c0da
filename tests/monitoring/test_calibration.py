"""Monitors replayed on a quiet history: how often they alarm, and how late they see a shift."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import numpy as np
import polars as pl
import pytest

from homeostat.core.duration import Duration
from homeostat.core.errors import BadInput
from homeostat.core.events import Recorded, decode, encode
from homeostat.monitoring.calibration import (
    START,
    History,
    Setting,
    delays,
    from_reference,
    rates,
    solve,
    standard_shifts,
)
from homeostat.monitoring.certificate import Calibrated
from homeostat.monitoring.levels import Levels, nominal
from homeostat.monitoring.model import UNION
from homeostat.monitoring.spec import Drift, MonitoringSpec, Quality
from homeostat.monitoring.window import Reference

FEATURES = ("a", "b", "c")
SPEC = MonitoringSpec(
    window=Duration(days=1),
    drift=Drift(false_alarms_per_month=1),
    quality=Quality("auc", min=0.6),
)


@pytest.fixture(scope="module")
def quiet() -> tuple[History, Setting]:
    random = np.random.default_rng(0)
    x = random.normal(size=(4000, 3)).astype(np.float32)
    score = 1 / (1 + np.exp(-(x[:, 0] + x[:, 1])))
    table = pl.DataFrame(x, schema=list(FEATURES)).with_columns(
        score=pl.Series(score.astype(float)), label=pl.Series((random.random(4000) < score) * 1.0)
    )
    reference = Reference.build(table, FEATURES, SPEC)
    history = from_reference(table, FEATURES, "1")
    return history, Setting(reference, SPEC, "1", 300, timedelta(days=1))


def test_quiet_streams_keep_to_the_budget_and_the_interval_says_how_sure_that_is(
    quiet: tuple[History, Setting],
) -> None:
    found = rates(*quiet, 4, np.random.default_rng(1))
    assert [r.monitor for r in found] == ["drift", "data", "quality"]
    for rate in found:
        assert rate.months == pytest.approx(4)
        assert rate.low <= rate.per_month <= rate.high
        assert rate.low <= 1 / 3
    again = rates(*quiet, 4, np.random.default_rng(1))
    assert again == found
    assert rates(*quiet, 0.1, np.random.default_rng(1))[0].high > 30


def test_large_shifts_are_seen_and_the_delay_counts_the_maturing_of_labels(
    quiet: tuple[History, Setting],
) -> None:
    _, setting = quiet
    known = standard_shifts(setting)
    some = {name: known[name] for name in known if "1 standard" in name or "30%" in name}
    found = {d.monitor: d for d in delays(*quiet, some, 2, np.random.default_rng(2))}
    assert found["drift"].seen == 2
    assert found["drift"].median == setting.spec.window.total_seconds()
    assert found["quality"].seen == 2
    assert (found["quality"].median or 0) >= 2 * setting.spec.window.total_seconds()


@pytest.mark.slow
def test_labels_that_take_longer_than_the_patience_hide_neither_alarms_nor_shifts(
    quiet: tuple[History, Setting],
) -> None:
    history, setting = quiet
    quality = Quality("auc", min=0.6, window=Duration(days=1))
    spec = msgspec.structs.replace(SPEC, window=Duration(hours=12), quality=quality)
    slow = setting._replace(spec=spec, matures=timedelta(days=30))
    known = standard_shifts(slow)
    swapped = {name: known[name] for name in known if "30%" in name}
    (found,) = delays(history, slow, swapped, 1, np.random.default_rng(2))
    assert found.seen == 1
    assert (found.median or 0) >= timedelta(days=30).total_seconds()
    # and a month before the first final label is no month without a false alarm
    nervous = msgspec.structs.replace(quality, min=0.99)
    slow = slow._replace(spec=msgspec.structs.replace(spec, quality=nervous))
    alarms = {r.monitor: r.alarms for r in rates(history, slow, 0.2, np.random.default_rng(3))}
    assert alarms["quality"] == 1


def test_levels_are_solved_for_the_budget_and_never_looser_than_it_allows(
    quiet: tuple[History, Setting],
) -> None:
    levels, found = solve(*quiet, 4, 0)
    for rate in found:
        assert (rate.alarms + 1) / rate.months <= 1 / 3 or rate.level < nominal(SPEC)
        assert getattr(levels, rate.monitor) == rate.level <= 0.05
    with pytest.raises(BadInput, match="--months"):
        solve(*quiet, 2, 0)


def test_too_short_a_history_is_refused(quiet: tuple[History, Setting]) -> None:
    history, setting = quiet
    short = history._replace(rows=history.rows.head(50))
    with pytest.raises(BadInput, match="too short"):
        rates(short, setting, 1, np.random.default_rng(0))


def test_a_certificate_reads_back_from_the_log_as_it_was(quiet: tuple[History, Setting]) -> None:
    found = Calibrated(
        "1", "log", START, START, 300, 1.0, rates(*quiet, 0.1, np.random.default_rng(0))
    )
    tag, body = encode(found)
    assert decode(Recorded("m", 1, START, tag, body), UNION) == found
    assert Levels().of("drift", SPEC) == nominal(SPEC)
    assert Levels(drift=0.01).of("drift", SPEC) == 0.01
