"""What goes wrong with a database is told in one line, and nothing half-done stays."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from homeostat.backends.local.database import Database, sqlite_url
from homeostat.backends.local.events import SqlEventStore
from homeostat.backends.local.leases import SqlLeases
from homeostat.core.errors import BadInput, Conflict, Damaged, Unavailable
from homeostat.core.events import Event
from homeostat.testing.services import postgres

AT = datetime(2026, 1, 1, tzinfo=UTC)


class Noted(Event, frozen=True, tag="test.noted"):
    text: str


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqlEventStore]:
    store = SqlEventStore(Database(sqlite_url(path), patience=0.1))
    yield store
    store.close()


@pytest.fixture
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database: SQLite, or PostgreSQL in a schema of the test's own."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "state.db")
    url: str = request.getfixturevalue("postgres_url")
    name = f"test_{os.urandom(4).hex()}"
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return url.replace("/postgres?", f"/{name}?")


on_both = pytest.mark.parametrize("anywhere", ["sqlite", "postgresql"], indirect=True)


# --- what survives -----------------------------------------------------------------------------


def test_events_survive_the_store(store: SqlEventStore, path: Path) -> None:
    store.append("m", [Noted("a")], after=0, at=AT)
    store.close()
    again = SqlEventStore(sqlite_url(path))
    assert again.read("m") == store.read("m")
    assert len(again.read("m")) == 1
    again.close()


def test_events_and_leases_share_one_database(path: Path) -> None:
    database = Database(sqlite_url(path))
    store, leases = SqlEventStore(database), SqlLeases(database)
    store.append("m", [Noted("a")], after=0, at=AT)
    assert leases.acquire("control", "a", ttl=timedelta(seconds=1), now=AT)
    database.close()


def test_the_folder_is_made(tmp_path: Path) -> None:
    store = SqlEventStore(sqlite_url(tmp_path / "new folder" / "what? 100%.db"))
    store.append("m", [Noted("a")], after=0, at=AT)
    store.close()
    assert (tmp_path / "new folder" / "what? 100%.db").is_file()


def test_the_log_can_be_read_with_plain_sqlite(store: SqlEventStore, path: Path) -> None:
    store.append("m", [Noted("a")], after=0, at=AT)
    store.close()
    with sqlite3.connect(path) as connection:
        rows = connection.execute("select stream, seq, at, type, body from homeostat_events")
        assert rows.fetchall() == [
            (
                "m",
                1,
                "2026-01-01T00:00:00.000000+00:00",
                "test.noted",
                '{"type":"test.noted","text":"a"}',
            )
        ]
    connection.close()


def test_a_store_works_on_both_sides_of_a_fork(store: SqlEventStore) -> None:
    store.append("m", [Noted("a")], after=0, at=AT)
    child = os.fork()
    if child == 0:
        try:
            store.append("m", [Noted("b")], after=1, at=AT)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert store.append("m", [Noted("c")], after=2, at=AT) == 3


def test_a_reader_does_not_wait_for_a_writer(store: SqlEventStore, path: Path) -> None:
    store.append("m", [Noted("a")], after=0, at=AT)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert len(store.read("m")) == 1
    writer.close()


@on_both
def test_of_threads_that_append_at_once_one_wins_each_time(anywhere: str) -> None:
    store = SqlEventStore(anywhere)
    won: list[str] = []

    def race(name: str, after: int) -> None:
        try:
            store.append("m", [Noted(name), Noted(name)], after=after, at=AT)
        except Conflict:
            return
        won.append(name)

    for after in (0, 2, 4):
        threads = [threading.Thread(target=race, args=(f"{after}-{n}", after)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    texts = [msgspec.json.decode(r.body, type=Noted).text for r in store.read("m")]
    assert texts == [name for name in won for _ in range(2)]
    assert len(won) == 3
    store.close()


# --- other processes ---------------------------------------------------------------------------

APPEND = """
import sys
from datetime import UTC, datetime
from homeostat.backends.local.events import SqlEventStore
from homeostat.core.errors import Conflict
from homeostat.core.events import Event

class Noted(Event, frozen=True, tag="test.noted"):
    text: str

url, who, batches = sys.argv[1], sys.argv[2], int(sys.argv[3])
store, done, last = SqlEventStore(url), 0, 0
print("ready", flush=True)
sys.stdin.readline()
while done < batches:
    try:
        last = store.append(
            "m", [Noted(f"{who}-{done}")] * 3, after=last, at=datetime.now(UTC)
        )
        done += 1
        print(last, flush=True)
    except Conflict:
        last = len(store.read("m"))
"""


def appender(url: str, who: str, batches: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", APPEND, url, who, str(batches)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    )


def go(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == b"ready\n"
    process.stdin.write(b"go\n")


def batches_of(store: SqlEventStore) -> list[str]:
    """The names of the batches in order; fails unless each is whole and in one piece."""
    recorded = store.read("m")
    assert [r.seq for r in recorded] == list(range(1, len(recorded) + 1))
    texts = [msgspec.json.decode(r.body, type=Noted).text for r in recorded]
    assert len(texts) % 3 == 0
    assert all(len(set(texts[i : i + 3])) == 1 for i in range(0, len(texts), 3))
    return texts[::3]


@pytest.mark.slow
@on_both
def test_processes_that_make_the_tables_and_append_at_once_lose_nothing(anywhere: str) -> None:
    writers = [appender(anywhere, who, 20) for who in "abc"]
    for writer in writers:
        go(writer)
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    store = SqlEventStore(anywhere)
    batches = batches_of(store)
    store.close()
    assert sorted(batches) == sorted(f"{who}-{n}" for who in "abc" for n in range(20))
    for who in "abc":
        mine = [int(name[2:]) for name in batches if name.startswith(who)]
        assert mine == list(range(20))


@pytest.mark.slow
@on_both
def test_kill_9_leaves_whole_batches_and_everything_acknowledged(anywhere: str) -> None:
    moments = random.Random(0)
    store, acknowledged = SqlEventStore(anywhere), 0
    for attempt in range(4):
        process = appender(anywhere, str(attempt), 10_000)
        go(process)
        assert process.stdout is not None
        for _ in range(moments.randint(1, 25)):
            acknowledged = int(process.stdout.readline())
        process.kill()
        process.communicate()
        assert len(batches_of(store)) * 3 >= acknowledged
    store.close()


# --- what goes wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["", "state.db", "mysql://host/db", "sqlite://", "oracle://x:pw@h"])
def test_another_kind_of_database_is_refused_without_showing_a_password(url: str) -> None:
    with pytest.raises(BadInput, match="HOMEOSTAT_DATABASE_URL.*postgresql://") as refused:
        SqlEventStore(url)
    assert "pw" not in str(refused.value)


def test_a_database_locked_by_another_is_unavailable_and_then_works(
    store: SqlEventStore, path: Path
) -> None:
    store.append("m", [Noted("a")], after=0, at=AT)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked by another process.*try again"):
        store.append("m", [Noted("b")], after=1, at=AT)
    other.close()
    assert store.append("m", [Noted("b")], after=1, at=AT) == 2


def test_a_new_file_that_is_locked_at_once_is_unavailable(store: SqlEventStore, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(Unavailable, match="locked"):
        store.streams()
    other.close()
    assert store.streams() == []


@pytest.mark.parametrize(
    "content", [b"name: fraud\n" * 100, b"\x00" * 4096, random.Random(0).randbytes(5000)]
)
def test_a_file_that_is_no_database_is_damaged_and_left_as_it_is(
    store: SqlEventStore, path: Path, content: bytes
) -> None:
    path.write_bytes(content)
    with pytest.raises(Damaged, match="cannot be read.*backup"):
        store.append("m", [Noted("a")], after=0, at=AT)
    assert path.read_bytes() == content


def test_a_file_cut_short_is_damaged(store: SqlEventStore, path: Path) -> None:
    for n in range(50):
        store.append("m", [Noted("x" * 1000)], after=n, at=AT)
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(Damaged):
        store.read("m")


def test_a_folder_in_the_way_is_unavailable(store: SqlEventStore, path: Path) -> None:
    path.mkdir()
    with pytest.raises(Unavailable, match="cannot be written.*permission|rights"):
        store.streams()


def test_a_file_where_the_folder_should_be_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    store = SqlEventStore(sqlite_url(tmp_path / "home" / "state.db"))
    with pytest.raises(Unavailable, match="folder of the database"):
        store.streams()


def test_a_database_that_may_not_be_written_can_be_read(store: SqlEventStore, path: Path) -> None:
    store.append("m", [Noted("a")], after=0, at=AT)
    with store._database.writing() as connection:
        connection.exec_driver_sql("PRAGMA query_only = ON")
    assert len(store.read("m")) == 1
    with pytest.raises(Unavailable, match="cannot be written"):
        store.append("m", [Noted("b")], after=1, at=AT)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
@pytest.mark.slow
def test_a_full_disk_is_unavailable_keeps_what_was_there_and_recovers(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    small = [str(mount), "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
    if mount is None or subprocess.run(small, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        store, last = SqlEventStore(sqlite_url(disk / "state.db")), 0
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(200_000))
        told = ""
        while not told:
            try:
                last = store.append("m", [Noted("x" * 2000)] * 3, after=last, at=AT)
            except Unavailable as full:
                told = str(full)
        assert "the disk of the database is full" in told
        assert "free some space" in told
        assert last > 0
        assert len(store.read("m")) == last
        ballast.unlink()
        assert store.append("m", [Noted("y")], after=last, at=AT) == last + 1
        store.close()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@on_both
def test_tables_of_a_newer_version_are_refused(anywhere: str) -> None:
    store = SqlEventStore(anywhere)
    store.append("m", [Noted("a")], after=0, at=AT)
    with store._database.writing() as connection:
        connection.exec_driver_sql("UPDATE homeostat_schema SET version = 99")
    store.close()
    newer = SqlEventStore(anywhere)
    with pytest.raises(Unavailable, match="expected schema 1, found schema 99.*upgrade"):
        newer.append("m", [Noted("b")], after=1, at=AT)
    newer.close()


def test_a_server_that_is_away_is_unavailable(tmp_path: Path) -> None:
    store = SqlEventStore(Database(f"postgresql://postgres@/postgres?host={tmp_path}"))
    with pytest.raises(Unavailable, match="does not answer.*that the server runs"):
        store.streams()


def test_a_server_that_goes_away_is_unavailable() -> None:
    with postgres() as url:
        store = SqlEventStore(url)
        store.append("m", [Noted("a")], after=0, at=AT)
    with pytest.raises(Unavailable, match="does not answer"):
        store.append("m", [Noted("b")], after=1, at=AT)
    store.close()
