"""run and stage: the pipeline."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from homeostat.cli.output import JsonFlag, document, progress, say, settings
from homeostat.core.names import Stage

if TYPE_CHECKING:
    from homeostat.control.pipeline import PipelineResult

REFUSED = 1


def add_to(app: typer.Typer) -> None:
    app.command("run")(run)
    app.command("stage")(stage)


def run(
    context: typer.Context,
    first: Annotated[Stage | None, typer.Option("--from", help="Begin with this stage.")] = None,
    last: Annotated[Stage | None, typer.Option("--to", help="End with this stage.")] = None,
    run_id: Annotated[
        str | None, typer.Option("--run", metavar="ID", help="Continue this run.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Run the pipeline. Its stages: ingest, transform, validate, train, evaluate, register."""
    from homeostat.control import pipeline
    from homeostat.core.errors import BadInput

    if first not in (None, Stage.INGEST) and run_id is None:
        raise BadInput(
            f"--from {first} needs the run whose earlier stages it builds on",
            remedy="add --run ID (see `homeostat history`), or leave out --from",
        )
    platform = settings(context).platform()
    run_id = run_id or pipeline.begin(platform)
    try:
        result = pipeline.run(platform, run_id, first=first, last=last, progress=progress())
    except KeyboardInterrupt:
        told = f"stopped: what {run_id} has done is kept; go on with: homeostat run --run {run_id}"
        print(told, file=sys.stderr)
        raise
    _finish(result, as_json=json)


def stage(
    context: typer.Context,
    name: Annotated[Stage, typer.Argument(metavar="NAME", help=" | ".join(Stage))],
    run_id: Annotated[str, typer.Option("--run", metavar="ID", help="The run it belongs to.")],
    json: JsonFlag = False,
) -> None:
    """Do one stage of a run. Repeating it changes nothing."""
    from homeostat.control import pipeline

    platform = settings(context).platform()
    _finish(pipeline.stage(platform, name, run_id), as_json=json)


def _finish(result: PipelineResult, *, as_json: bool) -> None:
    from homeostat.cli import render
    from homeostat.control.pipeline import says_no

    document(result) if as_json else say(render.pipeline(result))
    if any(says_no(name, verdict) for name, verdict in result.stages.items()):
        raise typer.Exit(REFUSED)
