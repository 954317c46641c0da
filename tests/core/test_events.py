"""Events are written as JSON with their tag, and read back as what they were."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.core.duration import Duration
from homeostat.core.events import Event, Recorded, decode, encode
from homeostat.core.verdict import Outcome, Verdict

AT = datetime(2026, 1, 1, tzinfo=UTC)


class Started(Event, frozen=True, tag="test.started"):
    version: str
    percent: float
    wake: datetime | None = None


class Judged(Event, frozen=True, tag="test.judged"):
    verdict: Verdict
    bake: Duration | None = None


class Untagged(Event, frozen=True):
    text: str


events = st.one_of(
    st.builds(
        Started, st.text(), st.floats(0, 100), st.none() | st.datetimes(timezones=st.just(UTC))
    ),
    st.builds(
        Judged,
        st.builds(Verdict, st.text(), st.sampled_from(Outcome), st.text()),
        st.none() | st.integers(1, 10**9).map(lambda ms: Duration(milliseconds=ms)),
    ),
)


def recorded(event: Event) -> Recorded:
    tag, body = encode(event)
    return Recorded("m", 1, AT, tag, body)


@given(events)
def test_an_event_is_read_back_as_it_was(event: Event) -> None:
    assert decode(recorded(event), Started | Judged) == event


@given(events)
def test_the_body_is_json_that_carries_its_tag(event: Event) -> None:
    tag, body = encode(event)
    assert msgspec.json.decode(body)["type"] == tag
    body.decode("utf-8")


def test_a_field_that_a_later_version_added_is_passed_over() -> None:
    body = b'{"type":"test.started","version":"1","percent":10,"colour":"red"}'
    assert decode(Recorded("m", 1, AT, "test.started", body), Started | Judged) == Started("1", 10)


def test_an_event_of_an_unknown_kind_is_refused() -> None:
    body = b'{"type":"test.unheard"}'
    with pytest.raises(msgspec.ValidationError, match=r"test\.unheard"):
        decode(Recorded("m", 1, AT, "test.unheard", body), Started | Judged)
