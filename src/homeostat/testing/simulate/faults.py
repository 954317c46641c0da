"""Ports that fail on purpose."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from homeostat.control.platform import Platform
from homeostat.core.errors import Unavailable

PORTS = ("events", "leases", "registry", "log", "labels", "jobs", "plane", "notifier")


class Crash(BaseException):
    """kill -9 of the controller. Not an Exception: nothing may catch it and go on."""


class Faults:
    """What goes wrong with one controller's calls to its ports.

    Every call has two boundaries, before and after it; they are counted from `arm` on.
    crash_at: the boundary at which the process dies (after a write it has been made, but nobody
    learns of it). down: ports that do not answer. lost: boundaries at which a call has taken
    effect and its answer gets lost. meanwhile: at a boundary, what somebody else does.
    passed: how many boundaries the last turn had.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.boundary = 0
        self.clear()

    def clear(self) -> None:
        self.passed, self.boundary = self.boundary, 0
        self.crash_at: int | None = None
        self.down: frozenset[str] = frozenset()
        self.lost: frozenset[int] = frozenset()
        self.meanwhile: tuple[int, Callable[[], None]] | None = None
        self.calls.clear()

    def around(self, port: str, method: str, call: Callable[[], Any]) -> Any:
        self.calls.append(f"{port}.{method}")
        self._pass()
        if port in self.down:
            raise Unavailable(f"{port} does not answer (simulated)")
        answer = call()
        self._pass()
        if self.boundary in self.lost:
            raise Unavailable(f"the answer of {port}.{method} was lost (simulated)")
        return answer

    def _pass(self) -> None:
        self.boundary += 1
        if self.meanwhile is not None and self.boundary >= self.meanwhile[0]:
            act, self.meanwhile = self.meanwhile[1], None
            act()
        if self.boundary == self.crash_at:
            raise Crash


class Faulty:
    """A port whose every method goes through `faults`."""

    def __init__(self, name: str, port: Any, faults: Faults) -> None:
        self._name, self._port, self._faults = name, port, faults

    def __getattr__(self, method: str) -> Any:
        found = getattr(self._port, method)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            return self._faults.around(self._name, method, lambda: found(*args, **kwargs))

        return call


def faulty(platform: Platform, faults: Faults) -> Platform:
    """The same platform seen through `faults`."""
    wrapped: dict[str, Any] = {p: Faulty(p, getattr(platform, p), faults) for p in PORTS}
    return dataclasses.replace(platform, **wrapped)


WRITES = frozenset(
    {"append", "acquire", "release", "set_alias", "publish", "show", "start", "stop", "send"}
)
"""The methods of ports that change the world."""


class Killer(Faults):
    """Dies at one write, counted over its whole life: just before it, or just after.

    at: which write (from 1); None: never, to count them. die: what dying is.
    """

    def __init__(
        self, at: int | None, *, after: bool, die: Callable[[], None] | None = None
    ) -> None:
        super().__init__()
        self.at, self.after, self.writes = at, after, 0
        self._die = die or _crash

    def around(self, port: str, method: str, call: Callable[[], Any]) -> Any:
        if method not in WRITES:
            return call()
        self.writes += 1
        mine = self.writes == self.at
        if mine and not self.after:
            self._die()
        answer = call()
        if mine:
            self._die()
        return answer


def _crash() -> None:
    raise Crash
