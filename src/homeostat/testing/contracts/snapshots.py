"""The laws of SnapshotStore. Subclass with a fixture `store`, and name the class Test..."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from homeostat.core.errors import BadInput
from homeostat.core.ports import SnapshotStore
from homeostat.data.snapshots import key, table_digest

_fresh = itertools.count()


def fresh() -> str:
    """A key that nothing was put under (subclasses may share a store)."""
    return key("contract", str(next(_fresh)))


def tables() -> list[pl.DataFrame]:
    """Of every kind that a project may hold."""
    return [
        pl.DataFrame({"a": [1, 2, None], "b": [0.5, float("nan"), None]}),
        pl.DataFrame({"s": ["x", "", None], "t": [True, None, False]}),
        pl.DataFrame({"d": [date(2026, 1, 1)], "z": [datetime(2026, 1, 1, tzinfo=UTC)]}),
        pl.DataFrame(
            {"l": [[1, 2], [], None], "c": pl.Series(["u", "v", "u"], dtype=pl.Enum("uv"))}
        ),
        pl.DataFrame({"r": [{"x": 1, "y": "a"}, {"x": None, "y": "b"}]}),
        pl.DataFrame(schema={"a": pl.Int64, "s": pl.String}),
    ]


class SnapshotsContract:
    """Every SnapshotStore passes this."""

    @pytest.fixture
    def store(self) -> SnapshotStore:
        raise NotImplementedError("a subclass gives the store")

    def test_nothing_is_found_where_nothing_was_put(self, store: SnapshotStore) -> None:
        name = fresh()
        assert store.get(name) is None
        assert store.digest(name) is None

    @pytest.mark.parametrize("number", range(len(tables())))
    def test_a_table_comes_back_equal(self, store: SnapshotStore, number: int) -> None:
        name, table = fresh(), tables()[number]
        digest = store.put(name, table)
        found = store.get(name)
        assert found is not None
        assert_frame_equal(found, table)
        assert digest == store.digest(name) == table_digest(table) == table_digest(found)

    def test_the_first_table_of_a_key_stays(self, store: SnapshotStore) -> None:
        name, (first, second, *_) = fresh(), tables()
        digest = store.put(name, first)
        assert store.put(name, second) == digest
        found = store.get(name)
        assert found is not None
        assert_frame_equal(found, first)

    def test_a_change_of_the_table_given_does_not_reach_the_store(
        self, store: SnapshotStore
    ) -> None:
        name, table = fresh(), pl.DataFrame({"a": [1, 2]})
        store.put(name, table)
        table.insert_column(1, pl.Series("b", [3, 4]))
        found = store.get(name)
        assert found is not None
        assert found.columns == ["a"]

    def test_what_was_removed_is_not_there_and_can_be_put_anew(self, store: SnapshotStore) -> None:
        name, other, (first, second, *_) = fresh(), fresh(), tables()
        store.remove(name)
        store.put(name, first)
        store.put(other, first)
        store.remove(name)
        assert store.get(name) is None
        assert store.digest(name) is None
        assert store.get(other) is not None
        assert store.put(name, second) == table_digest(second)
        found = store.get(name)
        assert found is not None
        assert_frame_equal(found, second)

    def test_a_key_that_could_leave_the_store_is_refused(self, store: SnapshotStore) -> None:
        for name in ("", "../x", "a/b", ".hidden"):
            with pytest.raises(BadInput, match="key"):
                store.put(name, tables()[0])
            with pytest.raises(BadInput, match="key"):
                store.remove(name)
