"""When the loop trains again, and what becomes of the result."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from homeostat.control import policy
from homeostat.control.model import (
    BY_HAND,
    CandidateDropped,
    ChampionChanged,
    LoopEvent,
    RetrainingRefused,
    Run,
    RunCrashed,
    RunFinished,
    RunStarted,
    State,
    evolve,
)
from homeostat.core.duration import Duration
from homeostat.core.verdict import Outcome, Verdict
from homeostat.core.version import Version
from homeostat.data.spec import DataSpec, Label
from homeostat.definition import Project, RetrainingSpec
from homeostat.monitoring.model import Figures, MonitorState, Period
from homeostat.monitoring.quality.model import Harm, Outcomes
from homeostat.monitoring.spec import MonitoringSpec, Quality
from homeostat.rollout.model import Started
from homeostat.training.spec import Split, TrainingSpec

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def project(**retraining: object) -> Project:
    week = Duration(days=7)
    return Project(
        "fraud",
        DataSpec("data.parquet", "t", "id", Label("y", week)),
        TrainingSpec("m:fit", Split(week, Duration(0), week)),
        monitoring=MonitoringSpec(quality=Quality("recall", min=0.7)),
        retraining=RetrainingSpec(**retraining),  # type: ignore[arg-type]
    )


def harmed(since: datetime = NOW - DAY, **state: object) -> State:
    """A champion whose live quality has failed since then."""
    quality = Verdict("quality", Outcome.FAIL, "recall 0.3 is below the floor", figure=0.3, n=100)
    monitor = MonitorState(version="1", quality=quality, harm_since=since, last_end=NOW)
    fields = {"champion": "1", "champion_since": NOW - 30 * DAY, "monitor": monitor, "seq": 9}
    return State(**(fields | state))  # type: ignore[arg-type]


def run(name: str, started: datetime, **fields: object) -> Run:
    return Run(name, "quality", "harm", started, started, **fields)  # type: ignore[arg-type]


def reason(state: State, declared: Project) -> str:
    (event,) = policy.retrain(state, declared, NOW)
    assert isinstance(event, RetrainingRefused)
    return event.reason


def test_shown_harm_starts_a_training_on_what_is_known_now() -> None:
    (event,) = policy.retrain(harmed(), project(), NOW)
    assert isinstance(event, RunStarted)
    assert (event.trigger, event.as_of, event.run) == ("quality", NOW, "run-10")


def test_a_model_that_does_no_harm_is_left_alone_however_much_the_traffic_moves() -> None:
    drift = Verdict("drift", Outcome.FAIL, "5 columns moved", n=1000)
    moved = MonitorState(version="1", drift=drift, drift_since=NOW - DAY)
    state = harmed(monitor=moved)
    assert policy.retrain(state, project(on=("quality", "drift_with_harm")), NOW) == []


def test_a_loss_that_nobody_declared_too_much_needs_drift_as_a_second_witness() -> None:
    fine = Verdict("quality", Outcome.PASS, "recall 0.8", figure=0.8, n=100)
    lost = Harm("recall", 0.8, 0.9, 0.1, 0.06, 0.045, shown=True, n=100)
    monitor = MonitorState(version="1", quality=fine, harm=lost, harm_since=NOW - DAY)
    assert policy.retrain(harmed(monitor=monitor), project(), NOW) == []
    drift = Verdict("drift", Outcome.FAIL, "5 columns moved", n=1000)
    both = msgspec.structs.replace(monitor, drift=drift, drift_since=NOW - DAY)
    (event,) = policy.retrain(harmed(monitor=both), project(), NOW)
    assert isinstance(event, RunStarted)
    assert event.trigger == "drift_with_harm"


def test_requests_that_failed_do_not_keep_a_harmed_model_from_training_but_values_do() -> None:
    failed = Verdict("errors", Outcome.FAIL, "20 % of the requests failed", n=100)
    nulls = Verdict("nulls:a", Outcome.FAIL, "30 % of rows have no a", n=100)

    def state(*parts: Verdict) -> State:
        data = Verdict("data", Outcome.FAIL, parts[0].sentence, n=100, parts=parts)
        before = harmed().monitor
        monitor = msgspec.structs.replace(before, data=data, data_since=NOW - HOUR)
        return harmed(monitor=monitor)

    (event,) = policy.retrain(state(failed), project(), NOW)
    assert isinstance(event, RunStarted)
    assert "no a" in reason(state(failed, nulls), project())


def test_harm_found_of_a_former_champion_says_nothing_of_this_one() -> None:
    assert policy.retrain(harmed(champion="2"), project(), NOW) == []


def test_a_trigger_that_is_not_declared_does_nothing() -> None:
    assert policy.retrain(harmed(), project(on=("schedule",), schedule=None), NOW) == []


def test_a_schedule_trains_when_its_time_has_come() -> None:
    declared = project(on=("schedule",), schedule="weekly")
    ended = run("run-1", NOW - 8 * DAY, finished=NOW - 8 * DAY, outcome="registered")
    quiet = State(seq=3, champion="1", runs={"run-1": ended})
    (event,) = policy.retrain(quiet, declared, NOW)
    assert isinstance(event, RunStarted)
    assert event.trigger == "schedule"
    assert policy.retrain(quiet, declared, NOW - 2 * DAY) == []


@pytest.mark.parametrize(
    ("state", "retraining", "words"),
    [
        (harmed(since=NOW - HOUR), {"wait": Duration(days=1)}, "labels of the harmed period"),
        (
            harmed(runs={"run-1": run("run-1", NOW - HOUR, finished=NOW - HOUR)}),
            {"cooldown": Duration(hours=6)},
            "cooldown of 6h",
        ),
        (harmed(trained=(NOW - DAY, NOW - 2 * DAY)), {"per_week": 2}, "budget of 2"),
        (harmed(fruitless=2), {"stop_after_no_gain": 2}, "brought no promotion"),
    ],
)
def test_a_training_that_is_not_admitted_is_refused_with_its_reason(
    state: State, retraining: dict[str, object], words: str
) -> None:
    assert words in reason(state, project(**retraining))


def test_broken_data_are_not_trained_on() -> None:
    broken = Verdict("data", Outcome.FAIL, "40 % of requests failed", n=100)
    state = harmed()
    monitor = msgspec.structs.replace(state.monitor, data=broken, data_since=NOW)
    assert "40 % of requests failed" in reason(
        msgspec.structs.replace(state, monitor=monitor), project()
    )


def test_a_refusal_is_recorded_once_per_rule_and_stretch_of_harm_whatever_it_quotes() -> None:
    declared = project()

    def state(share: int, since: datetime = NOW - DAY, **last: object) -> State:
        broken = Verdict("data", Outcome.FAIL, f"{share} % of the rows have no amount", n=100)
        found = harmed(since, **last)
        monitor = msgspec.structs.replace(found.monitor, data=broken, data_since=NOW)
        return msgspec.structs.replace(found, monitor=monitor)

    (event,) = policy.retrain(state(40), declared, NOW)
    assert isinstance(event, RetrainingRefused)
    assert "40 %" in event.reason
    assert policy.retrain(state(37, refusal=event), declared, NOW + HOUR) == []
    # another rule, or another stretch of harm, is news
    (other,) = policy.retrain(harmed(refusal=event, fruitless=2), declared, NOW + HOUR)
    assert isinstance(other, RetrainingRefused)
    (again,) = policy.retrain(state(37, NOW, refusal=event), declared, NOW + DAY)
    assert isinstance(again, RetrainingRefused)


def test_nothing_new_is_asked_for_while_a_run_or_a_candidate_is_under_way() -> None:
    assert policy.retrain(harmed(runs={"run-9": run("run-9", NOW)}), project(), NOW) == []
    assert policy.retrain(harmed(candidates=("2",)), project(), NOW) == []


def test_trainings_older_than_a_week_are_off_the_budget() -> None:
    state = harmed(trained=(NOW - 8 * DAY, NOW - 9 * DAY))
    (event,) = policy.retrain(state, project(per_week=1), NOW)
    assert isinstance(event, RunStarted)


def test_a_run_whose_process_is_gone_is_started_again_and_given_up_at_last() -> None:
    state = harmed(runs={"run-9": run("run-9", NOW)})
    assert policy.supervise(state, project(), NOW, alive=True) == []
    crashes = 0
    while True:
        (event,) = policy.supervise(state, project(), NOW, alive=False)
        state = evolve(state, event, NOW, state.seq + 1)
        if isinstance(event, RunFinished):
            break
        assert isinstance(event, RunCrashed)
        crashes += 1
    assert event.outcome == "failed"
    assert crashes == policy.MAX_CRASHES - 1
    assert state.open_run is None


def test_a_run_that_takes_too_long_is_failed() -> None:
    state = harmed(runs={"run-9": run("run-9", NOW - DAY)})
    (event,) = policy.supervise(state, project(), NOW, alive=True)
    assert isinstance(event, RunFinished)
    assert "longer than 6h" in event.sentence


def test_a_run_by_hand_is_its_persons_business() -> None:
    by_hand = msgspec.structs.replace(run("run-9", NOW - DAY), trigger=BY_HAND)
    assert policy.supervise(harmed(runs={"run-9": by_hand}), project(), NOW, alive=False) == []


def version(number: str) -> Version:
    return Version("fraud", number, f"run-{number}", NOW, "path", "sha256:0", {}, {}, {})


def test_the_first_version_takes_the_traffic_at_once() -> None:
    (event,) = policy.candidates(State(seq=4), project(), [version("1")], NOW)
    reason = "the first version that passed the gates"
    assert event == ChampionChanged("1", None, reason, version("1").servable())


def test_of_several_candidates_the_newest_is_rolled_out() -> None:
    state = harmed(candidates=("2", "3"))
    dropped, started, *_ = policy.candidates(state, project(), [version("2"), version("3")], NOW)
    assert isinstance(dropped, CandidateDropped)
    assert dropped.version == "2"
    assert isinstance(started, Started)
    assert (started.candidate, started.champion) == ("3", "1")


@pytest.mark.parametrize("wanted", ["refuse", "warn"])
def test_a_rollout_that_cannot_decide_is_refused_with_the_reason_or_marked(wanted: str) -> None:
    plan = msgspec.structs.replace(project().rollout, preflight=wanted)
    declared = msgspec.structs.replace(project(), rollout=plan)
    hopeless = Verdict("preflight", Outcome.FAIL, "preflight: needs 40d -> a margin of 1", n=9)
    state = harmed(candidates=("2",))
    event, *_ = policy.candidates(state, declared, [version("2")], NOW, hopeless)
    if wanted == "refuse":
        assert event == CandidateDropped("2", hopeless.sentence, hopeless, plan)
    else:
        assert isinstance(event, Started)
        assert event.preflight == hopeless


def test_a_candidate_waits_while_another_is_rolled_out() -> None:
    state = harmed(candidates=("2",))
    for event in policy.candidates(state, project(), [version("2")], NOW):
        state = evolve(state, event, NOW, state.seq + 1)
    waiting = msgspec.structs.replace(state, candidates=("3",))
    assert policy.candidates(waiting, project(), [version("3")], NOW) == []


def test_a_version_that_was_rolled_out_before_its_run_ended_does_not_wait_for_another_rollout() -> (
    None
):
    state = harmed(runs={"run-9": run("run-9", NOW)})
    begun = Started("rollout-1", "2", "1", project().rollout, "ada")
    finished = RunFinished("run-9", "registered", "", version="2")
    happened: list[LoopEvent] = [begun, finished]
    for seq, event in enumerate(happened, state.seq + 1):
        state = evolve(state, event, NOW, seq)
    assert state.candidates == ()


def outcomes(**fields: object) -> Outcomes:
    plain = {"n": 500, "coverage": 1.0, "rate": 0.1, "low": 0.08, "high": 0.12, "expected": 0.1}
    rest = {"residual": 0.0, "error": 0.01, "error_low": 0.0, "mixed": 0.01, "mixed_low": 0.0}
    return Outcomes(**(plain | rest | fields))  # type: ignore[arg-type]


def test_immature_labels_refuse_a_retraining() -> None:
    state = harmed()
    few = msgspec.structs.replace(state.monitor, labels=outcomes(coverage=0.3))
    told = reason(msgspec.structs.replace(state, monitor=few), project())
    assert "30% of those that should be final are there" in told
    assert policy.retrain(msgspec.structs.replace(state, monitor=few), project(coverage=0.2), NOW)


def test_an_incident_within_the_training_period_refuses_until_it_is_out_of_it() -> None:
    def told(start: datetime, length: timedelta) -> list[LoopEvent]:
        state = harmed()
        spoiled = msgspec.structs.replace(state.monitor, incidents=(Period(start, start + length),))
        return policy.retrain(msgspec.structs.replace(state, monitor=spoiled), project(), NOW)

    # trained and tested on the two weeks that ended a week ago
    (within,) = told(NOW - 12 * DAY, DAY)
    assert isinstance(within, RetrainingRefused)
    assert "broken data arrived from 2026-02-17" in within.reason
    for start, length in ((NOW - 30 * DAY, DAY), (NOW - 3 * DAY, DAY), (NOW - 12 * DAY, HOUR)):
        (event,) = told(start, length)
        assert isinstance(event, RunStarted), (start, length)


def changed(days: float) -> State:
    """Quality fell `days` before the last final label."""
    last = NOW - 7 * DAY
    windows = tuple(
        Figures(
            last - i * HOUR + 7 * DAY,
            100,
            0.01,
            False,
            0.9 + 0.001 * (i % 2) if i * HOUR > days * DAY else 0.5 + 0.001 * (i % 2),
            last - i * HOUR,
            "1",
        )
        for i in reversed(range(150))
    )
    state = harmed()
    monitor = msgspec.structs.replace(state.monitor, windows=windows)
    return msgspec.structs.replace(state, monitor=monitor)


def test_a_window_since_the_change_starts_there_and_waits_until_it_is_long_enough() -> None:
    day = Duration(days=1)
    short = msgspec.structs.replace(
        project(window="since_change"),
        training=TrainingSpec("m:fit", Split(Duration(days=14), Duration(0), day)),
    )
    (event,) = policy.retrain(changed(3.0), short, NOW)
    assert isinstance(event, RunStarted)
    assert event.changed == NOW - 10 * DAY
    since, until = policy.training_period(changed(3.0), short, NOW)
    assert (since, until) == (NOW - 10 * DAY, NOW - 7 * DAY)
    (refused,) = policy.retrain(changed(1.0), short, NOW)
    assert isinstance(refused, RetrainingRefused)
    assert "too few labels are final since the change of 2026-02-21 12:00" in refused.reason
    (sliding,) = policy.retrain(changed(1.0), project(), NOW)
    assert isinstance(sliding, RunStarted)
    assert sliding.changed is None


def test_a_run_names_what_has_most_likely_changed() -> None:
    state = harmed()
    off = outcomes(error=0.4, error_low=0.35, mixed=0.35, mixed_low=0.3)
    monitor = msgspec.structs.replace(state.monitor, labels=off)
    (event,) = policy.retrain(msgspec.structs.replace(state, monitor=monitor), project(), NOW)
    assert isinstance(event, RunStarted)
    assert event.cause.startswith("a change of concept")
