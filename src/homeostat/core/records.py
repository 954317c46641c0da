"""The tables that stages share: names, meanings and dtypes of their columns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.clock import to_us
from homeostat.core.servable import Datatype, Field

TIME = pl.Datetime("us", "UTC")

PREDICTIONS: dict[str, pl.DataType] = {
    "id": pl.String(),  # the request's id; row k of a batch is `id/k`; the key for labels
    "time": TIME,  # when it was answered, by the data plane's clock
    "model": pl.String(),
    "version": pl.String(),  # "" where no version could answer
    "arm": pl.String(),  # champion | canary | shadow; "" where no version could answer
    "probability": pl.Float64(),  # with which the arm was assigned (1.0: shadow, 0.0: no arm)
    "latency": pl.Float64(),  # seconds from the request's arrival to its answer
    "features": pl.List(pl.Float32()),  # in the version's input order; empty on malformed input
    "score": pl.Float64(),  # the positive class's probability; null on error
    "error": pl.String(),  # null on success
    "inputs": pl.String(),  # JSON object of the inputs that are no float32 numbers; null: none
    # the probability with which this request's true outcome is allowed to become known:
    # `serving.explore` where the score is an alert and the share is declared, else 1.0. Of a
    # shadow always 1.0: it decides nothing, the record of the answer under the same id says it
    "propensity": pl.Float64(),
}

LABELS: dict[str, pl.DataType] = {
    "id": pl.String(),
    "label": pl.Float64(),
    "time": TIME,  # when the outcome happened, as the sender says
    "known": TIME,  # when it reached us: decides what was known at any time
}


def microseconds(times: pl.Series) -> NDArray[np.int64]:
    """Since 1970, of a column of type TIME without nulls."""
    return times.to_numpy().view(np.int64)


def instant(at: datetime) -> pl.Expr:
    """An instant to compare a column of type TIME with: Polars takes ten times as long to make
    one of an aware datetime."""
    return pl.lit(to_us(at)).cast(TIME)


def there(column: pl.Series) -> NDArray[np.bool_]:
    """Where there is a value."""
    nulls, n = column.null_count(), len(column)
    if nulls in (0, n):
        return np.zeros(n, np.bool_) if nulls else np.ones(n, np.bool_)
    return column.is_not_null().to_numpy()


def equal(column: pl.Series, value: float | str) -> NDArray[np.bool_]:
    """Where there is this value."""
    found = column == value
    return (found.fill_null(value=False) if found.null_count() else found).to_numpy()


_TYPES: dict[Datatype, Any] = {
    "BOOL": pl.Boolean, "BYTES": pl.String, "FP16": pl.Float32, "FP32": pl.Float32,
    "FP64": pl.Float64, "INT8": pl.Int8, "INT16": pl.Int16, "INT32": pl.Int32, "INT64": pl.Int64,
    "UINT8": pl.UInt8, "UINT16": pl.UInt16, "UINT32": pl.UInt32, "UINT64": pl.UInt64,
}  # fmt: skip


def input_type(field: Field) -> pl.DataType:
    """Of a column of `inputs_of`: text is String, values with a shape are lists."""
    kind: pl.DataType = _TYPES[field.datatype]()
    for _ in field.shape:
        kind = pl.List(kind)
    return kind


def inputs_of(log: pl.DataFrame, fields: Sequence[Field]) -> pl.DataFrame:
    """A column per input of a version, by its name and of its type, in their order.

    log: rows of PREDICTIONS. fields: `Manifest.fields` of the version whose inputs they are. Null
    where a row has none, or others (a malformed request, another version)."""
    plain = [field.name for field in fields if field.plain]
    other = {field.name: input_type(field) for field in fields if not field.plain}
    features = pl.col("features")
    found: dict[str, Any] = {}
    for i, name in enumerate(plain):
        value = features.list.get(i, null_on_oob=True)
        found[name] = pl.when(features.list.len() == len(plain)).then(value).alias(name)
    if other:
        texts = _decoded(log, pl.Struct(other))
        found |= {name: texts[name] for name in other}
    return log.select(found[field.name] for field in fields)


def _decoded(log: pl.DataFrame, kind: pl.Struct) -> pl.DataFrame:
    try:
        return log["inputs"].str.json_decode(kind).struct.unnest()
    except pl.exceptions.ComputeError:
        if log["version"].n_unique() == 1:
            return pl.Series([None] * log.height, dtype=kind).struct.unnest()
    # of one of the versions the inputs of these names have other types
    rows = log.select("inputs", "version").with_row_index("row")
    parts = [
        _decoded(part, kind).with_columns(part["row"]) for part in rows.partition_by("version")
    ]
    return pl.concat(parts).sort("row").drop("row")
