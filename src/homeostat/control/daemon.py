"""The process that keeps ticking: one leader, wake-ups, patience with what does not answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

from homeostat.control.platform import Platform
from homeostat.control.tick import Controller, TickReport
from homeostat.core.clock import Clock
from homeostat.core.errors import Unavailable

LEASE = timedelta(seconds=15)
"""Real time. A leader that died is replaced after this long; one that is alive renews it with
every tick. A leader paused for longer may act once more beside its successor: its decisions are
then refused by the event store, and its routes by their generation."""


class Daemon:
    """Ticks every `interval` seconds (real time) while it holds the lease.

    wall: the machine's real time (the platform's clock may be compressed). tell: is given every
    report that decided something, saw that somebody else did, or had other problems than the one
    before, and what kept the loop from turning.
    """

    def __init__(
        self,
        platform: Platform,
        *,
        holder: str,
        wall: Clock,
        interval: float = 1.0,
        tell: Callable[[TickReport | str], None] = lambda report: None,
    ) -> None:
        self.platform, self.holder, self.wall = platform, holder, wall
        self.interval, self.tell = interval, tell
        self._controller = Controller(platform)
        self._leading = False
        self._silence = ""
        self._problems: tuple[str, ...] = ()

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set. Leaves the lease to whoever waits for it."""
        try:
            while not stop.is_set():
                pause = self.turn()
                stop.wait(pause)
        finally:
            if self._leading:
                self._release()

    def turn(self) -> float:
        """One turn: renew the lease, tick. -> seconds until the next one."""
        name = f"controller/{self.platform.stream}"
        try:
            self._leading = self.platform.leases.acquire(
                name, self.holder, ttl=LEASE, now=self.wall.now()
            )
            if not self._leading:
                self._say("another controller leads; waiting to take over")
                return self.interval
            report = self._controller.tick()
        except Unavailable as error:
            self._say(error.line())
            return max(self.interval, 1.0)
        news = report.seq > report.since
        if news or (report.problems and report.problems != self._problems):
            self.tell(report)
        self._problems = () if report.conflict else report.problems
        self._silence = ""
        return 0.0 if report.conflict else self.interval

    def _say(self, text: str) -> None:
        """Once, not once a tick."""
        if text != self._silence:
            self._silence = text
            self.tell(text)

    def _release(self) -> None:
        try:
            self.platform.leases.release(f"controller/{self.platform.stream}", self.holder)
        except Unavailable as error:
            self._say(error.line())
