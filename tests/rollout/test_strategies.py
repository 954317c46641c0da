"""What each strategy does with the same evidence, and what a freeze keeps from happening."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.core.duration import Duration
from homeostat.core.errors import BadInput, Refused
from homeostat.core.verdict import Outcome, Verdict
from homeostat.rollout import commands, freeze
from homeostat.rollout.decide import decide
from homeostat.rollout.model import Paused, Phase, Resumed, Rollout, Stepped, evolve
from homeostat.rollout.spec import Freeze, RolloutSpec

START = datetime(2026, 1, 1, 12, tzinfo=UTC)  # a Thursday
HOUR = timedelta(hours=1)


def begin(now: datetime = START, **plan: Any) -> Rollout:
    state: Rollout | None = None
    spec = RolloutSpec(**plan)
    for event in commands.start(None, id="r1", candidate="2", champion="1", plan=spec, now=now):
        state = evolve(state, event, now)
    assert state is not None
    return state


def seen(quality: Outcome = Outcome.PASS, *, answered: bool = True) -> list[Verdict]:
    others = ("latency_p99", "error_rate")
    other = Outcome.PASS if answered else Outcome.INCONCLUSIVE
    n = 100 if answered else 0
    return [
        Verdict("quality", quality, "quality is measured", n=100),
        *(Verdict(g, other, f"{g}: nothing answered", n=n) for g in others),
    ]


def tick(state: Rollout, verdicts: list[Verdict], now: datetime) -> Rollout:
    for event in decide(state, verdicts, now):
        after = evolve(state, event, now)
        assert after is not None
        state = after
    return state


@pytest.mark.parametrize("strategy", ["shadow", "blue_green"])
def test_the_first_step_waits_for_what_the_shadow_can_show(strategy: str) -> None:
    state = begin(strategy=strategy)
    assert (state.phase, state.percent) == (Phase.SHADOW, 0)
    open_ = tick(state, seen(Outcome.INCONCLUSIVE, answered=False), START + HOUR)
    assert open_.percent == 0
    nothing = [Verdict("quality", Outcome.INCONCLUSIVE, "no labels", n=0)]
    assert tick(state, nothing, START + HOUR).percent == 0
    assert tick(state, seen(answered=False), START + HOUR).percent == (
        10 if strategy == "shadow" else 100
    )


def test_blue_green_takes_all_the_traffic_at_once_and_bakes_before_it_is_final() -> None:
    state = tick(begin(strategy="blue_green", bake=Duration(hours=2)), seen(answered=False), START)
    assert (state.phase, state.percent) == (Phase.STEP, 100)
    assert tick(state, seen(), START + HOUR).phase is Phase.STEP
    back = tick(state, seen(Outcome.FAIL), START + HOUR)
    assert (back.phase, back.percent) == (Phase.ROLLED_BACK, 0)
    assert tick(state, seen(), START + 2 * HOUR).phase is Phase.PROMOTED


def test_a_dark_launch_answers_nobody_until_a_person_promotes_it() -> None:
    state = begin(strategy="dark")
    for hours in range(1, 100):
        state = tick(state, seen(answered=False), START + hours * HOUR)
    assert (state.phase, state.percent) == (Phase.SHADOW, 0)
    assert state.wake_at == state.deadline
    promoted = commands.promote(state, by="anna")
    assert promoted[0].candidate == "2"  # type: ignore[union-attr]
    assert tick(state, seen(Outcome.FAIL), START + HOUR).phase is Phase.ROLLED_BACK
    assert tick(state, seen(), state.deadline).phase is Phase.ROLLED_BACK


# -- freezes -------------------------------------------------------------------------------------

WEEKEND = Freeze("fri 16:00", "mon 08:00", why="nobody is here")
FRIDAY = datetime(2026, 1, 2, 17, tzinfo=UTC)
MONDAY = datetime(2026, 1, 5, 8, tzinfo=UTC)


def test_nothing_advances_in_a_freeze_and_harm_still_rolls_back() -> None:
    state = begin(freeze=(WEEKEND,))
    held = tick(state, seen(), FRIDAY)
    assert (held.phase, held.percent) == (Phase.STEP, 10)
    assert tick(state, seen(Outcome.FAIL), FRIDAY).phase is Phase.ROLLED_BACK
    assert tick(held, seen(), MONDAY).percent == 25


def test_a_rollout_that_starts_in_a_freeze_waits_in_the_shadow() -> None:
    state = begin(FRIDAY, freeze=(WEEKEND,))
    assert (state.phase, state.percent) == (Phase.SHADOW, 0)
    assert tick(state, seen(), MONDAY - HOUR).percent == 0
    assert [type(e) for e in decide(state, seen(), MONDAY)] == [Stepped]


def test_time_in_a_freeze_does_not_count_against_the_deadline() -> None:
    state = begin(freeze=(WEEKEND,), max_duration=Duration(days=2))
    open_ = seen(Outcome.INCONCLUSIVE)
    due = START + timedelta(days=2) + (MONDAY - (FRIDAY - HOUR))
    assert tick(state, open_, due - HOUR).live
    assert tick(state, open_, due).phase is Phase.ROLLED_BACK


def test_a_pause_within_a_freeze_moves_the_deadline_once() -> None:
    state = begin(freeze=(WEEKEND,), max_duration=Duration(days=2))
    due = START + timedelta(days=2) + (MONDAY - (FRIDAY - HOUR))
    paused = evolve(state, Paused(state.id, "anna"), FRIDAY)
    state = evolve(paused, Resumed(state.id, "anna"), MONDAY + HOUR)
    assert state is not None
    open_ = seen(Outcome.INCONCLUSIVE)
    assert tick(state, open_, due).live  # an hour of the pause was not frozen
    assert tick(state, open_, due + HOUR).phase is Phase.ROLLED_BACK


def test_a_person_promotes_in_a_freeze_only_on_purpose_and_aborts_whenever() -> None:
    state = begin(freeze=(WEEKEND,))
    with pytest.raises(Refused, match=r"until 2026-01-05 08:00 UTC \(nobody is here\).*--anyway"):
        commands.promote(state, by="anna", now=FRIDAY)
    assert commands.promote(state, by="anna", now=FRIDAY, anyway=True)
    assert commands.abort(state, by="anna")


@pytest.mark.parametrize(
    ("window", "at", "until"),
    [
        (Freeze("22:00", "06:00"), "2026-03-01T23:00", "2026-03-02T06:00"),
        (Freeze("22:00", "06:00"), "2026-03-01T06:00", None),
        (Freeze("fri 16:00", "mon 08:00"), "2026-03-01T00:00", "2026-03-02T08:00"),
        (Freeze("fri", "sat"), "2026-03-06T12:00", "2026-03-07T00:00"),
        (Freeze("mon 08:00", "mon 07:00"), "2026-03-09T07:30", None),
        (Freeze("mon 08:00", "mon 07:00"), "2026-03-09T06:30", "2026-03-09T07:00"),
        (Freeze("2026-12-20", "2027-01-02 09:00"), "2027-01-02T08:59", "2027-01-02T09:00"),
        (Freeze("2026-12-20", "2027-01-02 09:00"), "2027-12-25T08:59", None),
        # the clocks go forward on 2026-03-29: a quarter of the night is not there
        (Freeze("22:00", "06:00", "Europe/Paris"), "2026-03-28T22:00", "2026-03-29T04:00"),
    ],
)
def test_a_window_holds_from_its_begin_until_just_before_its_end(
    window: Freeze, at: str, until: str | None
) -> None:
    freeze.check(window)
    found = freeze.frozen_until([window], datetime.fromisoformat(at).replace(tzinfo=UTC))
    assert (found and f"{found[0]:%Y-%m-%dT%H:%M}") == until


@given(
    st.lists(st.sampled_from([WEEKEND, Freeze("22:00", "06:00"), Freeze("tue", "wed")])),
    st.integers(0, 60 * 24 * 14),
    st.integers(1, 60 * 24 * 3),
)
def test_frozen_time_is_what_a_minute_by_minute_look_finds(
    windows: list[Freeze], begin: int, length: int
) -> None:
    minute = timedelta(minutes=30)
    since = START + begin // 30 * minute
    until = since + length // 30 * minute
    looks = [since + i * minute for i in range(length // 30)]
    frozen = sum(freeze.frozen_until(windows, at) is not None for at in looks)
    assert freeze.frozen_time(windows, since, until) == frozen * minute


@pytest.mark.parametrize(
    "window",
    [
        Freeze("25:00", "06:00"),
        Freeze("", "06:00"),
        Freeze("friday 16:00", "mon"),
        Freeze("fri", "06:00"),
        Freeze("2026-12-20", "2026-12-20"),
        Freeze("22:00", "06:00", "Mars/Olympus"),
    ],
)
def test_a_window_that_cannot_be_meant_is_refused(window: Freeze) -> None:
    with pytest.raises(BadInput):
        freeze.check(window)
