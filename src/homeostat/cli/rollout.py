"""rollout start, status, explain, pause, resume, approve, promote, abort."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from homeostat.cli.output import JsonFlag, document, say, settings
from homeostat.cli.person import By, person
from homeostat.core.errors import BadInput

if TYPE_CHECKING:
    from homeostat.control.books import Books
    from homeostat.control.model import State

Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="Recorded with the decision.")]

group = typer.Typer(
    help="Canaries: begin, watch, and decide by hand.", no_args_is_help=True, rich_markup_mode=None
)


def add_to(app: typer.Typer) -> None:
    app.add_typer(group, name="rollout")


@group.command()
def start(
    context: typer.Context,
    versions: Annotated[
        list[str], typer.Argument(metavar="VERSION...", help="Registered; several: an experiment.")
    ],
    force: Annotated[bool, typer.Option("--force", help="Even if the pre-flight says no.")] = False,
    by: By = None,
    json: JsonFlag = False,
) -> None:
    """Try a version against the champion. The first one becomes the champion."""
    from homeostat.control.commands import rollout_start

    platform = settings(context).platform()
    first, *others = versions
    state = rollout_start(platform, first, by or person(), *others, force=force)
    _show(platform, state, as_json=json)


@group.command()
def status(context: typer.Context, json: JsonFlag = False) -> None:
    """Where the rollout stands, and what each guard has seen."""
    _show(settings(context).books(), as_json=json)


@group.command()
def pause(context: typer.Context, why: Why = "", by: By = None, json: JsonFlag = False) -> None:
    """Hold the rollout at its step."""
    _act(context, "pause", by, why, json)


@group.command()
def resume(context: typer.Context, by: By = None, json: JsonFlag = False) -> None:
    """Go on with a paused rollout."""
    _act(context, "resume", by, "", json)


@group.command()
def approve(context: typer.Context, by: By = None, json: JsonFlag = False) -> None:
    """Say yes to the step that waits for it."""
    _act(context, "approve", by, "", json)


@group.command()
def promote(
    context: typer.Context,
    version: Annotated[
        str | None, typer.Argument(metavar="VERSION", help="Which one of an experiment.")
    ] = None,
    why: Why = "",
    by: By = None,
    anyway: Annotated[bool, typer.Option("--anyway", help="In a freeze, too.")] = False,
    json: JsonFlag = False,
) -> None:
    """Make the candidate the champion now, without further evidence."""
    _act(context, "promote", by, why, json, version=version, anyway=anyway)


@group.command()
def abort(
    context: typer.Context,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="VERSION", help="Return to this earlier champion."),
    ] = None,
    why: Why = "",
    by: By = None,
    json: JsonFlag = False,
) -> None:
    """Give all traffic back at once. To the champion, or with --to to an earlier one."""
    _act(context, "abort", by, why, json, to=to)


@group.command()
def explain(
    context: typer.Context,
    id: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="Such as rollout-12, or a version; else the latest."),
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", metavar="FORMAT", help="md, json or html.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write it there instead.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Why a rollout ended, holds or was refused. The evidence, and what would have changed it."""
    from homeostat.cli.files import write_text
    from homeostat.control.dossier import explain as look
    from homeostat.rollout.dossier.render import FORMATS, render

    chosen = form or ("json" if json else None)
    if chosen is None:
        chosen = out.suffix.lstrip(".") if out and out.suffix.lstrip(".") in FORMATS else "md"
    if chosen not in FORMATS:
        raise BadInput("no such format", expected=", ".join(FORMATS), found=repr(chosen))
    found = look(settings(context).platform(), id)
    text = render(found, chosen).rstrip()
    if out is None:
        say(text)
        return
    write_text(out, f"{text}\n")
    if json:
        document({"id": found.id, "outcome": found.outcome, "file": str(out)})
    else:
        say(found.decision)
        say(f"dossier: {out}")


def _act(
    context: typer.Context, verb: str, by: str | None, why: str, as_json: bool, **more: object
) -> None:
    from homeostat.control import commands

    command, platform = getattr(commands, f"rollout_{verb}"), settings(context).platform()
    state = command(platform, by or person(), why, **more)
    _show(platform, state, as_json=as_json)


def _show(books: Books, state: State | None = None, *, as_json: bool) -> None:
    """The rollout as it is, or as a command left it: the loop may have begun the next one."""
    from homeostat.cli import render
    from homeostat.control.status import status as look

    found = look(books, state)
    document(found.rollout) if as_json else say(render.rollout(found))
