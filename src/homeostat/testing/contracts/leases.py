"""The laws of Leases. Subclass with a fixture `leases`, and name the class Test..."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeostat.core.ports import Leases

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TTL = timedelta(seconds=10)
_fresh = itertools.count()

# examples share the store but no name in it, and every subclass runs the same examples
SHARED = [HealthCheck.function_scoped_fixture, HealthCheck.differing_executors]


def _name() -> str:
    return f"lease-{next(_fresh)}"


class LeasesContract:
    """Every Leases passes this."""

    @pytest.fixture
    def leases(self) -> Leases:
        raise NotImplementedError("a subclass gives the leases")

    def test_the_first_one_gets_it_and_the_second_does_not(self, leases: Leases) -> None:
        name = _name()
        assert leases.acquire(name, "a", ttl=TTL, now=NOW)
        assert not leases.acquire(name, "b", ttl=TTL, now=NOW)

    def test_names_do_not_disturb_each_other(self, leases: Leases) -> None:
        assert leases.acquire(_name(), "a", ttl=TTL, now=NOW)
        assert leases.acquire(_name(), "b", ttl=TTL, now=NOW)

    def test_it_is_free_once_its_time_is_over_and_not_before(self, leases: Leases) -> None:
        name = _name()
        leases.acquire(name, "a", ttl=TTL, now=NOW)
        just_before = NOW + TTL - timedelta(microseconds=1)
        assert not leases.acquire(name, "b", ttl=TTL, now=just_before)
        assert leases.acquire(name, "b", ttl=TTL, now=NOW + TTL)
        assert not leases.acquire(name, "a", ttl=TTL, now=NOW + TTL)

    def test_acquiring_again_renews(self, leases: Leases) -> None:
        name = _name()
        leases.acquire(name, "a", ttl=TTL, now=NOW)
        assert leases.acquire(name, "a", ttl=TTL, now=NOW + TTL / 2)
        assert not leases.acquire(name, "b", ttl=TTL, now=NOW + TTL)
        assert leases.acquire(name, "b", ttl=TTL, now=NOW + 1.5 * TTL)

    def test_a_released_lease_is_free_at_once(self, leases: Leases) -> None:
        name = _name()
        leases.acquire(name, "a", ttl=TTL, now=NOW)
        leases.release(name, "a")
        assert leases.acquire(name, "b", ttl=TTL, now=NOW)

    def test_who_has_lost_the_lease_cannot_release_it(self, leases: Leases) -> None:
        name = _name()
        leases.acquire(name, "a", ttl=TTL, now=NOW)
        leases.acquire(name, "b", ttl=TTL, now=NOW + TTL)
        leases.release(name, "a")
        leases.release(name, "somebody")
        assert not leases.acquire(name, "a", ttl=TTL, now=NOW + TTL)

    def test_releasing_what_nobody_holds_does_nothing(self, leases: Leases) -> None:
        leases.release(_name(), "a")

    @given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 15)), max_size=15))
    @settings(max_examples=25, suppress_health_check=SHARED)
    def test_never_two_holders(self, leases: Leases, tries: list[tuple[str, int]]) -> None:
        """tries: (who, seconds since the try before)."""
        name, now = _name(), NOW
        holder, until = "", NOW
        for who, seconds in tries:
            now += timedelta(seconds=seconds)
            free = holder in ("", who) or now >= until
            assert leases.acquire(name, who, ttl=TTL, now=now) == free
            if free:
                holder, until = who, now + TTL
