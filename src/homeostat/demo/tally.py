"""What the bank would see: frauds, how many were caught, who answered, what failed."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import polars as pl

from homeostat.core.records import TIME

BIN = timedelta(hours=1)


@dataclass
class Hour:
    frauds: int = 0
    caught: int = 0
    alarms: int = 0
    versions: Counter[str] = field(default_factory=Counter)


class Tally:
    """Counts per hour of event time. A fraud that got no answer was not caught."""

    def __init__(self) -> None:
        self.hours: dict[datetime, Hour] = defaultdict(Hour)
        self.sent = 0
        self.failed: Counter[str] = Counter()

    def count(
        self, at: datetime, *, fraud: bool, alarm: bool, version: str | None, why: str = ""
    ) -> None:
        """version: which answered; None with `why` when none did."""
        hour = self.hours[at.replace(minute=0, second=0, microsecond=0)]
        self.sent += 1
        hour.frauds += fraud
        hour.alarms += alarm
        hour.caught += fraud and alarm
        if version is None:
            self.failed[why] += 1
        else:
            hour.versions[version] += 1

    def detection(self, since: datetime, until: datetime) -> tuple[float | None, int]:
        """-> (share of the frauds of since <= time < until that were caught, frauds)."""
        inside = [h for at, h in self.hours.items() if since <= at < until]
        frauds = sum(h.frauds for h in inside)
        return (sum(h.caught for h in inside) / frauds if frauds else None, frauds)

    def precision(self, since: datetime, until: datetime) -> float | None:
        inside = [h for at, h in self.hours.items() if since <= at < until]
        alarms = sum(h.alarms for h in inside)
        return sum(h.caught for h in inside) / alarms if alarms else None

    def answered(self, version: str) -> int:
        return sum(h.versions[version] for h in self.hours.values())

    def detection_table(self, over: timedelta) -> pl.DataFrame:
        """Rows: time (end of a sliding period `over` long), detection, frauds."""
        rows = []
        for at in sorted(self.hours):
            value, frauds = self.detection(at + BIN - over, at + BIN)
            rows.append((at + BIN, value, frauds))
        schema = {"time": TIME, "detection": pl.Float64(), "frauds": pl.Int64()}
        return pl.DataFrame(rows, schema=schema, orient="row")

    def traffic_table(self) -> pl.DataFrame:
        """Rows: time (start of the hour), version, percent of the hour's answers."""
        rows = []
        for at in sorted(self.hours):
            versions = self.hours[at].versions
            total = sum(versions.values())
            rows += [(at, v, 100 * n / total) for v, n in sorted(versions.items())]
        schema = {"time": TIME, "version": pl.String(), "percent": pl.Float64()}
        return pl.DataFrame(rows, schema=schema, orient="row")
