"""Notices kept in a list, for tests and rehearsal."""

from __future__ import annotations

from homeostat.core.errors import Unavailable
from homeostat.core.ports import Notice


class MemoryNotifier:
    """sent: what was delivered, in order. down: set it to play an outage."""

    def __init__(self) -> None:
        self.sent: list[Notice] = []
        self.down = False

    def send(self, notice: Notice) -> None:
        if self.down:
            raise Unavailable("the notifier is down", remedy="set down = False")
        self.sent.append(notice)
