"""When something changed: the split of a series of windows into before and after that fits best."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

EACH = 2
"""Windows on either side of a change, at least."""
CLEAR = 9.0
"""How much better than no change a change has to fit, as a likelihood ratio on the log scale (a
chance of about 1 % in 100 quiet windows: `benchmarks/monitor_calibration.py`)."""


def change_point(series: Sequence[tuple[datetime, float]]) -> datetime | None:
    """series: (time, figure) of windows, by rising time. -> the time of the first window after
    the change of the mean that least squares puts in; None where no change is clear. Assumes
    windows that scatter independently and alike (for sliding windows a few too many are found;
    an alarm, never this, says that there is something to find)."""
    import numpy as np  # slow to import, and where nothing has moved nobody comes here

    y = np.array([value for _, value in series], dtype=np.float64)
    n = y.size
    if n < 2 * EACH + 1:
        return None
    whole = float(((y - y.mean()) ** 2).sum())
    floor = 1e-12 * max(1.0, float(y @ y))
    if whole <= floor:
        return None
    total, upto = y.sum(), np.cumsum(y)
    k = np.arange(EACH, n - EACH + 1)
    left, right = upto[k - 1] / k, (total - upto[k - 1]) / (n - k)
    between = k * (n - k) / n * (left - right) ** 2
    best = int(np.argmax(between))
    within = max(whole - float(between[best]), floor)
    if n / 2 * np.log(whole / within) < CLEAR:
        return None
    return series[int(k[best])][0]
