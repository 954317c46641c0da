"""Runs as calls of a function, in virtual time: tests, rehearsal, the simulator."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from homeostat.core.clock import Clock


class MemoryJobs:
    """Jobs that call `work(run)` once `takes` has passed on the clock since `start`.

    The call is made by whoever looks next (`alive`, or `settle`). Without a clock `start` calls it
    at once. `crash` ends a run without its work, as kill -9 would.
    """

    def __init__(
        self,
        work: Callable[[str], None],
        *,
        clock: Clock | None = None,
        takes: timedelta | Callable[[str], timedelta] = timedelta(0),
    ) -> None:
        self._work = work
        self._clock = clock
        self._takes = takes
        self._due: dict[str, datetime] = {}

    def start(self, run: str) -> None:
        if run in self._due:
            return
        if self._clock is None:
            self._work(run)
            return
        takes = self._takes(run) if callable(self._takes) else self._takes
        self._due[run] = self._clock.now() + takes

    def alive(self, run: str) -> bool:
        self.settle()
        return run in self._due

    def stop(self, run: str) -> None:
        self._due.pop(run, None)

    def crash(self, run: str) -> None:
        """The process is gone, and its work was not done."""
        self._due.pop(run, None)

    def settle(self) -> None:
        """Carry out the runs that are due, in the order in which they are."""
        if self._clock is None:
            return
        now = self._clock.now()
        for run, due in sorted(self._due.items(), key=lambda item: (item[1], item[0])):
            if due <= now:
                self._due.pop(run)
                self._work(run)
