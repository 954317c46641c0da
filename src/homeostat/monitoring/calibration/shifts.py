"""What can be put into a stream to see how late a monitor sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from homeostat.monitoring.calibration.history import Rows, Setting
from homeostat.monitoring.calibration.levels import Monitor

Floats = NDArray[np.float64]

Shift = Callable[[Rows, np.random.Generator], Rows]


def standard_shifts(setting: Setting) -> dict[str, tuple[Monitor, Shift]]:
    """What is tried where nothing else is asked for."""
    columns = {c.name: c for c in setting.reference.baseline.columns}
    spread = np.array([_spread(columns[name]) for name in setting.reference.features])
    found: dict[str, tuple[Monitor, Shift]] = {}
    for size in (0.5, 1.0) if spread.any() else ():
        found[f"one feature by {size:g} standard deviations"] = ("drift", moved(size, spread))
    texts = [i for i, f in enumerate(setting.reference.fields) if f.datatype == "BYTES"]
    for share in (0.25, 0.5) if texts else ():
        found[f"{share:.0%} of one text's rows with one value"] = ("drift", stuck(share, texts))
    for share in (0.1, 0.5):
        found[f"{share:.0%} of one feature's values missing"] = ("data", emptied(share))
    for share in (0.1, 0.3):
        found[f"{share:.0%} of the labels swapped"] = ("quality", swapped(share))
    return found


def moved(size: float, spread: Floats) -> Shift:
    """One feature, whichever is drawn, by `size` standard deviations. spread: of each, (d,); zero
    for one that cannot be moved."""
    movable = np.flatnonzero(spread)

    def shift(rows: Rows, random: np.random.Generator) -> Rows:
        table = rows.features.copy()
        at = int(movable[random.integers(movable.size)])
        table[:, at] += size * spread[at]
        return rows._replace(features=table)

    return shift


def stuck(share: float, places: Sequence[int]) -> Shift:
    """One of the features at these places, whichever is drawn, has the value of the first row in
    so many rows."""

    def shift(rows: Rows, random: np.random.Generator) -> Rows:
        table = rows.features.copy()
        at = places[int(random.integers(len(places)))]
        table[random.random(len(table)) < share, at] = table[0, at]
        return rows._replace(features=table)

    return shift


def emptied(share: float) -> Shift:
    def shift(rows: Rows, random: np.random.Generator) -> Rows:
        table = rows.features.copy()
        table[random.random(len(table)) < share, 0] = np.nan
        return rows._replace(features=table)

    return shift


def swapped(share: float) -> Shift:
    def shift(rows: Rows, random: np.random.Generator) -> Rows:
        chosen = random.random(rows.label.size) < share
        return rows._replace(label=np.where(chosen, 1 - rows.label, rows.label))

    return shift


def _spread(column: object) -> float:
    low, high = getattr(column, "low", None), getattr(column, "high", None)
    values = getattr(column, "values", np.zeros(0))
    if low is None or high is None or not len(values):
        return 0.0
    upto = getattr(column, "upto", np.zeros(0))
    weight = np.diff(np.concatenate(([0.0], upto)))
    mean = float(values @ weight)
    return float(np.sqrt(max(0.0, (values - mean) ** 2 @ weight)))
