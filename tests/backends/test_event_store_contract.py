"""Events and leases keep their laws in memory, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from homeostat.backends.local.database import Database, sqlite_url
from homeostat.backends.local.events import SqlEventStore
from homeostat.backends.local.leases import SqlLeases
from homeostat.backends.memory.events import MemoryEventStore
from homeostat.backends.memory.leases import MemoryLeases
from homeostat.testing.contracts.events import EventStoreContract
from homeostat.testing.contracts.leases import LeasesContract


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    database = Database(sqlite_url(tmp_path / "state.db"))
    yield database
    database.close()


@pytest.fixture
def postgresql(postgres_url: str) -> Iterator[Database]:
    database = Database(postgres_url)
    yield database
    database.close()


class TestMemoryEventStore(EventStoreContract):
    @pytest.fixture
    def store(self) -> MemoryEventStore:
        return MemoryEventStore()


class TestSqliteEventStore(EventStoreContract):
    @pytest.fixture
    def store(self, sqlite: Database) -> SqlEventStore:
        return SqlEventStore(sqlite)


class TestPostgresqlEventStore(EventStoreContract):
    @pytest.fixture
    def store(self, postgresql: Database) -> SqlEventStore:
        return SqlEventStore(postgresql)


class TestMemoryLeases(LeasesContract):
    @pytest.fixture
    def leases(self) -> MemoryLeases:
        return MemoryLeases()


class TestSqliteLeases(LeasesContract):
    @pytest.fixture
    def leases(self, sqlite: Database) -> SqlLeases:
        return SqlLeases(sqlite)


class TestPostgresqlLeases(LeasesContract):
    @pytest.fixture
    def leases(self, postgresql: Database) -> SqlLeases:
        return SqlLeases(postgresql)
