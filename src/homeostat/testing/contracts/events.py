"""The laws of an EventStore. Subclass with a fixture `store`, and name the class Test..."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeostat.core.errors import Conflict
from homeostat.core.events import Event, decode
from homeostat.core.ports import EventStore

AT = datetime(2026, 1, 1, 12, 30, 0, 123456, tzinfo=UTC)
_fresh = itertools.count()

# examples share the store but no name in it, and every subclass runs the same examples
SHARED = [HealthCheck.function_scoped_fixture, HealthCheck.differing_executors]


class Noted(Event, frozen=True, tag="contract.noted"):
    """What the contract appends."""

    text: str


def _stream() -> str:
    """A name that no other test and no other example has used."""
    return f"stream-{next(_fresh)}"


class EventStoreContract:
    """Every EventStore passes this, on an empty store and on one that others use."""

    @pytest.fixture
    def store(self) -> EventStore:
        raise NotImplementedError("a subclass gives the store")

    def test_a_stream_that_was_never_written_is_empty(self, store: EventStore) -> None:
        assert store.read(_stream()) == []

    def test_what_is_appended_is_read_back_in_order(self, store: EventStore) -> None:
        stream = _stream()
        assert store.append(stream, [Noted("a"), Noted("b")], after=0, at=AT) == 2
        assert store.append(stream, [Noted("c")], after=2, at=AT + timedelta(hours=1)) == 3
        recorded = store.read(stream)
        assert [decode(r, Noted).text for r in recorded] == ["a", "b", "c"]
        assert [r.seq for r in recorded] == [1, 2, 3]
        assert {(r.stream, r.type) for r in recorded} == {(stream, "contract.noted")}

    def test_the_instant_is_kept_exactly_and_in_utc(self, store: EventStore) -> None:
        stream, east = _stream(), timezone(timedelta(hours=5, minutes=30))
        store.append(stream, [Noted("a")], after=0, at=AT)
        store.append(stream, [Noted("b")], after=1, at=AT.astimezone(east))
        assert [r.at for r in store.read(stream)] == [AT, AT]
        assert store.read(stream)[0].at.utcoffset() == timedelta(0)

    def test_an_instant_without_a_zone_is_refused(self, store: EventStore) -> None:
        stream = _stream()
        with pytest.raises(Exception, match="time zone"):
            store.append(stream, [Noted("a")], after=0, at=AT.replace(tzinfo=None))
        assert store.read(stream) == []

    def test_any_text_survives(self, store: EventStore) -> None:
        stream, text = _stream(), "snow \u2603, a quote ', a zero \x00, an astral \U0001f600, \n"
        store.append(stream, [Noted(text)], after=0, at=AT)
        assert decode(store.read(stream)[0], Noted).text == text

    @pytest.mark.parametrize("after", [0, 1, 3, 9])
    def test_a_writer_who_has_not_seen_the_last_event_is_refused_whole(
        self, store: EventStore, after: int
    ) -> None:
        stream = _stream()
        store.append(stream, [Noted("a"), Noted("b")], after=0, at=AT)
        with pytest.raises(Conflict):
            store.append(stream, [Noted("x"), Noted("y"), Noted("z")], after=after, at=AT)
        assert [decode(r, Noted).text for r in store.read(stream)] == ["a", "b"]

    def test_appending_nothing_checks_and_changes_nothing(self, store: EventStore) -> None:
        stream = _stream()
        assert store.append(stream, [], after=0, at=AT) == 0
        assert stream not in store.streams()
        with pytest.raises(Conflict):
            store.append(stream, [], after=1, at=AT)

    def test_reading_goes_on_after_a_seq(self, store: EventStore) -> None:
        stream = _stream()
        store.append(stream, [Noted(str(n)) for n in range(5)], after=0, at=AT)
        assert [r.seq for r in store.read(stream, after=3)] == [4, 5]
        assert store.read(stream, after=5) == store.read(stream, after=99) == []

    def test_streams_are_named_once_and_sorted(self, store: EventStore) -> None:
        one, two = _stream(), _stream()
        store.append(two, [Noted("a"), Noted("b")], after=0, at=AT)
        store.append(one, [Noted("a")], after=0, at=AT)
        names = store.streams()
        assert names == sorted(set(names))
        assert {one, two} <= set(names)

    def test_a_caller_cannot_change_the_past(self, store: EventStore) -> None:
        stream = _stream()
        store.append(stream, [Noted("a")], after=0, at=AT)
        store.read(stream).clear()
        assert len(store.read(stream)) == 1

    @given(
        st.lists(st.tuples(st.integers(0, 1), st.integers(-2, 1), st.integers(0, 3)), max_size=12)
    )
    @settings(max_examples=25, suppress_health_check=SHARED)
    def test_streams_behave_as_lists_that_only_grow(
        self, store: EventStore, writes: list[tuple[int, int, int]]
    ) -> None:
        """writes: (which of two streams, how wrong the writer's idea of its end, batch size)."""
        streams = [_stream(), _stream()]
        model: list[list[str]] = [[], []]
        for step, (which, wrong, size) in enumerate(writes):
            end = len(model[which])
            batch = [f"{step}.{n}" for n in range(size)]
            events = [Noted(text) for text in batch]
            if wrong == 0:
                assert store.append(streams[which], events, after=end, at=AT) == end + size
                model[which] += batch
            else:
                with pytest.raises(Conflict):
                    store.append(streams[which], events, after=max(0, end + wrong) or 99, at=AT)
        for stream, texts in zip(streams, model, strict=True):
            recorded = store.read(stream)
            assert [decode(r, Noted).text for r in recorded] == texts
            assert [r.seq for r in recorded] == list(range(1, len(texts) + 1))
