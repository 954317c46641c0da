"""The dossier says why, shows the way there, and what would have changed it is true."""

from __future__ import annotations

import dataclasses
import html
import re
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from homeostat.control import commands, dossier
from homeostat.control.model import CandidateDropped
from homeostat.control.preflight import preflight_of
from homeostat.control.record import record
from homeostat.core.duration import Duration
from homeostat.core.errors import NotFound, Refused
from homeostat.core.verdict import Outcome, Verdict
from homeostat.rollout.dossier import Dossier, charts
from homeostat.rollout.dossier.model import Point
from homeostat.rollout.dossier.render import FORMATS, render
from homeostat.rollout.dossier.why import plainly, spell, would_change
from homeostat.rollout.guards.common import Alpha
from homeostat.rollout.guards.quality import of_slice, of_whole
from homeostat.rollout.spec import Freeze, Guards, QualityGuard, RolloutSpec
from homeostat.testing.simulate.models import GOOD, USELESS, Skill
from homeostat.testing.simulate.world import World

from ..worlds import PLAN, Down, with_champion


def played(strength: float, turns: int, plan: RolloutSpec = PLAN) -> World:
    """A champion, then a candidate of some skill, and so many turns of the loop."""
    world = with_champion(plan)
    world.install(Skill(0, strength))
    for _ in range(turns):
        world.traffic()
        world.deliver_labels()
        world.controllers[0].turn()
        world.pass_time()
    return world


@pytest.fixture(scope="module")
def promoted() -> Dossier:
    return dossier.explain(played(GOOD, 9).platform)


@pytest.fixture(scope="module")
def rolled_back() -> Dossier:
    return dossier.explain(played(USELESS, 6).platform)


def test_a_promotion_says_what_it_rests_on(promoted: Dossier) -> None:
    assert promoted.outcome == "promoted"
    assert promoted.decision.startswith("Version 2 was promoted in place of version 1 after 1 h")
    (quality,) = (g for g in promoted.guards if g.name == "quality")
    assert quality.outcome is Outcome.PASS
    assert quality.alpha_promote == 0.05
    assert quality.high is not None
    assert quality.high < 0.15
    ns = [p.n for p in quality.path]
    assert ns == sorted(ns)
    assert len(ns) > 10
    assert [m.percent for m in promoted.timeline if m.kind == "rollout.stepped"] == [
        10,
        25,
        50,
        75,
        100,
    ]
    assert promoted.people == ()


def test_a_rollback_names_the_guard_the_bound_and_what_the_candidate_had(
    rolled_back: Dossier,
) -> None:
    assert rolled_back.outcome == "rolled_back"
    assert re.match(
        r"Version 2 was rolled back after \d+ min, having had at most 10 % of the requests: its "
        r"quality is shown to be worse, by at least 0\.\d+, than version 1",
        rolled_back.decision,
    )
    assert rolled_back.largest_percent == 10
    assert rolled_back.answered is not None
    assert rolled_back.answered["1"] > rolled_back.answered["2"]


@pytest.mark.slow
def test_the_margin_that_would_have_passed_is_the_one_that_passes(rolled_back: Dossier) -> None:
    (quality,) = (g for g in rolled_back.guards if g.name == "quality")
    assert quality.high is not None
    assert f"A margin above {quality.high:.3g} would have passed" in rolled_back.would_change[0]
    for margin, outcome in (
        (quality.high * 1.01, "promoted"),
        (quality.high * 0.99, "rolled_back"),
    ):
        guards = Guards(quality=QualityGuard(metric="error", margin=margin))
        again = played(USELESS, 6, msgspec.structs.replace(PLAN, guards=guards))
        found = dossier.explain(again.platform)
        at = found.guards[0].path[-1]
        assert (at.outcome is Outcome.PASS) == (outcome == "promoted")


@pytest.mark.parametrize(
    ("change", "turns", "because"),
    [
        ({"approve": (25.0,)}, 3, "a person has to approve 25 %"),
        ({"freeze": (Freeze("00:05", "23:00", why="audit"),)}, 3, r"nothing advances.*\(audit\)"),
        ({"bake": Duration(hours=2)}, 3, "it bakes until 2026-01-01 02:00 UTC"),
        ({"strategy": "dark"}, 3, "stays in the dark until a person"),
        ({}, 1, "no paired labelled requests yet|it bakes"),
    ],
)
def test_a_hold_is_explained(change: dict[str, object], turns: int, because: str) -> None:
    found = dossier.explain(played(GOOD, turns, msgspec.structs.replace(PLAN, **change)).platform)
    assert found.outcome == "holds"
    assert re.search(because, found.decision), found.decision


def test_a_persons_part_is_told() -> None:
    world = played(GOOD, 2)
    world.command("pause")
    assert "because a person paused it" in dossier.explain(world.platform).decision
    world.command("abort")
    found = dossier.explain(world.platform)
    assert [line.split(" on ")[0] for line in found.people] == ["anna paused it", "anna aborted it"]
    assert "The rollback was anna's decision" in found.would_change[0]


@pytest.mark.slow
def test_what_cannot_be_read_is_named_and_the_rest_is_there() -> None:
    world = played(USELESS, 6)
    blind = dataclasses.replace(world.platform, log=Down(), registry=Down())
    found = dossier.explain(blind)
    assert found.outcome == "rolled_back"
    assert found.guards[0].outcome is Outcome.FAIL
    text = render(found, "md")
    assert "the prediction log and its labels: it does not answer" in text
    assert "the registry: it does not answer" in text
    for form in FORMATS:
        assert render(found, form)


@pytest.mark.slow
def test_past_rollouts_keep_their_dossier_and_unknown_ones_are_refused() -> None:
    world = played(USELESS, 6)
    first = dossier.explain(world.platform)
    world.install(Skill(0, GOOD))
    world.controllers[0].turn()
    assert dossier.explain(world.platform).id != first.id
    again = dossier.explain(world.platform, first.id)
    assert (again.decision, again.timeline) == (first.decision, first.timeline)
    with pytest.raises(NotFound, match=f"no rollout 'rollout-99'.*{first.id}"):
        dossier.explain(world.platform, "rollout-99")


def test_the_page_needs_nothing_else_and_the_document_is_whole(rolled_back: Dossier) -> None:
    page = render(rolled_back, "html")
    assert page.count("<svg") >= 2
    links = set(re.findall(r"""(?:src|href)=["']([^"'#]+)""", page)) | set(
        re.findall(r"url\(([^#)]+)\)", page)
    )
    assert links == set()
    assert "<script" not in page
    found = msgspec.json.decode(render(rolled_back, "json"))
    assert found["decision"] == rolled_back.decision
    assert found["guards"][0]["path"]


def test_what_a_person_wrote_cannot_break_the_page() -> None:
    world = played(GOOD, 2)
    commands.rollout_abort(world.platform, "anna", "<script>alert(1)</script> | x")
    page = render(dossier.explain(world.platform), "html")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert r"\| x" in render(dossier.explain(world.platform), "md")


@pytest.mark.slow
def test_an_experiment_shows_every_challenger() -> None:
    plan = msgspec.structs.replace(PLAN, strategy="experiment", steps=(100,))
    world = World(11, plan=plan)
    world.install(Skill(0, USELESS))
    world.controllers[0].turn()
    for strength in (USELESS, GOOD):
        world.install(Skill(0, strength))
    for _ in range(12):
        world.traffic()
        world.deliver_labels()
        world.controllers[0].turn()
        world.pass_time()
    found = dossier.explain(world.platform)
    assert found.candidates == ("2", "3")
    assert found.outcome == "promoted"
    assert "Version 3 was promoted in place of version 1" in found.decision
    assert {g.version for g in found.guards} == {"2", "3"}
    assert found.of("2")[0].alpha_promote == pytest.approx(0.025)
    assert "The evidence: version 2" in render(found, "html")
    # what the winner rests on, not what would have kept the other one in
    assert found.would_change == (
        "quality of version 3: it is shown to be better than the champion: "
        "every margin would have passed.",
    )
    assert "versions 2, 3 against champion 1" in found.timeline[0].sentence
    assert "candidate at 33.33 %" in found.timeline[1].sentence
    shares = charts._shares(found)
    assert len({row["at"] for row in shares}) == len(shares)


def test_lengths_of_time_read_well() -> None:
    assert spell(timedelta(days=3, hours=4, minutes=9)) == "3 d 4 h"
    assert spell(timedelta(seconds=40)) == "40 s"
    assert spell(timedelta(0)) == "no time"


def test_a_slice_that_decided_is_told_with_its_own_bounds() -> None:
    worse = Verdict("quality[g=1]", Outcome.FAIL, "g=1 is worse", 0.3, 0.06, 0.2, 0.4, 90)
    fine = Verdict("quality[g=0]", Outcome.PASS, "g=0 is fine", -0.1, 0.06, -0.2, 0.0, 900)
    whole = Verdict("quality", Outcome.FAIL, worse.sentence, -0.1, 0.02, -0.2, 0.01, 990)
    whole = msgspec.structs.replace(whole, parts=(fine, worse))
    assert "at least 0.2, than version 1 (90 observations)" in plainly(worse.sentence, [whole], "1")
    told = would_change(whole)
    assert told.startswith("In quality[g=1]: harm of at least 0.2 is shown.")
    assert "A slice_margin above 0.4 would have passed" in told


def test_the_alpha_of_a_guard_and_its_slices_is_that_of_the_guard() -> None:
    alpha = Alpha(0.05, 0.05)
    parts = [of_whole(alpha), *(of_slice(alpha, k) for k in range(1, 1000))]
    assert 0.049 < sum(p.rollback for p in parts) <= 0.05


# -- versions that were not rolled out -----------------------------------------------------------


def hopeless(preflight: str = "refuse") -> World:
    """A rollout of version 2 whose labels could only come after its end, wanted or not."""
    world = with_champion(max_duration=Duration(seconds=1), preflight=preflight)
    world.traffic()
    world.pass_time()
    world.install(Skill(0, GOOD))
    world.controllers[0].turn()
    return world


@pytest.mark.parametrize("named", ["2", None])
def test_a_refused_version_has_a_dossier_with_the_figures_and_what_would_make_it_able(
    named: str | None,
) -> None:
    found = dossier.explain(hopeless().platform, named)
    assert (found.id, found.outcome, found.candidates) == ("version 2", "refused", ("2",))
    assert found.decision.startswith("Version 2 was not rolled out against version 1: quality")
    assert any("--force" in line for line in found.would_change)
    assert found.preflight is not None
    assert found.preflight.figure is not None
    assert [p.check for p in found.preflight.parts] == ["quality"]
    assert [o.version for o in found.origins] == ["2", "1"]
    for form in FORMATS:
        assert "quality needs about" in render(found, form)
    assert "What would have made it able" in render(found, "md")
    page = render(found, "html")
    assert "Share of the requests" not in page
    assert re.search(r"Version 2\s+against 1", page)


def test_what_a_person_was_refused_is_recorded_with_the_figures_and_the_person() -> None:
    world = hopeless()
    before = world.controllers[0].controller.state()
    with pytest.raises(Refused, match="quality needs about"):
        commands.rollout_start(world.platform, "2", "anna")
    after = world.controllers[0].controller.state()
    assert after.seq == before.seq + 1
    found = dossier.explain(world.platform, "2")
    assert (found.outcome, found.people) == ("refused", ("anna wanted it tried",))
    assert found.preflight is not None
    started = commands.rollout_start(world.platform, "2", "anna", force=True)
    assert started.live_rollout is not None


def test_a_superseded_version_says_what_took_its_place_which_is_the_latest() -> None:
    world = World(11, plan=PLAN)
    for installed in (1, 2):
        for _ in range(installed):
            world.install(Skill(0, GOOD))
        world.controllers[0].turn()
    assert dossier.explain(world.platform).candidates == ("3",)
    assert dossier.explain(world.platform, "3").id.startswith("rollout-")
    found = dossier.explain(world.platform, "2")
    assert found.outcome == "superseded"
    assert "superseded by version 3" in found.decision
    for form in FORMATS:
        assert "superseded by version 3" in render(found, form)


def test_a_rollout_shows_what_was_expected_before_it_started() -> None:
    found = dossier.explain(hopeless("warn").platform)
    assert found.id.startswith("rollout-")
    assert found.preflight is not None
    assert found.preflight.failed
    for form in FORMATS:
        assert found.preflight.sentence[12:] in html.unescape(render(found, form))


def test_a_dark_launch_is_not_asked_whether_it_can_decide() -> None:
    world = hopeless()
    plan = msgspec.structs.replace(world.project.rollout, strategy="dark")
    dark = msgspec.structs.replace(world.project, rollout=plan)
    champion, candidate = world.registry.versions(world.platform.stream)
    now = world.clock.now()
    assert preflight_of(world.platform, champion, candidate, now) is not None
    assert (
        preflight_of(dataclasses.replace(world.platform, project=dark), champion, candidate, now)
        is None
    )


def test_a_refusal_that_was_recorded_without_figures_is_told_all_the_same() -> None:
    world = hopeless()
    record(world.platform, [CandidateDropped("7", "preflight: it needs 40d -> a wider margin")])
    found = dossier.explain(world.platform, "7")
    assert (found.outcome, found.would_change) == ("refused", ("a wider margin",))
    assert "only its sentence was recorded" in render(found, "html")


def test_the_last_look_is_at_the_end_itself_so_that_the_record_is_what_is_told() -> None:
    began = datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
    for micros in range(1, 200, 7):  # lengths that no step divides
        end = began + timedelta(hours=1, microseconds=micros)
        times = dossier.moments(began, end, 24)
        assert len(times) == 24
        assert times[0] > began
        assert times[-1] == end
        assert times == sorted(times)


def test_a_guards_chart_is_scaled_to_what_was_known_at_the_end() -> None:
    at = [datetime(2026, 1, 1, hour, tzinfo=UTC) for hour in range(10)]
    wide = [Point(t, Outcome.INCONCLUSIVE, 100, 0.02, -0.9, 0.9) for t in at[:-1]]
    low, high = charts._scale([*wide, Point(at[-1], Outcome.FAIL, 900, 0.03, 0.02, 0.04)], 0.01)
    assert -0.02 < low < 0
    assert 0.04 < high < 0.06
