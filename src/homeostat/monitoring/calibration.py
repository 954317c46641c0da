"""How often each monitor alarms on a stable history, and how late it sees a given shift: measured,
on the user's own traffic.

Streams are drawn from the history by a block bootstrap (Künsch 1989): rows are drawn in runs of
consecutive ones, so that what hangs together in time stays together, and each stream goes through
the monitors as production does, window after window, from the same code to the alerts. Nothing in
such a stream has changed, so every alert is a false one.

Assumption: the history is stable, and long beside a block. The interval is for the number of alarms
(Garwood 1936); that the history is itself a sample of what may come is not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec
import numpy as np
import polars as pl
from scipy import special

from homeostat.core.errors import BadInput
from homeostat.core.records import PREDICTIONS
from homeostat.monitoring.budget import MONTH, MOST, looks_per_month
from homeostat.monitoring.certificate import Delay, Rate
from homeostat.monitoring.decide import decide
from homeostat.monitoring.levels import MONITORS, Levels, Monitor, nominal
from homeostat.monitoring.model import AlertRaised, MonitorState, evolve
from homeostat.monitoring.spec import MonitoringSpec
from homeostat.monitoring.window import Reference, observe, quality_since

START = datetime(2000, 1, 3, tzinfo=UTC)
BLOCKS = 12
"""Blocks to a window: long enough to keep what hangs together within a twelfth of it."""
WARM_UP = 3
PATIENCE = 50
"""Windows within which a shift has to be seen, or counts as not seen; of quality, after all labels
that are judged are from after it."""
STEPS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
"""Multiples of a monitor's nominal level that are tried when a level is solved for."""
LEAST_ROWS = 200

Progress = Callable[[str], None]


class History(NamedTuple):
    """A stable stretch of a version's traffic. rows: columns of `core.records.PREDICTIONS` and
    `label` (null where it is not known), by rising time. source, since, until: where from."""

    rows: pl.DataFrame
    source: str
    since: datetime | None = None
    until: datetime | None = None


class Setting(NamedTuple):
    """What is replayed: the monitors of `version` as they are declared. rows: of a window.
    matures: how long labels take. block: rows drawn together (1: a history without order)."""

    reference: Reference
    spec: MonitoringSpec
    version: str
    rows: int
    matures: timedelta
    block: int = 1
    threshold: float = 0.5
    k: int = 100


Shift = Callable[[pl.DataFrame, np.random.Generator], pl.DataFrame]


def from_reference(table: pl.DataFrame, features: Sequence[str], version: str) -> History:
    """The reference's test rows as a history without order: for a version that has none yet."""
    tested = table.drop_nulls(["score", "label"])
    n = tested.height
    rows = pl.DataFrame(
        {
            "id": [str(i) for i in range(n)],
            "time": [START] * n,
            "version": version,
            "arm": "champion",
            "probability": 1.0,
            "latency": 0.0,
            "features": tested.select(pl.concat_list(pl.col(f).cast(pl.Float32) for f in features))
            .to_series()
            .alias("features"),
            "score": tested["score"].cast(pl.Float64),
            "label": tested["label"].cast(pl.Float64),
            "propensity": 1.0,
        }
    )
    missing = [pl.lit(None, kind).alias(c) for c, kind in PREDICTIONS.items() if c not in rows]
    return History(rows.with_columns(missing), "reference")


def rates(
    history: History,
    setting: Setting,
    months: float,
    random: np.random.Generator,
    levels: Levels | None = None,
    progress: Progress = lambda text: None,
) -> tuple[Rate, ...]:
    """Replay so many months of quiet traffic. Raises BadInput for a history that is too short."""
    _enough(history)
    spec, levels = setting.spec, levels or Levels()
    count = max(1, round(months * looks_per_month(spec.window)))
    alarms = dict.fromkeys(_watched(spec), 0)
    # before labels are final the monitor of quality cannot alarm: that is no time without alarms
    cohort = _cohort(setting)
    stream = _stream(history, setting, cohort + count, random, levels, unseen=cohort)
    for i, raised in enumerate(stream):
        for monitor in alarms:
            alarms[monitor] += monitor in raised
        done = i + 1 - cohort
        if done > 0 and done % 100 == 0:
            progress(f"{done:,} of {count:,} windows, {sum(alarms.values())} alarms")
    told = count * spec.window / MONTH
    return tuple(rate_of(m, alarms[m], told, levels.of(m, spec)) for m in alarms)


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
    _enough(history)
    spec, found = setting.spec, []
    for name, (monitor, shift) in shifts.items():
        if monitor not in _watched(spec):
            continue
        late, of = [], setting
        if monitor != "quality":  # and nothing has to wait for labels
            of = setting._replace(spec=msgspec.structs.replace(spec, quality=None))
        # labels take a while: what is judged at first is from before the shift
        cohort = _cohort(of)
        warm, hidden = WARM_UP + cohort, of.matures // spec.window if cohort else 0
        count = warm + cohort + PATIENCE
        for _ in range(episodes):
            stream = _stream(history, of, count, random, levels, shift, warm, cohort + hidden)
            windows = (i for i, raised in enumerate(stream) if i >= warm and monitor in raised)
            first = next(windows, None)
            if first is not None:
                late.append((first - warm + 1) * spec.window.total_seconds())
        median = float(np.median(late)) if late else None
        found.append(Delay(monitor, name, len(late), episodes, median))
        progress(f"{name}: seen in {len(late)} of {episodes}")
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
    then is, too, as for a permutation test. All levels are tried on the same draws. Raises
    BadInput when so few months could not show it."""
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
        levels = Levels(**{m: min(MOST, nominal(spec) * STEPS[at[m]]) for m in watched})
        progress(", ".join(f"{m} at {STEPS[at[m]]:g} times its level" for m in watched))
        for rate in rates(history, setting, months, np.random.default_rng(seed), levels, progress):
            monitor = rate.monitor
            if (rate.alarms + 1) / rate.months <= part:
                low[monitor], kept[monitor] = at[monitor], rate
            else:
                high[monitor] = at[monitor] - 1
                if at[monitor] == 0:  # the least that is tried has to do
                    low[monitor], high[monitor], kept[monitor] = 0, 0, rate
    return Levels(**{m: rate.level for m, rate in kept.items()}), tuple(kept.values())


def standard_shifts(setting: Setting) -> dict[str, tuple[Monitor, Shift]]:
    """What is tried where nothing else is asked for."""
    columns = {c.name: c for c in setting.reference.baseline.columns}
    spread = np.array([_spread(columns[name]) for name in setting.reference.features])
    found: dict[str, tuple[Monitor, Shift]] = {}
    for size in (0.5, 1.0):
        found[f"one feature by {size:g} standard deviations"] = ("drift", moved(size, spread))
    for share in (0.1, 0.5):
        found[f"{share:.0%} of one feature's values missing"] = ("data", emptied(share))
    for share in (0.1, 0.3):
        found[f"{share:.0%} of the labels swapped"] = ("quality", swapped(share))
    return found


def moved(size: float, spread: np.ndarray) -> Shift:
    """One feature, whichever is drawn, by `size` standard deviations. spread: of each, (d,)."""

    def shift(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
        table = _features(rows)
        at = int(random.integers(table.shape[1]))
        table[:, at] += size * spread[at]
        return _with(rows, table)

    return shift


def emptied(share: float) -> Shift:
    def shift(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
        table = _features(rows)
        table[random.random(len(table)) < share, 0] = np.nan
        return _with(rows, table)

    return shift


def swapped(share: float) -> Shift:
    def shift(rows: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
        chosen = pl.Series(random.random(rows.height) < share)
        other = pl.when(chosen).then(1 - pl.col("label")).otherwise("label")
        return rows.with_columns(label=other)

    return shift


# -- one stream --------------------------------------------------------------------------------


def _stream(
    history: History,
    setting: Setting,
    count: int,
    random: np.random.Generator,
    levels: Levels | None,
    shift: Shift | None = None,
    since: int = 0,
    unseen: int = 0,
) -> Iterator[set[str]]:
    """The kinds of alert that each of `count` windows raises; one that stays open is one alarm.
    shift: of the windows from number `since` on, drawn once for the stream. unseen: so many
    windows at first only bring labels, and no monitor looks at them."""
    spec, state = setting.spec, MonitorState()
    seed = int(random.integers(2**31))
    past: list[pl.DataFrame] = []
    cohort = _cohort(setting)
    for i in range(count):
        start = START + i * spec.window
        end = start + spec.window
        rows = _draw(history, setting, random, start)
        if shift is not None and i >= since:
            rows = shift(rows, np.random.default_rng(seed))
        kept = rows if setting.reference.estimator else rows.drop("features")
        past = [*past, kept][-cohort - 1 :]
        if i < unseen:
            yield set()
            continue
        window = observe(
            rows.drop("label"),
            setting.reference,
            spec,
            start=start,
            end=end,
            version=setting.version,
            matured=_matured(past, setting, end) if spec.quality else None,
            threshold=setting.threshold,
            k=setting.k,
            levels=levels,
            before=state.evidence,
        )
        events = decide(state, window, spec, end)
        for event in (window, *events):
            state = evolve(state, event, end)
        yield {e.kind for e in events if isinstance(e, AlertRaised)}


def _draw(
    history: History, setting: Setting, random: np.random.Generator, start: datetime
) -> pl.DataFrame:
    """A window's rows, in blocks of consecutive ones that wrap around the end."""
    n, block = history.rows.height, min(setting.block, history.rows.height)
    first = random.integers(0, n, size=-(-setting.rows // block))
    at = ((first[:, None] + np.arange(block)).ravel() % n)[: setting.rows]
    each = setting.spec.window / (setting.rows + 1)
    time = pl.Series([start + each * (j + 1) for j in range(setting.rows)], dtype=pl.Datetime("us"))
    return history.rows[at].with_columns(
        time=time.dt.replace_time_zone("UTC"), version=pl.lit(setting.version)
    )


def _matured(past: Sequence[pl.DataFrame], setting: Setting, end: datetime) -> pl.DataFrame | None:
    until = end - setting.matures
    since = quality_since(setting.spec, until)
    rows = pl.concat(past)
    return rows.filter((pl.col("time") >= since) & (pl.col("time") < until))


def _cohort(setting: Setting) -> int:
    """Windows that the quality window and the maturing of labels reach back, if they matter."""
    if setting.spec.quality is None:
        return 0
    reach = START - quality_since(setting.spec, START) + setting.matures
    return -(-reach // setting.spec.window)


# -- small things --------------------------------------------------------------------------------


def _watched(spec: MonitoringSpec) -> tuple[Monitor, ...]:
    return tuple(m for m in MONITORS if m != "quality" or spec.quality is not None)


def _enough(history: History) -> None:
    if history.rows.height < LEAST_ROWS:
        raise BadInput(
            "the history is too short to replay",
            expected=f"at least {LEAST_ROWS} requests",
            found=f"{history.rows.height:,}",
            remedy="wait for more traffic, or use `--on reference`",
        )


def rate_of(monitor: Monitor, alarms: int, months: float, level: float) -> Rate:
    """Garwood's exact interval of a Poisson rate."""
    low = float(special.gammaincinv(alarms, 0.025)) if alarms else 0.0
    high = float(special.gammaincinv(alarms + 1, 0.975))
    return Rate(monitor, alarms, months, alarms / months, low / months, high / months, level)


def _spread(column: object) -> float:
    low, high = getattr(column, "low", None), getattr(column, "high", None)
    values = getattr(column, "values", np.zeros(0))
    if low is None or high is None or not len(values):
        return 0.0
    upto = getattr(column, "upto", np.zeros(0))
    weight = np.diff(np.concatenate(([0.0], upto)))
    mean = float(values @ weight)
    return float(np.sqrt(max(0.0, (values - mean) ** 2 @ weight)))


def _features(rows: pl.DataFrame) -> np.ndarray:
    width = rows["features"].list.len()[0]
    return rows["features"].explode().to_numpy().reshape(rows.height, width).copy()


def _with(rows: pl.DataFrame, table: np.ndarray) -> pl.DataFrame:
    column = pl.Series("features", table.tolist(), dtype=pl.List(pl.Float32))
    return rows.with_columns(column)
