"""Leases in a database: one statement decides, so two controllers cannot both win."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from homeostat.backends.local.database import Database, leases


class SqlLeases:
    """Leases on SQLite or PostgreSQL; give it a URL, or a Database shared with others."""

    def __init__(self, database: Database | str) -> None:
        self._database = Database(database) if isinstance(database, str) else database

    def acquire(self, name: str, holder: str, *, ttl: timedelta, now: datetime) -> bool:
        """Raises Unavailable, Damaged."""
        # slow to import, and whoever only reads takes no lease
        from sqlalchemy.dialects import postgresql, sqlite

        insert = postgresql.insert if self._database.dialect == "postgresql" else sqlite.insert
        wish = insert(leases).values(name=name, holder=holder, until=now + ttl)
        take = wish.on_conflict_do_update(
            index_elements=[leases.c.name],
            set_={"holder": wish.excluded.holder, "until": wish.excluded.until},
            where=sa.or_(leases.c.holder == holder, leases.c.until <= now),
        )
        with self._database.writing() as connection:
            return connection.execute(take.returning(leases.c.name)).first() is not None

    def release(self, name: str, holder: str) -> None:
        """Raises Unavailable, Damaged."""
        ours = leases.delete().where(leases.c.name == name, leases.c.holder == holder)
        with self._database.writing() as connection:
            connection.execute(ours)

    def close(self) -> None:
        self._database.close()
