"""Several challengers: the worse are retired, the best of the better wins, or nobody does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from homeostat.core.duration import Duration
from homeostat.core.errors import Refused
from homeostat.core.events import Recorded, decode, encode
from homeostat.core.verdict import Outcome, Verdict
from homeostat.rollout import commands
from homeostat.rollout.experiment import decide, plan_of_one
from homeostat.rollout.model import (
    UNION,
    Phase,
    Promoted,
    Retired,
    RolledBack,
    Rollout,
    evolve,
)
from homeostat.rollout.route import shares
from homeostat.rollout.spec import Guards, QualityGuard, RolloutSpec

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
Bounds = tuple[float, float]
WORSE, OPEN, NO_WORSE, BETTER = (0.01, 0.03), (-0.02, 0.02), (-0.01, 0.002), (-0.04, -0.01)
MARGIN = 0.005


def begin(*versions: str, **plan: Any) -> Rollout:
    spec = RolloutSpec(strategy="experiment", guards=Guards(quality=QualityGuard()), **plan)
    state: Rollout | None = None
    for event in commands.start(
        None, id="e1", candidate=versions[0], candidates=versions, champion="1", plan=spec
    ):
        state = evolve(state, event, START)
    assert state is not None
    return state


def quality(bounds: Bounds) -> tuple[Verdict, ...]:
    low, high = bounds
    outcome = Outcome.INCONCLUSIVE
    if high < MARGIN:
        outcome = Outcome.PASS
    elif low > 0:
        outcome = Outcome.FAIL
    figure = (low + high) / 2
    return (Verdict("quality", outcome, f"harm {figure:+.3f}", figure, MARGIN, low, high, 100),)


def tick(state: Rollout, now: datetime, **seen: Bounds) -> Rollout:
    evidence = {v.removeprefix("v"): quality(b) for v, b in seen.items()}
    for event in decide(state, evidence, now):
        after = evolve(state, event, now)
        assert after is not None
        state = after
    return state


def test_every_challenger_gets_as_much_as_the_champion_and_its_part_of_alpha() -> None:
    ten = [str(i) for i in range(2, 12)]
    state = begin(*ten)
    split = shares(state)
    assert [s.version for s in split] == ten
    assert state.percent == pytest.approx(100 / 11)
    assert plan_of_one(state.plan, 10).alpha == pytest.approx(0.005)
    assert shares(begin("2", "3", share=10))[1].percent == 10
    assert begin("2", "3", "4", share=30).percent == 25, "the champion has as much as each"


def test_the_worse_is_retired_and_its_traffic_returns_to_the_champion() -> None:
    state = tick(begin("2", "3", "4"), START, v2=WORSE, v3=OPEN, v4=OPEN)
    assert [s.version for s in shares(state)] == ["3", "4"]
    assert shares(state)[0].at == shares(begin("2", "3", "4"))[1].at, "their keys stay"
    assert state.trials[0].retired == "harm +0.020"


def test_the_best_of_those_that_are_all_better_wins() -> None:
    state = tick(begin("2", "3"), START + HOUR, v2=(-0.03, -0.01), v3=BETTER)
    assert (state.phase, state.candidate, state.by) == (Phase.PROMOTED, "3", "policy")
    assert state.reason == "the winner of 2: harm -0.025"


def test_no_worse_is_not_better() -> None:
    state = tick(begin("2", "3"), START + HOUR, v2=NO_WORSE, v3=NO_WORSE)
    assert state.live
    ended = tick(state, START + timedelta(days=7), v2=NO_WORSE, v3=NO_WORSE)
    assert ended.phase is Phase.ROLLED_BACK
    assert ended.reason.startswith("no winner: not decided within 7d")


def test_one_that_is_open_is_waited_for_until_it_cannot_be_better() -> None:
    state = tick(begin("2", "3"), START + HOUR, v2=BETTER, v3=OPEN)
    assert state.live
    beaten = tick(state, START + 2 * HOUR, v2=BETTER, v3=(-0.005, 0.006))
    assert beaten.phase is Phase.PROMOTED
    assert beaten.candidate == "2"
    late = tick(state, START + timedelta(days=7), v2=BETTER, v3=OPEN)
    assert (late.phase, late.candidate) == (Phase.PROMOTED, "2")


@pytest.mark.parametrize(
    ("insufficient", "days"), [("abort", 7), ("extend", 14), ("hold", None), ("ask", None)]
)
def test_what_is_undecided_at_the_deadline_ends_or_goes_on_as_declared(
    insufficient: str, days: int | None
) -> None:
    state = begin("2", "3", insufficient=insufficient)
    for day in range(7, 22):
        if not state.live:
            break
        state = tick(state, START + timedelta(days=day), v2=NO_WORSE, v3=OPEN)
    assert (state.ended and (state.ended - START).days) == days
    if days is None:
        assert tick(state, START + timedelta(days=30), v2=BETTER, v3=WORSE).candidate == "2"


def test_a_person_is_asked_once_about_the_best_measured_and_a_yes_makes_it_the_winner() -> None:
    state, week = begin("2", "3", insufficient="ask"), START + timedelta(days=7)
    early = tick(state, week - HOUR, v2=NO_WORSE, v3=OPEN)
    assert early.phase is Phase.STEP
    asked = tick(early, week, v2=NO_WORSE, v3=OPEN)
    assert (asked.phase, asked.asked) == (Phase.WAITING_APPROVAL, "2")
    assert tick(asked, week + HOUR, v2=NO_WORSE, v3=(-0.03, 0.01)) == asked
    (yes,) = commands.approve(asked, by="anna")
    approved = evolve(asked, yes, week + HOUR)
    assert approved is not None
    ended = tick(approved, week + HOUR, v2=NO_WORSE, v3=OPEN)
    assert (ended.phase, ended.candidate, ended.by) == (Phase.PROMOTED, "2", "anna")
    assert ended.reason == "approved although not decided within 7d: every guard passes"


def test_a_person_is_asked_anew_when_the_one_that_was_asked_about_is_out() -> None:
    state, week = begin("2", "3", insufficient="ask"), START + timedelta(days=7)
    asked = tick(tick(state, week, v2=NO_WORSE, v3=OPEN), week + HOUR, v2=WORSE, v3=OPEN)
    assert (asked.phase, asked.asked) == (Phase.WAITING_APPROVAL, "3")
    assert [t.version for t in asked.active] == ["3"]


def test_nobody_is_asked_about_challengers_of_whom_nothing_was_measured() -> None:
    state = begin("2", "3", insufficient="ask")
    assert decide(state, {}, START + timedelta(days=8)) == []


def test_without_anybody_left_there_is_no_winner() -> None:
    state = tick(begin("2", "3"), START, v2=WORSE, v3=WORSE)
    assert state.phase is Phase.ROLLED_BACK
    assert state.reason == "no winner: every challenger was retired"


def test_a_person_may_have_to_approve_the_winner() -> None:
    state = tick(begin("2", "3", approve=(100,)), START + HOUR, v2=BETTER, v3=WORSE)
    assert state.phase is Phase.WAITING_APPROVAL
    assert tick(state, START + HOUR, v2=BETTER) == state
    (yes,) = commands.approve(state, by="anna")
    approved = evolve(state, yes, START + HOUR)
    assert approved is not None
    assert tick(approved, START + HOUR, v2=BETTER).phase is Phase.PROMOTED
    assert tick(state, START + timedelta(days=8), v2=BETTER).phase is Phase.ROLLED_BACK


def test_a_person_names_the_challenger_to_promote() -> None:
    state = begin("2", "3")
    with pytest.raises(Refused, match="homeostat rollout promote VERSION"):
        commands.promote(state, by="anna")
    with pytest.raises(Refused, match=r"tries version 2, 3.*found version 9"):
        commands.promote(state, by="anna", version="9")
    (event,) = commands.promote(state, by="anna", version="3")
    assert isinstance(event, Promoted)
    assert event.candidate == "3"


def test_several_versions_need_an_experiment() -> None:
    with pytest.raises(Refused, match=r"one version at a time.*strategy: experiment"):
        commands.start(
            None, id="r", candidate="2", candidates=("2", "3"), champion="1", plan=RolloutSpec()
        )


class ExperimentMachine(RuleBasedStateMachine):
    """Any number of challengers, any evidence, any clock, and people with every command."""

    @initialize(
        n=st.integers(1, 11),
        approve=st.sampled_from([(), (100,)]),
        shadow=st.sampled_from([None, Duration(hours=1)]),
    )
    def start(self, n: int, approve: tuple[float, ...], shadow: Duration | None) -> None:
        self.now = START
        versions = [str(i + 2) for i in range(n)]
        self.state = begin(*versions, approve=approve, shadow=shadow)

    def record(self, events: list[Any]) -> None:
        for event in events:
            kind, body = encode(event)
            again = decode(Recorded("m", 1, self.now, kind, body), UNION)
            assert again == event
            before = self.state
            after = evolve(before, again, self.now)
            assert after is not None
            self.state = after
            if isinstance(event, Promoted) and event.by == "policy":
                found = next(v for v in event.verdicts if v.check == "quality")
                assert found.high is not None
                assert found.high < 0, "only what is shown to be better wins"
                assert event.candidate in [t.version for t in before.active]
                assert before.step >= 0

    @rule(
        minutes=st.integers(-300, 600),
        draws=st.lists(st.sampled_from([WORSE, OPEN, OPEN, NO_WORSE, BETTER]), min_size=11),
    )
    def tick(self, minutes: int, draws: list[Bounds]) -> None:
        self.now += timedelta(minutes=minutes)
        evidence = {t.version: quality(b) for t, b in zip(self.state.trials, draws, strict=False)}
        events = decide(self.state, evidence, self.now)
        ends = [e for e in events if isinstance(e, Promoted | RolledBack)]
        assert len(ends) <= 1
        retired = {e.candidate for e in events if isinstance(e, Retired)}
        harmed = {t.version for t in self.state.active if evidence[t.version][0].failed}
        assert not self.state.live or harmed <= retired
        self.record(list(events))

    @rule(command=st.sampled_from(["pause", "resume", "approve"]))
    @precondition(lambda self: self.state.live)
    def person(self, command: str) -> None:
        try:
            self.record(list(getattr(commands, command)(self.state, by="anna")))
        except Refused:
            return

    @invariant()
    def shares_never_exceed_the_whole_and_the_retired_have_none(self) -> None:
        if not hasattr(self, "state"):
            return
        split = shares(self.state)
        assert sum(s.percent for s in split) <= 100 + 1e-9
        assert {s.version for s in split} <= {t.version for t in self.state.active}
        assert bool(split) == self.state.live

    @invariant()
    def abort_is_always_possible_and_a_deadline_ends_it(self) -> None:
        if not hasattr(self, "state") or not self.state.live:
            return
        (event,) = commands.abort(self.state, by="anna")
        after = evolve(self.state, event, self.now)
        assert after is not None
        assert not after.live
        if self.state.phase is Phase.PAUSED:
            return
        late = max(self.state.deadline, self.now) + timedelta(days=30)
        open_ = {t.version: quality(OPEN) for t in self.state.active}
        assert isinstance(decide(self.state, open_, late)[-1], RolledBack)


ExperimentMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=15)


class TestAnyExperimentKeepsTheLaws(ExperimentMachine.TestCase):  # type: ignore[misc, name-defined]
    pass
