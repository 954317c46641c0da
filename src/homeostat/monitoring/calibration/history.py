"""A stable stretch of traffic, made ready to be drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.errors import BadInput
from homeostat.core.records import PREDICTIONS
from homeostat.core.servable import Field
from homeostat.monitoring.profiles.traffic import SCORE
from homeostat.monitoring.spec import MonitoringSpec
from homeostat.monitoring.window import Reference, as_logged

Features = NDArray[np.floating]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

START = datetime(2000, 1, 3, tzinfo=UTC)
LEAST_ROWS = 200


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


def enough(history: History) -> None:
    """Raises BadInput for a history that is too short to draw from."""
    if history.rows.height < LEAST_ROWS:
        raise BadInput(
            "the history is too short to replay",
            expected=f"at least {LEAST_ROWS} requests",
            found=f"{history.rows.height:,}",
            remedy="wait for more traffic, or use `--on reference`",
        )
