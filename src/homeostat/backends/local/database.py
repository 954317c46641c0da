"""The database under events and leases: SQLite on one machine, PostgreSQL beyond it.

The tables are made on first use. Their version is kept beside them, so that a file written by a
newer Homeostat is refused rather than misread.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from homeostat.core.errors import BadInput, Damaged, HomeostatError, Unavailable

SCHEMA_VERSION = 1
_CREATION_LOCK = 0x686F6D656F  # of PostgreSQL's advisory locks: any number of our own
_WRITES = {"homeostat_writes": True}


class Instant(sa.types.TypeDecorator[datetime]):
    """Aware datetimes as UTC text of fixed width: sorts as time does, exact to the microsecond,
    and readable with any tool."""

    impl = sa.String(32)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> str | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"an instant needs a time zone, found {value.isoformat()}")
        return value.astimezone(UTC).isoformat(timespec="microseconds")

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value)


metadata = sa.MetaData()

schema = sa.Table(
    "homeostat_schema", metadata, sa.Column("version", sa.Integer, primary_key=True)
)  # fmt: skip

events = sa.Table(
    "homeostat_events",
    metadata,
    sa.Column("stream", sa.String, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("type", sa.String, nullable=False),
    sa.Column("body", sa.Text, nullable=False),  # JSON
)

leases = sa.Table(
    "homeostat_leases",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("holder", sa.String, nullable=False),
    sa.Column("until", Instant, nullable=False),
)


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return sa.URL.create("sqlite", database=str(path)).render_as_string()


class Database:
    """Transactions on `sqlite:///FILE` or `postgresql://...`; safe to share between threads and
    to inherit over a fork. Connecting waits for the first use.

    patience: seconds to wait for a lock or a connection before Unavailable is raised.
    Raises BadInput when the URL is neither.
    """

    def __init__(self, url: str, *, patience: float = 5.0) -> None:
        self._engine = _engine(url, patience)
        self._patience = patience
        self._made = False
        self._making = threading.Lock()
        self.dialect: str = self._engine.dialect.name
        self.name = self._engine.url.render_as_string(hide_password=True)

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A consistent view. Raises Unavailable, Damaged."""
        with self._told():
            self._make_once()
            with self._engine.begin() as connection:
                yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """All or nothing. Raises Unavailable, Damaged; IntegrityError is the caller's to read."""
        with self._told():
            self._make_once()
            with self._engine.execution_options(**_WRITES).begin() as connection:
                yield connection

    def close(self) -> None:
        """Give the connections back; the next use opens new ones."""
        self._engine.dispose()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (exc.IntegrityError, HomeostatError):
            raise
        except (exc.DBAPIError, sqlite3.Error) as error:
            told = _explain(error, self.name)
            if told is None:
                raise
            raise told from error

    def _make_once(self) -> None:
        if self._made:
            return
        with self._making:
            if self._made:
                return
            if self.dialect == "sqlite":
                _prepare_file(self._engine, self._patience)
            if not sa.inspect(self._engine).has_table(schema.name):
                self._make()
            with self._engine.begin() as connection:
                found = connection.scalar(sa.select(sa.func.max(schema.c.version)))
            if found != SCHEMA_VERSION:
                raise Unavailable(
                    "the state was written by another version of Homeostat",
                    path=self.name,
                    expected=f"schema {SCHEMA_VERSION}",
                    found=f"schema {found}",
                    remedy="upgrade homeostat, or set HOMEOSTAT_DATABASE_URL to another database",
                )
            self._made = True

    def _make(self) -> None:
        # one creator at a time: SQLite's write lock, PostgreSQL's advisory lock; the second finds
        # everything there
        with self._engine.execution_options(**_WRITES).begin() as connection:
            if self.dialect == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CREATION_LOCK)))
            metadata.create_all(connection, checkfirst=True)
            if connection.scalar(sa.select(sa.func.count()).select_from(schema)) == 0:
                connection.execute(schema.insert().values(version=SCHEMA_VERSION))


def _engine(url: str, patience: float) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
    except exc.ArgumentError as error:
        # the text may hold a password: it is not shown
        raise _bad_url("a text that is not a URL") from error
    backend = parsed.get_backend_name()
    if backend == "sqlite" and parsed.database not in (None, "", ":memory:"):
        arguments: dict[str, Any] = {"timeout": patience}
    elif backend in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
        arguments = {
            "connect_timeout": max(1, round(patience)),
            "options": f"-c lock_timeout={round(patience * 1000)}",
        }
    else:
        raise _bad_url(parsed.drivername)
    try:
        engine = sa.create_engine(parsed, connect_args=arguments, pool_pre_ping=backend != "sqlite")
    except ModuleNotFoundError as error:
        raise BadInput(
            "the driver for PostgreSQL is not installed",
            remedy="pip install 'homeostat[postgres]'",
        ) from error
    if backend == "sqlite":
        _listen_sqlite(engine)
    _forget_in_children(engine)
    return engine


def _bad_url(found: str) -> BadInput:
    return BadInput(
        "not a database for the state",
        path="HOMEOSTAT_DATABASE_URL",
        expected="postgresql://USER@HOST/NAME or sqlite:////PATH/TO/FILE",
        found=found,
    )


def _forget_in_children(engine: sa.Engine) -> None:
    """A connection must not be used on both sides of a fork."""
    alive = weakref.ref(engine)

    def forget() -> None:
        if (engine := alive()) is not None:
            engine.dispose(close=False)

    os.register_at_fork(after_in_child=forget)


def _listen_sqlite(engine: sa.Engine) -> None:
    @sa.event.listens_for(engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, see below
        connection.execute("PRAGMA synchronous = FULL")

    @sa.event.listens_for(engine, "begin")
    def begun(connection: sa.Connection) -> None:
        # a writer takes the lock before it reads, or it could fail halfway for want of it
        writes = connection.get_execution_options().get("homeostat_writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _prepare_file(engine: sa.Engine, patience: float) -> None:
    """The folder, and the write-ahead log: readers then never wait for the writer."""
    path = Path(str(engine.url.database))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(
            "the folder of the database cannot be made", path=str(path.parent), found=str(error)
        ) from error
    with contextlib.closing(engine.raw_connection()) as connection:
        cursor = connection.cursor()
        deadline = time.monotonic() + patience
        # a file that is there already in this mode may be read-only: ask before setting
        while cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            try:
                cursor.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                # changing the mode does not wait for a lock, so we do
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


# SQLite's error names and PostgreSQL's SQLSTATEs, by their beginnings
_LOCKED = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL", "55P03")
_NOT_OURS = ("SQLITE_NOTADB", "SQLITE_CORRUPT", "XX001", "XX002")
_NO_ACCESS = ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "25006", "42501")
_FULL = ("SQLITE_FULL", "SQLITE_IOERR", "53100")


def _explain(error: exc.DBAPIError | sqlite3.Error, name: str) -> HomeostatError | None:
    """The driver's error as one that a person can act on; None where it is a bug of ours."""
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    said = str(cause).strip()
    code = getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", None) or ""
    if code.startswith(_LOCKED):
        return Unavailable(
            "the database is locked by another process",
            path=name,
            remedy="try again; if it stays, find who holds it (fuser FILE, pg_stat_activity)",
        )
    if code.startswith(_NOT_OURS):
        return Damaged(
            "the database cannot be read",
            path=name,
            found=said,
            remedy="restore it from a backup, or move it away to start anew",
        )
    if code.startswith(_NO_ACCESS):
        return Unavailable(
            "the database cannot be written",
            path=name,
            found=said,
            remedy="check the owner and the rights on it (a file: on its folder too)",
        )
    if code.startswith(_FULL):
        return Unavailable(
            "the disk of the database is full or failing",
            path=name,
            found=said,
            remedy="free some space and try again: nothing of this write was kept",
        )
    if not code.startswith("SQLITE") and isinstance(error, exc.OperationalError):
        return Unavailable(
            "the database does not answer",
            path=name,
            found=said,
            remedy="check HOMEOSTAT_DATABASE_URL and that the server runs",
        )
    return None
