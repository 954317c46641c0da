"""One monitoring window: which are due, and what one of them shows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
import numpy as np
import polars as pl

from homeostat.core.errors import BadInput
from homeostat.core.metrics import Estimate, measure
from homeostat.core.names import Arm
from homeostat.core.records import PREDICTIONS, equal, input_type, inputs_of, there
from homeostat.core.servable import Field
from homeostat.core.verdict import Outcome, Verdict
from homeostat.monitoring.calibration.levels import MONITORS, Levels, nominal
from homeostat.monitoring.drift.attribution import attribute
from homeostat.monitoring.drift.baseline import Baseline, Numeric
from homeostat.monitoring.drift.column import ColumnDrift
from homeostat.monitoring.drift.compare import DriftReport, report
from homeostat.monitoring.drift.dependence import of_metric
from homeostat.monitoring.drift.together import SHARE, Together
from homeostat.monitoring.drift.watch import watch
from homeostat.monitoring.model import CONTROLLER, WORKERS, Evidence, Moved, WindowObserved
from homeostat.monitoring.profiles.traffic import (
    SCORE,
    WHOLE,
    Traffic,
    Watched,
    filled,
    profiles,
    scored,
    together,
)
from homeostat.monitoring.quality.estimate.model import Estimated
from homeostat.monitoring.quality.estimate.service import Estimator, Rows
from homeostat.monitoring.quality.health import data_quality
from homeostat.monitoring.quality.live import judge
from homeostat.monitoring.quality.model import Harm, Outcomes
from homeostat.monitoring.quality.outcomes import Meaning
from homeostat.monitoring.spec import MonitoringSpec, Quality

CATCH_UP = 24
"""Windows that one tick looks at most; after an outage the others follow in the next ticks."""
LABEL, PROPENSITY = "label", "propensity"
MOST_MOVED = 10
COSTED = 10_000
"""Rows of each side that the cost of movements is estimated on, at most."""


def windows_due(
    last_end: datetime | None,
    now: datetime,
    window: timedelta,
    first: datetime,
    *,
    most: int = CATCH_UP,
) -> list[tuple[datetime, datetime]]:
    """The closed windows [start, end) that have not been looked at, oldest first, at most `most`.
    They follow each other without gap or overlap from `first` on; none while the clock is behind.
    """
    if window <= timedelta(0):
        raise BadInput("a monitoring window has no length", found=str(window))
    start = first if last_end is None else last_end
    due: list[tuple[datetime, datetime]] = []
    while start + window <= now and len(due) < most:
        due.append((start, start + window))
        start += window
    return due


def quality_since(spec: MonitoringSpec, end: datetime) -> datetime:
    """Matured rows from this instant on are the quality window that ends with a window."""
    length = spec.window
    if spec.quality is not None and spec.quality.window is not None:
        length = spec.quality.window
    return end - length


class Reference(msgspec.Struct, frozen=True):
    """What a version was made and tested on, summarised once and used for every window.

    fields: the features in the model's order, with the types they have in the log. baseline: of
    the features, over the training and the test period (a test period alone may be a Sunday), and
    of the score, over the test set. watched: the same, binned for profiles, and of each declared
    slice. quality: the declared metric on the test set, with its interval; None where no quality is
    declared. estimator: of that metric without labels, where that is declared. together: all
    numbers among the features, where that is declared. meaning: what scores say of the label, where
    quality is declared. tested: test rows with score and label, to say what movements
    cost. design: so many rows are worth one independent row to the metric, on the test set."""

    fields: tuple[Field, ...]
    baseline: Baseline
    watched: Watched
    quality: Estimate | None
    estimator: Estimator | None = None
    meaning: Meaning | None = None
    tested: pl.DataFrame | None = None
    together: Together | None = None
    design: float = 1.0

    @property
    def features(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    @property
    def together_at(self) -> list[int]:
        """The places of the features that are looked at together, among all columns."""
        bins, names = self.watched.whole.bins, set(self.features)
        return [
            j
            for j, b in enumerate(bins)
            if isinstance(b.column, Numeric) and b.column.name in names
        ]

    @classmethod
    def build(
        cls,
        reference: pl.DataFrame,
        features: Sequence[str | Field],
        spec: MonitoringSpec,
        *,
        threshold: float = 0.5,
        k: int = 100,
    ) -> Reference:
        """reference: the feature columns, `score` and `label`; the last two are null in rows that
        the model was fitted on. features: in the model's order; those without a type are float32
        numbers. Inputs with a shape, and others than numbers that the reference does not have, are
        not watched. Rows in the order of time show how much they hang together; in stretches of
        it, too. Raises BadInput without the other columns."""
        declared = [f if isinstance(f, Field) else Field(f) for f in features]
        fields = [f for f in declared if f.plain or (not f.shape and f.name in reference.columns)]
        names = [f.name for f in fields]
        for name in (*names, SCORE, LABEL):
            if name not in reference.columns:
                raise BadInput(
                    f"the reference has no column {name!r}",
                    expected=", ".join((*names, SCORE, LABEL)),
                    remedy="train and register the version again",
                )
        typed = as_logged(reference, fields)
        inputs = typed.select(*names, pl.when(pl.col(LABEL).is_not_null()).then(SCORE).alias(SCORE))
        tested = typed.drop_nulls([SCORE, LABEL])
        baseline = scored(inputs)
        watched = Watched.build(inputs, baseline, spec.drift.by, fields)
        quality, estimator, meaning, design = None, None, None, 1.0
        if spec.quality is not None and spec.quality.estimate:
            estimator = _estimator(tested, fields, spec.quality, threshold, k)
        if spec.quality is not None:
            label = tested.get_column(LABEL).cast(pl.Float64).to_numpy()
            score = tested.get_column(SCORE).cast(pl.Float64).to_numpy()
            meaning = Meaning.learn(score, label)
            name = spec.quality.metric
            design = of_metric(name, label, score, threshold=threshold, k=k)
            quality = measure(
                label,
                score,
                threshold=threshold,
                k=k,
                confidence=1 - nominal(spec),
                only=(name,),
                design=design,
            )[name]
        kept = tested.sample(min(tested.height, COSTED), seed=0)
        made = cls(tuple(fields), baseline, watched, quality, estimator, meaning, kept)
        made = msgspec.structs.replace(made, design=design)
        if not spec.drift.joint:
            return made
        numbers = [watched.whole.bins[j].column.name for j in made.together_at]
        together = Together.learn(inputs.select(pl.col(numbers).cast(pl.Float64)).to_numpy())
        return msgspec.structs.replace(made, together=together)


def as_logged(reference: pl.DataFrame, fields: Sequence[Field]) -> pl.DataFrame:
    """A reference with its features as the log has them (numbers in 32 bits, or ties would differ),
    then score and label. Raises BadInput for values of another type."""
    try:
        found = reference.select(
            *(pl.col(f.name).cast(input_type(f)) for f in fields),
            *(pl.col(name).cast(pl.Float64) for name in (SCORE, LABEL)),
        )
    except pl.exceptions.PolarsError as error:
        raise BadInput(
            "the reference does not have the types of the model's inputs",
            expected=", ".join(f"{f.name} {f.datatype}" for f in fields),
            found=str(error).splitlines()[0],
            remedy="write reference.parquet again, with the types in servable.json",
        ) from error
    return found.with_columns(filled(found[f.name]) for f in fields if f.datatype == "BYTES")


def observe(
    predictions: pl.DataFrame | None,
    reference: Reference | pl.DataFrame,
    spec: MonitoringSpec,
    *,
    start: datetime,
    end: datetime,
    version: str,
    features: Sequence[str | Field] = (),
    matured: pl.DataFrame | None = None,
    matured_until: datetime | None = None,
    threshold: float = 0.5,
    k: int = 100,
    traffic: Traffic | None = None,
    past: Traffic | None = None,
    before: Sequence[Evidence] = (),
    levels: Levels | None = None,
    down: str = "",
) -> WindowObserved:
    """What [start, end) shows of the champion `version`. Pure.

    predictions: rows of `core.records.PREDICTIONS`; those outside of the window, and shadow
    scores, are left out. reference: the version's test set, built once (or a table, with the
    names of its features). matured: prediction rows of the quality window joined with their final
    `label` (`version`, `score`, `label`, and `propensity` where the log has it), each request
    once, with a null label where the outcome is not known; only those that this version scored
    count, in the shadow too: they are the same requests. matured_until: the end of that window.
    traffic: the window's profiles; made from `predictions` if unset, which then are needed for the
    estimate without labels alone. past: of the same hours in former weeks, where the reference is
    declared to be those. before: the evidence of drift after the window before this one, of the
    same version. levels: what each monitor may spend on false alarms; the nominal ones if unset.
    down: what was not running (`model.CONTROLLER`, `model.WORKERS`), should there be no request.
    """
    if isinstance(reference, pl.DataFrame):
        reference = Reference.build(reference, features, spec, threshold=threshold, k=k)
    levels = levels or Levels()
    alpha, on_data, on_quality = (levels.of(m, spec) for m in MONITORS)
    rows = _window(predictions, start, end)
    if traffic is None:
        parts = profiles(rows, reference.watched, version, start, end - start, 1)
        traffic = together(reference.watched, [parts])
    whole = traffic[WHOLE]
    joint: Verdict | None = None
    more: tuple[Evidence, ...] = ()
    if reference.together is not None:
        sample = whole.sample[:, reference.together_at]
        joint, more = reference.together.look(sample, whole.rows, spec.drift, alpha * SHARE, before)
        alpha *= 1 - SHARE
    columns, evidence = watch(reference.watched, traffic, spec.drift, alpha, before, past)
    found = report(columns, (), spec.drift, alpha, reference.baseline.rows, whole.rows)
    drift = with_joint(_drift_verdict(found, whole.rows, down), joint)
    inputs = [c for c in columns if c.column in reference.features]
    # a slice of few rows is far from its baseline in any window: it dates no change
    everything = {b.column.name for b in reference.watched.whole.bins}
    plain = [c for c in columns if c.column in everything]
    quality, harm = _quality(matured, reference, spec, version, threshold, k, on_quality)
    ranked = found.ranked()
    moved = tuple(_moved(c) for c in ranked[:MOST_MOVED])
    if (quality is not None and quality.failed) or (harm is not None and harm.shown):
        drifting = [_moved(c) for c in ranked if c.drifted]
        costly = _costly(drifting, matured, reference, version)
        moved = (*costly, *(m for m in moved if not m.drifted))[:MOST_MOVED]
    return WindowObserved(
        start,
        end,
        version,
        whole.rows,
        whole.errors,
        drift,
        data_quality(inputs, rows=whole.rows, errors=whole.errors, alpha=on_data),
        quality,
        harm,
        moved,
        max((c.effect for c in plain if c.effect is not None), default=None),
        levels.sum(spec),
        _estimated(rows, matured, reference, version),
        _outcomes(matured, reference, version, on_quality),
        matured_until,
        (*evidence, *more),
        "" if whole.rows else down,
        joint,
    )


NOTHING = pl.DataFrame(schema=PREDICTIONS)


def _window(predictions: pl.DataFrame | None, start: datetime, end: datetime) -> pl.DataFrame:
    """Answers and errors within a window, without what was scored in the shadow."""
    if predictions is None:
        return NOTHING
    inside = pl.col("time").is_between(start, end, closed="left")
    return predictions.filter(inside & (pl.col("arm") != Arm.SHADOW))


SILENT = {
    "": "no traffic: nothing to compare",
    WORKERS: "no worker was running: nothing to compare",
    CONTROLLER: "homeostat was not running, and no request was logged: nothing to compare",
}


def _drift_verdict(found: DriftReport, rows: int, down: str) -> Verdict:
    """Only the parts that a person would read: the event is kept for ever."""
    if rows == 0:
        return Verdict("drift", Outcome.INCONCLUSIVE, SILENT[down], n=0)
    failed = [part for part in found.verdict.parts if part.failed]
    return msgspec.structs.replace(found.verdict, parts=tuple(failed[:MOST_MOVED]))


def with_joint(drift: Verdict, joint: Verdict | None) -> Verdict:
    """The columns' verdict, or what was found beside them."""
    if joint is None or not joint.failed:
        return drift
    said = f"{drift.sentence}; {joint.sentence}" if drift.failed else joint.sentence
    return msgspec.structs.replace(
        drift, outcome=Outcome.FAIL, sentence=said, parts=(*drift.parts, joint)
    )


def _moved(column: ColumnDrift) -> Moved:
    return Moved(column.column, column.effect, column.low, column.psi, column.drifted)


def _costly(
    moved: Sequence[Moved], matured: pl.DataFrame | None, reference: Reference, version: str
) -> list[Moved]:
    """What the movement of each feature cost on the final labels, the costliest first."""
    features, before = reference.features, reference.tested
    names = [m.feature for m in moved if m.feature in features]
    if matured is None or before is None or "features" not in matured.columns or not names:
        return list(moved)
    own = (pl.col("version") == version) & _fits(reference.fields)
    rows = matured.filter(own & pl.col(SCORE).is_not_null() & pl.col(LABEL).is_not_null())
    rows = rows.sample(min(rows.height, COSTED), seed=0)
    after = inputs_of(rows, reference.fields)
    after = after.select(*(filled(column) for column in after), rows[SCORE], rows[LABEL])
    found = attribute(before, after, names, SCORE, LABEL)
    costs = {p.column: p.moved for p in found.parts}
    told = [msgspec.structs.replace(m, cost=costs.get(m.feature)) for m in moved]
    return sorted(told, key=lambda m: -(costs.get(m.feature, -np.inf)))


def _quality(
    matured: pl.DataFrame | None,
    reference: Reference,
    spec: MonitoringSpec,
    version: str,
    threshold: float,
    k: int,
    alpha: float,
) -> tuple[Verdict | None, Harm | None]:
    if spec.quality is None:
        return None, None
    if matured is None or matured.height == 0:
        return Verdict("quality", Outcome.INCONCLUSIVE, "no final labels yet", n=0), None
    label, score, propensity = _own(matured, version)
    return judge(
        label,
        score,
        spec.quality,
        threshold=threshold,
        k=k,
        baseline=reference.quality,
        alpha=alpha,
        propensity=propensity,
        design=reference.design,
    )


def _outcomes(
    matured: pl.DataFrame | None, reference: Reference, version: str, alpha: float
) -> Outcomes | None:
    if matured is None or reference.meaning is None:
        return None
    label, score, propensity = _own(matured, version)
    return reference.meaning.outcomes(score, label, propensity, confidence=1 - alpha)


def _own(matured: pl.DataFrame, version: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """-> label (NaN where it is not known), score, propensity of what a version scored, (n,)."""
    scored = matured.get_column(SCORE)
    own = equal(matured.get_column("version"), version) & there(scored)
    label = matured.get_column(LABEL).cast(pl.Float64).to_numpy()[own]
    propensity = np.ones(len(label))
    if PROPENSITY in matured.columns:
        propensity = matured.get_column(PROPENSITY).to_numpy()[own]
    return label, scored.to_numpy()[own], propensity


def _fits(fields: Sequence[Field]) -> pl.Expr:
    """Whether a row of the log has as many float32 numbers as the model."""
    return pl.col("features").list.len() == sum(field.plain for field in fields)


def _numbers(rows: pl.DataFrame, fields: Sequence[Field]) -> np.ndarray:
    """Those of the features that are numbers or truth values, of rows of the log that fit."""
    width = len(fields)
    if all(field.plain for field in fields) and rows.height:
        return rows.get_column("features").explode().to_numpy().reshape(-1, width).astype(float)
    kept = inputs_of(rows, fields).select(_countable(fields))
    return kept.cast(pl.Float64).to_numpy()


def _countable(fields: Sequence[Field]) -> list[str]:
    return [field.name for field in fields if field.datatype != "BYTES"]


def _estimator(
    tested: pl.DataFrame, fields: Sequence[Field], quality: Quality, threshold: float, k: int
) -> Estimator | None:
    """None where the test rows have one class only, and nothing can be learnt from them. What a
    text means comes in through the score alone."""
    label = tested.get_column(LABEL).cast(pl.Float64).to_numpy()
    if not 0 < label.sum() < label.size:
        return None
    inputs = tested.select(_countable(fields)).cast(pl.Float64).to_numpy()
    score = tested.get_column(SCORE).cast(pl.Float64).to_numpy()
    return Estimator(Rows(inputs, score, label), quality.metric, threshold=threshold, k=k)


def _estimated(
    answered: pl.DataFrame, matured: pl.DataFrame | None, reference: Reference, version: str
) -> Estimated | None:
    """Of the champion's own answers; None where it is not declared."""
    if reference.estimator is None:
        return None

    def rows(table: pl.DataFrame) -> Rows:
        own = (pl.col("version") == version) & pl.col(SCORE).is_not_null()
        table = table.filter(own & _fits(reference.fields))
        label = None
        if LABEL in table.columns:
            table = table.drop_nulls(LABEL)
            label = table.get_column(LABEL).to_numpy()
        numbers = _numbers(table, reference.fields)
        return Rows(numbers, table.get_column(SCORE).to_numpy(), label)

    has_features = matured is not None and "features" in matured.columns
    final = rows(matured) if has_features and matured is not None else None
    return reference.estimator.estimate(rows(answered), final)
