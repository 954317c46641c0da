"""Leases in memory."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta


class MemoryLeases:
    """Leases among the threads of one process."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[str, datetime]] = {}
        self._lock = threading.Lock()

    def acquire(self, name: str, holder: str, *, ttl: timedelta, now: datetime) -> bool:
        with self._lock:
            held = self._held.get(name)
            if held is not None and held[0] != holder and now < held[1]:
                return False
            self._held[name] = (holder, now + ttl)
            return True

    def release(self, name: str, holder: str) -> None:
        with self._lock:
            if self._held.get(name, ("", None))[0] == holder:
                del self._held[name]
