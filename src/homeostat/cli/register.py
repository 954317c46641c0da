"""register: a model that was made elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from homeostat.cli.output import JsonFlag, document, say, settings
from homeostat.cli.person import By, person


def add_to(app: typer.Typer) -> None:
    app.command("register")(register)


def register(
    context: typer.Context,
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="NAME.onnx, NAME.skops or a folder of MLflow.")
    ],
    test: Annotated[
        str,
        typer.Option("--test", metavar="FILE", help="Rows with its inputs and the label."),
    ],
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="NAME[:TYPE]", help="Where the model does not name them."),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", metavar="NAME", help="The one with the scores.")
    ] = None,
    results: Annotated[
        list[str] | None,
        typer.Option("--result", metavar="NAME[:TYPE]", help="An output to answer with, too."),
    ] = None,
    digest: Annotated[
        str | None, typer.Option("--digest", metavar="sha256:HEX", help="What the file must have.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            metavar="SCORE",
            min=0,
            max=1,
            help="Alert from (default: training.threshold).",
        ),
    ] = None,
    by: By = None,
    json: JsonFlag = False,
) -> None:
    """Make a version of a model file. It is checked, and held against the gates first."""
    from homeostat.cli import render
    from homeostat.control import registration

    given = registration.Given(tuple(inputs or ()), output, tuple(results or ()), digest, threshold)
    platform = settings(context).platform()
    found = registration.register(platform, model, test, given, by or person())
    document(found) if json else say(render.registered(found))
