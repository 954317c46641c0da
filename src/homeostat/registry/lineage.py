"""Where a version came from, and what was live when. Pure: versions and history in, tree out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec

from homeostat.core.errors import NotFound
from homeostat.core.verdict import Outcome
from homeostat.core.version import MADE_OF, Version

History = Sequence[tuple[datetime, str | None]]
"""When the champion changed, and to which version (None: nothing was served), in order."""

PARENT = "parent"
"""The tag that names the champion a version was compared with when it was made."""


class Period(msgspec.Struct, frozen=True, rename={"since": "from", "until": "to"}):
    """since <= live < until; until None: it still is."""

    since: datetime
    until: datetime | None


class Lineage(msgspec.Struct, frozen=True):
    """One version of the tree. origin: what it was made of (name -> value). changed: the names of
    origin whose value differs from the parent's. live: when it was champion. parent: the champion
    when it was made, with its own lineage. children: versions made while this was champion."""

    model: str
    version: str
    run: str
    created: datetime
    origin: dict[str, str]
    metrics: dict[str, float]
    params: dict[str, str]
    gates: Outcome | None
    live: tuple[Period, ...] = ()
    changed: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    parent: Lineage | None = None


def lineage(version: str, versions: Sequence[Version], history: History = ()) -> Lineage:
    """The tree of a version back to the first. Raises NotFound when `versions` lacks it; a parent
    that is no longer registered ends the tree."""
    known = {v.version: v for v in versions}
    if version not in known:
        raise NotFound(
            f"there is no version {version!r}",
            found=f"versions {', '.join(known)}" if known else "no versions at all",
            remedy=None if known else "homeostat run makes and registers one",
        )
    children: dict[str, list[str]] = {}
    for v in versions:
        children.setdefault(v.tags.get(PARENT, ""), []).append(v.version)
    ancestors = _ancestors(known[version], known)
    node: Lineage | None = None
    for v in reversed(ancestors):
        node = _node(v, node, periods(v.version, history), tuple(children.get(v.version, ())))
    assert node is not None
    return node


def _ancestors(version: Version, known: dict[str, Version]) -> list[Version]:
    """The version itself, its parent, and so on; a loop in the tags is cut."""
    found: list[Version] = []
    following: Version | None = version
    while following is not None and following not in found:
        found.append(following)
        following = known.get(following.tags.get(PARENT, ""))
    return found


def _node(
    v: Version, parent: Lineage | None, live: tuple[Period, ...], children: tuple[str, ...]
) -> Lineage:
    origin = {name: v.tags[tag] for name, tag in MADE_OF if tag in v.tags}
    before = parent.origin if parent is not None else origin
    return Lineage(
        model=v.model,
        version=v.version,
        run=v.run,
        created=v.created,
        origin=origin,
        metrics=v.metrics,
        params=v.params,
        gates=v.gates.outcome if v.gates is not None else None,
        live=live,
        changed=tuple(n for n in origin if before.get(n) != origin[n]),
        children=children,
        parent=parent,
    )


def live_at(at: datetime, history: History) -> str | None:
    """The version that was champion at an instant; None before the first and when none was."""
    live = None
    for since, version in history:
        if since > at:
            break
        live = version
    return live


def periods(version: str, history: History) -> tuple[Period, ...]:
    """When a version was champion; changes to itself do not end a period."""
    found: list[Period] = []
    since: datetime | None = None
    for at, champion in history:
        if champion == version and since is None:
            since = at
        elif champion != version and since is not None:
            found.append(Period(since, at))
            since = None
    if since is not None:
        found.append(Period(since, None))
    return tuple(found)


def text(tree: Lineage) -> str:
    """The tree as lines for a terminal, the version that was asked for first."""
    return "\n".join(_lines(tree))


def _lines(tree: Lineage) -> Iterator[str]:
    node: Lineage | None = tree
    indent = ""
    while node is not None:
        lead = f"{indent[:-3]}└─ " if indent else ""
        yield f"{lead}{node.model} version {node.version}, registered {node.created:%F %R} UTC"
        for name, value in _facts(node):
            mark = "*" if name in node.changed else " "
            yield f"{indent} {mark} {name:<15} {value}"
        node = node.parent
        indent += "   "
    if tree.changed or (tree.parent is not None and tree.parent.changed):
        yield "* differs from the version it was compared with"


def _facts(node: Lineage) -> Iterator[tuple[str, str]]:
    yield "run", node.run
    for name, value in node.origin.items():
        yield name, _short(value)
    if node.params:
        yield "parameters", ", ".join(f"{k}={v}" for k, v in sorted(node.params.items()))
    if node.metrics:
        yield "metrics", ", ".join(f"{k} {v:.4f}" for k, v in node.metrics.items())
    if node.gates is not None:
        yield "gates", node.gates.value
    for period in node.live:
        until = f"{period.until:%F %R}" if period.until is not None else "now"
        yield "live", f"{period.since:%F %R} to {until}"
    if node.children:
        yield "compared with", f"version {', '.join(node.children)} when made"


def _short(value: str) -> str:
    """Digests as people compare them: by their first characters."""
    algorithm, colon, digest = value.partition(":")
    if colon and algorithm.startswith("sha") and len(digest) > 16:
        return f"{algorithm}:{digest[:12]}"
    hexadecimal = len(value) in (40, 64) and all(c in "0123456789abcdef" for c in value)
    return value[:12] if hexadecimal else value
