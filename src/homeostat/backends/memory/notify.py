"""Notices kept in a list, for tests and rehearsal."""

from __future__ import annotations

from collections.abc import Sequence

from homeostat.core.errors import Unavailable
from homeostat.core.ports import Notice


class MemoryNotifier:
    """sent: what was delivered, in order. open: the keys that were renewed last. down: set it to
    play an outage."""

    def __init__(self) -> None:
        self.sent: list[Notice] = []
        self.open: tuple[str, ...] = ()
        self.down = False

    def send(self, notice: Notice) -> None:
        self._answer()
        self.sent.append(notice)

    def renew(self, alerts: Sequence[Notice]) -> None:
        self._answer()
        self.open = tuple(a.key for a in alerts)

    def _answer(self) -> None:
        if self.down:
            raise Unavailable("the notifier is down", remedy="set down = False")
