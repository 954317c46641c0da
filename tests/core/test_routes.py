"""Who answers: sticky, monotone, in the promised shares, and anew for each rollout."""

from __future__ import annotations

import math
from bisect import bisect_right

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.core.names import Arm
from homeostat.core.route import (
    BUCKETS,
    PAIRING_SALT,
    Challenger,
    Route,
    Servable,
    arcs,
    assign,
    bucket,
    places,
    shadows,
)

ONE = Servable("1", "/v/1", "sha256:1")
TWO = Servable("2", "/v/2", "sha256:2")
KEYS = [f"customer-{n}" for n in range(20_000)]
percents = st.floats(0, 100)


def route(percent: float, salt: str = "r1") -> Route:
    return Route("fraud", 1, ONE, TWO, percent=percent, salt=salt)


def canary_keys(percent: float, salt: str = "r1") -> set[str]:
    chosen = route(percent, salt)
    return {key for key in KEYS if (a := assign(chosen, key)) and a.arm is Arm.CANARY}


@given(st.text(), percents)
def test_a_key_stays_where_it_is_and_the_text_of_the_route_does_not_matter(
    key: str, percent: float
) -> None:
    sent = msgspec.json.decode(msgspec.json.encode(route(percent)), type=Route)
    later = msgspec.structs.replace(route(percent), generation=9, paired=0.5)
    assert assign(route(percent), key) == assign(sent, key) == assign(later, key)


@given(st.text(), percents, percents)
def test_who_sees_the_canary_still_sees_it_at_a_larger_share(
    key: str, one: float, other: float
) -> None:
    small, large = sorted((one, other))
    at_small, at_large = assign(route(small), key), assign(route(large), key)
    assert at_small is not None
    assert at_large is not None
    if at_small.arm is Arm.CANARY:
        assert at_large.arm is Arm.CANARY


@pytest.mark.parametrize("percent", [0.5, 1, 10, 25, 50, 75, 99])
def test_the_share_is_what_was_asked_for(percent: float) -> None:
    expected, n = percent / 100, len(KEYS)
    # 4.4 standard deviations: once in 100,000 for fair buckets, and the keys are fixed
    margin = 4.4 * math.sqrt(expected * (1 - expected) / n) + 1 / BUCKETS
    assert abs(len(canary_keys(percent)) / n - expected) < margin


def test_the_ends_are_exact() -> None:
    assert canary_keys(0) == set()
    assert canary_keys(100) == set(KEYS)


def test_buckets_are_uniform() -> None:
    counts = [0] * 100
    for key in KEYS:
        counts[bucket("salt", key) * 100 // BUCKETS] += 1
    expected = len(KEYS) / 100
    chi_squared = sum((c - expected) ** 2 / expected for c in counts)
    assert chi_squared < 99 + 4.4 * math.sqrt(2 * 99)


def test_the_next_rollout_draws_anew() -> None:
    first, second, n = canary_keys(25, "r1"), canary_keys(25, "r2"), len(KEYS)
    both = len(first & second) / n
    assert abs(both - 0.25**2) < 4.4 * math.sqrt(0.0625 * 0.9375 / n)


@given(st.text(), percents)
def test_the_probability_is_that_of_the_arm_that_was_drawn(key: str, percent: float) -> None:
    drawn = assign(route(percent), key)
    assert drawn is not None
    share = percent / 100
    rest = (100 - percent) / 100
    assert drawn.probability == (share if drawn.arm is Arm.CANARY else rest)
    assert drawn.probability > 0
    assert drawn.version == ("2" if drawn.arm is Arm.CANARY else "1")


@given(percents)
def test_weights_sum_to_100(percent: float) -> None:
    assert sum(route(percent).weights().values()) == pytest.approx(100)
    assert route(percent).weights()["2"] == percent


def test_a_version_that_is_both_gets_everything() -> None:
    both = Route("fraud", 1, ONE, ONE, percent=25)
    assert both.weights() == {"1": 100.0}


def test_without_a_champion_nobody_answers() -> None:
    nobody = Route("fraud", 1, None)
    assert assign(nobody, "a") is None
    assert nobody.weights() == {}
    assert nobody.servables() == ()


@pytest.mark.parametrize("percent", [-1, 100.1, math.nan])
def test_a_share_out_of_range_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="within 0 and 100"):
        route(percent)


def test_a_share_for_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a canary"):
        Route("fraud", 1, ONE, percent=10)


# -- several challengers -------------------------------------------------------------------------


@st.composite
def experiments(draw: st.DrawFn) -> Route:
    """A route with up to twelve challengers that do not overlap, some of them in the dark."""
    n = draw(st.integers(1, 12))
    room = 100 / n
    return Route.split(
        "fraud",
        1,
        ONE,
        [
            Challenger(
                Servable(str(i + 2), f"/v/{i + 2}", f"sha256:{i + 2}"),
                percent=draw(st.sampled_from([0.0, room / 3, room / 2, math.floor(room)])),
                paired=draw(st.sampled_from([0.0, 0.3, 1.0])),
                at=at,
            )
            for i, at in enumerate(places(n))
        ],
        salt="r1",
    )


def with_percent(found: Route, index: int, percent: float) -> Route:
    challengers = list(found.challengers)
    challengers[index] = msgspec.structs.replace(challengers[index], percent=percent)
    return Route.split(found.model, 2, found.champion, challengers, salt=found.salt)


@given(experiments(), st.text(), st.data())
def test_raising_one_challengers_share_only_moves_keys_to_it_from_the_champion(
    found: Route, key: str, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(found.challengers) - 1))
    chosen = found.challengers[index]
    room = 100 / len(found.challengers)
    larger = with_percent(found, index, min(chosen.percent * 1.5, math.floor(room)))
    before, after = assign(found, key), assign(larger, key)
    assert before is not None
    assert after is not None
    if before.version != after.version:
        assert (before.arm, after.version) == (Arm.CHAMPION, chosen.servable.version)


@given(experiments() | percents.map(route), st.lists(st.text(), min_size=50, max_size=50))
def test_the_arcs_say_of_every_key_who_answers_it(found: Route, keys: list[str]) -> None:
    starts, answers = arcs(found)
    assert starts[0] == 0
    for key in keys:
        place = bisect_right(starts, bucket(found.salt, key)) - 1
        assert answers[place] == assign(found, key)


def test_nobody_answers_on_any_arc_of_a_model_without_a_champion() -> None:
    assert arcs(Route("fraud", 1, None)) == ([0], [])


@given(experiments(), st.text())
def test_every_challenger_has_its_probability_and_one_in_the_dark_answers_nobody(
    found: Route, key: str
) -> None:
    drawn = assign(found, key)
    assert drawn is not None
    assert drawn.probability > 0
    assert drawn.probability == found.weights()[drawn.version] / 100
    assert assign(msgspec.json.decode(msgspec.json.encode(found), type=Route), key) == drawn


@given(experiments())
def test_the_weights_of_many_sum_to_100_and_all_of_them_are_loaded(found: Route) -> None:
    assert sum(found.weights().values()) == pytest.approx(100)
    assert len(found.servables()) == len(found.challengers) + 1


@given(experiments(), st.text(), st.text())
def test_a_paired_request_is_scored_by_the_challenger_and_by_the_champion(
    found: Route, key: str, id: str
) -> None:
    drawn = assign(found, key)
    assert drawn is not None
    others = [s.version for s in shadows(found, drawn.version, id)]
    assert drawn.version not in others
    assert len(set(others)) == len(others)
    scored = {drawn.version, *others}
    for challenger in found.challengers:
        paired = bucket(PAIRING_SALT, id) < challenger.paired * BUCKETS
        if paired:
            assert {"1", challenger.servable.version} <= scored
        elif challenger.servable.version in scored:
            assert drawn.version == challenger.servable.version


def test_ten_challengers_get_the_shares_that_were_asked_for() -> None:
    ten = [Challenger(Servable(str(i + 2), "", ""), 9.0, at=at) for i, at in enumerate(places(10))]
    route = Route.split("fraud", 1, ONE, ten, salt="r1")
    counts: dict[str, int] = {}
    for key in KEYS:
        drawn = assign(route, key)
        assert drawn is not None
        counts[drawn.version] = counts.get(drawn.version, 0) + 1
    for version, percent in route.weights().items():
        expected = percent / 100
        margin = 4.4 * math.sqrt(expected * (1 - expected) * len(KEYS))
        assert abs(counts[version] - expected * len(KEYS)) < margin


def test_one_that_is_left_of_many_may_take_everything_and_keeps_its_keys() -> None:
    third = Challenger(Servable("4", "", ""), 20.0, at=50.0)
    alone = Route.split("fraud", 1, ONE, [third], salt="r1")
    grown = with_percent(alone, 0, 100.0)
    assert {a.version for key in KEYS if (a := assign(grown, key))} == {"4"}
    kept = {key for key in KEYS if (a := assign(alone, key)) and a.version == "4"}
    assert 0.17 < len(kept) / len(KEYS) < 0.23


def test_a_route_file_of_before_there_were_several_is_read_and_written_as_it_was() -> None:
    old = (
        b'{"model":"fraud","generation":7,"champion":{"version":"1","path":"/v/1",'
        b'"digest":"sha256:1"},"canary":{"version":"2","path":"/v/2","digest":"sha256:2"},'
        b'"percent":25.0,"paired":1.0,"salt":"r1"}'
    )
    found = msgspec.json.decode(old, type=Route)
    assert found.challengers == (Challenger(TWO, 25.0, 1.0),)
    assert msgspec.json.encode(found) == old
    assert Route.split("fraud", 7, ONE, found.challengers, salt="r1") == found


def test_shares_that_overlap_and_a_version_twice_are_refused() -> None:
    with pytest.raises(ValueError, match="reach into"):
        Route.split("m", 1, ONE, [Challenger(TWO, 60.0), Challenger(ONE, 10.0, at=50.0)])
    with pytest.raises(ValueError, match="reach into"):
        Route.split("m", 1, ONE, [Challenger(TWO, 10.0), Challenger(ONE, 60.0, at=50.0)])
    with pytest.raises(ValueError, match="one challenger only"):
        Route.split("m", 1, ONE, [Challenger(TWO), Challenger(TWO, at=50.0)])
    with pytest.raises(ValueError, match="within 0 and 100"):
        Route.split("m", 1, ONE, [Challenger(TWO), Challenger(ONE, -1.0, at=50.0)])
