"""Which requests are one observation, because they were close in time."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from homeostat.core.clock import to_us
from homeostat.rollout.seen.observations import Observations
from homeostat.rollout.seen.requests import Rows
from homeostat.rollout.spec import RolloutSpec

_MICROSECOND = timedelta(microseconds=1)


def in_order(
    rows: Rows, plan: RolloutSpec, seen: Observations
) -> tuple[Rows, NDArray[np.int64] | None]:
    """The rows by block, and their block numbers: those that were answered within `plan.block` of
    each other and came to count within it. A block that is not over yet is left out."""
    size = plan.block // _MICROSECOND
    if not size or not len(rows):
        return rows, None
    counted = rows.counts // size
    if seen.now is not None:  # they are in the order in which they came to count
        over = int(counted.searchsorted(to_us(seen.now) // size))
        if over < len(rows):
            rows, counted = rows.take(slice(0, over)), counted[:over]
    asked = rows.time // size
    together = counted[1:] == counted[:-1]
    if np.count_nonzero(together & (asked[1:] < asked[:-1])):  # counted is in order already
        order = np.lexsort((asked, counted))
        rows, asked = rows.take(order), asked[order]
    new = ~together | (asked[1:] != asked[:-1])
    return rows, np.concatenate(([0], new.cumsum()))[: len(rows)]


def alike(score: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores (n) as what shows which requests hang together: one that is no number says nothing."""
    if np.isfinite(score).all():
        return score
    return np.nan_to_num(score, nan=0.5, posinf=1.0, neginf=0.0)
