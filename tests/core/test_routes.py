"""Who answers: sticky, monotone, in the promised shares, and anew for each rollout."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.core.names import Arm
from homeostat.core.route import BUCKETS, Route, Servable, assign, bucket

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
    assert drawn.probability == (share if drawn.arm is Arm.CANARY else 1 - share)
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
