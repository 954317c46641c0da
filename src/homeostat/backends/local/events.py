"""The event log in a database: the primary key (stream, seq) decides who wrote first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from homeostat.backends.local.database import Database, events
from homeostat.core.errors import Conflict
from homeostat.core.events import Event, Recorded, encode


class SqlEventStore:
    """An EventStore on SQLite or PostgreSQL; give it a URL, or a Database shared with others.

    A commit whose answer was lost raises Unavailable: whether it happened shows on the next read,
    and a repeated append then raises Conflict.
    """

    def __init__(self, database: Database | str) -> None:
        self._database = Database(database) if isinstance(database, str) else database

    def append(self, stream: str, events_: Sequence[Event], *, after: int, at: datetime) -> int:
        """Raises Conflict, Unavailable, Damaged."""
        rows = []
        for seq, event in enumerate(events_, after + 1):
            tag, body = encode(event)
            rows.append(
                {"stream": stream, "seq": seq, "at": at, "type": tag, "body": body.decode()}
            )
        try:
            with self._database.writing() as connection:
                last = connection.scalar(_last(stream)) or 0
                if last != after:
                    raise _conflict(stream, after, f"event {last}")
                if rows:
                    connection.execute(events.insert(), rows)
        except IntegrityError as error:
            raise _conflict(stream, after, "a newer one") from error
        return after + len(rows)

    def read(self, stream: str, after: int = 0) -> list[Recorded]:
        """Raises Unavailable, Damaged."""
        wanted = (
            sa.select(events.c.seq, events.c.at, events.c.type, events.c.body)
            .where(events.c.stream == stream, events.c.seq > after)
            .order_by(events.c.seq)
        )
        with self._database.reading() as connection:
            rows = connection.execute(wanted).all()
        return [Recorded(stream, seq, at, tag, body.encode()) for seq, at, tag, body in rows]

    def streams(self) -> list[str]:
        """Sorted. Raises Unavailable, Damaged."""
        with self._database.reading() as connection:
            # sorted here: databases differ in their collation
            return sorted(connection.scalars(sa.select(events.c.stream).distinct()))

    def close(self) -> None:
        self._database.close()


def _last(stream: str) -> sa.Select[tuple[int]]:
    return sa.select(sa.func.max(events.c.seq)).where(events.c.stream == stream)


def _conflict(stream: str, after: int, found: str) -> Conflict:
    return Conflict(
        "somebody else wrote first",
        path=stream,
        expected=f"event {after} to be the last",
        found=found,
        remedy="read again and decide again",
    )
