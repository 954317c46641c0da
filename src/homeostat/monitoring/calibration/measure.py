"""How often each monitor alarms on a stable history, and how late it sees a given shift: measured,
on the user's own traffic, by replay.

Assumption: the history is stable, and long beside a block. The interval is for the number of alarms
(Garwood 1936); that the history is itself a sample of what may come is not in it.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
from scipy import special

from homeostat.core.errors import BadInput
from homeostat.monitoring.calibration.budget import MONTH, MOST, looks_per_month
from homeostat.monitoring.calibration.certificate import Delay, Rate
from homeostat.monitoring.calibration.history import History, Setting
from homeostat.monitoring.calibration.levels import MONITORS, Levels, Monitor, nominal
from homeostat.monitoring.calibration.replay import Replay, cohort_of
from homeostat.monitoring.calibration.shifts import Shift
from homeostat.monitoring.spec import MonitoringSpec

WARM_UP = 3
PATIENCE = 50
"""Windows within which a shift has to be seen, or counts as not seen; of quality, after all labels
that are judged are from after it."""
STEPS = (1e-12, 1e-10, 1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0,
         10.0, 20.0, 50.0)  # fmt: skip
"""Multiples of a monitor's nominal level that are tried when a level is solved for. Rows that hang
together make intervals too narrow by as much as the small ones make up for."""
LEAST = 1e-14
"""No level is below it: a confidence that is so near 1 cannot be told from 1."""
Progress = Callable[[str], None]


def rates(
    history: History,
    setting: Setting,
    months: float,
    random: np.random.Generator,
    levels: Levels | None = None,
    progress: Progress = lambda text: None,
) -> tuple[Rate, ...]:
    """Replay so many months of quiet traffic. Raises BadInput for a history that is too short."""
    replay = Replay(history, setting)
    spec, levels = setting.spec, levels or Levels()
    count = max(1, round(months * looks_per_month(spec.window)))
    alarms, open_ = (dict.fromkeys(_watched(spec), 0) for _ in range(2))
    # before labels are final the monitor of quality cannot alarm: that is no time without alarms
    cohort = cohort_of(setting)
    stream = replay.stream(cohort + count, random, levels, unseen=cohort)
    for i, (raised, still) in enumerate(stream):
        for monitor in alarms:
            alarms[monitor] += monitor in raised
            open_[monitor] += monitor in still
        done = i + 1 - cohort
        if done > 0 and done % 100 == 0:
            progress(f"{done:,} of {count:,} windows, {sum(alarms.values())} alarms")
    told = count * spec.window / MONTH
    return tuple(rate_of(m, alarms[m], told, levels.of(m, spec), open_[m] / count) for m in alarms)


def delays(
    history: History,
    setting: Setting,
    shifts: dict[str, tuple[Monitor, Shift]],
    episodes: int,
    random: np.random.Generator,
    levels: Levels | None = None,
    progress: Progress = lambda text: None,
) -> tuple[Delay, ...]:
    """How late each shift is seen by the monitor that is there for it. Raises as `rates`."""
    spec, found = setting.spec, []
    whole = Replay(history, setting)
    # nothing has to wait for labels where another monitor is asked
    unlabelled = Replay(history, setting._replace(spec=msgspec.structs.replace(spec, quality=None)))
    for name, (monitor, shift) in shifts.items():
        if monitor not in _watched(spec):
            continue
        late, already, replay = [], 0, whole if monitor == "quality" else unlabelled
        of = replay.setting
        # labels take a while: what is judged at first is from before the shift
        cohort = cohort_of(of)
        warm, hidden = WARM_UP + cohort, of.matures // spec.window if cohort else 0
        count = warm + cohort + PATIENCE
        for _ in range(episodes):
            stream = replay.stream(count, random, levels, shift, warm, cohort + hidden)
            before = [still for _, (_, still) in zip(range(warm), stream, strict=False)]
            if monitor in before[-1]:
                already += 1
                continue
            first = next((i for i, (raised, _) in enumerate(stream) if monitor in raised), None)
            if first is not None:
                late.append((first + 1) * spec.window.total_seconds())
        median = float(np.median(late)) if late else None
        found.append(Delay(monitor, name, len(late), episodes - already, median, already))
        progress(f"{name}: seen in {len(late)} of {episodes - already}")
    return tuple(found)


def solve(
    history: History,
    setting: Setting,
    months: float,
    seed: int,
    progress: Progress = lambda text: None,
) -> tuple[Levels, tuple[Rate, ...]]:
    """The most sensitive levels at which the monitors keep to the declared budget, an equal part of
    it each, and what they then do.

    A level is taken when (alarms + 1) / (months replayed) is within its part: the expected rate
    then is, too, as for a permutation test, and the monitor is not stuck. Where no level is, the
    least has to do, and `Calibrated.beyond` names the monitor. All levels are tried on the same
    draws. Raises BadInput when so few months could not show it."""
    spec = setting.spec
    watched = _watched(spec)
    part = spec.drift.false_alarms_per_month / len(watched)
    if 1 / months > part:
        raise BadInput(
            f"{months:g} months of replay cannot show {part:.2g} false alarms a month",
            expected=f"at least {np.ceil(1 / part):g}",
            remedy=f"give --months {np.ceil(2 / part):g}",
        )
    # more level, more alarms: halve what is left of the steps, for each monitor by itself
    low, high = dict.fromkeys(watched, 0), dict.fromkeys(watched, len(STEPS) - 1)
    kept: dict[Monitor, Rate] = {}
    while any(m not in kept or low[m] < high[m] for m in watched):
        at = {m: (low[m] + high[m] + 1) // 2 for m in watched}
        levels = Levels(**{m: min(MOST, max(LEAST, nominal(spec) * STEPS[at[m]])) for m in watched})
        progress(", ".join(f"{m} at {STEPS[at[m]]:g} times its level" for m in watched))
        for rate in rates(history, setting, months, np.random.default_rng(seed), levels, progress):
            monitor = rate.monitor
            if rate.within(part):
                low[monitor], kept[monitor] = at[monitor], rate
            else:
                high[monitor] = at[monitor] - 1
                if at[monitor] == 0:  # the least that is tried has to do
                    low[monitor], high[monitor], kept[monitor] = 0, 0, rate
    return Levels(**{m: rate.level for m, rate in kept.items()}), tuple(kept[m] for m in watched)


def _watched(spec: MonitoringSpec) -> tuple[Monitor, ...]:
    return tuple(m for m in MONITORS if m != "quality" or spec.quality is not None)


def rate_of(monitor: Monitor, alarms: int, months: float, level: float, open_: float = 0.0) -> Rate:
    """Garwood's exact interval of a Poisson rate."""
    low = float(special.gammaincinv(alarms, 0.025)) if alarms else 0.0
    high = float(special.gammaincinv(alarms + 1, 0.975))
    return Rate(monitor, alarms, months, alarms / months, low / months, high / months, level, open_)
