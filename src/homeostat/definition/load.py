"""From the file to the project: every mistake at once."""

from __future__ import annotations

import contextlib
import copy
import glob
import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from homeostat.core.errors import BadDefinition, BadInput, HomeostatError
from homeostat.data.spec import DataSpec
from homeostat.definition.document import FILE, Document, read
from homeostat.definition.functions import check_arguments, load_function
from homeostat.definition.mistakes import Mistake, Where, did_you_mean, path_text
from homeostat.definition.project import Project
from homeostat.definition.rules_data import is_remote


class Report(msgspec.Struct, frozen=True):
    """What `check` found. project: None when there are mistakes."""

    project: Project | None
    mistakes: list[Mistake]
    warnings: list[Mistake]


def load(root: Path) -> Project:
    """Read root/homeostat.yaml. Raises BadInput when there is none, BadDefinition with every
    mistake otherwise. Imports nothing of the user's."""
    found = _read(root)
    if found.mistakes or found.project is None:
        raise BadDefinition(list(found.mistakes))
    return found.project


def check(root: Path, more: Callable[[Project], Iterator[Mistake]] = lambda _: iter(())) -> Report:
    """What `load` finds, and whether the source exists and the named functions import and take
    the arguments they will be given. more: what else has to hold, which only a backend knows.
    Raises BadInput when there is no definition."""
    try:
        found = _read(root)
    except BadDefinition as error:
        return Report(None, [m for m in error.mistakes if isinstance(m, Mistake)], [])
    mistakes = list(found.mistakes)
    if found.project is not None:
        beyond = [*_surroundings(found.project, root), *more(found.project)]
        around = _unrelated(beyond, found.mistakes)
        mistakes += [m.on_line(found.document.line(m.where)) for m in around]
    return Report(None if mistakes else found.project, _in_order(mistakes), found.warnings)


def definition_digest(project: Project) -> str:
    """`sha256:...` of what the definition says (not of how it is written)."""
    body = msgspec.json.encode(project, enc_hook=str, order="deterministic")
    return "sha256:" + hashlib.sha256(body).hexdigest()


class _Found(msgspec.Struct, frozen=True):
    """project: with stand-ins for its wrong parts; None when not even that can be made."""

    document: Document
    project: Project | None
    mistakes: list[Mistake]
    warnings: list[Mistake]


def _read(root: Path) -> _Found:
    # the schema machinery is heavy; a process that only predicts does not need it
    from homeostat.definition.rules import cross_check, warnings
    from homeostat.definition.violations import violations

    document = read(root / FILE)
    mistakes = list(document.mistakes)
    told = {m.where for m in mistakes}
    mistakes += [m for m in violations(document.value) if m.where not in told]
    project, wrong = _convert(document.value, mistakes)
    if wrong is not None:
        mistakes.append(wrong)
    doubtful: list[Mistake] = []
    if project is not None:
        given = set(document.lines)
        rules = _unrelated(cross_check(project, given), mistakes)
        doubtful = _unrelated(warnings(project, given), mistakes)
        mistakes += rules
    return _Found(document, project, _located(mistakes, document), _located(doubtful, document))


def _located(mistakes: list[Mistake], document: Document) -> list[Mistake]:
    return _in_order([m if m.at else m.on_line(document.line(m.where)) for m in mistakes])


def _unrelated(found: Iterable[Mistake], wrong: Collection[Mistake]) -> list[Mistake]:
    """Those that do not rest on a part which is wrong itself."""
    return [
        m
        for m in found
        if not any(_related(w.where, about) for w in wrong for about in (m.where, *m.touches))
    ]


def _related(a: Where, b: Where) -> bool:
    n = min(len(a), len(b))
    return n > 0 and a[:n] == b[:n]


_STAND_INS: dict[str, Any] = {
    "name": "stand-in",
    "data": {
        "source": "stand-in",
        "time": "stand-in for time",
        "key": "stand-in for key",
        "label": {"column": "stand-in for label", "matures_after": "0s"},
    },
    "training": {
        "fit": "stand_in:fit",
        "split": {"train": "1d", "gap": "0s", "test": "1d"},
    },
}


def _convert(value: Any, mistakes: list[Mistake]) -> tuple[Project | None, Mistake | None]:
    """The project; where parts are wrong, they are left out, so that the rest can be checked."""
    if not isinstance(value, dict):
        return None, None
    if not mistakes:
        try:
            return msgspec.convert(value, Project, dec_hook=_decode), None
        except msgspec.ValidationError as error:
            # the schema let it through: say what msgspec says rather than nothing
            what, _, path = str(error).partition(" - at `")
            return None, Mistake((), f"{path.rstrip('`') or '$'}: {what}")
    # a part whose own part is required and wrong has to go as a whole
    for outer in (0, 1, 2):
        pruned = copy.deepcopy(value)
        for mistake in sorted(mistakes, key=lambda m: len(m.where), reverse=True):
            where = mistake.where
            _prune(pruned, where[: max(len(where) - outer, min(len(where), 2))])
        _fill(pruned, _STAND_INS)
        with contextlib.suppress(msgspec.ValidationError):
            return msgspec.convert(pruned, Project, dec_hook=_decode), None
    return None, None


def _fill(value: dict[str, Any], stand_ins: dict[str, Any]) -> None:
    for key, stand_in in stand_ins.items():
        if isinstance(stand_in, dict):
            if not isinstance(value.get(key), dict):
                value[key] = {}
            _fill(value[key], stand_in)
        else:
            value.setdefault(key, stand_in)


def _prune(value: Any, where: Where) -> None:
    """Remove one part; of a list, the whole list (what is left of it would say another thing)."""
    keys: list[str] = []
    for part in where:
        if isinstance(part, int):
            break
        keys.append(part)
    for key in keys[:-1]:
        value = value.get(key) if isinstance(value, dict) else None
    if keys and isinstance(value, dict):
        value.pop(keys[-1], None)


def _decode(kind: type[Any], value: Any) -> Any:
    try:
        return kind.parse(value)
    except (BadInput, OverflowError) as error:
        raise ValueError(f"{value!r} is not a duration that can be used: {error}") from None


def _surroundings(project: Project, root: Path) -> Iterator[Mistake]:
    """What lies around the definition: the source and the functions."""
    missing = list(_source(project.data.source, root))
    yield from missing or _columns(project.data, root)
    wanted: list[tuple[Where, str | None, tuple[str, ...]]] = [
        (("data", "transform"), project.data.transform, ("frame",)),
        (("training", "fit"), project.training.fit, ("train", "params")),
    ]
    for where, name, arguments in wanted:
        if name is None:
            continue
        try:
            check_arguments(load_function(name, root), name, arguments)
        except BadInput as error:
            yield Mistake.of(where, error)


def _source(source: str, root: Path) -> Iterator[Mistake]:
    if is_remote(source):
        return
    if glob.glob(source, root_dir=root, recursive=True):
        return
    folder = (root / source).parent
    beside = sorted(f.name for f in folder.iterdir()) if folder.is_dir() else []
    yield Mistake(
        ("data", "source"),
        f"there is no file {source}" if not glob.has_magic(source) else f"no file matches {source}",
        found=", ".join(beside[:5]) or f"no files in {folder}",
        remedy=did_you_mean(Path(source).name, beside)
        or "correct the path (it starts at the project's folder)",
    )


def _columns(data: DataSpec, root: Path) -> Iterator[Mistake]:
    """Whether the source's files can be read, and have the columns that every row needs."""
    from homeostat.data import files

    if is_remote(data.source):
        return
    try:
        found = files.columns(data.source, root)
    except HomeostatError as error:
        where = ("data", "source")
        yield Mistake(
            where, error.what, expected=error.expected, found=error.found, remedy=error.remedy
        )
        return
    for key, name in (("time", data.time), ("key", data.key)):
        if name not in found:
            yield Mistake(
                ("data", key),
                f"{data.source} has no column {name!r}",
                found=", ".join(found[:20]),
                remedy=did_you_mean(name, found),
            )


def _in_order(mistakes: list[Mistake]) -> list[Mistake]:
    unique = {(path_text(m.where), m.what): m for m in mistakes}
    return sorted(unique.values(), key=lambda m: (m.at or 0, path_text(m.where)))
