"""From latencies to figures, from repeats to medians and spread. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
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


def slope(times: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Theil and Sen's slope of values over times, and the standard error of the least-squares
    one (assumes independent errors, so it is a hint, not a test). NaN below three points."""
    if len(times) < 3:
        return math.nan, math.nan
    t, v = np.asarray(times, dtype=np.float64), np.asarray(values, dtype=np.float64)
    i, j = np.triu_indices(len(t), 1)
    theil_sen = float(np.median((v[j] - v[i]) / (t[j] - t[i])))
    centred = t - t.mean()
    beta = (centred @ v) / (centred @ centred)
    left = v - v.mean() - beta * centred
    return theil_sen, float(np.sqrt(left @ left / (len(t) - 2) / (centred @ centred)))


def _median(values: Iterable[float]) -> float:
    real = [v for v in values if not math.isnan(v)]
    return statistics.median(real) if real else math.nan
