"""How others decide, on the same streams: breach counting and a fixed horizon.

Each sees the candidate's own answers only, at the share that its steps give it, minute by minute;
the champion's long-run loss is told to them, which is more than they would know.
"""

from __future__ import annotations

import numpy as np
from benchmarks.rollout.guards import Ends
from benchmarks.rollout.streams import Array
from numpy.typing import NDArray


def _averages(
    rng: np.random.Generator, loss: Array, per_minute: int, percent: float, minutes: slice
) -> Array:
    """(runs, minutes): the candidate's mean loss per minute at a share; NaN without a request."""
    part = loss[:, minutes.start * per_minute : minutes.stop * per_minute]
    part = part.reshape(len(loss), -1, per_minute)
    mine = rng.random(part.shape) < percent / 100
    n = mine.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(n > 0, (part * mine).sum(axis=-1) / n, np.nan))


def counting(
    rng: np.random.Generator,
    loss: Array,
    limit: float,
    per_minute: int,
    steps: tuple[float, ...],
    minutes: int,
    allowed: int,
    *,
    anew: bool,
) -> Ends:
    """Count the minutes in which the candidate's average loss is beyond the limit; more than
    `allowed` of them roll back, else the next step follows after `minutes`.

    Argo Rollouts: one analysis per step (anew), failureLimit 3 as in its documentation, ten
    measurements a minute apart. Flagger: one check a minute and step, counted over all (not anew),
    and the first that fails ends it (threshold 1). No data is no failure for Argo, one for Flagger.
    """
    runs = len(loss)
    how, tick = np.zeros(runs, dtype=np.int64), np.zeros(runs, dtype=np.int64)
    percent, exposed = np.zeros(runs), np.zeros(runs)
    failures = np.zeros(runs, dtype=np.int64)
    for k, share in enumerate(steps):
        if anew:
            failures[:] = 0
        found = _averages(rng, loss, per_minute, share, slice(k * minutes, (k + 1) * minutes))
        bad = found > limit if anew else ~(found <= limit)
        for m in range(minutes):
            live = how == 0
            percent[live] = share
            exposed[live] += share / 100 * per_minute
            tick[live] += 1
            failures[live] += bad[live, m]
            how[live & (failures > allowed)] = -1
    how[how == 0] = 1
    return Ends(how, tick * per_minute, tick, percent, exposed)


def fixed_horizon(
    rng: np.random.Generator, loss: Array, champion: Array, margin: float, per_minute: int
) -> Ends:
    """A test of non-inferiority at 10 %, once, after the number of requests that has 80 % power
    against no harm (one-sided, 5 %); what does not pass is rolled back."""
    share, runs = 0.1, len(loss)
    variance = float(loss[:, :2000].var()) / share + float(champion[:, :2000].var()) / (1 - share)
    needed = variance * ((1.645 + 0.842) / margin) ** 2
    n = int(min(max(needed, per_minute), loss.shape[1]))
    mine = rng.random((runs, n)) < share
    a = np.where(mine, np.nan, champion[:, :n])
    b = np.where(mine, loss[:, :n], np.nan)
    na, nb = (~mine).sum(axis=1), mine.sum(axis=1)
    error = np.sqrt(np.nanvar(a, axis=1) / na + np.nanvar(b, axis=1) / nb)
    harm = np.nanmean(b, axis=1) - np.nanmean(a, axis=1)
    how: NDArray[np.int64] = np.where(harm + 1.645 * error < margin, 1, -1)
    at = np.full(runs, n)
    minutes = np.ceil(at / per_minute).astype(np.int64)
    return Ends(how, at, minutes, np.full(runs, 100 * share), np.full(runs, share * n))
