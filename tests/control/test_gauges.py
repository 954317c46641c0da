"""What is shown at /metrics, from a world in which everything happens."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from homeostat.control.gauges import HELP, Labels, gauges
from homeostat.control.model import LoopEvent, RetrainingRefused, RunStarted, State, evolve
from homeostat.core.ports import Gauge
from homeostat.core.verdict import Outcome, Verdict
from homeostat.definition import Project
from homeostat.monitoring.model import AlertRaised, AlertResolved, Moved, WindowObserved
from homeostat.monitoring.quality.estimate.model import Estimated, Standing
from homeostat.rollout.model import Judged, RolledBack, Started, Stepped
from homeostat.testing.simulate.world import World

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def project() -> Project:
    return World(0).project


def fold(*events: LoopEvent) -> State:
    state = State()
    for seq, event in enumerate(events, 1):
        state = evolve(state, event, START + seq * HOUR, seq)
    return state


def window(n: int = 1, quality: Verdict | None = None, **more: object) -> WindowObserved:
    fine = Verdict("drift", Outcome.PASS, "no drift", n=10)
    start = START + (n - 1) * HOUR
    given: dict[str, object] = {"rows": 10, "errors": 1, "drift": fine, "quality": quality} | more
    data = Verdict("data", Outcome.PASS, "fine", n=10)
    return WindowObserved(start, start + HOUR, "1", data=data, **given)  # type: ignore[arg-type]


def shown(state: State, **more: object) -> dict[tuple[str, ...], float]:
    """Name and labels (without the model's) -> value."""
    found = gauges(state, project(), now=START + 24 * HOUR, **more)  # type: ignore[arg-type]
    assert all(g.labels["model"] == project().name for g in found)
    return {_key(g): g.value for g in found}


def _key(gauge: Gauge) -> tuple[str, ...]:
    return (gauge.name, *(v for k, v in gauge.labels.items() if k != "model"))


def test_each_name_has_one_help_and_one_kind() -> None:
    moved = (Moved("amount", 0.3, 0.2, 0.1, True),)
    found = gauges(fold(window(moved=moved)), project(), now=START)
    for gauge in found:
        assert gauge.help == HELP[gauge.name]
        assert (gauge.kind == "counter") == gauge.name.endswith("_total")
    assert len({_key(g) for g in found}) == len(found)


def test_before_the_first_window_there_is_a_heartbeat_of_the_loop_and_none_of_the_monitors() -> (
    None
):
    found = shown(State(), problems=2)
    assert found["homeostat_loop_last_tick_timestamp_seconds",] == (START + 24 * HOUR).timestamp()
    assert found["homeostat_loop_problems",] == 2
    assert ("homeostat_monitor_last_window_timestamp_seconds",) not in found


def test_accuracy_is_shown_from_labels_and_is_missing_where_the_last_window_measured_none() -> None:
    measured = Verdict("quality", Outcome.PASS, "", figure=0.9, low=0.8, high=0.95, n=50)
    nothing = Verdict("quality", Outcome.INCONCLUSIVE, "no final labels yet", n=0)
    found = shown(fold(window(quality=measured)))
    assert found["model_accuracy", "1", "accuracy"] == 0.9
    assert found["homeostat_quality_low", "1", "accuracy"] == 0.8
    assert found["homeostat_quality_bound", "accuracy", "min"] == 0.75
    later = shown(fold(window(quality=measured), window(2, quality=nothing)))
    assert ("model_accuracy", "1", "accuracy") not in later
    assert later["homeostat_monitor_outcome", "quality"] == Outcome.INCONCLUSIVE.rank


def test_an_estimate_has_a_name_of_its_own_and_is_missing_where_it_was_withdrawn() -> None:
    guess = Estimated("accuracy", Standing.DOUBTFUL, 40, 0.8, 0.7, 0.9)
    found = shown(fold(window(estimate=guess)))
    assert found["homeostat_estimated_quality", "1", "accuracy"] == 0.8
    assert found["homeostat_estimate_standing", "1", "doubtful"] == 1
    assert ("model_accuracy", "1", "accuracy") not in found
    gone = Estimated("accuracy", Standing.WITHDRAWN, 40)
    found = shown(fold(window(estimate=gone)))
    assert ("homeostat_estimated_quality", "1", "accuracy") not in found
    assert found["homeostat_estimate_standing", "1", "withdrawn"] == 1


def test_a_guard_is_shown_as_it_is_now_and_not_as_it_was_recorded() -> None:
    before, now = (Verdict("quality", Outcome.INCONCLUSIVE, "", figure=f, n=9) for f in (0.2, 0.1))
    state = fold(Started("r", "2", "1", project().rollout), Judged("r", (before,), ""))
    found = shown(state, evidence={"2": (now,)})
    assert found["homeostat_guard_harm", "2", "quality"] == 0.1


def test_each_challenger_of_an_experiment_has_its_guards() -> None:
    plan = msgspec.structs.replace(project().rollout, strategy="experiment", share=20.0)
    guard = Verdict("quality", Outcome.PASS, "", figure=0.2, n=9)
    found = shown(
        fold(
            Started("r", "2", "1", plan, candidates=("2", "3")),
            Stepped("r", 0, 20.0, ""),
            Judged("r", (guard,), "", candidate="3"),
        )
    )
    assert found["homeostat_rollout_percent", "2"] == found["homeostat_rollout_percent", "3"] == 20
    assert found["homeostat_guard_harm", "3", "quality"] == 0.2


def test_what_moved_is_shown_with_its_bound() -> None:
    moved = (Moved("amount", 0.3, 0.2, 0.1, True), Moved("score", None, None, None, False))
    found = shown(fold(window(moved=moved)))
    assert found["model_drift_score", "1", "amount"] == 0.3
    assert found["homeostat_drift_low", "1", "amount"] == 0.2
    assert ("model_drift_score", "1", "score") not in found


def test_how_all_features_lie_together_is_shown_where_it_was_looked_at() -> None:
    joint = Verdict("joint", Outcome.FAIL, "", figure=0.4, threshold=0.1, n=200)
    found = shown(fold(window(joint=joint)))
    assert found["homeostat_joint_drift", "1"] == 0.4
    assert found["homeostat_monitor_outcome", "joint"] == Outcome.FAIL.rank
    assert ("homeostat_joint_drift", "1") not in shown(fold(window()))


def test_the_false_alarm_budget_is_used_by_the_windows_of_the_last_month() -> None:
    old = window(-24 * 40, alpha=0.5)
    found = shown(fold(old, window(1, alpha=0.01), window(2, alpha=0.02)))
    assert round(found["homeostat_false_alarm_budget_used",], 9) == 0.03
    assert found["homeostat_false_alarm_budget",] == 1.0


def test_alerts_are_open_until_they_are_resolved_and_are_counted_once() -> None:
    raised = AlertRaised("data@1", "data", "warning", "broken", "nulls", START)
    opened = shown(fold(window(), raised, raised))
    assert opened["homeostat_alert_open", "data", "warning"] == 1
    assert opened["homeostat_alerts_total", "data"] == 1
    assert opened["homeostat_alerts_total", "quality"] == 0
    closed = shown(fold(window(), raised, AlertResolved("data@1", "data", "fine")))
    assert ("homeostat_alert_open", "data", "warning") not in closed
    assert closed["homeostat_alerts_total", "data"] == 1


def test_a_rollout_is_shown_with_its_guards_and_its_end_is_counted_once() -> None:
    guard = Verdict("quality", Outcome.FAIL, "", figure=0.2, low=0.1, high=0.3, threshold=0.15, n=9)
    begun = (Started("r", "2", "1", project().rollout), Stepped("r", 0, 10.0, ""))
    found = shown(fold(*begun, Judged("r", (guard,), "")))
    assert found["homeostat_rollout_phase", "2", "step"] == 1
    assert found["homeostat_rollout_phase", "2", "promoted"] == 0
    assert found["homeostat_rollout_percent", "2"] == 10
    assert found["homeostat_guard_harm_low", "2", "quality"] == 0.1
    assert found["homeostat_guard_outcome", "2", "quality"] == Outcome.FAIL.rank
    over = RolledBack("r", "2", "policy", "harm")
    ended = shown(fold(*begun, over, over, RolledBack("another", "9", "policy", "")))
    assert ended["homeostat_rollouts_total", "rolled_back"] == 1
    assert ended["homeostat_rollouts_total", "promoted"] == 0


def test_retrainings_and_refusals_are_counted_by_their_trigger() -> None:
    found = shown(
        fold(
            RunStarted("a", "quality", "", START),
            RunStarted("b", "by hand", "", START),
            RetrainingRefused("quality", "cooldown"),
            RetrainingRefused("quality", "the data are broken"),
        )
    )
    assert found["homeostat_retrainings_total", "quality"] == 1
    assert ("homeostat_retrainings_total", "by hand") not in found
    assert found["homeostat_retraining_refusals_total", "quality"] == 2
    assert found["homeostat_retraining_refusals_total", "drift_with_harm"] == 0
    assert found["homeostat_retrainings_last_week",] == 1


def test_how_labels_come_is_shown_once_somebody_looked() -> None:
    found = shown(State(), labels=Labels(10, 8, {0.5: 60.0}))
    assert found["homeostat_label_coverage",] == 0.8
    assert found["homeostat_label_delay_seconds", "0.5"] == 60.0
    assert ("homeostat_label_coverage",) not in shown(State(), labels=Labels(0, 0))


def test_the_loop_shows_them_on_every_turn() -> None:
    world = World(1)
    for _ in range(12):
        world.traffic()
        world.deliver_labels()
        world.controllers[0].turn()
        world.pass_time()
    found = {_key(g): g.value for g in world.plane.gauges}
    beat = found["homeostat_loop_last_tick_timestamp_seconds",]
    assert beat == (world.clock.at - timedelta(minutes=10)).timestamp()


def test_the_reference_names_everything_that_is_shown() -> None:
    page = Path(__file__).parents[2] / "docs/reference/metrics.md"
    told = page.read_text(encoding="utf-8")
    assert [name for name, text in HELP.items() if f"| `{name}` | {text} |" not in told] == []
