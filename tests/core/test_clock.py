"""One compressed time for every process."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.core.clock import ScaledClock, from_ns, to_ns
from homeostat.core.errors import BadInput

instants = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
START = datetime(2026, 1, 1, tzinfo=UTC)


class Source:
    """A monotonic source that the test turns by hand."""

    ns = 1_700_000_000_000_000_000

    def __call__(self) -> int:
        return self.ns


@given(instants)
def test_nanoseconds_and_back_is_exact(at: datetime) -> None:
    assert from_ns(to_ns(at)) == at
    assert to_ns(at) % 1000 == 0


@given(instants, st.integers(1, 100_000), st.integers(0, 10**12))
def test_a_clock_made_from_the_text_of_another_shows_the_same_time(
    start: datetime, rate: int, later: int
) -> None:
    source = Source()
    one = ScaledClock(source, start=start, rate=float(rate))
    other = ScaledClock.parse(str(one), source)
    source.ns += later
    assert one.now() == other.now()
    assert str(one) == str(other)


@pytest.mark.parametrize("rate", [0.1, 1 / 3, 1234567.0, 86400.5])
def test_any_rate_survives_the_text(rate: float) -> None:
    source = Source()
    clock = ScaledClock(source, start=START, rate=rate)
    assert ScaledClock.parse(str(clock), source).rate == rate


def test_an_hour_passes_in_a_second() -> None:
    source = Source()
    clock = ScaledClock(source, start=START, rate=3600)
    source.ns += 1_000_000_000
    assert clock.now() - START == timedelta(hours=1)


@pytest.mark.parametrize("text", [None, ""])
def test_no_text_is_real_time(text: str | None) -> None:
    source = Source()
    clock = ScaledClock.parse(text, source)
    source.ns += 5
    assert clock.now_ns() == source.ns


@pytest.mark.parametrize("text", ["soon", "2026-01-01T00:00:00+00:00@fast@1", "@@", "1@2@3@4"])
def test_a_text_that_is_no_clock_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="not a clock"):
        ScaledClock.parse(text, Source())
