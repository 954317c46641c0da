"""The certificate of a version's monitors: how often each alarms falsely, and how late it sees."""

from __future__ import annotations

from datetime import datetime

import msgspec

from homeostat.core.events import Event
from homeostat.monitoring.calibration.levels import Levels, Monitor

STUCK = 0.1
"""Share of quiet time in alarm beyond which a monitor is not one that errs now and then."""

REMEDIES: dict[Monitor, str] = {
    "drift": "take longer windows or a larger drift.min_effect",
    "data": "let values arrive as they did when the model was tested, or take longer windows",
    "quality": "take a longer quality.window, or a lower floor",
}
"""Of a monitor that no level keeps to the budget."""


class Rate(msgspec.Struct, frozen=True):
    """A monitor's false alarms. alarms: in so many replayed months. low, high: 95 % interval of
    the rate per month. level: what a window may spend on it. open: share of that time in which
    its alert was open: a monitor that never stops alarming has raised one alarm only."""

    monitor: Monitor
    alarms: int
    months: float
    per_month: float
    low: float
    high: float
    level: float
    open: float = 0.0

    @property
    def sentence(self) -> str:
        told = f"{self.per_month:.2g} false alarms a month ({self.low:.2g} to {self.high:.2g})"
        return f"{told}, in alarm {self.open:.0%} of the time" if self.stuck else told

    @property
    def stuck(self) -> bool:
        """What it is compared with is not what it was measured on."""
        return self.open > STUCK

    def within(self, part: float) -> bool:
        """It was shown to raise no more than `part` false alarms a month: with one more alarm,
        too, and not by an alert that never ends."""
        return (self.alarms + 1) / self.months <= part and not self.stuck


class Delay(msgspec.Struct, frozen=True):
    """How a monitor sees a shift. seen: in how many of `episodes` within PATIENCE windows; median:
    seconds from the shift to the alert, over those, the maturing of labels included. already:
    further episodes, in which it was alarming before the shift."""

    monitor: Monitor
    shift: str
    seen: int
    episodes: int
    median: float | None
    already: int = 0


class Calibrated(Event, frozen=True, tag="monitors.calibrated"):
    """The certificate of a version's monitors: what was measured, on what, by whom. source: `log`
    or `reference` of event time since..until. rows: of a replayed window. budget: false alarms per
    month over all monitors, as declared. levels: what a window may spend on each monitor from now
    on; solved: whether they were made to meet the budget."""

    version: str
    source: str
    since: datetime | None
    until: datetime | None
    rows: int
    budget: float
    rates: tuple[Rate, ...]
    delays: tuple[Delay, ...] = ()
    levels: Levels = Levels()
    solved: bool = False
    by: str = ""

    def rate(self, monitor: str) -> Rate | None:
        return next((r for r in self.rates if r.monitor == monitor), None)

    @property
    def beyond(self) -> tuple[str, ...]:
        """Where levels have just been solved for: of each monitor that none was found for, a
        sentence that says so, and what helps."""
        part = self.budget / max(1, len(self.rates))
        return tuple(
            f"no level, down to 1 in {1 / r.level:.0e}, keeps the monitor of {r.monitor} to its "
            f"part of the budget on this traffic: {REMEDIES[r.monitor]}, or declare more"
            for r in self.rates
            if not r.within(part)
        )

    @property
    def sentence(self) -> str:
        told = "; ".join(f"{r.monitor} {r.sentence}" for r in self.rates)
        how = "solved for the budget" if self.solved else "measured"
        return f"monitors of version {self.version} {how} on its {self.source}: {told}"
