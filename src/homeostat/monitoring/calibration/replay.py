"""A stable history through the monitors, as production does it.

Streams are drawn from the history by a block bootstrap (Künsch 1989): rows are drawn in runs of
consecutive ones, so that what hangs together in time stays together, and each stream goes through
the monitors window after window, from the same code to the alerts. Nothing in such a stream has
changed, so every alert is a false one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.records import inputs_of
from homeostat.core.verdict import Outcome, Verdict
from homeostat.monitoring.alerts.decide import decide
from homeostat.monitoring.calibration.history import START, History, Rows, Setting, Words, enough
from homeostat.monitoring.calibration.levels import MONITORS, Levels
from homeostat.monitoring.calibration.shifts import Shift
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
from homeostat.monitoring.window import quality_since, with_joint

Features = NDArray[np.floating]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Replay:
    """A history made ready to be drawn from: every value's bin is looked up once, so that a
    window's profile is a count, exactly the one that its rows would be given."""

    def __init__(self, history: History, setting: Setting) -> None:
        enough(history)
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
        cohort = cohort_of(self.setting)
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
            design=setting.reference.design,
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
        design=base.design,
        design_nulls=base.design_nulls,
    )


def _inside(
    rows: Rows, start: datetime, setting: Setting, since: datetime, until: datetime
) -> Rows:
    """The rows of a window that lie within [since, until); they are evenly spaced in it."""
    each = setting.spec.window / (setting.rows + 1)
    first, last = (max(0, -(-(t - start) // each) - 1) for t in (since, until))
    return rows.at(slice(first, last))


def cohort_of(setting: Setting) -> int:
    """Windows that the quality window and the maturing of labels reach back, if they matter."""
    if setting.spec.quality is None:
        return 0
    reach = START - quality_since(setting.spec, START) + setting.matures
    return -(-reach // setting.spec.window)
