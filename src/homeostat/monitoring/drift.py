"""Has the distribution of a column moved by more than the minimum effect?

Two tests per column, each against "moved by at most the minimum effect": the distance between
the distribution functions (Kolmogorov-Smirnov; total variation for categories), with an exact
bound, and the population stability index on fixed reference bins, nulls being a bin of their own.
The level alpha is split equally over columns and tests (Bonferroni: valid under any dependence).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.errors import BadInput
from homeostat.core.verdict import Outcome, Verdict
from homeostat.monitoring import bounds
from homeostat.monitoring.baseline import (
    Baseline,
    Categorical,
    Column,
    Floats,
    Kind,
    Numeric,
    bin_counts,
    kind_of,
    level_counts,
    numbers,
)
from homeostat.monitoring.spec import Drift

TestName = Literal["ks", "tv", "psi"]


class TestResult(msgspec.Struct, frozen=True):
    """statistic: as measured. low: what the distributions' own value is at least, at this test's
    share of alpha. limit: the minimum effect in this statistic's unit. p_value: of "at most the
    limit", not corrected. drifted: low > limit."""

    test: TestName
    statistic: float
    low: float
    limit: float
    p_value: float
    drifted: bool


class ColumnDrift(msgspec.Struct, frozen=True):
    """effect: the distance (KS or total variation, 0 to 1). low: its lower bound. detectable: the
    distance that would have been shown with so many rows. p_value: corrected for this column's
    tests, not for the other columns. n_*: values without missing ones. nulls_*: shares.
    out_of_range: the share of values beyond the reference's range, or in unseen categories."""

    column: str
    kind: Kind
    outcome: Outcome
    sentence: str
    tests: tuple[TestResult, ...]
    effect: float | None
    low: float | None
    detectable: float | None
    p_value: float
    n_reference: int
    n_current: int
    rows_current: int
    nulls_reference: float
    nulls_current: float
    out_of_range: float

    @property
    def drifted(self) -> bool:
        return self.outcome is Outcome.FAIL

    @property
    def psi(self) -> float | None:
        return next((t.statistic for t in self.tests if t.test == "psi"), None)

    @property
    def rank(self) -> tuple[bool, float, float, str]:
        """Sorts the most moved first: those that were shown to have, by what was shown."""
        return (not self.drifted, -(self.low or 0.0), -(self.effect or 0.0), self.column)


class SchemaChange(msgspec.Struct, frozen=True):
    """A column that is `missing`, `new`, of another `type`, or `skipped` (cannot be compared)."""

    column: str
    change: Literal["missing", "new", "type", "skipped"]
    sentence: str


class DriftReport(msgspec.Struct, frozen=True):
    """columns: in the reference's order. verdict: FAIL when anything moved by more than
    min_effect, or a column is missing or of another type. alpha: the chance of saying so wrongly
    of any column."""

    verdict: Verdict
    columns: tuple[ColumnDrift, ...]
    schema: tuple[SchemaChange, ...]
    rows_reference: int
    rows_current: int
    min_effect: float
    alpha: float

    @property
    def drifted(self) -> tuple[ColumnDrift, ...]:
        """The columns shown to have moved, most moved first."""
        return tuple(c for c in self.ranked() if c.drifted)

    def ranked(self) -> tuple[ColumnDrift, ...]:
        return tuple(sorted(self.columns, key=lambda c: c.rank))


def compare(
    reference: pl.DataFrame | Baseline,
    current: pl.DataFrame,
    spec: Drift | None = None,
    *,
    alpha: float,
    columns: Sequence[str] | None = None,
) -> DriftReport:
    """Compare two tables, column by column.

    reference: a table, or a `Baseline` of one, built once for many windows. alpha: the chance of
    calling anything drifted although no column moved by more than the minimum effect. columns:
    which to compare; all of the reference if unset. Rows are taken to be independent. Raises
    BadInput when alpha is not within 0 and 1, or a column asked for is not in the reference.
    """
    if not 0 < alpha < 1:
        raise BadInput("alpha is a probability", expected="0 < alpha < 1", found=repr(alpha))
    if isinstance(reference, pl.DataFrame):
        _check_columns(columns, reference.columns)
        reference, current = _same_precision(reference, current)
        base = Baseline.build(reference, columns)
    else:
        _check_columns(columns, [c.name for c in reference.columns])
        base = reference
    wanted = [c for c in base.columns if columns is None or c.name in columns]
    changes = _schema_changes(wanted, base.skipped, current, columns is None)
    unlike = {c.column for c in changes}
    series = {c.name: current.get_column(c.name) for c in wanted if c.name not in unlike}
    found = compare_values(base, series, spec or Drift(), alpha=alpha)
    return report(found, changes, spec or Drift(), alpha, base.rows, current.height)


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
    asked = ("ks", "psi") if spec.tests == "auto" else spec.tests
    tests: tuple[str, ...] = tuple(dict.fromkeys(asked))
    share = alpha / max(1, len(wanted) * len(tests))
    found = []
    for column in wanted:
        values = current[column.name]
        if isinstance(column, Categorical):
            found.append(_categorical(column, _as_series(values), spec, tests, share))
        else:
            found.append(_numeric(column, _as_series(values), spec, tests, share))
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


def _numeric(
    base: Numeric, series: pl.Series, spec: Drift, tests: tuple[str, ...], alpha: float
) -> ColumnDrift:
    values = numbers(series)
    n, m = base.n, int(values.size)
    results = []
    if "ks" in tests and n and m:
        distance = _ks(base, values)
        band = bounds.dkw(n, alpha / 2) + bounds.dkw(m, alpha / 2)
        p_value = bounds.ks_p_value(distance, spec.min_effect, n, m)
        results.append(_distance("ks", distance, band, spec, p_value))
    nulls = series.len() - m
    if "psi" in tests and base.n + base.nulls and series.len():
        reference = np.append(base.counts, base.nulls)
        observed = np.append(bin_counts(values, base.edges), nulls)
        results.append(_psi(reference, observed, spec, alpha))
    outside = 0
    if n and m:
        outside = int(np.searchsorted(values, base.values[0], side="left"))
        outside += m - int(np.searchsorted(values, base.values[-1], side="right"))
    return _column(base, results, m, nulls, outside, spec, alpha)


def _ks(base: Numeric, values: NDArray[np.floating]) -> float:
    """The largest difference of the distribution functions. The reference's is flat between its
    values and the other's rises, so it is found at, or just before, a value of the reference."""
    upto = np.searchsorted(values, base.values, side="right") / values.size
    below = np.searchsorted(values, base.values, side="left") / values.size
    return float(max(np.abs(upto - base.upto).max(), np.abs(below - base.below).max()))


def _categorical(
    base: Categorical, series: pl.Series, spec: Drift, tests: tuple[str, ...], alpha: float
) -> ColumnDrift:
    counts, nulls, unseen = level_counts(series, base)
    reference = np.append(base.counts, base.nulls)
    observed = np.append(counts, nulls)
    n, m = int(reference.sum()), int(observed.sum())
    results = []
    if "ks" in tests and n and m:
        distance = float(np.abs(reference / n - observed / m).sum() / 2)
        cells = reference.size
        band = bounds.total_variation(n, cells, alpha / 2)
        band += bounds.total_variation(m, cells, alpha / 2)
        p_value = bounds.tv_p_value(distance, spec.min_effect, n, m, cells)
        results.append(_distance("tv", distance, band, spec, p_value))
    if "psi" in tests and n and m:
        results.append(_psi(reference, observed, spec, alpha))
    return _column(base, results, m - nulls, nulls, unseen, spec, alpha)


def _distance(
    name: TestName, distance: float, band: float, spec: Drift, p_value: float
) -> TestResult:
    low = max(0.0, distance - band)
    return TestResult(name, distance, low, spec.min_effect, p_value, low > spec.min_effect)


def _psi(reference: Floats, observed: Floats, spec: Drift, alpha: float) -> TestResult:
    """PSI as it is usually computed (with half a row added to every cell), and its bound."""
    there = (reference + observed) > 0
    p, q = reference[there], observed[there]
    cells, n, m = int(p.size), float(p.sum()), float(q.sum())
    size = n * m / (n + m)
    smooth_p, smooth_q = (p + 0.5) / (n + cells / 2), (q + 0.5) / (m + cells / 2)
    index = float(((smooth_q - smooth_p) * np.log(smooth_q / smooth_p)).sum())
    # Anscombe's 3/8 keeps the variance stable down to small counts
    roots = np.sqrt((p + 0.375) / (n + 0.75)) - np.sqrt((q + 0.375) / (m + 0.75))
    statistic = float(4 * size * (roots**2).sum())
    limit = bounds.psi_effect(spec.min_effect)
    p_value = bounds.psi_p_value(statistic, cells, size, limit)
    low = bounds.psi_low(statistic, cells, size, alpha)
    return TestResult("psi", index, low, limit, p_value, low > limit)


def _column(
    base: Column,
    results: list[TestResult],
    m: int,
    nulls: int,
    outside: int,
    spec: Drift,
    alpha: float,
) -> ColumnDrift:
    rows, base_rows = m + nulls, base.n + base.nulls
    distance = next((t for t in results if t.test != "psi"), None)
    detectable = None
    if base.n and m:
        band = math.sqrt(math.log(4 / alpha) / 2) * (1 / math.sqrt(base.n) + 1 / math.sqrt(m))
        detectable = min(1.0, spec.min_effect + band)
    outcome = Outcome.PASS
    if not results or (detectable is not None and detectable >= 1 and len(results) == 1):
        outcome = Outcome.INCONCLUSIVE
    if any(t.drifted for t in results):
        outcome = Outcome.FAIL
    elif not rows or not base_rows or (m < MIN_ROWS and rows < MIN_ROWS):
        outcome = Outcome.INCONCLUSIVE
    p_value = min([1.0, *(len(results) * t.p_value for t in results)])
    return ColumnDrift(
        base.name,
        base.kind,
        outcome,
        _sentence(base, outcome, results, m, nulls, detectable),
        tuple(results),
        distance.statistic if distance else None,
        distance.low if distance else None,
        detectable,
        p_value,
        base.n,
        m,
        rows,
        base.nulls / base_rows if base_rows else 0.0,
        nulls / rows if rows else 0.0,
        outside / m if m else 0.0,
    )


MIN_ROWS = 20
"""With fewer rows nothing is said of a column that does not drift."""

_NAMES = {"ks": "KS distance", "tv": "share that changed category", "psi": "PSI"}


def _sentence(
    base: Column,
    outcome: Outcome,
    results: list[TestResult],
    m: int,
    nulls: int,
    detectable: float | None,
) -> str:
    if outcome is Outcome.INCONCLUSIVE:
        return f"{base.name}: too few values to tell ({base.n:,} in the reference, {m:,} now)"
    shown = [t for t in results if t.drifted]
    if shown:
        parts = [
            f"{_NAMES[t.test]} {t.statistic:.3f}, at least {t.low:.3f} (limit {t.limit:.3f})"
            for t in shown
        ]
        text = f"{base.name} moved: {'; '.join(parts)}"
        before = base.nulls / (base.n + base.nulls)
        after = nulls / (m + nulls)
        return text + (
            f"; empty in {after:.1%} of the rows, {before:.1%} before"
            if abs(after - before) > 0.01
            else ""
        )
    first = results[0]
    return f"{base.name}: no drift shown ({_NAMES[first.test]} {first.statistic:.3f}" + (
        f"; {detectable:.3f} would have been)"
        if detectable is not None and first.test == "ks"
        else ")"
    )


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


def _same_precision(
    reference: pl.DataFrame, current: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """0.1 in 32 bits is not 0.1 in 64: where one side has the fewer, so gets the other."""
    mixed = [
        name
        for name, dtype in reference.schema.items()
        if name in current.columns and {dtype, current.schema[name]} == {pl.Float32(), pl.Float64()}
    ]
    cast = [pl.col(name).cast(pl.Float32) for name in mixed]
    return (reference.with_columns(cast), current.with_columns(cast))


def _schema_changes(
    wanted: Sequence[Column], skipped: Sequence[str], current: pl.DataFrame, all_columns: bool
) -> tuple[SchemaChange, ...]:
    changes = []
    for column in wanted:
        if column.name not in current.columns:
            text = f"column {column.name!r} is missing"
            changes.append(SchemaChange(column.name, "missing", text))
            continue
        now = current.schema[column.name]
        empty = pl.Null in (now, column.dtype)
        if kind_of(now) != column.kind and not empty:
            text = f"column {column.name!r} was {column.dtype} and is {now}"
            changes.append(SchemaChange(column.name, "type", text))
    for name in skipped:
        text = f"column {name!r} has a type that cannot be compared"
        changes.append(SchemaChange(name, "skipped", text))
    if all_columns:
        known = {c.name for c in wanted} | set(skipped)
        new = [name for name in current.columns if name not in known]
        changes += [SchemaChange(name, "new", f"column {name!r} is new") for name in new]
    return tuple(changes)
