"""What has happened since the first event, counted: the counters at /metrics. Pure."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Literal

import msgspec

from homeostat.monitoring.calibration.budget import MONTH
from homeostat.monitoring.model import WindowObserved

Counts = dict[str, int]
What = Literal["alerts", "runs", "results", "refusals", "rollouts"]


class Tally(msgspec.Struct, frozen=True):
    """alerts: by kind. runs: of the loop's own, by trigger; results: of all, by outcome.
    refusals: by trigger. rollouts: by how they ended. spent: per day of the last month, the
    expected number of false alarms that its windows were allowed, oldest first."""

    alerts: Counts = {}
    runs: Counts = {}
    results: Counts = {}
    refusals: Counts = {}
    rollouts: Counts = {}
    spent: tuple[tuple[date, float], ...] = ()

    def one_more(self, what: What, name: str) -> Tally:
        counts: Counts = getattr(self, what)
        return msgspec.structs.replace(self, **{what: {**counts, name: counts.get(name, 0) + 1}})

    def spend(self, window: WindowObserved) -> Tally:
        """A window was looked at."""
        days, day = dict(self.spent), window.end.date()
        days[day] = days.get(day, 0.0) + window.alpha
        oldest = max(days) - timedelta(days=MONTH.days)
        spent = tuple(sorted((d, a) for d, a in days.items() if d >= oldest))
        return msgspec.structs.replace(self, spent=spent)

    def budget_used(self, now: datetime) -> float:
        """False alarms that the windows of the last 30 days were allowed, to the day."""
        since = (now - MONTH).date()
        return sum(alpha for day, alpha in self.spent if day > since)
