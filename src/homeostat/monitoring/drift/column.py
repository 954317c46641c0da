"""One column: what a table shows of it, and whether it has moved from its baseline."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import reduce
from typing import Literal

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.verdict import Outcome
from homeostat.monitoring.drift import bounds, distances
from homeostat.monitoring.drift.baseline import (
    SORTED,
    Categorical,
    Column,
    Numeric,
    bin_counts,
    count_levels,
    floats,
    numbers,
)
from homeostat.monitoring.drift.cells import Cells
from homeostat.monitoring.drift.distances import BINNED, CURVES, Curves, Floats, Proof
from homeostat.monitoring.drift.views import Kind
from homeostat.monitoring.spec import Drift

TestName = Literal["ks", "tv", "psi", "js", "hellinger", "chi2", "g", "wasserstein", "cvm", "ad"]

MIN_ROWS = 20
"""With fewer rows nothing is said of a column that does not drift."""
NAMES = {
    "ks": "KS distance",
    "tv": "share that changed category",
    "psi": "PSI",
    "js": "Jensen-Shannon distance",
    "hellinger": "Hellinger distance",
    "chi2": "chi-squared divergence",
    "g": "G divergence",
    "wasserstein": "Wasserstein distance in standard deviations",
    "cvm": "Cramer-von Mises distance",
    "ad": "Anderson-Darling distance",
}
SHOWN = ("psi", "js", "hellinger")


class TestResult(msgspec.Struct, frozen=True):
    """statistic: as measured. low: what the distributions' own value is at least, at this test's
    share of alpha. limit: the minimum effect in this statistic's unit. p_value: of "at most the
    limit", not corrected. drifted: low > limit."""

    __test__ = False

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
    out_of_range: the share of values beyond the reference's range, or in unseen categories.
    measures: other distances, not tested unless they are among `tests`. rare: of categories, the
    share of the reference in those that are rare there: about so much is in new ones anyway.
    design, design_nulls: so many rows are worth one independent row (`dependence`)."""

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
    measures: dict[str, float] = {}
    rare: float = 0.0
    design: float = 1.0
    design_nulls: float = 1.0

    @property
    def drifted(self) -> bool:
        return self.outcome is Outcome.FAIL

    @property
    def psi(self) -> float | None:
        tested = next((t.statistic for t in self.tests if t.test == "psi"), None)
        return self.measures.get("psi") if tested is None else tested

    @property
    def rank(self) -> tuple[bool, float, float, str]:
        """Sorts the most moved first: those that were shown to have, by what was shown."""
        return (not self.drifted, -(self.low or 0.0), -(self.effect or 0.0), self.column)


class Numbers(msgspec.Struct, frozen=True):
    """Numeric values of a table, against a baseline; adding two gives that of both tables.

    n: without nulls and NaN. upto, below: values <= and < each of the baseline's (s,). counts: per
    bin (b,). outside: beyond the baseline's range, excess: by how much, added up (finite ones)."""

    n: int
    nulls: int
    upto: NDArray[np.int64]
    below: NDArray[np.int64]
    counts: Floats
    outside: int
    excess: float

    def __add__(self, other: Numbers) -> Numbers:
        fields = self.__struct_fields__
        return Numbers(*(getattr(self, f) + getattr(other, f) for f in fields))

    @classmethod
    def of(cls, base: Numeric, series: pl.Series) -> Numbers:
        if series.len() > SORTED and (counted := cls._counted(base, series)):
            return counted
        values = numbers(series)
        upto, below = _counts(values, base.values)
        outside, excess = 0, 0.0
        if base.n and values.size:
            under, over = values[: below[0]], values[upto[-1] :]
            outside = under.size + over.size
            excess = _sum(base.values[0] - under) + _sum(over - base.values[-1])
        return cls(
            int(values.size),
            series.len() - values.size,
            upto,
            below,
            bin_counts(values, base.edges),
            outside,
            excess,
        )

    @classmethod
    def _counted(cls, base: Numeric, series: pl.Series) -> Numbers | None:
        """Without sorting, where the baseline's grid allows for it."""
        inner = np.searchsorted(base.values, base.edges)
        known = base.n and np.isin(base.edges, base.values).all()
        cells = Cells.of(base.values) if known else None
        if cells is None:
            return None
        c = cells.count([floats(series)])
        counts = np.diff(np.concatenate(([0], c.upto[inner], [c.n]))).astype(np.float64)
        return cls(c.n, series.len() - c.n, c.upto, c.below, counts, c.outside, c.excess)


def _counts(
    values: NDArray[np.floating], points: NDArray[np.floating]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many of the ascending values are <= and < each of the ascending points."""
    if values.size > points.size:
        upto = np.searchsorted(values, points, side="right")
        return upto, np.searchsorted(values, points, side="left")
    # few values are sooner found among the points than all points among them
    first, after = (np.searchsorted(points, values, side) for side in ("left", "right"))
    upto, below = (np.bincount(at, minlength=points.size + 1) for at in (first, after))
    return np.cumsum(upto)[:-1], np.cumsum(below)[:-1]


def _sum(gaps: NDArray[np.floating]) -> float:
    return float(gaps[np.isfinite(gaps)].sum(dtype=np.float64))


class Levels(msgspec.Struct, frozen=True):
    """Categories of a table, against a baseline. counts: of its levels, then of all others
    (l + 1,). unseen: never in the baseline (0 when that has too many to tell)."""

    n: int
    nulls: int
    counts: Floats
    unseen: int

    @classmethod
    def of(cls, base: Categorical, pieces: Iterable[pl.Series], rows: int) -> Levels:
        found, n = count_levels(pieces)
        counts = np.array([found.get(level, 0) for level in base.levels], dtype=np.float64)
        unseen = 0
        if base.known:
            unseen = sum(c for level, c in found.items() if level not in base.known)
        return cls(n, rows - n, np.append(counts, n - counts.sum()), unseen)


Seen = Numbers | Levels


def look(base: Column, pieces: Iterable[pl.Series], rows: int) -> Seen:
    """Summarise a column of `rows` rows in one pass, a piece at a time."""
    viewed = (base.view.of(piece) for piece in pieces)
    if isinstance(base, Categorical):
        return Levels.of(base, viewed, rows)
    return reduce(Numbers.__add__, (Numbers.of(base, piece) for piece in viewed))


def asked(spec: Drift) -> tuple[str, ...]:
    wanted = ("ks", "psi") if spec.tests == "auto" else spec.tests
    return tuple(dict.fromkeys(wanted))


def judge(base: Column, seen: Seen, spec: Drift, alpha: float) -> ColumnDrift:
    """alpha: over all of the column's tests. Rows that hang together are counted as the
    independent ones that they are worth (`base.design`)."""
    tests = asked(spec)
    share = alpha / len(tests)
    counts = np.append(base.counts, base.nulls), np.append(seen.counts, seen.nulls)
    reference, observed = (c / base.design for c in counts)
    curves = _curves(base, seen) if isinstance(seen, Numbers) and base.n and seen.n else None
    proofs: dict[str, Proof] = {}
    for test in tests:
        name, proof = test, None
        if test in BINNED:
            proof = distances.binned(test, reference, observed, spec.min_effect, share)
        elif curves is not None:
            proof = distances.curve(test, curves, spec.min_effect, share)
        elif isinstance(seen, Levels):
            # categories have no order: what is tested is how many rows changed theirs
            name, proof = "tv", _tv(reference, observed, spec.min_effect, share)
        if proof is not None:
            proofs[name] = proof
    results = [
        TestResult(name, p.statistic, p.low, p.limit, p.p_value, p.low > p.limit)  # type: ignore[arg-type]
        for name, p in proofs.items()
    ]
    measures = _measures(*counts, curves)
    return _column(base, results, seen, spec, share, measures)


def _curves(base: Column, seen: Numbers) -> Curves:
    assert isinstance(base, Numeric)
    return Curves(
        base.values,
        base.upto,
        base.below,
        seen.upto / seen.n,
        seen.below / seen.n,
        base.n / base.design,
        seen.n / base.design,
        base.scale,
        seen.excess / seen.n,
    )


def _tv(reference: Floats, observed: Floats, min_effect: float, alpha: float) -> Proof | None:
    n, m, cells = float(reference.sum()), float(observed.sum()), int(reference.size)
    if not n or not m:
        return None
    distance = float(np.abs(reference / n - observed / m).sum() / 2)
    band = bounds.total_variation(n, cells, alpha / 2) + bounds.total_variation(m, cells, alpha / 2)
    p_value = bounds.tv_p_value(distance, min_effect, n, m, cells)
    return Proof(distance, max(0.0, distance - band), min_effect, p_value)


def _measures(reference: Floats, observed: Floats, curves: Curves | None) -> dict[str, float]:
    """What people know by name, besides what is tested."""
    there = (reference + observed) > 0
    found: dict[str, float] = {}
    if reference.sum() and observed.sum():
        p, q = reference[there], observed[there]
        found = {name: distances.measure(name, p, q) for name in SHOWN}
    if curves is not None:
        found["ks"] = curves.ks
    if curves is not None and curves.scale > 0:
        found["wasserstein"] = distances.wasserstein(curves)
    return found


def _column(
    base: Column,
    results: list[TestResult],
    seen: Seen,
    spec: Drift,
    alpha: float,
    measures: dict[str, float],
) -> ColumnDrift:
    m, nulls = seen.n, seen.nulls
    rows, base_rows = m + nulls, base.n + base.nulls
    distance = next((t for t in results if t.test in ("ks", "tv")), None)
    detectable = None
    if base.n and m:
        widths = math.sqrt(base.design / base.n) + math.sqrt(base.design / m)
        band = math.sqrt(math.log(4 / alpha) / 2) * widths
        detectable = min(1.0, spec.min_effect + band)
    outcome = Outcome.PASS
    only_bands = all(t.test in (*CURVES, "tv") for t in results)
    if not results or (detectable is not None and detectable >= 1 and only_bands):
        outcome = Outcome.INCONCLUSIVE
    if any(t.drifted for t in results):
        outcome = Outcome.FAIL
    elif not rows or not base_rows or (m < MIN_ROWS and rows < MIN_ROWS):
        outcome = Outcome.INCONCLUSIVE
    effect = distance.statistic if distance else measures.get("ks")
    outside = seen.outside if isinstance(seen, Numbers) else seen.unseen
    return ColumnDrift(
        base.name,
        base.kind,
        outcome,
        _sentence(base, outcome, results, m, nulls, detectable),
        tuple(results),
        effect,
        distance.low if distance else None,
        detectable,
        min([1.0, *(len(results) * t.p_value for t in results)]),
        base.n,
        m,
        rows,
        base.nulls / base_rows if base_rows else 0.0,
        nulls / rows if rows else 0.0,
        outside / m if m else 0.0,
        {name: round(value, 6) for name, value in measures.items()},
        rare(base),
        base.design,
        base.design_nulls,
    )


def rare(base: Column) -> float:
    """The share of the reference in categories that are rare there: an upper bound of the share
    that comes in categories which were never seen (Good 1953 puts it at those seen once)."""
    return float(base.counts[-1]) / base.n if isinstance(base, Categorical) and base.n else 0.0


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
            f"{NAMES[t.test]} {t.statistic:.3f}, at least {t.low:.3f} (limit {t.limit:.3f})"
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
    return f"{base.name}: no drift shown ({NAMES[first.test]} {first.statistic:.3f}" + (
        f"; {detectable:.3f} would have been)"
        if detectable is not None and first.test == "ks"
        else ")"
    )
