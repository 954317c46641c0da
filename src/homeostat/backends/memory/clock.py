"""A clock for tests, simulation and rehearsal."""

from __future__ import annotations

from datetime import datetime


class VirtualClock:
    """Stands still until `at` is set."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at
