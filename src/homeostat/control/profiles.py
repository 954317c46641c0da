"""The profiles of windows: built once from the log, kept as snapshots, read ever after.

A window that has closed is a snapshot of its minutes (hours, where it lasts days), under a key of
its model, version, bins and times: whoever builds it again builds the same. The minutes of the
window that is open are kept in memory; after a restart they are built again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import polars as pl

from homeostat.control.platform import Platform
from homeostat.data import snapshots
from homeostat.monitoring.profiles import Profile, from_table, to_table
from homeostat.monitoring.traffic import Traffic, Watched, grain, profiles, together

WEEK = timedelta(days=7)
SETTLED = timedelta(seconds=5)
"""How long after a minute its requests are all in the log."""
SLICE, START = "slice", "start"
Parts = dict[str, list[Profile]]


class Profiles:
    """For one controller. Everything it remembers can be built again."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._open: tuple[object, datetime, list[Parts]] | None = None
        """Of which window; until when; its parts so far."""

    def window(self, watched: Watched, version: str, start: datetime, end: datetime) -> Traffic:
        """The traffic of a window that has closed."""
        key = self._key(watched, version, start, end)
        stored = self._platform.snapshots.get(key)
        if stored is not None:
            return together(watched, [_parts(stored)])
        parts = self._upto(watched, version, (start, end), end)
        self._platform.snapshots.put(key, _table(parts, start, grain(end - start)))
        self._open = None
        return together(watched, parts)

    def past(
        self, watched: Watched, version: str, start: datetime, end: datetime, weeks: int
    ) -> Traffic:
        """The same window of the last weeks, together."""
        found = []
        for week in range(1, weeks + 1):
            back = week * WEEK
            traffic = self.window(watched, version, start - back, end - back)
            found.append({name: [p] for name, p in traffic.items()})
        return together(watched, found)

    def advance(
        self, watched: Watched, version: str, start: datetime, end: datetime, now: datetime
    ) -> None:
        """Take in the minutes of the open window that are over, so that its end is no work."""
        step = grain(end - start)
        over = start + (now - SETTLED - start) // step * step
        if start < over < end:
            self._upto(watched, version, (start, end), over)

    def _upto(
        self, watched: Watched, version: str, window: tuple[datetime, datetime], until: datetime
    ) -> list[Parts]:
        which = (version, watched.key, window)
        since = window[0]
        parts: list[Parts] = []
        if self._open is not None and self._open[0] == which:
            _, since, parts = self._open
        step = grain(window[1] - window[0])
        steps = -(-(until - since) // step)
        if steps > 0:
            log = self._platform.log.read(self._platform.stream, since, until)
            parts = [*parts, profiles(log, watched, version, since, step, steps)]
        self._open = (which, max(since, until), parts)
        return parts

    def _key(self, watched: Watched, version: str, start: datetime, end: datetime) -> str:
        words = (self._platform.stream, version, watched.key, start.isoformat(), end.isoformat())
        return snapshots.key("profiles", *words)


def _table(parts: Sequence[Parts], start: datetime, step: timedelta) -> pl.DataFrame:
    """All steps of all slices in order; steps without a request are left out."""
    tables, at = [], start
    for part in parts:
        for name, found in part.items():
            kept = [(at + i * step, p) for i, p in enumerate(found) if p.rows]
            columns = {SLICE: [name] * len(kept), START: [begins for begins, _ in kept]}
            schema = {SLICE: pl.String(), START: pl.Datetime("us", "UTC")}
            where = pl.DataFrame(columns, schema=schema)
            tables.append(pl.concat([where, to_table([p for _, p in kept])], how="horizontal"))
        at += step * max((len(found) for found in part.values()), default=0)
    return pl.concat(tables) if tables else to_table([])


def _parts(table: pl.DataFrame) -> Parts:
    found: Parts = {}
    if SLICE in table.columns:
        for name, profile in zip(table[SLICE].to_list(), from_table(table), strict=True):
            found.setdefault(name, []).append(profile)
    return found
