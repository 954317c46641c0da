"""Which columns the model sees."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from homeostat.core.errors import BadInput
from homeostat.data.names import need
from homeostat.data.spec import DataSpec


def feature_names(table: pl.DataFrame, spec: DataSpec, segments: Sequence[str]) -> tuple[str, ...]:
    """The declared features, in their order: numbers, truth values and text; or every numeric and
    boolean column but key, time, label and segments, in the table's order.

    Raises BadInput for a feature that is not there or of another type, and when none is left.
    """
    if spec.features is not None:
        for name in spec.features:
            need(table, name, what="feature", path="transform", field="$.data.features")
        others = [n for n in spec.features if not usable(table.schema[n])]
        if others:
            raise BadInput(
                f"feature {others[0]!r} is neither number, truth value nor text",
                path="$.data.features",
                found=str(table.schema[others[0]]),
                remedy="make numbers or text of it in the transform",
            )
        return spec.features
    roles = {spec.key, spec.time, spec.label.column, *segments}
    names = tuple(n for n, t in table.schema.items() if n not in roles and _numeric(t))
    if not names:
        raise BadInput(
            "there is no feature",
            path="transform",
            expected="numeric columns besides key, time and label",
            found=f"the columns {', '.join(table.columns)}",
            remedy="name text columns in data.features",
        )
    return names


def usable(kind: pl.DataType) -> bool:
    """Whether a model can be given such a column."""
    return _numeric(kind) or kind in (pl.String, pl.Categorical, pl.Enum)


def _numeric(kind: pl.DataType) -> bool:
    return kind.is_numeric() or kind == pl.Boolean
