"""Freeze windows: times in which nothing advances. A rollback is always allowed.

Either end is a time of day (`22:00`: every day), a day of the week (`fri 16:00`) or a date
(`2026-12-20`, `2026-12-20 16:00`), as the clocks on the wall of `zone` show it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from homeostat.core.errors import BadInput
from homeostat.rollout.spec import Freeze

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_FORM = re.compile(
    r"(?:(?P<date>\d{4}-\d\d-\d\d)|(?P<day>mon|tue|wed|thu|fri|sat|sun))?"
    r"(?:(?:^| |T)(?P<time>\d\d:\d\d))?"
)
_CHAIN = 100
"""How many windows in a row are followed to the end of a freeze."""


class Edge(NamedTuple):
    """An end of a window. day: a date, a day of the week (0: Monday), or None: every day."""

    day: date | int | None
    time: time


def parse(text: str) -> Edge:
    """-> the edge that a text means. Raises BadInput."""
    found = _FORM.fullmatch(text.strip().lower().replace("t", " ") if text[:1].isdigit() else text)
    if found is None or not text.strip():
        raise _unusable(text)
    try:
        at = time.fromisoformat(found["time"]) if found["time"] else time()
        if found["date"]:
            return Edge(date.fromisoformat(found["date"]), at)
    except ValueError as error:
        raise _unusable(text) from error
    return Edge(DAYS.index(found["day"]) if found["day"] else None, at)


def check(freeze: Freeze) -> None:
    """Raises BadInput for a window that cannot be used; says which part."""
    begin, end = parse(freeze.start), parse(freeze.to)
    if type(begin.day) is not type(end.day):
        raise BadInput(
            "the two ends of a freeze differ in kind",
            expected="two times of day, two days of the week, or two dates",
            found=f"from {freeze.start!r} to {freeze.to!r}",
        )
    _zone(freeze)
    if isinstance(begin.day, date) and (end.day, end.time) <= (begin.day, begin.time):
        raise BadInput("a freeze ends before it begins", found=f"{freeze.start} to {freeze.to}")


def frozen_until(freezes: Sequence[Freeze], now: datetime) -> tuple[datetime, Freeze] | None:
    """When the freeze that holds at `now` ends (windows that touch are one), and its first
    window; None when there is none."""
    first: Freeze | None = None
    end = now
    for _ in range(_CHAIN):
        held = [
            (b, f) for f in freezes for a, b in occurrences(f, end, end + _STEP) if a <= end < b
        ]
        if not held:
            break
        end, window = max(held, key=lambda pair: pair[0])
        first = first or window
    return None if first is None else (end, first)


def frozen_time(freezes: Sequence[Freeze], since: datetime, until: datetime) -> timedelta:
    """How much of [since, until) was frozen; windows that overlap count once."""
    if not freezes or until <= since:
        return timedelta(0)
    spans = sorted(span for f in freezes for span in occurrences(f, since, until))
    total, reached = timedelta(0), since
    for a, b in spans:
        begin, end = max(a, reached), min(b, until)
        if end > begin:
            total += end - begin
            reached = end
    return total


def occurrences(
    freeze: Freeze, since: datetime, until: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """The times of one window, as [a, b) in UTC, that meet [since, until)."""
    begin, end, zone = parse(freeze.start), parse(freeze.to), _zone(freeze)
    if isinstance(begin.day, date) and isinstance(end.day, date):
        spans = [(begin.day, end.day)]
    else:
        first = since.astimezone(zone).date() - timedelta(days=8)
        days = (until.astimezone(zone).date() - first).days + 1
        spans = [
            (day, day + _length(begin, end))
            for day in (first + timedelta(days=i) for i in range(days))
            if begin.day is None or day.weekday() == begin.day
        ]
    for opens, closes in spans:
        a = datetime.combine(opens, begin.time, zone).astimezone(UTC)
        b = datetime.combine(closes, end.time, zone).astimezone(UTC)
        if b > since and a < until:
            yield a, b


_STEP = timedelta(microseconds=1)


def _length(begin: Edge, end: Edge) -> timedelta:
    """Whole days from a window's first to its last day."""
    if isinstance(begin.day, int) and isinstance(end.day, int):
        days = (end.day - begin.day) % 7
        return timedelta(days=days or (0 if end.time > begin.time else 7))
    return timedelta(days=0 if end.time > begin.time else 1)


def _zone(freeze: Freeze) -> ZoneInfo:
    try:
        return ZoneInfo(freeze.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadInput(
            "no such time zone", expected="a name such as UTC or Europe/Paris", found=freeze.zone
        ) from error


def _unusable(text: str) -> BadInput:
    return BadInput(
        "not a time that a freeze can begin or end at",
        expected="`22:00`, `fri 16:00`, `2026-12-20` or `2026-12-20 16:00`",
        found=repr(text),
    )
