"""Alerts that people can live with: one per cause, silenced, escalated, and never blind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from homeostat.core.duration import Duration
from homeostat.core.verdict import Outcome, Verdict
from homeostat.monitoring.alerts.decide import decide, escalations, heartbeat, notices
from homeostat.monitoring.calibration.certificate import Calibrated, Rate
from homeostat.monitoring.model import (
    AlertEscalated,
    AlertNotified,
    AlertRaised,
    AlertResolved,
    MonitorEvent,
    MonitorState,
    Silenced,
    WindowObserved,
    evolve,
)
from homeostat.monitoring.quality.model import Harm
from homeostat.monitoring.spec import MonitoringSpec

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SPEC = MonitoringSpec(escalate=Duration(hours=4))
P, F = Outcome.PASS, Outcome.FAIL


def window(
    i: int, *, drift: Outcome = P, data: Outcome = P, quality: Outcome = P
) -> WindowObserved:
    def verdict(check: str, outcome: Outcome) -> Verdict:
        return Verdict(check, outcome, f"{check} {outcome}", n=100)

    lost = quality is F
    harm = Harm("auc", 0.6 if lost else 0.9, 0.9, 0.3, 0.25, 0.05, lost, 100)
    end = START + (i + 1) * HOUR
    return WindowObserved(
        end - HOUR, end, "1", 100, 0, verdict("drift", drift), verdict("data", data),
        verdict("quality", quality), harm,
    )  # fmt: skip


def step(
    state: MonitorState, seen: WindowObserved, action: str = "run-3 is under way"
) -> tuple[MonitorState, list[MonitorEvent]]:
    events = decide(state, seen, SPEC, seen.end, action=action)
    for event in (seen, *events):
        state = evolve(state, event, seen.end)
    return state, events


def test_one_cause_is_one_incident_from_its_first_sign_to_its_end() -> None:
    state, events = step(MonitorState(), window(0, drift=F, data=F))
    raised = [e for e in events if isinstance(e, AlertRaised)]
    assert {e.kind for e in raised} == {"data", "drift"}
    assert len({e.incident for e in raised}) == 1
    state, events = step(state, window(1, drift=F, data=F, quality=F))
    (worse,) = [e for e in events if isinstance(e, AlertRaised)]
    assert worse.kind == "quality"
    assert worse.incident == raised[0].incident
    (part,) = [e for e in events if isinstance(e, AlertResolved)]
    assert (part.kind, part.text) == ("drift", "it is now part of the quality incident")
    assert {(a.kind, a.incident) for a in state.open_alerts} == {
        ("data", worse.incident),
        ("quality", worse.incident),
    }
    state, events = step(state, window(2, drift=F, data=F, quality=F))
    assert events == []


def test_broken_data_during_harm_are_part_of_it_and_told_when_they_outlast_it() -> None:
    state, events = step(MonitorState(), window(0, data=F, quality=F))
    assert [e.kind for e in events if isinstance(e, AlertRaised)] == ["quality"]
    state, events = step(state, window(1, data=F))
    assert [type(e) for e in events] == [AlertResolved, AlertRaised]
    assert [a.kind for a in state.open_alerts] == ["data"]


def test_an_alert_states_loss_bound_since_cause_action_and_where_to_see_more() -> None:
    state, _ = step(MonitorState(), window(0, quality=F))
    (notice,) = notices(state, START + HOUR)
    for part in (
        "a loss of 0.300, at least 0.250",
        "since 2026-01-01 01:00",
        "no feature was seen to move",
        "run-3 is under way",
        "more: homeostat status",
    ):
        assert part in notice.text


def test_a_silence_holds_notices_back_and_what_is_still_open_at_its_end_is_told() -> None:
    state = evolve(MonitorState(), Silenced("quality", START + 6 * HOUR, "planned", "anna"), START)
    state, _ = step(state, window(0, quality=F))
    assert [a.kind for a in state.open_alerts] == ["quality"]
    assert notices(state, START + 2 * HOUR) == ()
    assert len(notices(state, START + 6 * HOUR)) == 1
    # resolved meanwhile: nobody hears of it at all
    state, _ = step(state, window(1))
    assert notices(state, START + 7 * HOUR) == ()
    ended = evolve(state, Silenced("quality", START, "ended", "anna"), START + 3 * HOUR)
    ended, _ = step(ended, window(3, quality=F))
    assert len(notices(ended, START + 4 * HOUR)) == 1


def test_a_silence_of_all_is_of_every_kind_and_of_one_kind_is_of_no_other() -> None:
    state, _ = step(MonitorState(), window(0, data=F))
    quiet = evolve(state, Silenced("all", START + 6 * HOUR, "move", "anna"), START)
    assert notices(quiet, START + HOUR) == ()
    other = evolve(state, Silenced("quality", START + 6 * HOUR, "move", "anna"), START)
    assert len(notices(other, START + HOUR)) == 1


def test_an_alert_that_stays_open_is_told_again_as_critical() -> None:
    state, _ = step(MonitorState(), window(0, data=F))
    (notice,) = notices(state, START + HOUR)
    state = evolve(state, AlertNotified(notice.key), START + HOUR)
    assert escalations(state, SPEC, START + 4 * HOUR) == []
    (event,) = escalations(state, SPEC, START + 5 * HOUR)
    assert isinstance(event, AlertEscalated)
    state = evolve(state, event, START + 5 * HOUR)
    assert evolve(state, event, START + 5 * HOUR) == state
    (again,) = notices(state, START + 5 * HOUR)
    assert (again.key, again.severity) == (notice.key, "critical")
    assert "still open after 4h" in again.text
    assert escalations(state, SPEC, START + 6 * HOUR) == []
    assert len(escalations(state, SPEC, START + 9 * HOUR)) == 1
    never = msgspec.structs.replace(SPEC, escalate=None)
    assert escalations(state, never, START + 90 * HOUR) == []


def test_drift_without_harm_is_never_escalated() -> None:
    state, _ = step(MonitorState(), window(0, drift=F))
    assert escalations(state, SPEC, START + 90 * HOUR) == []


def test_a_monitor_that_does_not_look_is_an_alert_itself_and_ends_when_it_looks() -> None:
    state, _ = step(MonitorState(), window(0))

    def asked(hours: float, *, looking: bool = False) -> list[MonitorEvent]:
        return heartbeat(state, SPEC, START, START + hours * HOUR, looking=looking)

    assert asked(2.5) == []
    assert asked(4.5, looking=True) == []  # it only has to catch up
    (blind,) = asked(4.5)
    assert isinstance(blind, AlertRaised)
    assert (blind.kind, blind.severity) == ("monitor", "critical")
    assert "no window was judged since 2026-01-01 01:00" in blind.text
    state = evolve(state, blind, START + 4.5 * HOUR)
    assert asked(5) == []
    state, _ = step(state, window(4))
    (over,) = asked(5.2)
    assert isinstance(over, AlertResolved)
    fresh = MonitorState()
    assert heartbeat(fresh, SPEC, START, START + 2.5 * HOUR, looking=False) == []
    assert len(heartbeat(fresh, SPEC, START, START + 3 * HOUR, looking=False)) == 1


def test_a_clock_that_was_set_back_is_told_because_nothing_is_judged_until_it_is_caught_up() -> (
    None
):
    state, _ = step(MonitorState(), window(9))

    def asked(hours: float) -> list[MonitorEvent]:
        return heartbeat(state, SPEC, START, START + hours * HOUR, looking=False)

    assert asked(9) == []  # a little is caught up soon
    (blind,) = asked(3)
    assert isinstance(blind, AlertRaised)
    assert blind.kind == "monitor"
    assert "judged up to 2026-01-01 10:00 and it is 2026-01-01 03:00" in blind.text
    state = evolve(state, blind, START + 3 * HOUR)
    assert asked(4) == []
    (over,) = asked(9)
    assert isinstance(over, AlertResolved)


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_certificate_is_shown_beside_the_alerts_of_its_version(version: str) -> None:
    rate = Rate("quality", 1, 2.5, 0.4, 0.01, 2.2, 0.001)
    found = Calibrated(version, "log", START, START + HOUR, 500, 1.0, (rate,))
    state = evolve(MonitorState(), found, START)
    state, events = step(state, window(0, quality=F))
    (alert,) = [e for e in events if isinstance(e, AlertRaised)]
    told = (
        "this monitor: 0.4 false alarms a month (0.01 to 2.2), calibrated on the log at 2026-01-01"
    )
    assert (told in alert.text) == (version == "1")
