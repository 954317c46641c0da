"""What a window may spend on false alarms of each monitor: the nominal share of the budget, or what
a calibration on the user's own history found to keep it."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from homeostat.monitoring.calibration.budget import alpha_per_window
from homeostat.monitoring.spec import MonitoringSpec

Monitor = Literal["drift", "data", "quality"]
MONITORS: tuple[Monitor, ...] = get_args(Monitor)
"""They share a window's alpha equally where nothing else is known."""


class Levels(msgspec.Struct, frozen=True, omit_defaults=True):
    """Chance of a false alarm in one window; None: the nominal one."""

    drift: float | None = None
    data: float | None = None
    quality: float | None = None

    def of(self, monitor: Monitor, spec: MonitoringSpec) -> float:
        solved: float | None = getattr(self, monitor)
        return nominal(spec) if solved is None else solved

    def sum(self, spec: MonitoringSpec) -> float:
        return sum(self.of(m, spec) for m in MONITORS)


def nominal(spec: MonitoringSpec) -> float:
    """Each monitor's equal share of what a window may spend."""
    return alpha_per_window(spec.drift.false_alarms_per_month, spec.window) / len(MONITORS)
