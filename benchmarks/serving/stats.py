"""From latencies to figures, from repeats to medians and spread. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import scipy.stats
from numpy.typing import ArrayLike


class Sample(msgspec.Struct, frozen=True):
    """One timed run. Latencies in milliseconds; in an open loop from the intended start.

    rate: answers per second. failed: answers that were no success, and requests without one.
    server_us: processor time of the server per answer (holds still on a busy machine).
    client: share of its core that the load generator used; near 1 it was the limit.
    """

    rate: float
    p50: float
    p99: float
    worst: float
    answered: int
    failed: int
    server_us: float = math.nan
    client: float = math.nan
    late: int = 0


def percentile(values: ArrayLike, q: float) -> float:
    """The smallest value that at least the share q (0 to 1] is not above; NaN when there is none.

    A measured value, never one interpolated between two.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if not ordered.size:
        return math.nan
    return float(ordered[max(0, math.ceil(q * ordered.size) - 1)])


def sample(
    latencies: Sequence[float],
    failed: int,
    seconds: float,
    client: float = math.nan,
    lost: Sequence[float] = (),
) -> Sample:
    """latencies: in seconds, of what was answered in `seconds` of wall time. lost: how long was
    waited in vain; part of the percentiles, not of the rate."""
    answered = len(latencies)
    ms = np.concatenate([np.asarray(part, dtype=np.float64) for part in (latencies, lost)]) * 1000
    worst = float(ms.max()) if ms.size else math.nan
    return Sample(
        rate=answered / seconds,
        p50=percentile(ms, 0.5),
        p99=percentile(ms, 0.99),
        worst=worst,
        answered=answered,
        failed=failed,
        client=client,
    )


def intended(k: int, rate: float) -> float:
    """Seconds after the start at which request k (from 0) of an open loop is due."""
    return k / rate


def middle(samples: Sequence[Sample]) -> Sample:
    """Field by field the median of repeats (failures are added up)."""
    return Sample(
        rate=_median(s.rate for s in samples),
        p50=_median(s.p50 for s in samples),
        p99=_median(s.p99 for s in samples),
        worst=max(s.worst for s in samples),
        answered=int(_median(s.answered for s in samples)),
        failed=sum(s.failed for s in samples),
        server_us=_median(s.server_us for s in samples),
        client=_median(s.client for s in samples),
    )


def spread(samples: Sequence[Sample]) -> tuple[float, float]:
    """Slowest and fastest rate of the repeats."""
    rates = [s.rate for s in samples]
    return min(rates), max(rates)


def ratio(ours: Sequence[Sample], theirs: Sequence[Sample]) -> float:
    """The median over repeats of rate / rate, each pair measured one after the other, so that a
    machine that drifts drifts out. NaN when there is no pair."""
    pairs = zip(ours, theirs, strict=False)
    return _median(a.rate / b.rate for a, b in pairs if b.rate > 0)


class Trend(NamedTuple):
    """A slope, and its 95 % interval."""

    slope: float
    low: float
    high: float


BLOCKS = 10


def trend(x: Sequence[float], y: Sequence[float]) -> Trend | None:
    """How y grows with x: least squares through the means of BLOCKS runs of neighbouring points,
    with Student's t on BLOCKS - 2 degrees of freedom. What a process shows a second apart depends
    on the second before; means of many seconds hardly do, so that the interval can be believed.
    None with less than two points to a block, or when x stands still."""
    if len(x) < 2 * BLOCKS or x[0] == x[-1]:
        return None
    across, up = (
        [float(part.mean()) for part in np.array_split(np.asarray(values, np.float64), BLOCKS)]
        for values in (x, y)
    )
    line = scipy.stats.linregress(across, up)
    wide = float(scipy.stats.t.ppf(0.975, BLOCKS - 2)) * float(line.stderr)
    return Trend(float(line.slope), float(line.slope) - wide, float(line.slope) + wide)


def _median(values: Iterable[float]) -> float:
    real = [v for v in values if not math.isnan(v)]
    return statistics.median(real) if real else math.nan
