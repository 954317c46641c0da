"""The label ledger: the contract on both backends, and what only real processes show."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from homeostat.backends.local import ledger as local
from homeostat.backends.local.ledger import DeltaLedger
from homeostat.backends.memory.ledger import MemoryLedger
from homeostat.core.errors import Unavailable
from homeostat.data import ledger as pure
from homeostat.testing.contracts.ledger import (
    Fact,
    LedgerContract,
    expected,
    hour,
    labels,
    told,
)

FACTS = st.lists(
    st.tuples(
        st.sampled_from("abc"), st.sampled_from([0.0, 1.0]), st.integers(0, 2), st.integers(0, 8)
    ),
    max_size=14,
)


class TestMemoryLedger(LedgerContract):
    @pytest.fixture
    def ledger(self) -> MemoryLedger:
        return MemoryLedger()


class TestDeltaLedger(LedgerContract):
    @pytest.fixture
    def ledger(self, tmp_path: Path) -> DeltaLedger:
        return DeltaLedger(tmp_path / "labels")


@given(FACTS, st.integers(-1, 9))
def test_what_was_known_is_what_the_laws_say(facts: list[Fact], at: int) -> None:
    assert told(pure.as_known(labels(*facts), hour(at))) == expected(facts, at)


@given(FACTS, FACTS, st.integers(0, 8))
def test_what_becomes_known_later_never_changes_what_was_known(
    facts: list[Fact], later: list[Fact], at: int
) -> None:
    future = [(i, label, t, at + 1 + known) for i, label, t, known in later]
    assert_frame_equal(
        pure.as_known(labels(*facts), hour(at)), pure.as_known(labels(*facts, *future), hour(at))
    )


@given(FACTS, st.integers(0, 9), st.integers(0, 9))
def test_only_final_labels_are_matured(facts: list[Fact], at: int, delay: int) -> None:
    predictions = pl.DataFrame({"id": list("abcd"), "time": [hour(n) for n in (0, 2, 4, 0)]})
    found = pure.matured(
        predictions, labels(*facts), at=hour(at), matures_after=timedelta(hours=delay)
    )
    known = {f[0]: f[1] for f in expected(facts, at)}
    due = {"a": 0, "b": 2, "c": 4, "d": 0}
    assert dict(found.select("id", "label").iter_rows()) == {
        i: known[i] for i in due if i in known and due[i] + delay <= at
    }


def test_a_ledger_is_read_by_another_process_s_object(tmp_path: Path) -> None:
    DeltaLedger(tmp_path).append(labels(("a", 1, 0, 5)))
    assert told(DeltaLedger(tmp_path).as_known(hour(5))) == {("a", 1, 0, 5)}


def test_many_small_appends_are_compacted_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "COMPACT_FROM", 5)
    ledger, reader = DeltaLedger(tmp_path), DeltaLedger(tmp_path)
    for n in range(12):
        assert ledger.append(labels((f"r{n}", n % 2, 0, n), ("same", n % 2, 0, 0))) >= 1
        assert reader.as_known(hour(99)).height == n + 2
    from deltalake import DeltaTable

    assert len(DeltaTable(str(tmp_path)).file_uris()) < 6


def test_a_locked_ledger_says_so(tmp_path: Path) -> None:
    with (tmp_path / "_lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(Unavailable, match="locked"):
            DeltaLedger(tmp_path, patience=0.05).append(labels(("a", 1, 0, 5)))


def test_a_damaged_ledger_says_so(tmp_path: Path) -> None:
    DeltaLedger(tmp_path).append(labels(("a", 1, 0, 5)))
    next(tmp_path.glob("*.parquet")).write_bytes(b"x")
    with pytest.raises(Unavailable, match="cannot be read"):
        DeltaLedger(tmp_path).as_known(hour(9))


def test_six_hundred_thousand_labels_are_looked_up_quickly() -> None:
    n = 600_000
    facts = pl.DataFrame({"n": range(n)}).select(
        id=pl.format("request-{}/0", "n"),
        label=(pl.col("n") % 2).cast(pl.Float64),
        time=pl.lit(hour(0)) + pl.duration(seconds=pl.col("n")),
        known=pl.lit(hour(168)) + pl.duration(seconds=pl.col("n")),
    )
    facts = pure.facts(pl.concat([facts, facts.head(6000).with_columns(label=1 - pl.col("label"))]))
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        assert pure.as_known(facts, hour(10_000)).height == n
        taken.append(time.perf_counter() - start)
    assert min(taken) < 0.3  # 0.15 on an idle machine


APPEND = """
import sys
from pathlib import Path
from homeostat.backends.local.ledger import DeltaLedger
from homeostat.testing.contracts.ledger import labels
name, count = sys.argv[2], int(sys.argv[3])
ledger = DeltaLedger(Path(sys.argv[1]))
for n in range(count):
    ledger.append(labels((f"{name}{n}", 1.0, 0, n), ("shared", n % 2, 0, n)))
    print(n, flush=True)
"""


def _appender(folder: Path, name: str, count: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", APPEND, str(folder), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


@pytest.mark.slow
def test_two_processes_that_append_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    both = [_appender(tmp_path, name, 40) for name in "ab"]
    for process in both:
        process.communicate()
        assert process.returncode == 0
    found = DeltaLedger(tmp_path)._read()
    assert found.height == 40 + 40 + 40
    assert found["arrival"].to_list() == list(range(120))


@pytest.mark.slow
def test_a_killed_appender_leaves_all_that_it_had_acknowledged(tmp_path: Path) -> None:
    for turn in range(4):
        process = _appender(tmp_path, f"t{turn}-", 10_000)
        assert process.stdout is not None
        acknowledged = [process.stdout.readline() for _ in range(3 + 4 * turn)]
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
        done = len(acknowledged) + rest.count(b"\n")
        ids = DeltaLedger(tmp_path).as_known(hour(20_000))["id"]
        assert {f"t{turn}-{n}" for n in range(done)} <= set(ids)
    assert DeltaLedger(tmp_path).append(labels(("after", 1, 0, 1))) == 1
