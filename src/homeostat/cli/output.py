"""What commands share: the global settings, printing, colours only on a terminal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homeostat.core.errors import BadDefinition, HomeostatError

if TYPE_CHECKING:
    from homeostat.control.books import Books
    from homeostat.control.platform import Platform

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document instead.")]

_COLOURS = {"green": "32", "red": "31", "yellow": "33", "dim": "2", "bold": "1"}


class Settings:
    """The options of the whole command. project: the folder that was named, if one was."""

    def __init__(self, project: Path | None, debug: bool) -> None:
        self.project, self.debug = project, debug

    def root(self) -> Path:
        """The project's folder. Raises BadInput when there is none."""
        if self.project is not None:
            return self.project.resolve()
        from homeostat.definition import find_root

        return find_root(Path.cwd())

    def books(self) -> Books:
        """What is on record. Raises BadDefinition, BadInput, Unavailable."""
        from homeostat.app import open_books

        return open_books(self.root())

    def platform(self) -> Platform:
        """The opened project. Raises BadDefinition, BadInput, Unavailable."""
        from homeostat.app import open_project

        return open_project(self.root())


def settings(context: typer.Context) -> Settings:
    found = context.obj
    assert isinstance(found, Settings)
    return found


def say(text: str = "") -> None:
    """A line for a person, on stdout."""
    print(text)


def document(value: Any) -> None:
    """One JSON document on stdout; easy to read where a person looks."""
    import msgspec

    encoded = msgspec.json.encode(value, enc_hook=str)
    if sys.stdout.isatty():
        encoded = msgspec.json.format(encoded, indent=2)
    print(encoded.decode())


def error_document(error: HomeostatError) -> dict[str, Any]:
    """An error for machines: the line, and every mistake of a definition in its parts."""

    def parts(one: HomeostatError) -> dict[str, Any]:
        return {
            "path": one.path,
            "line": getattr(one, "at", None),
            "what": one.what,
            "expected": one.expected,
            "found": one.found,
            "remedy": one.remedy,
        }

    mistakes = [parts(m) for m in error.mistakes] if isinstance(error, BadDefinition) else []
    return {"ok": False, "error": error.line(), "mistakes": mistakes or [parts(error)]}


def coloured(text: str, colour: str) -> str:
    """The text in a colour, where stdout is a terminal that wants one (NO_COLOR is heeded)."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


EVERY = 10.0
"""Seconds between lines that nobody watches: a log shows that work goes on, and is not flooded."""


def progress(*, piped: bool = False) -> Callable[[str], None]:
    """Tells what long work is doing: on stderr, where that is a terminal. piped: elsewhere too,
    for work of minutes: a line every EVERY seconds, none of what is done sooner."""
    watched = sys.stderr.isatty()
    if not watched and not piped:
        return lambda text: None
    last = time.monotonic()

    def tell(text: str) -> None:
        nonlocal last
        if watched or time.monotonic() - last >= EVERY:
            last = time.monotonic()
            print(f"  {text}", file=sys.stderr, flush=True)

    return tell
