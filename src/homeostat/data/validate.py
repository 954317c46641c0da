"""All checks of the data in one verdict. FAIL and ERROR stop a run; INCONCLUSIVE is a remark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from homeostat.core.verdict import Outcome, Verdict, all_of
from homeostat.data import leakage, schema
from homeostat.data.features import usable
from homeostat.data.names import listed
from homeostat.data.spec import Between, DataSpec


def validate(
    raw: pl.DataFrame,
    table: pl.DataFrame,
    spec: DataSpec,
    *,
    features: Sequence[str],
    fn: Callable[[pl.DataFrame], Any] | None = None,
    train: pl.DataFrame | None = None,
    test: pl.DataFrame | None = None,
    as_of: datetime | None = None,
) -> Verdict:
    """Verdict(check="data") with a part per check; every failure is in it.

    raw: what went into the transform (with the label column). table: what came out.
    features: what the model will see. fn: the transform, to look for features from the future.
    train, test: the split's, to look for shared rows. as_of: now; later rows are a failure.
    Constant features and checks that could not be made are INCONCLUSIVE. Never raises for data.
    """
    parts = [_rows(raw, table, spec), *schema.columns(raw, table, spec)]
    parts += [_key(raw, spec), _time(raw, table, spec, as_of), *_label(table, spec)]
    there = [f for f in features if f in table.columns]
    parts += _features(table, features, there)
    if spec.expect.leakage == "check" and not table.is_empty():
        parts.append(leakage.label_copies(table, spec, there))
        if train is not None and test is not None:
            parts += leakage.shared_rows(train, test, spec, there)
        if fn is not None:
            parts.append(leakage.from_later(raw, table, spec, there, fn))
    return all_of("data", parts)


def _rows(raw: pl.DataFrame, table: pl.DataFrame, spec: DataSpec) -> Verdict:
    n, limits = raw.height, spec.expect.rows
    if n == 0 or table.is_empty():
        where = "source" if n == 0 else "transform"
        return Verdict("rows", Outcome.FAIL, f"the {where} gave no rows", 0.0, limits.min)
    return _between("rows", float(n), limits, f"{n:,} rows", n, "{:,.0f}")


def _between(check: str, figure: float, limits: Between, words: str, n: int, form: str) -> Verdict:
    if limits.min is not None and figure < limits.min:
        sentence = f"{words}, expected at least {form.format(limits.min)}"
        return Verdict(check, Outcome.FAIL, sentence, figure, limits.min, n=n)
    if limits.max is not None and figure > limits.max:
        sentence = f"{words}, expected at most {form.format(limits.max)}"
        return Verdict(check, Outcome.FAIL, sentence, figure, limits.max, n=n)
    return Verdict(check, Outcome.PASS, words, figure, limits.min, n=n)


def _key(raw: pl.DataFrame, spec: DataSpec) -> Verdict:
    keys = raw[spec.key]
    if keys.null_count():
        sentence = f"{keys.null_count():,} of {raw.height:,} rows have no key {spec.key!r}"
        return Verdict("key", Outcome.FAIL, sentence, float(keys.null_count()), 0.0, n=raw.height)
    extra = raw.height - keys.n_unique()
    if extra and spec.expect.duplicates == "forbid":
        sentence = f"key {spec.key}: {schema.repeated(keys)}"
        return Verdict("key", Outcome.FAIL, sentence, float(extra), 0.0, n=raw.height)
    return _seen("key", f"key {spec.key}: {extra:,} repeated", raw.height)


def _time(
    raw: pl.DataFrame, table: pl.DataFrame, spec: DataSpec, as_of: datetime | None
) -> Verdict:
    wrong = []
    for name, rows in (("source", raw), ("transform", table)):
        times = rows[spec.time]
        if times.null_count():
            wrong.append(f"{times.null_count():,} rows of the {name} have no time")
        elif not times.is_sorted():
            row = int((times.diff().dt.total_microseconds() < 0).arg_true()[0])
            wrong.append(
                f"the {name}'s rows are not in time order (row {row + 1:,} at {times[row]!s} is "
                f"earlier than the one before)"
            )
        if as_of is not None and (late := int((times >= as_of).sum())):
            wrong.append(f"{late:,} rows of the {name} are in the future (last {times.max()!s})")
    if wrong:
        return Verdict("time", Outcome.FAIL, "; ".join(wrong), n=raw.height)
    return _seen(
        "time", f"rows from {raw[spec.time].min()!s} to {raw[spec.time].max()!s}", raw.height
    )


def _label(table: pl.DataFrame, spec: DataSpec) -> list[Verdict]:
    name = spec.label.column
    values = table[name]
    known = values.drop_nulls()
    if known.is_empty():
        sentence = f"none of {table.height:,} rows has a label {name!r}: is it known and matured?"
        return [Verdict("label", Outcome.FAIL, sentence, 0.0)]
    if not (known.dtype.is_numeric() or known.dtype == pl.Boolean):
        return [Verdict("label", Outcome.FAIL, f"label {name!r} is {known.dtype}, not 0 or 1")]
    other = known.filter(~known.cast(pl.Float64).is_in([0.0, 1.0]))
    if len(other):
        sentence = f"{len(other):,} labels are not 0 or 1 (such as {other[0]!r})"
        return [Verdict("label", Outcome.FAIL, sentence, float(len(other)), 0.0, n=len(known))]
    share = float(known.cast(pl.Float64).sum()) / len(known)
    if share in (0.0, 1.0):
        sentence = f"all {len(known):,} known labels are {int(share)}: one class only"
        return [Verdict("classes", Outcome.FAIL, sentence, share, n=len(known))]
    limits = spec.expect.positives or Between()
    words = f"{share:.3%} of {len(known):,} known labels are positive"
    return [_between("classes", share, limits, words, len(known), "{:.3%}")]


def _features(table: pl.DataFrame, features: Sequence[str], there: Sequence[str]) -> list[Verdict]:
    parts = []
    lost = [f for f in features if f not in there]
    if lost or not features:
        sentence = f"features that are not there: {listed(lost)}" if lost else "no features"
        parts.append(Verdict("features", Outcome.FAIL, sentence))
    others = [f for f in there if not usable(table.schema[f])]
    if others:
        told = listed(f"{f} ({table.schema[f]})" for f in others)
        sentence = f"features that are neither numbers, truth values nor text: {told}"
        parts.append(Verdict("features", Outcome.FAIL, sentence))
    floats = [f for f in there if table.schema[f].is_float()]
    counts = {f: int((~table[f].is_finite()).sum()) for f in floats}
    bad = {f: n for f, n in counts.items() if n}
    if bad:
        told = listed(f"{f} ({n:,} of {table.height:,} rows)" for f, n in bad.items())
        sentence = f"NaN or infinite values in {told}: null them or fill them"
        parts.append(
            Verdict("finite", Outcome.FAIL, sentence, float(len(bad)), 0.0, n=table.height)
        )
    elif there:
        parts.append(_seen("finite", f"{len(there)} features are finite", table.height))
    constant = [f for f in there if table.height > 1 and _constant(table[f])]
    if constant:
        sentence = f"constant, so of no use to the model: {listed(constant)}"
        parts.append(Verdict("constant", Outcome.INCONCLUSIVE, sentence, n=table.height))
    return parts


def _constant(values: pl.Series) -> bool:
    return bool(values.eq_missing(values[0]).all())


def _seen(check: str, sentence: str, n: int) -> Verdict:
    """PASS on some rows; nothing seen is never a pass."""
    return Verdict(check, Outcome.PASS if n else Outcome.INCONCLUSIVE, sentence, n=n)
