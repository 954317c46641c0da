"""Every key of homeostat.yaml as Markdown, from the schema (docs/reference/definition.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from homeostat.core.duration import PATTERN
from homeostat.definition.schema import schema

SECTIONS = (
    "data",
    "training",
    "gates",
    "serving",
    "rollout",
    "monitoring",
    "retraining",
)


def tables() -> str:
    """A table for the whole and one for each section; parts of a section follow it."""
    made = schema()
    return "\n".join(_all(made)).rstrip() + "\n"


def _all(made: dict[str, Any]) -> Iterator[str]:
    yield from _section("The sections", made, made)
    seen: set[str] = set()
    for name in SECTIONS:
        title = _target(made["properties"][name], made)
        yield from _nested(name, title or "", made, seen)


def _nested(path: str, title: str, made: dict[str, Any], seen: set[str]) -> Iterator[str]:
    """A section, then the sections within it."""
    if title in seen:
        return
    if title != "Between":  # small, and the same wherever it stands
        seen.add(title)
    body = made["$defs"][title]
    yield from _section(f"`{path}`", body, made)
    for field, rule in body["properties"].items():
        inner = _target(rule, made)
        if inner and not _inline(made["$defs"][inner]):
            here = "METRIC" if inner == "Bound" else field
            yield from _nested(f"{path}.{here}", inner, made, seen)
        inside = rule.get("additionalProperties") or rule.get("items") or {}
        inner = _target(inside, made) if isinstance(inside, dict) else None
        if inner:
            mark = "[]" if "items" in rule else ".NAME"
            yield from _nested(f"{path}.{field}{mark}", inner, made, seen)


def _section(title: str, body: dict[str, Any], made: dict[str, Any]) -> Iterator[str]:
    yield f"## {title}"
    yield ""
    if body.get("description") and not title.startswith("The "):
        yield _escaped(str(body["description"]))
        yield ""
    yield "| key | value | default | |"
    yield "| --- | --- | --- | --- |"
    for field, rule in body["properties"].items():
        required = field in body.get("required", [])
        default = "**needed**" if required else _default(rule)
        kind = _kind(rule, made)
        yield f"| `{field}` | {kind} | {default} | {_escaped(rule.get('description', ''))} |"
    yield ""


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _inline(body: dict[str, Any]) -> bool:
    """Whether a part is nothing but `min` and `max`: then its value says it all."""
    return set(body["properties"]) == {"min", "max"}


def _target(rule: dict[str, Any], made: dict[str, Any]) -> str | None:
    """The definition that a rule points to, `null` beside it left out."""
    for one in (rule, *rule.get("anyOf", [])):
        if "$ref" in one:
            return str(one["$ref"]).rsplit("/", 1)[-1]
    return None


def _kind(rule: dict[str, Any], made: dict[str, Any]) -> str:
    if "anyOf" in rule:
        kinds = [_kind(r, made) for r in rule["anyOf"] if r.get("type") != "null"]
        return " or ".join(kinds)
    if "$ref" in rule:
        name = str(_target(rule, made))
        body = made["$defs"][name]
        inline = _inline(body) or name == "Bound"
        return f"`{{{', '.join(body['properties'])}}}`" if inline else "section"
    if "enum" in rule:
        return ", ".join(f"`{w}`" for w in rule["enum"])
    match rule.get("type"):
        case "array" if "prefixItems" in rule:
            return f"list of {len(rule['prefixItems'])} numbers"
        case "array":
            return f"list of {_kind(rule['items'], made)}"
        case "object":
            return "by name"
        case "string":
            return _text(rule.get("pattern", ""))
        case "integer" | "number" as kind:
            return ("whole number" if kind == "integer" else "number") + _range(rule)
        case "boolean":
            return "`true`, `false`"
        case _:
            return "anything"


def _text(pattern: str) -> str:
    if pattern == PATTERN:
        return "duration"
    if pattern.startswith("^(hourly|"):
        return "`hourly`, `daily`, `weekly`, `monthly` or duration"
    return "`module:function`" if ":" in pattern else "text"


def _range(rule: dict[str, Any]) -> str:
    signs = (
        ("minimum", "≥"),
        ("exclusiveMinimum", ">"),
        ("maximum", "≤"),
        ("exclusiveMaximum", "<"),
    )
    bounds = [f"{sign} {rule[key]:g}" for key, sign in signs if key in rule]
    return " " + ", ".join(bounds) if bounds else ""


def _default(rule: dict[str, Any]) -> str:
    if "default" not in rule or rule["default"] is None or isinstance(rule["default"], dict):
        return ""
    value = rule["default"]
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list | tuple):
        return f"`[{', '.join(str(v) for v in value)}]`" if value else ""
    return f"`{value}`" if value != "" else ""
