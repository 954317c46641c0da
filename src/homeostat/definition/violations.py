"""What JSON Schema finds, said in sentences that a person can act on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, cast

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from homeostat.core.duration import PATTERN
from homeostat.definition.mistakes import Mistake, Where, did_you_mean, one_of
from homeostat.definition.schema import schema

_TYPES = {
    "object": "a section (keys and values)",
    "array": "a list",
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "null": "nothing",
}
_DURATION = "a duration such as 10m, 6h or 7d"
_FUNCTION = "`module:function`, such as `fraud:features`"


def violations(value: Any) -> list[Mistake]:
    """Every place where the value departs from the published schema."""
    found: list[Mistake] = []
    for error in _validator().iter_errors(value):
        found.extend(_mistakes(error, _published()))
    return found


@cache
def _published() -> dict[str, Any]:
    return schema()


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(_published())


def _rule(error: ValidationError) -> dict[str, Any]:
    """The part of the schema that was violated (a mapping: our schema holds no bare booleans)."""
    return dict(cast("dict[str, Any]", error.schema))


def _mistakes(error: ValidationError, published: dict[str, Any]) -> Iterator[Mistake]:
    where: Where = tuple(error.absolute_path)
    match error.validator:
        case "additionalProperties":
            yield from _unknown_keys(error, where)
        case "required":
            yield from _missing_keys(error, where)
        case "anyOf":
            yield from _alternatives(error, where, published)
        case _:
            yield _wrong_value(error, where)


def _unknown_keys(error: ValidationError, where: Where) -> Iterator[Mistake]:
    section: dict[str, Any] = cast("dict[str, Any]", error.instance)
    known = list(_rule(error)["properties"])
    for key in section:
        if key not in known:
            free = [k for k in known if k not in section]
            yield Mistake(
                (*where, key),
                f"unknown key `{key}`",
                expected=one_of(known),
                remedy=did_you_mean(key, free) or "remove it",
            )


def _missing_keys(error: ValidationError, where: Where) -> Iterator[Mistake]:
    section: dict[str, Any] = cast("dict[str, Any]", error.instance)
    for key in cast("list[str]", error.validator_value):
        if key in section:
            continue
        rule = _rule(error)["properties"][key]
        described = rule.get("description", "")
        # jsonschema tells the same absence once per key, as one error each
        if f"'{key}'" in error.message:
            remedy = f"add `{key}:` ({_lower(described)})" if described else f"add `{key}:`"
            yield Mistake((*where, key), "missing", remedy=remedy)


def _alternatives(
    error: ValidationError, where: Where, published: dict[str, Any]
) -> Iterator[Mistake]:
    """Of `anyOf`: the alternative of the value's own kind is the one that was meant."""
    context = list(error.context or [])
    branches = [_resolve(b, published) for b in cast("list[dict[str, Any]]", error.validator_value)]
    real = [(i, b) for i, b in enumerate(branches) if b.get("type") != "null"]
    fits = [i for i, branch in real if _same_kind(error.instance, branch)]
    if len(real) == 1:
        fits = [real[0][0]]
    if len(fits) == 1:
        for inner in context:
            if inner.schema_path[0] == fits[0]:
                yield from _mistakes(inner, published)
        return
    words = [str(w) for _, b in real for w in b.get("enum", [])]
    yield Mistake(
        where,
        "not a value that can stand here",
        expected=" or ".join(_expected(b) for _, b in real),
        found=_show(error.instance),
        remedy=did_you_mean(error.instance, words) if isinstance(error.instance, str) else None,
    )


def _resolve(branch: dict[str, Any], published: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in branch:
        resolved: dict[str, Any] = published["$defs"][branch["$ref"].rsplit("/", 1)[-1]]
        return resolved
    return branch


def _same_kind(value: Any, branch: dict[str, Any]) -> bool:
    kind = branch.get("type") or ("string" if "enum" in branch else None)
    if isinstance(value, bool):
        return bool(kind == "boolean")
    for python, name in ((dict, "object"), (list, "array"), (str, "string")):
        if isinstance(value, python):
            return bool(kind == name)
    return kind in ("number", "integer")


def _wrong_value(error: ValidationError, where: Where) -> Mistake:
    value: Any = error.instance
    rule = _rule(error)
    words = [str(w) for w in rule.get("enum", [])]
    if error.validator in ("minItems", "minLength"):
        return Mistake(where, "empty", expected="at least one")
    if error.validator == "maxLength":
        return Mistake(
            where, f"longer than {rule['maxLength']} characters", found=f"{len(value)} characters"
        )
    if isinstance(value, str) and words:
        return Mistake(
            where,
            f"`{value}` is not known here",
            expected=one_of(words),
            remedy=did_you_mean(value, words),
        )
    return Mistake(
        where,
        _WHAT.get(str(error.validator), "cannot be used"),
        expected=_expected(rule),
        found=_show(value),
        remedy=_remedy(value, rule),
    )


_WHAT = {
    "type": "the wrong kind of value",
    "pattern": "not written as it has to be",
    "minimum": "too small",
    "exclusiveMinimum": "too small",
    "maximum": "too large",
    "exclusiveMaximum": "too large",
}


def _expected(rule: dict[str, Any]) -> str:
    """What a rule wants, in words."""
    if "enum" in rule:
        return one_of(str(w) for w in rule["enum"])
    pattern = rule.get("pattern", "")
    if pattern == PATTERN:
        return _DURATION
    if pattern.startswith("^(hourly|"):
        return f"hourly, daily, weekly, monthly or {_DURATION}"
    if ":" in pattern:
        return _FUNCTION
    if pattern:
        return "lower-case letters, digits, `-`, `_` and `.`, as in `fraud-detector`"
    text = _TYPES.get(str(rule.get("type")), "another kind of value")
    bounds = [
        f"{word} {rule[key]:g}"
        for key, word in (
            ("minimum", "at least"),
            ("exclusiveMinimum", "more than"),
            ("maximum", "at most"),
            ("exclusiveMaximum", "less than"),
        )
        if key in rule
    ]
    return f"{text} {' and '.join(bounds)}" if bounds else text


def _remedy(value: Any, rule: dict[str, Any]) -> str | None:
    pattern = rule.get("pattern", "")
    if pattern == PATTERN and isinstance(value, int | float) and not isinstance(value, bool):
        return f"give it a unit: `{value:g}s`, `{value:g}m` or `{value:g}d`"
    if rule.get("type") == "array" and isinstance(value, str | int | float):
        return f"write a list: `[{value}]`"
    if rule.get("type") in ("number", "integer") and isinstance(value, str) and _is_number(value):
        return f"write {value} without quotes"
    if rule.get("type") == "string" and isinstance(value, int | float):
        return f'quote it: "{str(value).lower()}"'
    if ":" in pattern and isinstance(value, str) and "." in value and ":" not in value:
        return f"did you mean `{':'.join(value.rsplit('.', 1))}`?"
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _show(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a section (keys and values)" if value else "an empty section"
    if isinstance(value, list):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _lower(text: str) -> str:
    text = text.rstrip(".")
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
