"""Has the distribution of a column moved by more than the minimum effect?

Two tests per column, each against "moved by at most the minimum effect": the distance between
the distribution functions (Kolmogorov-Smirnov; total variation for categories), with an exact
bound, and the population stability index on fixed reference bins, nulls being a bin of their own.
The level alpha is split equally over columns and tests (Bonferroni: valid under any dependence).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.errors import BadInput
from homeostat.core.verdict import Outcome, Verdict
from homeostat.monitoring.drift.attribution import Attribution
from homeostat.monitoring.drift.baseline import Baseline, Column, side_by_side
from homeostat.monitoring.drift.column import ColumnDrift, judge, look
from homeostat.monitoring.drift.joint import JointDrift
from homeostat.monitoring.drift.source import Frame, Source
from homeostat.monitoring.drift.views import kind_of
from homeostat.monitoring.spec import Drift


class SchemaChange(msgspec.Struct, frozen=True):
    """A column that is `missing`, `new`, of another `type`, or `skipped` (cannot be compared)."""

    column: str
    change: Literal["missing", "new", "type", "skipped"]
    sentence: str


class SliceDrift(msgspec.Struct, frozen=True):
    """The rows in which a column has one value, compared with such rows of the reference."""

    slice: str
    verdict: Verdict
    columns: tuple[ColumnDrift, ...]
    rows_reference: int
    rows_current: int


class DriftReport(msgspec.Struct, frozen=True):
    """columns: in the reference's order. verdict: FAIL when anything moved by more than
    min_effect, or a column is missing or of another type. alpha: the chance of saying so wrongly
    of anything. joint: of the columns together; harm: what the movement cost; slices: as asked."""

    verdict: Verdict
    columns: tuple[ColumnDrift, ...]
    schema: tuple[SchemaChange, ...]
    rows_reference: int
    rows_current: int
    min_effect: float
    alpha: float
    joint: JointDrift | None = None
    harm: Attribution | None = None
    slices: tuple[SliceDrift, ...] = ()

    @property
    def drifted(self) -> tuple[ColumnDrift, ...]:
        """The columns shown to have moved, most moved first."""
        return tuple(c for c in self.ranked() if c.drifted)

    def ranked(self) -> tuple[ColumnDrift, ...]:
        return tuple(sorted(self.columns, key=lambda c: c.rank))


def check_alpha(alpha: float) -> None:
    """Raises BadInput."""
    if not 0 < alpha < 1:
        raise BadInput("alpha is a probability", expected="0 < alpha < 1", found=repr(alpha))


def compare(
    reference: pl.DataFrame | Source | Baseline,
    current: pl.DataFrame | Source,
    spec: Drift | None = None,
    *,
    alpha: float,
    columns: Sequence[str] | None = None,
) -> DriftReport:
    """Compare two tables, column by column.

    reference: a table, or a `Baseline` of one, built once for many. alpha: the chance of calling
    anything drifted although no column moved by more than the minimum effect. columns: which to
    compare; all of the reference if unset. Rows are taken to be independent. Raises BadInput when
    alpha is not within 0 and 1, or a column asked for is not in the reference.
    """
    check_alpha(alpha)
    now = Frame(current) if isinstance(current, pl.DataFrame) else current
    if isinstance(reference, Baseline):
        _check_columns(columns, [c.view.column for c in reference.columns])
        base = reference
    else:
        before = Frame(reference) if isinstance(reference, pl.DataFrame) else reference
        _check_columns(columns, list(before.schema))
        base = Baseline.build(before, columns, _mixed(before.schema, now.schema))
    wanted = [c for c in base.columns if columns is None or c.view.column in columns]
    changes = _schema_changes(wanted, base.skipped, now, columns is None)
    unlike = {c.column for c in changes}
    alike = [c for c in wanted if c.view.column not in unlike]
    declared = spec or Drift()

    def one(column: Column) -> ColumnDrift:
        seen = look(column, now.pieces(column.view.column), now.rows)
        return judge(column, seen, declared, alpha / len(alike))

    found = tuple(side_by_side(one, alike, now.rows))
    return report(found, changes, declared, alpha, base.rows, now.rows)


def compare_values(
    base: Baseline,
    current: Mapping[str, pl.Series | NDArray[np.floating]],
    spec: Drift,
    *,
    alpha: float,
) -> tuple[ColumnDrift, ...]:
    """Compare the columns in `current` with the base's. A NumPy array is taken as numeric, with
    NaN for a missing value. alpha: over all of them."""
    wanted = [c for c in base.columns if c.name in current]
    found = []
    for column in wanted:
        values = _as_series(current[column.name])
        seen = look(column, [values], values.len())
        found.append(judge(column, seen, spec, alpha / len(wanted)))
    return tuple(found)


def report(
    columns: tuple[ColumnDrift, ...],
    changes: tuple[SchemaChange, ...],
    spec: Drift,
    alpha: float,
    rows_reference: int,
    rows_current: int,
) -> DriftReport:
    verdict = _verdict(columns, changes, spec, rows_current)
    return DriftReport(
        verdict, columns, changes, rows_reference, rows_current, spec.min_effect, alpha
    )


def _as_series(values: pl.Series | NDArray[np.floating]) -> pl.Series:
    return values if isinstance(values, pl.Series) else pl.Series(values)


def _verdict(
    columns: tuple[ColumnDrift, ...],
    changes: tuple[SchemaChange, ...],
    spec: Drift,
    rows: int,
) -> Verdict:
    broken = [c for c in changes if c.change in ("missing", "type")]
    parts = [Verdict(f"schema:{c.column}", Outcome.FAIL, c.sentence) for c in broken]
    ranked = sorted(columns, key=lambda c: c.rank)
    parts += [
        Verdict(
            f"drift:{c.column}",
            c.outcome,
            c.sentence,
            figure=c.effect,
            threshold=spec.min_effect,
            low=c.low,
            n=c.n_current,
        )
        for c in ranked
        if c.outcome is not Outcome.PASS or c.n_current
    ]
    moved = [c for c in ranked if c.drifted]
    unclear = [c for c in columns if c.outcome is Outcome.INCONCLUSIVE]
    figure = max((c.effect for c in columns if c.effect is not None), default=None)
    if moved or broken:
        outcome = Outcome.FAIL
        said = [c.sentence for c in broken[:1]]
        if moved:
            named = ", ".join(c.column for c in moved[:3])
            more = f" and {len(moved) - 3} more" if len(moved) > 3 else ""
            said.append(f"{len(moved)} of {len(columns)} columns moved: {named}{more}")
        sentence = "; ".join(said)
    elif not rows or len(unclear) == len(columns):
        outcome, sentence = Outcome.INCONCLUSIVE, f"too few rows to compare ({rows:,})"
    else:
        outcome = Outcome.PASS
        sentence = f"no drift shown in {len(columns) - len(unclear)} columns ({rows:,} rows)"
        if unclear:
            sentence += f"; {len(unclear)} with too few values to tell"
    return Verdict(
        "drift",
        outcome,
        sentence,
        figure=figure,
        threshold=spec.min_effect,
        n=rows,
        parts=tuple(parts),
    )


def _check_columns(columns: Sequence[str] | None, there: Sequence[str]) -> None:
    for name in columns or ():
        if name not in there:
            raise BadInput(
                f"no column {name!r} in the reference",
                expected=f"one of {', '.join(there[:20])}",
                found=repr(name),
            )


def _mixed(before: pl.Schema, now: pl.Schema) -> frozenset[str]:
    """0.1 in 32 bits is not 0.1 in 64: where one side has the fewer, so gets the other."""
    both = {pl.Float32(), pl.Float64()}
    return frozenset(n for n, kind in before.items() if n in now and {kind, now[n]} == both)


def _schema_changes(
    wanted: Sequence[Column], skipped: Sequence[str], current: Source, all_columns: bool
) -> tuple[SchemaChange, ...]:
    changes = []
    for name, dtype in {c.view.column: c.dtype for c in wanted}.items():
        if name not in current.schema:
            changes.append(SchemaChange(name, "missing", f"column {name!r} is missing"))
            continue
        now = current.schema[name]
        empty = pl.Null in (now, dtype)
        if (kind_of(now), now.is_temporal()) != (kind_of(dtype), dtype.is_temporal()) and not empty:
            text = f"column {name!r} was {dtype} and is {now}"
            changes.append(SchemaChange(name, "type", text))
    for name in skipped:
        text = f"column {name!r} has a type that cannot be compared"
        changes.append(SchemaChange(name, "skipped", text))
    if all_columns:
        known = {c.view.column for c in wanted} | set(skipped)
        new = [name for name in current.schema if name not in known]
        changes += [SchemaChange(name, "new", f"column {name!r} is new") for name in new]
    return tuple(changes)
