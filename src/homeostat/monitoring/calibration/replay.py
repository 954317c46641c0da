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
from numpy.typing import NDArray
from scipy import special

from homeostat.core.errors import BadInput
from homeostat.core.records import PREDICTIONS, inputs_of
from homeostat.core.servable import Field
from homeostat.core.verdict import Outcome, Verdict
from homeostat.monitoring.alerts.decide import decide
from homeostat.monitoring.calibration.budget import MONTH, MOST, looks_per_month
from homeostat.monitoring.calibration.certificate import Delay, Rate
from homeostat.monitoring.calibration.levels import MONITORS, Levels, Monitor, nominal
from homeostat.monitoring.drift.baseline import Column
from homeostat.monitoring.drift.column import MIN_ROWS, ColumnDrift, Numbers, Seen, rare
from homeostat.monitoring.drift.compare import report
from homeostat.monitoring.drift.together import SHARE, Together
from homeostat.monitoring.drift.watch import gathered, paired, watch
from homeostat.monitoring.model import (
    AlertRaised,
    Evidence,
    MonitorState,
    WindowObserved,
    evolve,
)
from homeostat.monitoring.profiles.profile import SAMPLE, Binning, Profile, Scheme
from homeostat.monitoring.profiles.traffic import SCORE, WHOLE, Slice, Traffic, filled
from homeostat.monitoring.quality.health import data_quality
from homeostat.monitoring.quality.live import judge
from homeostat.monitoring.quality.model import Harm
from homeostat.monitoring.spec import MonitoringSpec
from homeostat.monitoring.window import Reference, as_logged, quality_since, with_joint

Features = NDArray[np.floating]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

START = datetime(2000, 1, 3, tzinfo=UTC)
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
LEAST_ROWS = 200

Progress = Callable[[str], None]


class History(NamedTuple):
    """A stable stretch of a version's traffic. rows: columns of `core.records.PREDICTIONS` and
    `label` (null where it is not known), by rising time. source, since, until: where from.
    inputs: features (m, d) to draw instead of those of the rows, where scores and labels are of
    fewer rows than the features are known of; a table where some are no float32 numbers."""

    rows: pl.DataFrame
    source: str
    since: datetime | None = None
    until: datetime | None = None
    inputs: Features | pl.DataFrame | None = None


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


class Rows(NamedTuple):
    """Answered requests: features (n, d), of a text or truth value its place among all `Words`;
    score, label (NaN: not known) and propensity (n,)."""

    features: Features
    score: Floats
    label: Floats
    propensity: Floats

    @classmethod
    def of(cls, table: pl.DataFrame, features: Features | None = None) -> Rows:
        """table: rows of `core.records.PREDICTIONS` with `label`, all with as many features.
        features: of the rows, where some are no float32 numbers."""
        if features is None:
            features = table["features"].explode().to_numpy().reshape(table.height, -1)
        score, label, propensity = (
            table[c].cast(pl.Float64).to_numpy() for c in (SCORE, "label", "propensity")
        )
        return cls(features, score, label, propensity)

    @classmethod
    def all(cls, parts: Sequence[Rows]) -> Rows:
        features = np.concatenate([p.features for p in parts])
        score, label, propensity = (
            np.concatenate([p[i] for p in parts]) for i in range(1, len(cls._fields))
        )
        return cls(features, score, label, propensity)

    def at(self, rows: Ints | slice) -> Rows:
        features, score, label, propensity = self
        return Rows(features[rows], score[rows], label[rows], propensity[rows])


class Words(NamedTuple):
    """The inputs of a version, and of each text and truth value all that it has been, in some
    order, then null."""

    fields: tuple[Field, ...]
    values: dict[str, pl.Series]

    @classmethod
    def of(cls, fields: tuple[Field, ...], tables: Sequence[pl.DataFrame]) -> Words:
        """tables: with a column per input."""
        named = [f.name for f in fields if f.datatype in ("BYTES", "BOOL")]
        values = {}
        for name in named:
            found = pl.concat([table[name] for table in tables]).drop_nulls().unique().sort()
            values[name] = found.extend_constant(None, 1)
        return cls(fields, values)

    def places(self, table: pl.DataFrame) -> Features:
        """-> (n, d): numbers as they are, places of the others; NaN where missing."""
        columns = []
        for field in self.fields:
            column = table[field.name]
            if (words := self.values.get(field.name)) is not None:
                at = {text: float(i) for i, text in enumerate(words.cast(pl.String)[:-1])}
                text = column.cast(pl.String)
                column = text.replace_strict(at, default=None, return_dtype=pl.Float64)
            columns.append(column.cast(pl.Float64).to_numpy())
        return np.column_stack(columns)


Shift = Callable[[Rows, np.random.Generator], Rows]


def from_reference(
    table: pl.DataFrame, features: Sequence[str | Field], version: str, *, sliced: bool = False
) -> History:
    """The reference as a history without order: for a version that has none yet. Features are of
    the whole period, as those that monitors compare with are (a test set may be one Monday), and
    scores and labels of the test set; sliced: of the same rows of it, for scores of slices."""
    fields = tuple(f if isinstance(f, Field) else Field(f) for f in features)
    table = as_logged(table, fields)
    tested = table.drop_nulls(["score", "label"])
    n = tested.height
    plain, others = ([f.name for f in fields if f.plain is kind] for kind in (True, False))
    empty = pl.Series([[]] * n, dtype=PREDICTIONS["features"])
    numbers = tested.select(pl.concat_list(plain)).to_series() if plain else empty
    texts = None
    if others:
        logged = tested.select(others).with_columns(pl.col(pl.String).fill_null(""))
        texts = logged.select(pl.struct(others).struct.json_encode()).to_series()
    rows = pl.DataFrame(
        {
            "id": [str(i) for i in range(n)],
            "time": [START] * n,
            "version": version,
            "arm": "champion",
            "probability": 1.0,
            "latency": 0.0,
            "features": pl.Series("features", numbers, PREDICTIONS["features"]),
            "score": tested["score"],
            "label": tested["label"],
            "inputs": pl.Series("inputs", texts, pl.String) if others else None,
            "propensity": 1.0,
        },
        schema_overrides={"inputs": pl.String},
    )
    missing = [pl.lit(None, kind).alias(c) for c, kind in PREDICTIONS.items() if c not in rows]
    inputs = table.select(f.name for f in fields)
    drawn = inputs if others else inputs.to_numpy()
    return History(rows.with_columns(missing), "reference", inputs=None if sliced else drawn)


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
    cohort = _cohort(setting)
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
        cohort = _cohort(of)
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


# -- one stream --------------------------------------------------------------------------------


class Replay:
    """A history made ready to be drawn from: every value's bin is looked up once, so that a
    window's profile is a count, exactly the one that its rows would be given."""

    def __init__(self, history: History, setting: Setting) -> None:
        _enough(history)
        self.setting = setting
        # what explains an alarm, or guesses at quality, raises none
        self.watched = setting.reference.watched
        fields, inputs = setting.reference.fields, history.inputs
        self._place = {field.name: i for i, field in enumerate(fields)}
        self._words = Words(fields, {})
        if all(field.plain for field in fields):
            self.rows = Rows.of(history.rows)
        else:
            found = inputs_of(history.rows, fields)
            table = found.select(filled(column) for column in found)
            drawn = [inputs] if isinstance(inputs, pl.DataFrame) else []
            self._words = Words.of(fields, [table, *drawn])
            self.rows = Rows.of(history.rows, self._words.places(table))
        if isinstance(inputs, pl.DataFrame):
            inputs = self._words.places(inputs)
        self.inputs = self.rows.features if inputs is None else inputs
        self._apart = inputs is not None
        self._codes = {
            name: self._coded(name, self.inputs, self.rows.score) for name in self._slices()
        }

    def stream(
        self,
        count: int,
        random: np.random.Generator,
        levels: Levels | None,
        shift: Shift | None = None,
        since: int = 0,
        unseen: int = 0,
    ) -> Iterator[tuple[set[str], set[str]]]:
        """The kinds of alert that each of `count` windows raises, and those that are open after
        it. shift: of the windows from number `since` on, drawn once for the stream. unseen: so
        many windows at first only bring labels, and no monitor looks at them."""
        spec, state = self.setting.spec, MonitorState()
        seed = int(random.integers(2**31))
        past: list[tuple[datetime, Rows]] = []
        cohort = _cohort(self.setting)
        for i in range(count):
            start = START + i * spec.window
            at = self._draw(random, self.rows.score.size)
            of = self._draw(random, len(self.inputs)) if self._apart else at
            moved = shift is not None and i >= since
            rows = self.rows.at(at)._replace(features=self.inputs[of])
            if shift is not None and moved:
                rows = shift(rows, np.random.default_rng(seed))
            past = [*past, (start, rows)][-cohort - 1 :]
            if i < unseen:
                yield set(), set()
                continue
            traffic = self._traffic(rows, None if moved else (of, at))
            window = self._window(traffic, past, start, state.evidence, levels or Levels())
            events = decide(state, window, spec, window.end)
            for event in (window, *events):
                state = evolve(state, event, window.end)
            raised = {e.kind for e in events if isinstance(e, AlertRaised)}
            yield raised, {a.kind for a in state.open_alerts}

    def _window(
        self,
        traffic: Traffic,
        past: Sequence[tuple[datetime, Rows]],
        start: datetime,
        before: Sequence[Evidence],
        levels: Levels,
    ) -> WindowObserved:
        """As `observe` would tell it, as far as alerts depend on it."""
        setting, spec = self.setting, self.setting.spec
        alpha, on_data, on_quality = (levels.of(m, spec) for m in MONITORS)
        joint: Verdict | None = None
        more: tuple[Evidence, ...] = ()
        together = setting.reference.together
        if together is not None:
            joint, more = self._together(together, past[-1][1], alpha * SHARE, before)
            alpha *= 1 - SHARE
        pairs, judged = paired(self.watched, traffic, spec.drift), {}
        if spec.drift.tests == "auto" and setting.rows >= MIN_ROWS:
            evidence = gathered(pairs, spec.drift, alpha, before, {})
            named = [e for e in evidence if e.named]
            outcome = Outcome.FAIL if named else Outcome.PASS
            drift = Verdict("drift", outcome, f"{len(named)} columns moved", n=setting.rows)
            judged = {name: _values(base, seen) for name, (base, seen) in pairs.items()}
        else:
            columns, evidence = watch(self.watched, traffic, spec.drift, alpha, before)
            drift = report(columns, (), spec.drift, alpha, 0, setting.rows).verdict
            judged = {c.column: c for c in columns}
        inputs = [judged[name] for name in setting.reference.features]
        data = data_quality(inputs, rows=setting.rows, errors=0, alpha=on_data)
        quality, harm = self._quality(past, start + spec.window, on_quality)
        return WindowObserved(
            start,
            start + spec.window,
            setting.version,
            setting.rows,
            0,
            with_joint(drift, joint),
            data,
            quality,
            harm,
            evidence=(*evidence, *more),
        )

    def _together(
        self, together: Together, rows: Rows, alpha: float, before: Sequence[Evidence]
    ) -> tuple[Verdict, tuple[Evidence, ...]]:
        """A profile keeps a sample of a window's rows; here they are as good as any others."""
        n = rows.score.size
        bins, at = self.watched.whole.bins, self.setting.reference.together_at
        places = [self._place[bins[j].column.name] for j in at]
        sample = rows.features[np.linspace(0, n - 1, min(n, SAMPLE)).astype(np.intp)][:, places]
        return together.look(sample, n, self.setting.spec.drift, alpha, before)

    def _quality(
        self, past: Sequence[tuple[datetime, Rows]], end: datetime, alpha: float
    ) -> tuple[Verdict | None, Harm | None]:
        setting, quality = self.setting, self.setting.spec.quality
        if quality is None:
            return None, None
        until = end - setting.matures
        since = quality_since(setting.spec, until)
        final = Rows.all([_inside(rows, start, setting, since, until) for start, rows in past])
        if not final.label.size:
            return Verdict("quality", Outcome.INCONCLUSIVE, "no final labels yet", n=0), None
        return judge(
            final.label,
            final.score,
            quality,
            threshold=setting.threshold,
            k=setting.k,
            baseline=setting.reference.quality,
            alpha=alpha,
            propensity=final.propensity,
        )

    def _draw(self, random: np.random.Generator, n: int) -> Ints:
        """The rows of a window, in blocks of consecutive ones that wrap around the end."""
        rows = self.setting.rows
        block = min(self.setting.block, n)
        first = random.integers(0, n, size=-(-rows // block))
        drawn: Ints = ((first[:, None] + np.arange(block)).ravel() % n)[:rows]
        return drawn

    # -- profiles of what was drawn --------------------------------------------------------------

    def _slices(self) -> tuple[str, ...]:
        return (WHOLE, *(s.name for s in self.watched.slices))

    def _coded(self, name: str, features: Features, score: Floats) -> tuple[Ints, Ints]:
        """Each value's bin among those of all columns, or the column's place behind them where it
        is missing: of what is made of the features (m, c - 1), and of the score (n, 1)."""
        scheme = self.watched.scheme(name)
        found = []
        for j, b in enumerate(scheme.bins):
            codes, _, missing = self._read(b, features, score)
            found.append(np.where(missing, scheme.offsets[-1] + j, codes + scheme.offsets[j]))
        return np.column_stack(found[:-1]), found[-1][:, None]

    def _read(self, b: Binning, features: Features, score: Floats) -> tuple[Ints, Floats, Bools]:
        """As `Binning.read`."""
        column = b.column.view.column
        if column == SCORE:
            return b.read(score)
        values = features[:, self._place[column]]
        words = self._words.values.get(column)
        if words is None:
            return b.read(values)
        at = np.where(np.isnan(values), len(words) - 1, values).astype(np.intp)
        codes, numbers, missing = b.read(words)
        return codes[at], numbers[at], missing[at]

    def _inside(self, s: Slice, features: Features) -> Bools:
        values, words = features[:, self._place[s.feature]], self._words.values.get(s.feature)
        if words is None:
            return np.asarray(values == s.value)
        at = (words == s.value).arg_true()
        return np.asarray(values == at[0]) if len(at) else np.zeros(len(values), bool)

    def _traffic(self, rows: Rows, at: tuple[Ints, Ints] | None) -> Traffic:
        """at: where the features and the scores are; None: they are not as they are there."""
        found = {}
        inside = {s.name: self._inside(s, rows.features) for s in self.watched.slices}
        for name in self._slices():
            if at is None:
                codes = np.hstack(self._coded(name, rows.features, rows.score))
            else:
                codes = np.hstack([c[w] for c, w in zip(self._codes[name], at, strict=True)])
            kept = inside.get(name)
            some = rows if kept is None else rows.at(np.flatnonzero(kept))
            found[name] = self._profile(
                self.watched.scheme(name), codes if kept is None else codes[kept], some
            )
        return found

    def _profile(self, scheme: Scheme, codes: Ints, rows: Rows) -> Profile:
        """Of rows that were all answered; the sample only where it is all of them."""
        c, bins = len(scheme.bins), int(scheme.offsets[-1])
        counts = np.bincount(codes.ravel(), minlength=bins + c)
        empty, n = scheme.empty(), rows.score.size
        sample = empty.sample
        if n <= SAMPLE:
            read = [self._read(b, rows.features, rows.score) for b in scheme.bins]
            sample = np.column_stack([np.where(missing, np.nan, x) for _, x, missing in read])
        return msgspec.structs.replace(
            empty, rows=n, counts=counts[:bins], nulls=counts[bins:], sample=sample
        )


def _values(base: Column, seen: Seen) -> ColumnDrift:
    """What the quality of data is told by; nothing of drift."""
    rows, was = seen.n + seen.nulls, base.n + base.nulls
    outside = seen.outside if isinstance(seen, Numbers) else seen.unseen
    return ColumnDrift(
        base.name,
        base.kind,
        Outcome.PASS,
        "",
        (),
        None,
        None,
        None,
        1.0,
        base.n,
        seen.n,
        rows,
        base.nulls / was if was else 0.0,
        seen.nulls / rows if rows else 0.0,
        outside / seen.n if seen.n else 0.0,
        rare=rare(base),
    )


def _inside(
    rows: Rows, start: datetime, setting: Setting, since: datetime, until: datetime
) -> Rows:
    """The rows of a window that lie within [since, until); they are evenly spaced in it."""
    each = setting.spec.window / (setting.rows + 1)
    first, last = (max(0, -(-(t - start) // each) - 1) for t in (since, until))
    return rows.at(slice(first, last))


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


def rate_of(monitor: Monitor, alarms: int, months: float, level: float, open_: float = 0.0) -> Rate:
    """Garwood's exact interval of a Poisson rate."""
    low = float(special.gammaincinv(alarms, 0.025)) if alarms else 0.0
    high = float(special.gammaincinv(alarms + 1, 0.975))
    return Rate(monitor, alarms, months, alarms / months, low / months, high / months, level, open_)


def _spread(column: object) -> float:
    low, high = getattr(column, "low", None), getattr(column, "high", None)
    values = getattr(column, "values", np.zeros(0))
    if low is None or high is None or not len(values):
        return 0.0
    upto = getattr(column, "upto", np.zeros(0))
    weight = np.diff(np.concatenate(([0.0], upto)))
    mean = float(values @ weight)
    return float(np.sqrt(max(0.0, (values - mean) ** 2 @ weight)))
