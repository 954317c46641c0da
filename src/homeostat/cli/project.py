"""init, check, schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from homeostat.cli.output import JsonFlag, document, say, settings


def add_to(app: typer.Typer) -> None:
    app.command("init")(init)
    app.command("check")(check)
    app.command("schema")(schema)


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or an empty folder.")],
    json: JsonFlag = False,
) -> None:
    """Make a project that runs at once."""
    from homeostat.cli import render
    from homeostat.definition.example import scaffold

    files = scaffold(folder)
    if json:
        document({"folder": str(folder), "files": files})
    else:
        say(render.scaffolded(folder, files))


def check(context: typer.Context, json: JsonFlag = False) -> None:
    """Check the definition, the named functions and the source."""
    from homeostat.app import check as examine
    from homeostat.cli import render
    from homeostat.core.errors import BadDefinition

    report = examine(settings(context).root())
    if report.mistakes:
        if not json:
            for warning in report.warnings:
                say(render.warning(warning))
        raise BadDefinition(list(report.mistakes))
    if json:
        document({"ok": True, "mistakes": [], "warnings": [w.line() for w in report.warnings]})
    else:
        say(render.report(report))


def schema(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Every key as a table instead.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Print the JSON Schema of homeostat.yaml."""
    from json import dumps

    from homeostat.definition.reference import tables
    from homeostat.definition.schema import schema as published

    # a schema is a JSON document, so --json changes nothing
    say(tables().rstrip() if markdown and not json else dumps(published(), indent=2))
