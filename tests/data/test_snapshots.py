"""Snapshots: the contract in memory, in a folder and on a real S3 server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from homeostat.backends.local.snapshots import FileSnapshots
from homeostat.backends.memory.snapshots import MemorySnapshots
from homeostat.core.errors import BadInput, Damaged, Unavailable
from homeostat.data.snapshots import key, table_digest
from homeostat.testing import services
from homeostat.testing.contracts.snapshots import SnapshotsContract

TABLE = pl.DataFrame({"a": [1, 2, 3], "s": ["x", None, "z"]})


class TestMemorySnapshots(SnapshotsContract):
    @pytest.fixture
    def store(self) -> MemorySnapshots:
        return MemorySnapshots()


class TestFolderSnapshots(SnapshotsContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> FileSnapshots:
        return FileSnapshots(str(tmp_path / "snapshots"))


@pytest.mark.slow
class TestS3Snapshots(SnapshotsContract):
    @pytest.fixture
    def store(self, s3: services.S3, monkeypatch: pytest.MonkeyPatch) -> FileSnapshots:
        for name, value in s3.environment().items():
            monkeypatch.setenv(name, value)
        return FileSnapshots(s3.bucket("contract") + "/snapshots")


@given(st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=8), st.integers(0, 8))
def test_the_digest_does_not_depend_on_the_chunks(words: list[str | None], cut: int) -> None:
    whole = pl.DataFrame({"w": pl.Series(words, dtype=pl.String)}).with_row_index()
    parts = pl.concat([whole.head(cut), whole.slice(cut)], rechunk=False)
    assert table_digest(parts) == table_digest(whole.rechunk())


@given(st.lists(st.sampled_from(["", "a", "aa", None]), min_size=1, max_size=5), st.data())
def test_tables_that_differ_have_different_digests(
    words: list[str | None], data: st.DataObject
) -> None:
    other = data.draw(st.lists(st.sampled_from(["", "a", "aa", None]), min_size=1, max_size=5))
    same = [pl.DataFrame({"w": pl.Series(w, dtype=pl.String)}) for w in (words, other)]
    assert (table_digest(same[0]) == table_digest(same[1])) == (words == other)


def test_names_types_and_the_order_of_rows_are_part_of_the_content() -> None:
    digests = {
        table_digest(t)
        for t in (
            TABLE,
            TABLE.reverse(),
            TABLE.rename({"a": "b"}),
            TABLE.cast({"a": pl.Int32}),
            TABLE.select("s", "a"),
        )
    }
    assert len(digests) == 5


def test_nans_and_zeros_that_compare_equal_have_one_digest() -> None:
    import numpy as np

    quiet = np.array([0x7FF8000000000001, 0], dtype=np.uint64).view(np.float64)
    assert table_digest(pl.DataFrame({"x": quiet})) == table_digest(
        pl.DataFrame({"x": [float("nan"), -0.0]})
    )


def test_python_objects_are_refused() -> None:
    with pytest.raises(BadInput, match="Python objects"):
        table_digest(pl.DataFrame({"o": pl.Series([object()], dtype=pl.Object)}))


def test_keys_of_different_parts_differ() -> None:
    assert key("ab", "c") != key("a", "bc") != key("abc")
    assert key("a") == key("a")


def test_a_damaged_snapshot_is_told_and_not_used(tmp_path: Path) -> None:
    store = FileSnapshots(str(tmp_path))
    store.put("k1", TABLE)
    path = tmp_path / "k1" / "k1.parquet"
    TABLE.reverse().write_parquet(path, metadata={"homeostat:digest": table_digest(TABLE)})
    with pytest.raises(Damaged, match="not what was put"):
        store.get("k1")
    path.write_bytes(b"junk")
    with pytest.raises(Damaged, match="delete it"):
        store.get("k1")


FULL = """
import resource, signal, sys
import polars as pl
from homeostat.backends.local.snapshots import FileSnapshots
from homeostat.core.errors import Unavailable
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    FileSnapshots(sys.argv[1]).put("big", pl.DataFrame({"a": pl.Series(range(50_000)).hash()}))
except Unavailable as error:
    sys.exit(f"told: {error}")
"""


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    # a limit on the size of files stands in for the disk
    run = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True)
    assert b"told: " in run.stderr, run.stderr
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    store = FileSnapshots(str(tmp_path))
    assert store.get("big") is None
    store.put("big", TABLE)
    found = store.get("big")
    assert found is not None
    assert_frame_equal(found, TABLE)


@pytest.mark.slow
def test_a_store_that_does_not_answer_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    with pytest.raises(Unavailable, match="AWS_ENDPOINT_URL"):
        FileSnapshots("s3://bucket/x").get("k")
