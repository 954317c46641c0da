"""Types, nulls, ranges, categories and uniqueness of columns, checked by Pandera."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import polars as pl

from homeostat.core.verdict import Outcome, Verdict
from homeostat.data.names import listed, suggestion
from homeostat.data.spec import Column, DataSpec

_KINDS = {
    "int": "an integer",
    "float": "a decimal number",
    "string": "text",
    "bool": "true or false",
    "datetime": "a datetime",
}


def columns(raw: pl.DataFrame, table: pl.DataFrame, spec: DataSpec) -> list[Verdict]:
    """One verdict per column with a rule (or with nulls where none may be).

    A rule holds for the source's column of that name, else for the transform's. The label may be
    null where it is not known yet, so a general `nulls: forbid` leaves it out.
    """
    verdicts: list[Verdict] = []
    rules = dict(spec.expect.columns)
    if spec.expect.nulls == "forbid":
        for name in (*raw.columns, *table.columns):
            if name != spec.label.column and name not in rules:
                rules[name] = Column(nulls="forbid")
            elif name in rules and rules[name].nulls is None and name != spec.label.column:
                rules[name] = _without_nulls(rules[name])
    sources = {name: raw if name in raw.columns else table for name in rules}
    for name in [n for n in rules if n not in sources[n].columns]:
        near = suggestion(name, {**raw.schema, **table.schema})
        verdicts.append(
            Verdict(
                f"columns.{name}",
                Outcome.FAIL,
                f"column {name!r} is expected but is not there"
                + (f" ({near})" if near else f" (there are {listed(table.columns)})"),
            )
        )
    for name, rule in rules.items():
        if name in sources[name].columns:
            verdicts.append(_column(sources[name], name, rule))
            # the transform may have made nulls in what came complete
            if sources[name] is raw and name in table.columns and rule.nulls == "forbid":
                verdicts[-1] = _worse(verdicts[-1], _column(table, name, Column(nulls="forbid")))
    return verdicts


def _without_nulls(rule: Column) -> Column:
    return Column(rule.min, rule.max, rule.values, rule.type, "forbid", rule.unique)


def _worse(a: Verdict, b: Verdict) -> Verdict:
    return b if b.outcome.rank > a.outcome.rank else a


def _column(table: pl.DataFrame, name: str, rule: Column) -> Verdict:
    mistakes = list(_mistakes(table, name, rule))
    if table.is_empty():
        return Verdict(f"columns.{name}", Outcome.INCONCLUSIVE, f"{name}: no rows", n=0)
    if mistakes:
        return Verdict(
            f"columns.{name}", Outcome.FAIL, f"{name}: {'; '.join(mistakes)}", n=table.height
        )
    return Verdict(f"columns.{name}", Outcome.PASS, f"{name}: as expected", n=table.height)


def _mistakes(table: pl.DataFrame, name: str, rule: Column) -> Iterable[str]:
    """Sentences: what is wrong, in how many rows, an example and where it is."""
    import pandera.polars as pa
    from pandera.errors import SchemaErrorReason, SchemaErrors

    values = table[name]
    if rule.type is not None and not _is(values.dtype, rule.type):
        yield f"is {values.dtype}, expected {_KINDS[rule.type]}"
        return
    comparable = values.dtype.is_numeric() or (rule.min is None and rule.max is None)
    if not comparable:
        yield f"is {values.dtype}, which has no minimum or maximum"
        return
    checks = list(_checks(rule, values.dtype, pa.Check))
    told = {check.name: words for check, words in checks}  # Pandera copies the checks
    share = rule.nulls if isinstance(rule.nulls, float | int) else None
    nulls = values.null_count()
    if share is not None and table.height and nulls / table.height > share:
        yield f"{nulls / table.height:.2%} nulls, at most {share:.2%} allowed"
    schema = pa.DataFrameSchema(
        {
            name: pa.Column(
                None,
                [check for check, _ in checks],
                nullable=rule.nulls != "forbid",
                unique=rule.unique,
            )
        }
    )
    try:
        schema.validate(table.select(name), lazy=True)
    except SchemaErrors as errors:
        for error in errors.schema_errors:
            if error.reason_code is SchemaErrorReason.SERIES_CONTAINS_NULLS:
                first = int(values.is_null().arg_true()[0]) + 1
                yield f"{nulls:,} of {table.height:,} rows are null (first in row {first:,})"
            elif error.reason_code is SchemaErrorReason.SERIES_CONTAINS_DUPLICATES:
                yield repeated(values)
            else:
                yield _outside(values, error, told)


def _checks(rule: Column, kind: pl.DataType, check: Any) -> Iterator[tuple[Any, str]]:
    """Pandera's checks, with the words for a value that does not meet them."""
    if rule.min is not None:
        yield check.ge(rule.min), f"below {rule.min:g}"
    if rule.max is not None:
        yield check.le(rule.max), f"above {rule.max:g}"
    if rule.values is not None:
        words: list[Any] = list(rule.values)
        if not kind.is_numeric():
            words = [str(v) for v in words]
        else:
            words = [v for v in words if not isinstance(v, str)]
        yield check.isin(words), f"not one of {listed(rule.values)}"


def _outside(values: pl.Series, error: Any, told: dict[str, str]) -> str:
    words = told[error.check.name]
    cases = error.failure_cases
    if not isinstance(cases, pl.DataFrame) or cases.is_empty():
        return f"{words}: {str(error).splitlines()[0]}"  # Pandera could not run the check
    example = cases.to_series(0)[0]
    row = values.index_of(example)
    where = f" in row {row + 1:,}" if row is not None else ""
    return f"{cases.height:,} of {len(values):,} rows {words} (such as {example!r}{where})"


def repeated(values: pl.Series) -> str:
    """`3 of 10 rows repeat a value (such as 'a' in rows 1 and 4)`."""
    extra = len(values) - values.n_unique()
    example = values.filter(values.is_duplicated())[0]
    rows = values.eq_missing(example).arg_true() + 1
    where = " and ".join(f"{r:,}" for r in rows[:2])
    return f"{extra:,} of {len(values):,} rows repeat a value (such as {example!r} in rows {where})"


def _is(kind: pl.DataType, name: str) -> bool:
    match name:
        case "int":
            return kind.is_integer()
        case "float":
            return kind.is_float() or kind.is_decimal()
        case "bool":
            return kind == pl.Boolean
        case "datetime":
            return kind == pl.Date or isinstance(kind, pl.Datetime)
        case _:
            return kind in (pl.String, pl.Categorical) or isinstance(kind, pl.Enum)
