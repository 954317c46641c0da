"""Time is an argument. Nothing below `app` asks the machine what time it is.

Instants are timezone-aware UTC datetimes in decisions and events, and integer nanoseconds since
the epoch in the data plane.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from homeostat.core.errors import BadInput


class Clock(Protocol):
    """Tells the time. Law: it may jump either way; callers must survive that."""

    def now(self) -> datetime: ...


def from_ns(ns: int) -> datetime:
    """Nanoseconds since the epoch -> aware UTC datetime (microsecond precision, exact)."""
    return from_us(ns // 1000)


def from_us(us: int) -> datetime:
    """Microseconds since the epoch -> aware UTC datetime, exact."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)


def to_ns(at: datetime) -> int:
    """Aware datetime -> nanoseconds since the epoch, exact."""
    delta = at - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400_000_000 + delta.seconds * 1_000_000 + delta.microseconds) * 1000


def to_us(at: datetime) -> int:
    """Aware datetime -> microseconds since the epoch, exact."""
    return to_ns(at) // 1000


class ScaledClock:
    """A clock that stands at `start` until `source` reaches `origin`, then runs `rate` times as
    fast as it.

    Every process that is given the same text form shows the same time, which is how the demo
    compresses weeks into seconds without skipping a part. `rate=1` with no start is real time.
    The text form is `START@RATE@ORIGIN_NS`, e.g. `2026-01-01T00:00:00+00:00@3600@17...`.
    """

    def __init__(
        self,
        source_ns: Callable[[], int],
        *,
        start: datetime | None = None,
        rate: float = 1.0,
        origin_ns: int | None = None,
    ) -> None:
        self._source = source_ns
        self._origin = source_ns() if origin_ns is None else origin_ns
        self._start = self._origin if start is None else to_ns(start)
        self.rate = rate

    @classmethod
    def parse(cls, text: str | None, source_ns: Callable[[], int]) -> ScaledClock:
        """From the text form; None or an empty text is real time. Raises BadInput."""
        if not text:
            return cls(source_ns)
        try:
            begin, speed, since = text.split("@")
            start, rate, origin = datetime.fromisoformat(begin), float(speed), int(since)
        except ValueError as error:
            raise BadInput(
                "not a clock",
                expected="START@RATE@ORIGIN_NS, as `homeostat demo` writes it",
                found=repr(text),
                remedy="unset HOMEOSTAT_CLOCK for real time",
            ) from error
        return cls(source_ns, start=start, rate=rate, origin_ns=origin)

    def __str__(self) -> str:
        return f"{from_ns(self._start).isoformat()}@{self.rate!r}@{self._origin}"

    def now_ns(self) -> int:
        elapsed = self._source() - self._origin
        if self._start == self._origin and self.rate == 1.0:
            return self._source()  # real time, which may be set back
        return self._start + int(max(0, elapsed) * self.rate)

    def now(self) -> datetime:
        return from_ns(self.now_ns())
