"""From a budget of false alarms per month to a level for each look.

A month has `30 days / window` looks. Each look is given an equal share of the budget, so the
expected number of false alarms in a quiet month is at most the budget, whatever the dependence
between features and between windows (expectations add up). This is Bonferroni over looks: simple,
valid, and a little conservative.
"""

from __future__ import annotations

from datetime import timedelta

from homeostat.core.errors import BadInput

MONTH = timedelta(days=30)
MOST = 0.05
"""A window's level is never above this: few looks a month do not make weak evidence strong."""


def looks_per_month(window: timedelta) -> float:
    """Windows per 30 days. Raises BadInput unless the window is longer than nothing."""
    if window <= timedelta(0):
        raise BadInput(
            "a monitoring window has no length", expected="a duration above 0", found=str(window)
        )
    return MONTH / window


def alpha_per_window(false_alarms_per_month: float, window: timedelta) -> float:
    """The chance of a false alarm that one window may take (0 to MOST), over all of its tests."""
    if not false_alarms_per_month > 0:
        raise BadInput(
            "a false-alarm budget must be positive",
            expected="false alarms per month, such as 1",
            found=repr(false_alarms_per_month),
        )
    return min(MOST, false_alarms_per_month / looks_per_month(window))
