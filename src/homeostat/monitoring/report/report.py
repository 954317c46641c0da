"""Any two tables, compared and told: `homeostat drift` and `homeostat.drift`.

>>> import polars as pl
>>> before = pl.DataFrame({"amount": [float(i) for i in range(1000)]})
>>> drift(before, before + 500).verdict.sentence
'1 of 1 columns moved: amount'
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import polars as pl

from homeostat.core.errors import BadInput
from homeostat.core.verdict import Outcome, Verdict
from homeostat.monitoring.drift.attribution import Attribution, attribute
from homeostat.monitoring.drift.compare import DriftReport, SliceDrift, check_alpha, compare
from homeostat.monitoring.drift.joint import ROWS, JointDrift, joint_drift
from homeostat.monitoring.drift.source import DRAWN, Source, Where, opened, sample
from homeostat.monitoring.spec import Drift

JOINT = 0.2
"""The part of alpha that the columns taken together may spend."""
MIN_SLICE = 100
MOST_SLICES = 20


def drift(
    baseline: Any,
    current: Any,
    *,
    spec: Drift | None = None,
    alpha: float = 0.05,
    columns: Sequence[str] | None = None,
    joint: bool = True,
    by: Sequence[str] = (),
    prediction: str | None = None,
    label: str | None = None,
) -> DriftReport:
    """Compare two tables: Polars, pandas or Arrow, or paths of Parquet, CSV, JSON or Arrow files
    of any size (text files need as much room in the folder for temporary files), or a `Source`.

    alpha: the chance of calling anything drifted although nothing moved by more than
    `spec.min_effect`. columns: which to compare; all of the baseline if unset. joint: also look at
    the columns together. by: columns whose values' rows are compared by themselves too.
    prediction, label: with both, what the movement cost is estimated. Raises BadInput for what is
    no table, an empty one, a column that is not there or has no values with enough rows to be
    compared by themselves, or an alpha that is no probability; NotFound."""
    check_alpha(alpha)
    declared = spec or Drift()
    with opened(baseline) as before, opened(current) as now:
        for name in (*by, *(n for n in (prediction, label) if n)):
            _check(name, before, now)
        slices = [found for name in by for found in _slices(name, before, now)]
        level = alpha * (1 - JOINT) if joint else alpha
        share = level / (1 + len(slices))
        found = compare(before, now, declared, alpha=share, columns=columns)
        told = tuple(_slice(n, a, b, declared, share, columns) for n, a, b in slices)
        common = [c for c in before.schema if c in now.schema]
        compared = dict.fromkeys(c.column for c in found.columns if c.column in common)
        inputs = [c for c in compared if c not in (prediction, label)]
        wanted = inputs if joint else []
        if prediction and label:
            wanted = [*inputs, prediction, label]
        first, second = (sample(s, wanted, DRAWN, seed) for seed, s in enumerate((before, now)))
    together = _joint(first, second, inputs, declared, alpha * JOINT) if joint else None
    harm: Attribution | None = None
    if prediction and label:
        harm = attribute(first, second, inputs, prediction, label)
    return msgspec.structs.replace(
        found,
        alpha=alpha,
        joint=together,
        harm=harm,
        slices=told,
        verdict=_verdict(found.verdict, together, told),
    )


def _check(name: str, *sources: Source) -> None:
    for source in sources:
        if name not in source.schema:
            there = ", ".join(list(source.schema)[:20])
            raise BadInput(f"no column {name!r}", expected=f"one of {there}", found=repr(name))


def _joint(
    first: pl.DataFrame, second: pl.DataFrame, columns: list[str], spec: Drift, alpha: float
) -> JointDrift | None:
    first, second = (t.sample(min(t.height, ROWS), seed=1) for t in (first, second))
    return joint_drift(first, second, columns, min_effect=spec.min_effect, alpha=alpha)


def _slices(name: str, before: Source, now: Source) -> Iterator[tuple[str, Source, Source]]:
    """The rows with each frequent value of a column, on both sides."""
    sides = [pl.concat([p.cast(pl.String) for p in s.pieces(name)]) for s in (before, now)]
    counts = sides[0].drop_nulls().value_counts(name="n").filter(pl.col("n") >= MIN_SLICE)
    if counts.is_empty():
        raise BadInput(
            f"the rows of {name!r} cannot be compared value by value",
            expected=f"a value with {MIN_SLICE} rows of the baseline or more",
            found=f"{sides[0].n_unique():,} values in {before.rows:,} rows",
            remedy="name a column with few values, or compare more rows",
        )
    for value in counts.sort("n", name, descending=[True, False])[name].head(MOST_SLICES):
        masks = [np.asarray((side == value).fill_null(value=False)) for side in sides]
        yield f"{name} = {value}", Where(before, masks[0]), Where(now, masks[1])


def _slice(
    name: str, before: Source, now: Source, spec: Drift, alpha: float, columns: Sequence[str] | None
) -> SliceDrift:
    found = compare(before, now, spec, alpha=alpha, columns=columns)
    moved = tuple(c for c in found.ranked() if c.drifted)
    return SliceDrift(name, found.verdict, moved, before.rows, now.rows)


def _verdict(columns: Verdict, joint: JointDrift | None, slices: tuple[SliceDrift, ...]) -> Verdict:
    """Of the columns; or, where those are quiet, of what was found beside them."""
    parts, said = list(columns.parts), columns.sentence
    moved = [s for s in slices if s.columns]
    if moved:
        said += f"; moved where {', '.join(s.slice for s in moved[:3])}"
        if len(moved) > 3:
            said += f" and in {len(moved) - 3} more slices"
    parts += [msgspec.structs.replace(s.verdict, check=f"slice:{s.slice}", parts=())
              for s in moved]  # fmt: skip
    outcome = Outcome.FAIL if moved else columns.outcome
    if joint is not None:
        parts.append(joint.verdict)
        if joint.verdict.failed and not columns.failed:
            outcome, said = (
                Outcome.FAIL,
                f"{said}; but together they moved: {joint.verdict.sentence}",
            )
    if outcome is columns.outcome and said == columns.sentence and joint is None:
        return columns
    return msgspec.structs.replace(columns, outcome=outcome, sentence=said, parts=tuple(parts))


def text(report: DriftReport) -> str:
    """Plain lines: the verdict, what changed in the schema, then the columns, most moved first,
    and what was found beside them."""
    lines = [report.verdict.sentence, *(change.sentence for change in report.schema)]
    lines += [c.sentence for c in report.ranked()]
    lines += [f"{s.slice}: {s.verdict.sentence}" for s in report.slices]
    lines += [report.joint.verdict.sentence] if report.joint else []
    lines += [report.harm.sentence] if report.harm else []
    return "\n".join(lines)


def markdown(report: DriftReport) -> str:
    """For a pull request or a wiki: the verdict, a table of the columns, what was found beside."""
    lines = [f"**{report.verdict.outcome}**: {_plain(report.verdict.sentence)}", ""]
    lines += [f"- {_plain(change.sentence)}" for change in report.schema]
    lines += [
        "",
        "| column | moved | distance | at least | PSI | Jensen-Shannon | empty before | now |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for c in report.ranked():
        figures = (c.effect, c.low, c.psi, c.measures.get("js"))
        cells = ["-" if f is None else f"{f:.3f}" for f in figures]
        cells += [f"{c.nulls_reference:.1%}", f"{c.nulls_current:.1%}"]
        lines.append(
            f"| {_plain(c.column)} | {'yes' if c.drifted else 'no'} | {' | '.join(cells)} |"
        )
    beside = [f"{s.slice}: {s.verdict.sentence}" for s in report.slices]
    beside += [report.joint.verdict.sentence] if report.joint else []
    beside += [report.harm.sentence] if report.harm else []
    lines += ["", *(f"- {_plain(said)}" for said in beside)]
    return "\n".join(lines).rstrip() + "\n"


def _plain(said: str) -> str:
    return said.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
