"""The profiles of windows: built from the log as its minutes are over, kept where read again.

The window that is open is one profile per slice in memory, to which each minute (hour, where a
window lasts days) is added; after a restart it is built again. Where windows of former weeks are
compared with, one that has closed is a snapshot under a key of its model and times, until it is
older than all that a later window is compared with.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from homeostat.control.platform import Platform
from homeostat.core.errors import Damaged
from homeostat.data import snapshots
from homeostat.monitoring.profiles.profile import from_table, to_table
from homeostat.monitoring.profiles.traffic import Traffic, Watched, grain, profiles, together

WEEK = timedelta(days=7)
MOST_WEEKS = 8
"""What `monitoring.drift.weeks` may be at most."""
SLICE, OF = "slice", "of"


class Profiles:
    """For one controller. Everything it remembers can be built again."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._open: tuple[object, datetime, Traffic] | None = None
        """Of which window; until when; what there is of it so far."""

    def window(self, watched: Watched, version: str, start: datetime, end: datetime) -> Traffic:
        """The traffic of a window that has closed and whose requests are all in the log."""
        if not self._platform.project.monitoring.drift.weeks:
            # nobody will ask for it again: a full disk is then no reason to be blind
            return self._upto(watched, version, (start, end), end)
        key, of = self._key(start, end), f"{version}:{watched.key}"
        stored = self._kept(key)
        if stored is not None and stored[OF].to_list() == [of] * stored.height:
            return _traffic(stored)
        traffic = self._upto(watched, version, (start, end), end)
        if stored is not None:  # of another champion, or of other bins: nobody asks for it now
            self._platform.snapshots.remove(key)
        self._platform.snapshots.put(key, _table(traffic, of))
        return traffic

    def prune(self, start: datetime, end: datetime) -> None:
        """Remove what a window after [start, end) is not compared with any more, also where fewer
        weeks are declared than once were."""
        weeks = self._platform.project.monitoring.drift.weeks
        if weeks:
            for week in range(weeks + 1, MOST_WEEKS + 2):
                self._platform.snapshots.remove(self._key(start - week * WEEK, end - week * WEEK))

    def _kept(self, key: str) -> pl.DataFrame | None:
        try:
            return self._platform.snapshots.get(key)
        except Damaged:  # it is made again from the log
            self._platform.snapshots.remove(key)
            return None

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
        self, watched: Watched, version: str, start: datetime, end: datetime, settled: datetime
    ) -> None:
        """Take in the minutes of the open window that are over, so that its end is no work.
        settled: until when every request is in the log."""
        step = grain(end - start)
        over = start + (settled - start) // step * step
        if start < over < end:
            self._upto(watched, version, (start, end), over)

    def _upto(
        self, watched: Watched, version: str, window: tuple[datetime, datetime], until: datetime
    ) -> Traffic:
        which = (version, watched.key, window)
        since, traffic = window[0], together(watched, [])
        if self._open is not None and self._open[0] == which:
            _, since, traffic = self._open
        if since < until:
            log = self._platform.log.read(self._platform.stream, since, until)
            if log.height:
                more = profiles(log, watched, version, since, until - since, 1)
                traffic = together(watched, [{name: [p] for name, p in traffic.items()}, more])
            self._open = (which, until, traffic)
        return traffic

    def _key(self, start: datetime, end: datetime) -> str:
        words = (self._platform.stream, start.isoformat(), end.isoformat())
        return snapshots.key("profiles of a window", *words)


def _table(traffic: Traffic, of: str) -> pl.DataFrame:
    """A row per slice. of: whose scores were counted, in which bins."""
    names = pl.DataFrame({SLICE: list(traffic)}, {SLICE: pl.String()})
    names = names.with_columns(pl.lit(of).alias(OF))
    return pl.concat([names, to_table(list(traffic.values()))], how="horizontal")


def _traffic(table: pl.DataFrame) -> Traffic:
    return dict(zip(table[SLICE].to_list(), from_table(table), strict=True))
