"""Which columns the model sees."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from homeostat.core.errors import BadInput
from homeostat.data.names import need
from homeostat.data.spec import DataSpec


def feature_names(table: pl.DataFrame, spec: DataSpec, segments: Sequence[str]) -> tuple[str, ...]:
    """The declared features, or every numeric and boolean column but key, time, label, segments.

    In the table's order when not declared. Raises BadInput for a feature that is not there or not
    numeric, and when none is left.
    """
    if spec.features is not None:
        for name in spec.features:
            need(table, name, what="feature", path="transform", field="$.data.features")
        words = [n for n in spec.features if not _numeric(table.schema[n])]
        if words:
            raise BadInput(
                f"feature {words[0]!r} is not numeric",
                path="$.data.features",
                found=str(table.schema[words[0]]),
                remedy="encode it in the transform",
            )
        return spec.features
    others = {spec.key, spec.time, spec.label.column, *segments}
    names = tuple(n for n, t in table.schema.items() if n not in others and _numeric(t))
    if not names:
        raise BadInput(
            "there is no feature",
            path="transform",
            expected="numeric columns besides key, time and label",
            found=f"the columns {', '.join(table.columns)}",
        )
    return names


def _numeric(kind: pl.DataType) -> bool:
    return kind.is_numeric() or kind == pl.Boolean
