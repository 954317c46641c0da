"""What every confidence sequence comes to: a point and its bounds."""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Bounds(msgspec.Struct, frozen=True):
    """point estimate and its one-sided bounds, each with its own alpha, on n observations."""

    point: float
    low: float
    high: float
    n: int


NOTHING = Bounds(math.nan, -math.inf, math.inf, 0)
