"""Windows, live quality, and the alerts that follow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeostat.core.events import Recorded, decode, encode
from homeostat.core.metrics import Estimate
from homeostat.core.records import PREDICTIONS
from homeostat.core.verdict import Outcome, Verdict
from homeostat.monitoring.alerts.decide import data_broken, decide, drifted, harmed
from homeostat.monitoring.calibration.budget import MOST, alpha_per_window, looks_per_month
from homeostat.monitoring.model import (
    UNION,
    AlertNotified,
    AlertRaised,
    AlertResolved,
    MonitorState,
    WindowObserved,
    evolve,
)
from homeostat.monitoring.quality.live import judge
from homeostat.monitoring.quality.model import Harm
from homeostat.monitoring.spec import Drift, MonitoringSpec, Quality
from homeostat.monitoring.window import Reference, observe, windows_due

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
FEATURES = ("a", "b")
SPEC = MonitoringSpec(quality=Quality(metric="auc", min=0.7))


def traffic(n: int, seed: int, *, shift: float = 0.0, errors: int = 0) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 2)).astype(np.float32)
    x[:, 0] += shift
    score = 1 / (1 + np.exp(-(x[:, 0] + x[:, 1])))
    rows = pl.DataFrame(
        {
            "id": [str(i) for i in range(n)],
            "time": [START + HOUR * i / n for i in range(n)],
            "model": "m",
            "version": "1",
            "arm": "champion",
            "probability": 1.0,
            "latency": 0.001,
            "features": x.tolist(),
            "score": score,
            "error": None,
            "inputs": None,
            "propensity": 1.0,
        },
        schema=PREDICTIONS,
    )
    failed = pl.int_range(pl.len()) < errors
    return rows.with_columns(
        score=pl.when(failed).then(None).otherwise("score"),
        error=pl.when(failed).then(pl.lit("boom")).otherwise("error"),
    )


def labelled(rows: pl.DataFrame, *, swap: bool = False) -> pl.DataFrame:
    random = np.random.default_rng(9)
    y = random.random(rows.height) < rows["score"].fill_null(0.5).to_numpy()
    return rows.with_columns(label=pl.Series((y != swap).astype(float)))


@pytest.fixture(scope="module")
def reference() -> Reference:
    rows = labelled(traffic(5000, 1))
    x = np.array(rows["features"].to_list())
    table = pl.DataFrame(
        {"a": x[:, 0], "b": x[:, 1], "score": rows["score"], "label": rows["label"]}
    )
    return Reference.build(table, FEATURES, SPEC)


def look(reference: Reference, rows: pl.DataFrame, matured: pl.DataFrame | None = None):  # type: ignore[no-untyped-def]
    return observe(
        rows, reference, SPEC, start=START, end=START + HOUR, version="1", matured=matured
    )


@given(st.lists(st.integers(-100, 300), max_size=12), st.integers(1, 90), st.integers(1, 9))
def test_windows_never_overlap_nor_leave_gaps_whatever_the_clock_does(
    clock: list[int], minutes: int, most: int
) -> None:
    window, last, seen = timedelta(minutes=minutes), None, []
    for minute in clock:
        now = START + timedelta(minutes=minute)
        due = windows_due(last, now, window, START, most=most)
        assert len(due) <= most
        assert all(end <= now for _, end in due)
        seen += due
        last = due[-1][1] if due else last
    ends = [START, *(end for _, end in seen)]
    assert [start for start, _ in seen] == ends[:-1]
    assert all(end - start == window for start, end in seen)
    assert not windows_due(last or START, (last or START) - HOUR, window, START)


def test_a_quiet_window_passes(reference: Reference) -> None:
    rows = traffic(2000, 2)
    window = look(reference, rows, labelled(rows))
    assert [v.outcome for v in window.verdicts] == [Outcome.PASS] * 3
    assert window.quiet
    assert (window.rows, window.errors) == (2000, 0)


def test_no_rows_are_never_a_pass(reference: Reference) -> None:
    window = look(reference, traffic(2000, 2).clear())
    assert {v.outcome for v in window.verdicts} == {Outcome.INCONCLUSIVE}


def test_shadow_scores_and_rows_outside_of_the_window_do_not_count(reference: Reference) -> None:
    rows = traffic(1000, 2)
    shadow = rows.with_columns(arm=pl.lit("shadow"))
    before = rows.with_columns(pl.col("time") - HOUR)
    assert look(reference, pl.concat([shadow, before])).rows == 0


def test_moved_features_and_scores_are_named(reference: Reference) -> None:
    window = look(reference, traffic(2000, 3, shift=1.5))
    assert window.drift.failed
    assert {m.feature for m in window.moved if m.drifted} == {"a", "score"}
    assert window.largest_effect == pytest.approx(0.547, abs=0.05)


def test_errors_missing_values_and_lost_ranges_break_the_data(reference: Reference) -> None:
    assert "failed" in look(reference, traffic(1000, 3, errors=100)).data.sentence
    holes = traffic(1000, 3).with_columns(features=pl.Series([[float("nan"), 0.1]] * 1000))
    holes = holes.with_columns(pl.col("features").cast(pl.List(pl.Float32)))
    assert "have no a" in look(reference, holes).data.sentence
    far = look(reference, traffic(1000, 3, shift=100.0)).data
    assert far.failed
    assert "values of a are outside" in far.sentence


def test_malformed_requests_are_left_out_of_the_features(reference: Reference) -> None:
    rows = traffic(1000, 3, errors=5)
    short = pl.when(pl.int_range(pl.len()) < 5).then([]).otherwise("features")
    window = look(reference, rows.with_columns(short.cast(pl.List(pl.Float32)).alias("features")))
    assert window.drift.passed
    assert window.errors == 5


def test_a_window_reads_back_from_the_log_as_it_was(reference: Reference) -> None:
    rows = traffic(500, 3, shift=1.0)
    window = look(reference, rows, labelled(rows, swap=True))
    tag, body = encode(window)
    assert decode(Recorded("m", 1, START, tag, body), UNION) == window
    assert len(body) < 4000


def test_quality_fails_only_when_the_whole_interval_is_below_the_floor() -> None:
    random = np.random.default_rng(0)
    score = random.random(4000)
    label = (random.random(4000) < score).astype(float)
    # the true figure is 5/6
    for floor, outcome in ((0.9, Outcome.FAIL), (0.7, Outcome.PASS)):
        found, _ = judge(label, score, Quality("auc", min=floor), threshold=0.5)
        assert found.outcome is outcome
    few, _ = judge(label[:200], score[:200], Quality("auc", min=0.92), threshold=0.5, alpha=1e-4)
    assert few.outcome is Outcome.INCONCLUSIVE
    worse, _ = judge(label, score, Quality("log_loss", max=0.2), threshold=0.5)
    assert worse.failed


def test_too_few_labels_say_how_many() -> None:
    found, _ = judge(np.ones(7), np.ones(7), Quality("auc", min=0.7), threshold=0.5)
    assert found.outcome is Outcome.INCONCLUSIVE
    assert "7 final labels" in found.sentence
    one, _ = judge(np.zeros(700), np.ones(700), Quality("auc", min=0.7), threshold=0.5)
    assert one.outcome is Outcome.INCONCLUSIVE


def test_a_loss_against_the_baseline_is_harm_beyond_the_tolerance() -> None:
    random = np.random.default_rng(0)
    score = random.random(4000)
    label = (random.random(4000) < score).astype(float)
    spec = Quality("auc", tolerance=0.05)
    base = Estimate(0.95, 0.94, 0.96, 5000)
    verdict, harm = judge(label, score, spec, threshold=0.5, baseline=base)
    assert verdict.failed
    assert harm is not None
    assert harm.shown
    assert harm.low < harm.loss == pytest.approx(0.95 - 5 / 6, abs=0.02)
    verdict, harm = judge(label, score, spec, threshold=0.5, baseline=0.85)
    assert verdict.passed
    assert harm is not None
    assert not harm.shown


def window(i: int, *, drift: Outcome, data: Outcome, quality: Outcome, rows: int = 100,
           version: str = "1") -> WindowObserved:  # fmt: skip
    def verdict(check: str, outcome: Outcome) -> Verdict:
        return Verdict(check, outcome, f"{check} {outcome}", n=rows or None)

    failed = quality is Outcome.FAIL
    return WindowObserved(
        START + i * HOUR,
        START + (i + 1) * HOUR,
        version,
        rows,
        0,
        verdict("drift", drift),
        verdict("data", data),
        verdict("quality", quality),
        Harm("auc", 0.6, 0.9, 0.3, 0.25, 0.05, True, rows) if failed else None,
    )


def step(state: MonitorState, seen: WindowObserved) -> tuple[MonitorState, list[object]]:
    events = decide(state, seen, SPEC, seen.end)
    for event in (seen, *events):
        state = evolve(state, event, seen.end)
    return state, list(events)


P, F, I = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE  # noqa: E741


def test_drift_without_harm_is_recorded_and_pages_nobody() -> None:
    state, events = step(MonitorState(), window(0, drift=F, data=P, quality=P))
    assert [(e.kind, e.severity) for e in events] == [("drift", "info")]  # type: ignore[attr-defined]
    assert state.notices == ()
    assert drifted(state)
    assert harmed(state) is None


def test_what_moved_is_told_by_what_it_cost_and_not_by_how_far_it_moved() -> None:
    random = np.random.default_rng(11)
    spec = msgspec.structs.replace(SPEC, quality=Quality(metric="brier", max=0.12))

    def drawn(n: int, sure: float, beside: float) -> pl.DataFrame:
        """The model is sure where `a` is far from 0; `b` has no part in it."""
        a, b = random.normal(sure, 1, n), random.normal(beside, 1, n)
        score = 1 / (1 + np.exp(-2 * a))
        x = np.column_stack([a, b]).astype(np.float32)
        rows = traffic(n, 3).with_columns(
            features=pl.Series(x.tolist(), dtype=pl.List(pl.Float32)), score=pl.Series(score)
        )
        return rows.with_columns(label=pl.Series((random.random(n) < score) * 1.0))

    before = drawn(5000, 3.0, 0.0)
    x = np.array(before["features"].to_list())
    table = before.select("score", "label").with_columns(a=pl.Series(x[:, 0]), b=pl.Series(x[:, 1]))
    made = Reference.build(table, FEATURES, spec)
    rows = drawn(3000, 0.0, 9.0)
    window = observe(
        rows.drop("label"), made, spec, start=START, end=START + HOUR, version="1", matured=rows
    )
    costs = {m.feature: m.cost for m in window.moved if m.cost is not None}
    assert list(costs) == ["a", "b"]
    assert (costs["a"] or 0) > 0.05 > abs(costs["b"] or 0)
    effects = {m.feature: m.effect for m in window.moved}
    assert (effects["b"] or 0) > (effects["a"] or 0)
    state = evolve(MonitorState(), window, window.end)
    (alert,) = decide(state, window, spec, window.end)
    assert isinstance(alert, AlertRaised)
    told = alert.text.partition("by what their movement cost: ")[2]
    assert told.startswith("a by 0.87 (+0.08")
    # without harm there is nothing to share out
    quiet = observe(
        rows.drop("label"), made, spec, start=START, end=START + HOUR, version="1", matured=None
    )
    assert [m.cost for m in quiet.moved] == [None] * len(quiet.moved)
    assert quiet.moved[0].feature == "b"


def test_drift_with_harm_is_one_incident() -> None:
    state, _ = step(MonitorState(), window(0, drift=F, data=P, quality=I))
    state, events = step(state, window(1, drift=F, data=P, quality=F))
    assert {type(e) for e in events} == {AlertRaised, AlertResolved}
    assert [a.kind for a in state.open_alerts] == ["quality"]
    assert len(state.notices) == 1
    found = harmed(state)
    assert found is not None
    assert found.since == START + 2 * HOUR
    assert "a loss of 0.300, at least 0.250" in state.notices[0].text


def test_an_open_alert_is_not_raised_again_and_ends_when_quality_passes() -> None:
    state, _ = step(MonitorState(), window(0, drift=P, data=P, quality=F))
    state = evolve(state, AlertNotified(state.notices[0].key), START)
    state, events = step(state, window(1, drift=P, data=P, quality=F))
    assert events == []
    # a new champion: nothing is known of it, so no harm, but the incident is not over
    state, events = step(state, window(2, drift=P, data=P, quality=I, version="2"))
    assert events == []
    assert harmed(state) is None
    good = window(3, drift=P, data=P, quality=P, version="2")
    state, events = step(state, good)
    assert [type(e) for e in events] == [AlertResolved]
    assert state.open_alerts == ()
    assert state.notices[0].key.endswith("/resolved")


def test_broken_data_and_silence_are_warnings() -> None:
    state, events = step(MonitorState(), window(0, drift=P, data=F, quality=P))
    assert [(e.kind, e.severity) for e in events] == [("data", "warning")]  # type: ignore[attr-defined]
    assert data_broken(state) == "data fail"
    for i in (1, 2, 3):
        state, events = step(state, window(i, drift=I, data=I, quality=I, rows=0))
    assert [(e.kind, e.severity) for e in events] == [("traffic", "warning")]  # type: ignore[attr-defined]
    state, events = step(state, window(4, drift=P, data=P, quality=P))
    assert {e.kind for e in events} == {"data", "traffic"}  # type: ignore[attr-defined]
    assert data_broken(state) is None


def test_slices_of_few_requests_do_not_date_a_change() -> None:
    """Of how far traffic has moved, the change point is made."""

    def flagged(rows: pl.DataFrame, every: int) -> pl.DataFrame:
        flag = pl.when(pl.int_range(pl.len()) % every == 0).then(1.0).otherwise(0.0)
        wide = pl.concat_list("features", flag.cast(pl.Float32))
        return rows.with_columns(features=wide)

    old = labelled(flagged(traffic(5000, 1), 4))
    values = pl.DataFrame(old["features"].to_list(), schema=["a", "b", "flag"], orient="row")
    table = values.with_columns(old["score"], old["label"])
    found = []
    for by in ((), ("flag",)):
        spec = MonitoringSpec(drift=Drift(by=by))
        reference = Reference.build(table, ("a", "b", "flag"), spec)
        rows = flagged(traffic(600, 4), 300)
        window = observe(rows, reference, spec, start=START, end=START + HOUR, version="1")
        found.append(window.largest_effect)
    assert found[0] == found[1]


outcomes = st.sampled_from([P, F, I])


@settings(max_examples=60)
@given(st.lists(st.tuples(outcomes, outcomes, outcomes, st.booleans(), st.booleans()), max_size=12))
def test_deciding_or_folding_twice_changes_nothing(steps: list) -> None:  # type: ignore[type-arg]
    state, told = MonitorState(), set()
    for i, (drift, data, quality, newer, notify) in enumerate(steps):
        seen = window(i, drift=drift, data=data, quality=quality, version="2" if newer else "1")
        events = decide(state, seen, SPEC, seen.end)
        folded = evolve(state, seen, seen.end)
        assert decide(folded, seen, SPEC, seen.end) == events
        for event in (seen, *events):
            state = evolve(state, event, seen.end)
            assert evolve(state, event, seen.end) == state
        assert decide(state, seen, SPEC, seen.end) == []
        kinds = [a.kind for a in state.open_alerts]
        assert len(kinds) == len(set(kinds))
        assert (harmed(state) is None) or "quality" in kinds
        for notice in state.notices if notify else ():
            assert notice.key not in told
            told.add(notice.key)
            state = evolve(state, AlertNotified(notice.key), seen.end)


def test_the_budget_of_a_month_is_spread_over_its_windows() -> None:
    assert looks_per_month(HOUR) == 720
    assert alpha_per_window(1, HOUR) == pytest.approx(1 / 720)
    assert alpha_per_window(1, timedelta(days=7)) == MOST


def test_quiet_streams_stay_within_the_budget(reference: Reference) -> None:
    spec = MonitoringSpec(drift=Drift(false_alarms_per_month=36), window=HOUR)
    alarms = 0
    for seed in range(100):
        rows = traffic(300, 1000 + seed)
        found = observe(rows, reference, spec, start=START, end=START + HOUR, version="1")
        alarms += found.drift.failed
    # 100 windows at 5 %, of which drift has a third: more than 6 has a chance below 1 %
    assert alarms <= 6
