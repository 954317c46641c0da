"""The event log in memory: tests, rehearsal, the simulator."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime

from homeostat.core.errors import Conflict
from homeostat.core.events import Event, Recorded, encode


class MemoryEventStore:
    """An EventStore that ends with its process."""

    def __init__(self) -> None:
        self._streams: dict[str, list[Recorded]] = {}
        self._lock = threading.Lock()

    def append(self, stream: str, events: Sequence[Event], *, after: int, at: datetime) -> int:
        """Raises Conflict."""
        if at.tzinfo is None:
            raise ValueError(f"an instant needs a time zone, found {at.isoformat()}")
        new = [
            Recorded(stream, seq, at, *encode(event)) for seq, event in enumerate(events, after + 1)
        ]
        with self._lock:
            last = len(self._streams.get(stream, ()))
            if last != after:
                raise Conflict(
                    "somebody else wrote first",
                    path=stream,
                    expected=f"event {after} to be the last",
                    found=f"event {last}",
                    remedy="read again and decide again",
                )
            if new:
                self._streams.setdefault(stream, []).extend(new)
        return after + len(new)

    def read(self, stream: str, after: int = 0) -> list[Recorded]:
        return self._streams.get(stream, [])[max(after, 0) :]

    def streams(self) -> list[str]:
        return sorted(self._streams)
