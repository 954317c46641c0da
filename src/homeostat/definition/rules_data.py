"""Cross-checks within the `data:` section."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from homeostat.data.spec import Between, DataSpec
from homeostat.definition.mistakes import Mistake, Where
from homeostat.definition.project import Project

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_FILES = ("s3", "s3a", "gs", "az", "abfs", "abfss", "http", "https", "file")


def is_sql(source: str) -> bool:
    """Whether a source is a database's URL and not a file, a glob or an object store."""
    scheme = _SCHEME.match(source)
    return scheme is not None and scheme.group(1).lower() not in _FILES


def is_remote(source: str) -> bool:
    """Whether a source is no file of this machine."""
    scheme = _SCHEME.match(source)
    return scheme is not None and scheme.group(1).lower() != "file"


def data_rules(project: Project, given: Collection[Where]) -> Iterator[Mistake]:
    spec = project.data
    yield from _source(spec)
    yield from _columns(spec)
    yield from _features(spec)
    yield from _expect(spec)


def _source(spec: DataSpec) -> Iterator[Mistake]:
    if not spec.source.strip():
        yield Mistake(("data", "source"), "empty", expected="a file, a glob or a URL")
    elif is_sql(spec.source) and spec.query is None:
        yield Mistake(
            ("data", "source"),
            "a database needs a query",
            remedy="add `query: SELECT ...` to `data`",
            touches=(("data", "query"),),
        )
    elif spec.query is not None and not is_sql(spec.source):
        yield Mistake(
            ("data", "query"),
            "only a database answers a query",
            expected="a source such as postgresql://user@host/database",
            found=repr(spec.source),
            remedy="remove `query`, or correct `source`",
            touches=(("data", "source"),),
        )


def _columns(spec: DataSpec) -> Iterator[Mistake]:
    roles: list[tuple[Where, str, str]] = [
        (("data", "time"), "time", spec.time),
        (("data", "key"), "key", spec.key),
        (("data", "label", "column"), "label", spec.label.column),
    ]
    seen: dict[str, str] = {}
    for where, role, column in roles:
        if not column:
            yield Mistake(where, "empty", expected="the name of a column")
        elif column in seen:
            yield Mistake(
                where,
                f"`{column}` cannot be the {seen[column]} and the {role}",
                remedy="name two columns",
            )
        seen.setdefault(column, role)


def _features(spec: DataSpec) -> Iterator[Mistake]:
    if spec.features is None:
        return
    where: Where = ("data", "features")
    if not spec.features:
        yield Mistake(
            where, "empty", expected="at least one column", remedy="leave it out to have all"
        )
    roles = {spec.label.column: "label", spec.key: "key", spec.time: "time"}
    for i, feature in enumerate(spec.features):
        if feature in roles:
            yield Mistake(
                (*where, i),
                f"`{feature}` is the {roles[feature]}, not something that a model may see",
                remedy="take it out",
            )
        if feature in spec.features[:i]:
            yield Mistake((*where, i), f"`{feature}` is listed twice", remedy="keep one of them")


def _expect(spec: DataSpec) -> Iterator[Mistake]:
    expect, where = spec.expect, ("data", "expect")
    yield from _between((*where, "rows"), expect.rows, 0, float("inf"))
    if expect.positives is not None:
        yield from _between((*where, "positives"), expect.positives, 0, 1)
    for name, column in expect.columns.items():
        here = (*where, "columns", name)
        yield from _between(here, Between(column.min, column.max), float("-inf"), float("inf"))
        if column.values is not None and not column.values:
            yield Mistake((*here, "in"), "empty", expected="the categories that may occur")
        ranged = column.min is not None or column.max is not None
        if ranged and (column.values is not None or column.type in ("string", "bool")):
            yield Mistake(
                here,
                "`min` and `max` are for numbers",
                found="`in`" if column.values is not None else f"type {column.type}",
                remedy="keep one of them",
            )


def _between(where: Where, bounds: Between, low: float, high: float) -> Iterator[Mistake]:
    if bounds.min is not None and bounds.max is not None and bounds.min > bounds.max:
        yield Mistake(
            where, "`min` is above `max`", found=f"min {bounds.min:g}, max {bounds.max:g}"
        )
    for key, bound in (("min", bounds.min), ("max", bounds.max)):
        if bound is not None and not low <= bound <= high:
            upper = "" if high == float("inf") else f" to {high:g}"
            yield Mistake(
                (*where, key),
                "out of range",
                expected=f"{low:g}{upper}" if upper else f"at least {low:g}",
                found=f"{bound:g}",
            )
