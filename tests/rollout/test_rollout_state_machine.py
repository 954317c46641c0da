"""The machine of a rollout under everything that evidence, time and people can do to it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from homeostat.core.duration import Duration
from homeostat.core.errors import BadInput, Refused
from homeostat.core.events import Recorded, decode, encode
from homeostat.core.verdict import Outcome, Verdict
from homeostat.rollout import commands
from homeostat.rollout.decide import decide, overdue
from homeostat.rollout.freeze import frozen_until
from homeostat.rollout.model import (
    UNION,
    Judged,
    Phase,
    Promoted,
    RolledBack,
    Rollout,
    Started,
    Stepped,
    evolve,
)
from homeostat.rollout.route import share
from homeostat.rollout.spec import Freeze, Guards, RolloutSpec

START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
PASSES = [Outcome.PASS]
HOLDS = [Outcome.PASS, Outcome.INCONCLUSIVE, Outcome.ERROR]
ANY = list(Outcome)
GUARDS = ("quality", "latency_p99", "error_rate")
NIGHT, WEEKEND = Freeze("22:00", "06:00"), Freeze("fri 16:00", "mon 08:00")


def verdicts(outcome: Outcome = Outcome.PASS, **others: Outcome) -> list[Verdict]:
    return [Verdict(g, others.get(g, outcome), f"{g} is measured", n=100) for g in GUARDS]


def begin(at: datetime = START, **plan: Any) -> Rollout:
    state: Rollout | None = None
    spec = RolloutSpec(**plan)
    for event in commands.start(None, id="r1", candidate="2", champion="1", plan=spec):
        state = evolve(state, event, at)
    assert state is not None
    return state


def tick(state: Rollout, seen: list[Verdict], at: datetime) -> Rollout:
    for event in decide(state, seen, at):
        after = evolve(state, event, at)
        assert after is not None
        state = after
    return state


def apply(state: Rollout, events: list[Any], at: datetime) -> Rollout:
    for event in events:
        after = evolve(state, event, at)
        assert after is not None
        state = after
    return state


class RolloutMachine(RuleBasedStateMachine):
    """Any plan, any evidence, a clock that jumps both ways, and people with every command."""

    @initialize(
        shadow=st.sampled_from([None, Duration(minutes=30)]),
        approve=st.sampled_from([(), (10,), (50, 100)]),
        no_data=st.sampled_from(["hold", "abort"]),
        strategy=st.sampled_from(["canary", "canary", "shadow", "blue_green", "dark"]),
        freeze=st.sampled_from([(), (), (NIGHT,), (NIGHT, WEEKEND)]),
    )
    def start(self, freeze: tuple[Freeze, ...], **plan: Any) -> None:
        self.now = START
        self.passed_last = False
        self.state = begin(freeze=freeze, **plan)

    def record(self, events: list[Any]) -> None:
        for event in events:
            kind, body = encode(event)
            again = decode(Recorded("m", 1, self.now, kind, body), UNION)
            assert again == event
            before, after = self.state, evolve(self.state, again, self.now)
            assert after is not None
            self.check_move(before, after, again)
            self.state = after

    def check_move(self, before: Rollout, after: Rollout, event: Any) -> None:
        if not before.live:
            assert after == before
        assert after.percent in (before.percent, 0.0) or after.percent > before.percent
        if after.percent > before.percent and not isinstance(event, Promoted):
            assert after.percent == before.next_percent
        if after.phase is Phase.PROMOTED and before.live:
            assert event.by != "policy" or (before.percent == 100 and self.passed_last)
        if frozen_until(before.plan.freeze, self.now) and getattr(event, "by", "policy") != "anna":
            assert after.percent <= before.percent, "nothing advances in a freeze"
            assert after.phase is not Phase.PROMOTED

    @rule(
        minutes=st.integers(-600, 600),
        outcomes=st.sampled_from([PASSES, PASSES, PASSES, HOLDS, HOLDS, ANY]).flatmap(
            lambda outcomes: st.tuples(*[st.sampled_from(outcomes)] * 3)
        ),
        missing=st.sampled_from([False, False, False, True]),
    )
    def tick(self, minutes: int, outcomes: tuple[Outcome, ...], missing: bool) -> None:
        self.now += minutes * MINUTE
        seen = [Verdict(g, o, g, n=100) for g, o in zip(GUARDS, outcomes, strict=True)]
        if missing:
            seen = seen[:2]
        self.passed_last = all(v.passed for v in seen) and not missing
        events = decide(self.state, seen, self.now)
        assert len(events) <= 1, "one step per tick"
        if any(o is Outcome.FAIL for o in (v.outcome for v in seen)) and self.state.live:
            assert isinstance(events[0], RolledBack)
        before = self.state
        self.record(events)
        if before.plan.strategy == "dark":
            assert not any(isinstance(e, Promoted | Stepped) for e in events)
        if before.plan.strategy in ("shadow", "blue_green"):
            assert seen[0].passed or not any(isinstance(e, Stepped) for e in events)
        if self.passed_last or not self.state.live:
            return
        assert not any(isinstance(e, Promoted) for e in events)
        assert not any(isinstance(e, Stepped) and e.step > 0 for e in events)

    @rule(command=st.sampled_from(["pause", "resume", "approve", "promote"]))
    @precondition(lambda self: self.state.live)
    def person(self, command: str) -> None:
        before = self.state
        try:
            when = {"now": self.now} if command == "promote" else {}
            self.record(getattr(commands, command)(self.state, by="anna", **when))
        except Refused:
            assert self.state == before
        if command != "promote":
            assert self.state.percent == before.percent

    @rule()
    @precondition(lambda self: not self.state.live)
    def another(self) -> None:
        """Once one is over, the next can start."""
        plan, name = self.state.plan, self.state.id + "+"
        for event in commands.start(self.state, id=name, candidate="3", champion="1", plan=plan):
            self.state = evolve(self.state, event, self.now)
        assert (self.state.id, self.state.live) == (name, True)

    @rule()
    def repeat(self) -> None:
        """A tick that is repeated with the same evidence has nothing more to say."""
        first = decide(self.state, list(self.state.verdicts), self.now)
        assert all(not isinstance(e, Judged) or self.now < self.state.since for e in first)

    @invariant()
    def abort_is_always_possible(self) -> None:
        if not hasattr(self, "state") or not self.state.live:
            return
        after = apply(self.state, list(commands.abort(self.state, by="anna")), self.now)
        assert after.phase is Phase.ROLLED_BACK
        assert share(after) == (0.0, 0.0)

    @invariant()
    def never_stuck(self) -> None:
        """With evidence, a clock that goes on and a person who says yes it is always promoted."""
        if not hasattr(self, "state") or not self.state.live:
            return
        state, now = self.state, self.now
        for _ in range(200):
            if state.phase is Phase.PAUSED:
                state = apply(state, list(commands.resume(state, by="anna")), now)
            if state.phase is Phase.WAITING_APPROVAL:
                state = apply(state, list(commands.approve(state, by="anna")), now)
            state = tick(state, verdicts(), now)
            if state.plan.strategy == "dark" and state.live:
                promoted = commands.promote(state, by="anna", now=now, anyway=True)
                state = apply(state, list(promoted), now)
            if not state.live:
                break
            now += 30 * MINUTE
        late = overdue(state, now)
        assert state.phase is Phase.PROMOTED or (late and state.phase is Phase.ROLLED_BACK)

    @invariant()
    def share_follows_the_state(self) -> None:
        if not hasattr(self, "state"):
            return
        percent, paired = share(self.state)
        assert percent == (self.state.percent if self.state.live else 0.0)
        assert paired == (1.0 if self.state.live else 0.0)


RolloutMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25)


class TestAnyHistoryKeepsTheLaws(RolloutMachine.TestCase):  # type: ignore[misc, name-defined]
    pass


def test_passing_evidence_climbs_every_step_once_and_promotes() -> None:
    state, now, seen = begin(), START, []
    while state.live:
        seen.append(state.percent)
        now += 10 * MINUTE
        state = tick(state, verdicts(), now)
    assert seen == [10, 25, 50, 75, 100]
    assert (state.phase, state.by) == (Phase.PROMOTED, "policy")


def test_nothing_moves_before_the_bake_is_over() -> None:
    state = tick(begin(), verdicts(), START + 9 * MINUTE)
    assert state.percent == 10


@pytest.mark.parametrize("guard", GUARDS)
@pytest.mark.parametrize("outcome", [Outcome.INCONCLUSIVE, Outcome.ERROR])
def test_one_guard_that_does_not_pass_holds_the_step(guard: str, outcome: Outcome) -> None:
    state = tick(begin(), verdicts(**{guard: outcome}), START + 60 * MINUTE)
    assert (state.phase, state.percent) == (Phase.STEP, 10)


def test_a_missing_guard_is_not_a_pass() -> None:
    state = tick(begin(), verdicts()[:2], START + 60 * MINUTE)
    assert state.percent == 10


def test_a_plan_without_guards_is_never_promoted_by_itself() -> None:
    state = tick(begin(guards=Guards()), [], START + 60 * MINUTE)
    assert state.percent == 10


def test_harm_rolls_back_in_the_first_second_of_a_step() -> None:
    state = tick(begin(), verdicts(quality=Outcome.FAIL), START)
    assert (state.phase, state.percent) == (Phase.ROLLED_BACK, 0)
    assert state.reason == "quality is measured"


def test_harm_rolls_back_even_while_paused() -> None:
    state = apply(begin(), list(commands.pause(begin(), by="anna")), START)
    assert state.percent == 10
    assert tick(state, verdicts(error_rate=Outcome.FAIL), START).phase is Phase.ROLLED_BACK


def test_a_hold_is_recorded_once_and_again_when_a_guard_changes() -> None:
    state, now = begin(), START + MINUTE
    first = decide(state, verdicts(quality=Outcome.INCONCLUSIVE), now)
    assert [type(e) for e in first] == [Judged]
    state = apply(state, first, now)
    assert decide(state, verdicts(quality=Outcome.INCONCLUSIVE), now + MINUTE) == []
    assert [type(e) for e in decide(state, verdicts(), now + MINUTE)] == [Judged]


def test_nothing_measured_after_a_bake_aborts_only_when_declared() -> None:
    nothing = [Verdict(g, Outcome.INCONCLUSIVE, "no requests", n=0) for g in GUARDS]
    late = START + 11 * MINUTE
    assert tick(begin(), nothing, late).phase is Phase.STEP
    assert tick(begin(no_data="abort"), nothing, START + MINUTE).phase is Phase.STEP
    assert tick(begin(no_data="abort"), nothing, late).phase is Phase.ROLLED_BACK


def test_a_rollout_that_cannot_decide_in_time_is_rolled_back_with_the_reason() -> None:
    state = begin(max_duration=Duration(hours=2))
    end = tick(state, verdicts(quality=Outcome.INCONCLUSIVE), START + 120 * MINUTE)
    assert end.phase is Phase.ROLLED_BACK
    assert end.reason == "not decided within 2h: quality is measured"


def test_evidence_at_the_last_step_still_promotes_after_the_deadline() -> None:
    state, now = begin(), START
    while state.percent < 100:
        now += 10 * MINUTE
        state = tick(state, verdicts(), now)
    later = now + timedelta(days=30)
    assert tick(state, verdicts(), later).phase is Phase.PROMOTED
    worse = verdicts(quality=Outcome.INCONCLUSIVE)
    assert tick(state, worse, later).phase is Phase.ROLLED_BACK


def test_time_spent_paused_does_not_count_against_the_deadline() -> None:
    state = begin(max_duration=Duration(hours=2))
    state = apply(state, list(commands.pause(state, by="anna")), START + MINUTE)
    later = START + 10 * 60 * MINUTE
    assert tick(state, verdicts(quality=Outcome.INCONCLUSIVE), later).phase is Phase.PAUSED
    state = apply(state, list(commands.resume(state, by="anna")), later)
    assert state.deadline == later + 119 * MINUTE
    assert tick(state, verdicts(), later + 9 * MINUTE).percent == 10, "the step bakes anew"


def test_a_step_that_needs_approval_waits_for_it_and_then_for_the_evidence() -> None:
    state, now = begin(approve=(25,)), START + 10 * MINUTE
    state = tick(state, verdicts(), now)
    assert (state.phase, state.percent) == (Phase.WAITING_APPROVAL, 10)
    assert tick(state, verdicts(), now + MINUTE).phase is Phase.WAITING_APPROVAL
    state = apply(state, list(commands.approve(state, by="anna")), now)
    worse = verdicts(quality=Outcome.INCONCLUSIVE)
    assert tick(state, worse, now + MINUTE).percent == 10
    assert tick(state, verdicts(), now + MINUTE).percent == 25


def test_shadow_comes_first_and_needs_no_verdict_to_end() -> None:
    state = begin(shadow=Duration(hours=1))
    assert share(state) == (0.0, 1.0)
    nothing = [Verdict(g, Outcome.INCONCLUSIVE, "no requests", n=0) for g in GUARDS]
    assert tick(state, nothing, START + 59 * MINUTE).percent == 0
    assert tick(state, nothing, START + 60 * MINUTE).percent == 10
    failing = verdicts(quality=Outcome.FAIL)
    assert tick(state, failing, START + MINUTE).phase is Phase.ROLLED_BACK


def test_a_clock_that_was_years_ahead_does_not_leave_the_rollout_stuck() -> None:
    ahead = START + timedelta(days=3650)
    state = begin(ahead)
    back = tick(state, verdicts(), START)
    assert (back.percent, back.since, back.started) == (10, START, START)
    assert tick(back, verdicts(), START + MINUTE).percent == 10
    assert tick(back, verdicts(), START + 10 * MINUTE).percent == 25


def test_promotion_by_hand_is_possible_without_evidence_and_names_the_person() -> None:
    state = begin()
    state = apply(state, list(commands.promote(state, by="anna")), START)
    assert (state.phase, state.by) == (Phase.PROMOTED, "anna")


def test_an_ended_rollout_refuses_every_command_and_ignores_every_event() -> None:
    state = apply(begin(), list(commands.abort(begin(), by="anna")), START)
    for name in ("pause", "resume", "approve", "promote", "abort"):
        with pytest.raises(Refused, match="is over"):
            getattr(commands, name)(state, by="bo")
    assert evolve(state, Stepped("r1", 3, 75.0, "late"), START) == state
    assert decide(state, verdicts(), START + 60 * MINUTE) == []


def test_two_rollouts_of_one_model_cannot_live_at_once() -> None:
    state = begin()
    with pytest.raises(Refused, match="r1 of version 2 is under way .step."):
        commands.start(state, id="r2", candidate="3", champion="1", plan=RolloutSpec())
    assert evolve(state, Started("r2", "3", "1", RolloutSpec()), START) == state
    assert evolve(state, RolledBack("r2", "3", "x", "other"), START) == state


@pytest.mark.parametrize("steps", [(10, 50), (50, 10, 100), (10, 10, 100)])
def test_steps_that_do_not_ascend_to_100_are_refused(steps: tuple[float, ...]) -> None:
    plan = RolloutSpec(steps=steps)
    with pytest.raises(BadInput, match=r"\$\.rollout\.steps"):
        commands.start(None, id="r", candidate="2", champion="1", plan=plan)


def test_the_champion_itself_cannot_be_a_candidate() -> None:
    with pytest.raises(Refused, match="champion already"):
        commands.start(None, id="r", candidate="1", champion="1", plan=RolloutSpec())


def test_a_clock_set_back_during_a_pause_takes_nothing_from_the_deadline() -> None:
    state = begin(START)
    state = apply(state, commands.pause(state, by="anna"), START + 60 * MINUTE)
    again = apply(state, commands.resume(state, by="anna"), START + 20 * MINUTE)
    assert again.deadline == state.deadline
