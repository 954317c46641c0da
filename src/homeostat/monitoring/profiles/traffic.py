"""The prediction log in profiles: of all requests, and of each declared slice of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
import numpy as np
import polars as pl

from homeostat.core.clock import to_us
from homeostat.core.errors import BadInput
from homeostat.core.names import Arm
from homeostat.core.records import equal, inputs_of, microseconds, there
from homeostat.core.servable import Field
from homeostat.monitoring.drift.baseline import Baseline
from homeostat.monitoring.drift.dependence import in_order
from homeostat.monitoring.profiles.profile import Profile, Scheme, profile, total

SCORE = "score"
WHOLE = ""
"""The slice that is all requests."""
MIN_SLICE = 500
"""Reference rows below which a slice is not watched by itself."""
MOST_SLICES = 20
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)

Traffic = dict[str, Profile]
"""Per slice; of requests that the champion or a canary answered."""


class Slice(msgspec.Struct, frozen=True):
    """Requests of which a feature has a value."""

    name: str
    feature: str
    value: float | str
    scheme: Scheme


class Watched(msgspec.Struct, frozen=True):
    """What traffic is held against: the features in the model's order, then the score. whole: all
    requests; slices: some of them, each with a baseline of its own."""

    fields: tuple[Field, ...]
    whole: Scheme
    slices: tuple[Slice, ...] = ()

    @classmethod
    def build(
        cls,
        reference: pl.DataFrame,
        baseline: Baseline,
        by: Sequence[str],
        fields: Sequence[Field] = (),
    ) -> Watched:
        """reference: features as the log has them, then `score`, null where the model was fitted.
        fields: of the features; float32 numbers if unset."""
        features = tuple(name for name in reference.columns if name != SCORE)
        slices = []
        for name in by:
            if name not in features:
                raise BadInput(
                    f"no feature {name!r} to slice by",
                    path="$.monitoring.drift.by",
                    expected=f"one of {', '.join(features[:20])}",
                )
            counted = reference.get_column(name).drop_nulls().value_counts(name="n")
            counted = counted.filter(pl.col("n") >= MIN_SLICE).sort("n", name, descending=True)
            for value, _ in counted.head(MOST_SLICES).rows():
                rows = reference.filter(pl.col(name) == value)
                scheme = Scheme.of(scored(rows))
                slices.append(Slice(f"{name}={_told(value)}", name, value, scheme))
        return cls(
            tuple(fields) or tuple(Field(name) for name in features),
            Scheme.of(baseline),
            tuple(slices),
        )

    def scheme(self, name: str) -> Scheme:
        return next((s.scheme for s in self.slices if s.name == name), self.whole)

    @property
    def key(self) -> str:
        return ":".join((self.whole.key, *(f"{s.name}/{s.scheme.key}" for s in self.slices)))


def _told(value: float | str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else f"{value:g}"


def scored(reference: pl.DataFrame) -> Baseline:
    """Of the features, over all rows, and of the score, over those that have one. Rows are in the
    order of time, or in none: what they are worth is measured along it."""
    features, scored = reference.drop(SCORE), reference.select(SCORE).drop_nulls()
    inputs = in_order(Baseline.build(features), features)
    scores = in_order(Baseline.build(scored), scored)
    return Baseline((*inputs.columns, *scores.columns), inputs.rows)


def grain(window: timedelta) -> timedelta:
    """How finely a window is profiled: by the minute, by the hour where it lasts days."""
    return MINUTE if window <= 24 * HOUR else HOUR


def profiles(
    log: pl.DataFrame, watched: Watched, version: str, start: datetime, step: timedelta, steps: int
) -> dict[str, list[Profile]]:
    """The log from `start` on in `steps` profiles per slice, each of `step`.

    log: rows of `core.records.PREDICTIONS`; shadow scores and rows outside are left out. version:
    whose scores count; features count of all answers that have those of the champion: as many
    numbers, and each of the others by its name and of its type."""
    since = (microseconds(log["time"]) - to_us(start)) // (step // timedelta(microseconds=1))
    inside = (since >= 0) & (since < steps) & ~equal(log["arm"], Arm.SHADOW.value)
    rows = np.bincount(since[inside], minlength=steps)
    at = np.flatnonzero(inside & ~there(log["error"]) & there(log[SCORE]))
    group = since[at]
    errors = rows - np.bincount(group, minlength=steps)
    others = () if all(field.plain for field in watched.fields) else ("inputs",)
    answered = log[["id", SCORE, "version", "features", *others]]
    answered = answered[at] if len(at) < log.height else answered
    values, absent = _columns(answered, watched.fields)
    away = dict.fromkeys(values, absent)
    values[SCORE] = answered[SCORE].to_numpy()
    away[SCORE] = ~equal(answered["version"], version)
    ids = answered["id"].hash(0).to_numpy()
    requests = list(zip(rows.tolist(), errors.tolist(), strict=True))
    whole = profile(watched.whole, values, ids, absent=away, group=group, requests=requests)
    found = {WHOLE: whole}
    for s in watched.slices:
        inside = ~absent & _equal(values[s.feature], s.value)
        sizes = np.bincount(group[inside], minlength=steps)
        found[s.name] = profile(
            s.scheme,
            {name: _some(column, inside) for name, column in values.items()},
            ids[inside],
            absent={name: out[inside] for name, out in away.items()},
            group=group[inside],
            requests=[(int(size), 0) for size in sizes],
        )
    return found


Values = np.ndarray | pl.Series


def _columns(rows: pl.DataFrame, fields: Sequence[Field]) -> tuple[dict[str, Values], np.ndarray]:
    """-> each feature, and which rows have others: they are left out."""
    plain = [field.name for field in fields if field.plain]
    others = [field for field in fields if not field.plain]
    table, absent = _matrix(rows["features"], len(plain))
    values: dict[str, Values] = {name: table[:, i] for i, name in enumerate(plain)}
    if others:
        found = inputs_of(rows, others)
        absent |= found.select(pl.any_horizontal(pl.all().is_null())).to_series().to_numpy()
        values |= {column.name: filled(column) for column in found}
    return values, absent


def filled(column: pl.Series) -> pl.Series:
    """A text that is empty is a missing one: models are given no null."""
    if column.dtype != pl.String:
        return column
    return column.set((column == "").fill_null(value=False), None)


def _equal(column: Values, value: float | str) -> np.ndarray:
    if isinstance(column, pl.Series):
        return equal(column, value)
    found: np.ndarray = column == value
    return found


def _some(column: Values, inside: np.ndarray) -> Values:
    return column.filter(pl.Series(inside)) if isinstance(column, pl.Series) else column[inside]


def _matrix(features: pl.Series, width: int) -> tuple[np.ndarray, np.ndarray]:
    """-> the features (n, width), and which rows have not as many: they are left out."""
    fits = features.list.len().to_numpy() == width
    table = np.full((len(features), width), np.nan, dtype=np.float32)
    if width and fits.any():
        kept = features if fits.all() else features.filter(pl.Series(fits))
        table[fits] = kept.explode().to_numpy().reshape(-1, width)
    return table, ~fits


def together(watched: Watched, parts: Iterable[Mapping[str, Sequence[Profile]]]) -> Traffic:
    """The traffic of several stretches as one."""
    kept = list(parts)
    names = (WHOLE, *(s.name for s in watched.slices))
    return {
        name: total(watched.scheme(name), [p for part in kept for p in part.get(name, ())])
        for name in names
    }
