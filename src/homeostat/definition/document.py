"""homeostat.yaml as a value, with the line on which every part of it stands.

YAML 1.2's core rules for plain words: only `true` and `false` are booleans (so that the key `on`
stays a word), `1e-3` is a number, and dates stay text.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import msgspec
import yaml

from homeostat.core.errors import BadDefinition, BadInput
from homeostat.definition.mistakes import Mistake, Where

FILE = "homeostat.yaml"
MAX_NODES = 100_000


class Document(msgspec.Struct, frozen=True):
    """value: dicts, lists and scalars. lines: path -> line (from 1). mistakes: of the YAML."""

    value: Any
    lines: dict[Where, int]
    mistakes: list[Mistake]

    def line(self, where: Where) -> int | None:
        """The line of a path, or of the nearest part around it that exists."""
        while where not in self.lines and where:
            where = where[:-1]
        return self.lines.get(where)


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2's core schema."""


_Loader.yaml_implicit_resolvers = {}
for tag, pattern, first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("int", r"^[-+]?[0-9][0-9_]*$", "-+0123456789"),
    (
        "float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+.0123456789",
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), list(first))
# PyYAML reads 010 as eight
_Loader.add_constructor(
    "tag:yaml.org,2002:int", lambda loader, node: int(str(node.value).replace("_", ""))
)


def find_root(start: Path) -> Path:
    """The nearest folder upwards with a homeostat.yaml. Raises BadInput."""
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / FILE).is_file():
            return folder
    raise BadInput(
        f"no {FILE} here or in any folder above",
        path=str(start),
        remedy="go to a project, name one with -C DIR, or make one: homeostat init DIR",
    )


def read(path: Path) -> Document:
    """Read a definition. Raises BadInput when there is none, BadDefinition when it is no YAML."""
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(
            f"there is no {FILE} in {path.parent}",
            remedy="run `homeostat init DIR`, or name the project's folder with -C DIR",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"{path} cannot be read: {error}", remedy="it has to be a readable text file in UTF-8"
        ) from None
    return parse(text)


def parse(text: str) -> Document:
    """Parse YAML text. Raises BadDefinition when it is not YAML at all."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.YAMLError as error:
        raise BadDefinition([_not_yaml(error)]) from None
    except RecursionError:
        raise BadDefinition([Mistake((), "the YAML is nested too deeply", line=1)]) from None
    if node is None:
        empty = Mistake((), "the file is empty", line=1, remedy="see `homeostat init` for a start")
        raise BadDefinition([empty])
    walk = _Walk(loader)
    value = walk.value(node, ())
    return Document(value, walk.lines, walk.mistakes)


def _not_yaml(error: yaml.YAMLError) -> Mistake:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line = mark.line + 1 if mark else None
    problem = str(getattr(error, "problem", None) or error)
    if "\\t" in problem:
        return Mistake((), "a tab where YAML wants spaces", line=line, remedy="use two spaces")
    remedies = {
        "mapping values are not allowed": "indent it with spaces, or quote text that holds `: `",
        "expected the node content": "a value is missing, or text that starts so needs quotes",
        "could not find expected ':'": "write `key: value`; there is a space after the colon",
        "expected <block end>": "it is indented otherwise than the lines it belongs to",
        "expected ',' or": "a bracket or brace is not closed, or a comma is missing",
        "but found another document": "keep one definition in the file, without a second `---`",
        "found undefined alias": "declare the &anchor before its *alias, or quote the text",
        "while scanning a quoted": "close the quotation mark",
        "found unexpected end of stream": "close the quotation mark or bracket",
    }
    remedy = next((r for sign, r in remedies.items() if sign in f"{problem} {error}"), None)
    return Mistake(
        (), f"not valid YAML: {problem}", line=line, remedy=remedy or "correct this line"
    )


class _Walk:
    """Builds the value and notes lines, repeated keys and keys that are not text."""

    def __init__(self, loader: _Loader) -> None:
        self.loader = loader
        self.lines: dict[Where, int] = {}
        self.mistakes: list[Mistake] = []
        self._open: set[int] = set()
        self._nodes = 0

    def value(self, node: yaml.Node, where: Where) -> Any:
        self.lines.setdefault(where, node.start_mark.line + 1)
        self._nodes += 1
        if self._nodes > MAX_NODES or id(node) in self._open:
            self._mistake(where, node, "an alias that holds itself, or far too many of them")
            raise BadDefinition(list(self.mistakes))
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, where)
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*where, i)) for i, item in enumerate(node.value)]
            return self._scalar(node, where)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, where: Where) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._mistake(where, key_node, "a key has to be a word", remedy="quote it")
                continue
            key = str(key_node.value)
            here = (*where, key)
            if not key_node.tag.endswith(":str"):
                self._mistake(here, key_node, f"the key {key} is not text", remedy=f'write "{key}"')
            if key in found:
                self._mistake(
                    here,
                    key_node,
                    f"{key} is given twice (first on line {self.lines[here]})",
                    remedy="keep one of them",
                )
                continue
            self.lines[here] = key_node.start_mark.line + 1
            found[key] = self.value(value_node, here)
        return found

    def _scalar(self, node: yaml.Node, where: Where) -> Any:
        try:
            value = self.loader.construct_object(node)
        except (yaml.YAMLError, ValueError):
            self._mistake(where, node, f"the tag {node.tag} cannot be used", remedy="remove it")
            return None
        if isinstance(value, float) and not math.isfinite(value):
            self._mistake(where, node, "not a finite number", found=str(node.value))
            return 0.0
        return value

    def _mistake(
        self,
        where: Where,
        node: yaml.Node,
        what: str,
        *,
        found: str | None = None,
        remedy: str | None = None,
    ) -> None:
        line = node.start_mark.line + 1
        self.mistakes.append(Mistake(where, what, line=line, found=found, remedy=remedy))
