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
from homeostat.monitoring.alerts.decide import decide
from homeostat.monitoring.calibration.certificate import Calibrated
from homeostat.monitoring.calibration.history import START, History, Rows, Setting, from_reference
from homeostat.monitoring.calibration.levels import Levels, nominal
from homeostat.monitoring.calibration.measure import delays, rate_of, rates, solve
from homeostat.monitoring.calibration.replay import Replay
from homeostat.monitoring.calibration.shifts import Shift, emptied, moved, standard_shifts
from homeostat.monitoring.model import UNION, AlertRaised, MonitorState, evolve
from homeostat.monitoring.spec import Drift, MonitoringSpec, Quality
from homeostat.monitoring.window import Reference, observe, quality_since

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


@pytest.mark.parametrize(
    ("rows", "drift"),
    [
        (600, Drift(false_alarms_per_month=20, by=("d",))),
        (150, Drift(false_alarms_per_month=20)),
        (600, Drift(false_alarms_per_month=20, tests=("ks", "js"))),
    ],
)
def test_what_is_counted_is_what_the_monitors_would_raise(rows: int, drift: Drift) -> None:
    random = np.random.default_rng(5)
    x = random.normal(size=(3000, 3)).astype(np.float32)
    x[random.random(3000) < 0.02, 2] = np.nan
    score = 1 / (1 + np.exp(-(x[:, 0] + x[:, 1])))
    table = pl.DataFrame(x, schema=list(FEATURES)).with_columns(
        d=pl.Series(random.integers(0, 2, 3000).astype(np.float32)),
        score=pl.Series(score.astype(float)),
        label=pl.Series((random.random(3000) < score) * 1.0),
    )
    spec = msgspec.structs.replace(SPEC, drift=drift, quality=Quality("auc", min=0.78))
    names = (*FEATURES, "d")
    reference = Reference.build(table, names, spec)
    history = from_reference(table, names, "1", sliced=True)
    setting = Setting(reference, spec, "1", rows, timedelta(days=1.5), block=7)
    shift = emptied(0.1) if rows == 600 else moved(0.8, np.ones(4))
    found = Replay(history, setting).stream(12, np.random.default_rng(7), None, shift, 5)
    assert [raised for raised, _ in found] == _watched_whole(history, setting, 12, shift, 5)


def _watched_whole(
    history: History, setting: Setting, count: int, shift: Shift, since: int
) -> list[set[str]]:
    """The same draws, as tables of a prediction log, through what watches in production."""
    random, replay = np.random.default_rng(7), Replay(history, setting)
    seed, spec, state = int(random.integers(2**31)), setting.spec, MonitorState()
    found, log = [], history.rows.clear()
    for i in range(count):
        start, at = START + i * spec.window, replay._draw(random, history.rows.height)
        end = start + spec.window
        rows = Rows.of(history.rows[at])
        if i >= since:
            rows = shift(rows, np.random.default_rng(seed))
        each = spec.window / (setting.rows + 1)
        times = [start + each * (j + 1) for j in range(setting.rows)]
        log = log.vstack(
            history.rows[at].with_columns(
                time=pl.Series(times, dtype=pl.Datetime("us", "UTC")),
                features=pl.Series(rows.features.tolist(), dtype=pl.List(pl.Float32)),
            )
        )
        until = end - setting.matures
        final = pl.col("time").is_between(quality_since(spec, until), until, closed="left")
        window = observe(
            log,
            setting.reference,
            spec,
            start=start,
            end=end,
            version="1",
            matured=log.filter(final),
            before=state.evidence,
        )
        events = decide(state, window, spec, end)
        for event in (window, *events):
            state = evolve(state, event, end)
        found.append({e.kind for e in events if isinstance(e, AlertRaised)})
    assert any(found)
    return found


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


def test_a_budget_that_was_solved_for_is_kept_on_traffic_that_nothing_was_solved_on(
    quiet: tuple[History, Setting],
) -> None:
    history, setting = quiet
    levels, _ = solve(history, setting, 6, 0)
    random = np.random.default_rng(8)
    x = random.normal(size=(40_000, 3)).astype(np.float32)
    score = 1 / (1 + np.exp(-(x[:, 0] + x[:, 1])))
    table = pl.DataFrame(x, schema=list(FEATURES)).with_columns(
        score=pl.Series(score.astype(float)), label=pl.Series((random.random(40_000) < score) * 1.0)
    )
    fresh = from_reference(table, FEATURES, "1")
    found = rates(fresh, setting, 24, random, levels)
    alarms = sum(r.alarms for r in found)
    assert rate_of("drift", alarms, 24, 0.0).low <= setting.spec.drift.false_alarms_per_month


def test_rows_that_hang_together_need_a_level_far_below_the_nominal_one_and_get_it(
    quiet: tuple[History, Setting],
) -> None:
    history, setting = quiet
    often = history._replace(rows=history.rows.sort((pl.col("label") - pl.col("score")).abs()))
    quality = Quality("log_loss", max=0.5)
    setting = setting._replace(
        spec=msgspec.structs.replace(SPEC, quality=quality), rows=300, block=25
    )
    before = {r.monitor: r for r in rates(often, setting, 6, np.random.default_rng(0))}
    assert before["quality"].per_month > 1
    levels, found = solve(often, setting, 6, 0)
    (after,) = [r for r in found if r.monitor == "quality"]
    assert after.per_month < before["quality"].per_month / 2
    assert levels.of("quality", setting.spec) < 0.25 * nominal(setting.spec)


def test_a_monitor_that_no_level_keeps_to_the_budget_is_named(
    quiet: tuple[History, Setting],
) -> None:
    history, setting = quiet
    floor = Quality("log_loss", max=0.01)  # never met: an alarm that does not end
    setting = setting._replace(spec=msgspec.structs.replace(SPEC, quality=floor))
    levels, found = solve(history, setting, 6, 0)
    made = Calibrated("1", "log", START, START, 300, 1.0, found, levels=levels, solved=True)
    (told,) = made.beyond
    assert told.startswith("no level, down to 1 in 9e+13, keeps the monitor of quality to its part")
    assert "quality.window" in told
    kept = msgspec.structs.replace(made, rates=found[:2], budget=100.0)
    assert kept.beyond == ()


def test_features_of_a_period_are_replayed_although_the_test_set_is_one_odd_day_of_it() -> None:
    random = np.random.default_rng(9)
    days = np.repeat([0.0, 1.0], [3500, 500])  # the test set is the last day
    table = pl.DataFrame({"a": random.normal(size=4000) + 3 * days, "b": days}).with_columns(
        score=pl.when(pl.col("b") > 0).then(pl.Series(random.random(4000))),
        label=pl.when(pl.col("b") > 0).then(pl.Series(random.integers(0, 2, 4000) * 1.0)),
    )
    spec = msgspec.structs.replace(SPEC, quality=None)
    setting = Setting(Reference.build(table, ("a", "b"), spec), spec, "1", 300, timedelta(days=1))
    whole = from_reference(table, ("a", "b"), "1")
    drift, _ = rates(whole, setting, 1, random)
    assert (drift.alarms, drift.open) == (0, 0.0)
    shifts = {name: s for name, s in standard_shifts(setting).items() if s[0] == "drift"}
    assert all(d.seen == d.episodes == 3 for d in delays(whole, setting, shifts, 3, random))
    # a monitor that never stops alarming is told from one that seldom errs
    odd = from_reference(table, ("a", "b"), "1", sliced=True)
    drift, _ = rates(odd, setting, 1, random)
    assert drift.alarms == 1
    assert drift.stuck
    late = delays(odd, setting, shifts, 3, random)
    assert [(d.seen, d.episodes, d.already) for d in late] == [(0, 0, 3)] * 2


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
