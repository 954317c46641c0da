"""`homeostat`: the entry point, and the one place where errors become exit codes.

0 done; 1 a verdict or a rule said no; 2 bad usage or bad input; 3 could not be done; 130 Ctrl-C.
"""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from homeostat import __version__
from homeostat.cli import export, monitors, operate, pipeline, project, register, rollout, tables
from homeostat.cli.output import Settings, document, error_document, say
from homeostat.core.errors import BadDefinition, HomeostatError, Unavailable

INTERRUPTED = 130
PIPE_CLOSED = 141
HELPED = 2

app = typer.Typer(
    name="homeostat",
    help="Keeps machine-learning models true while the world moves.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
project.add_to(app)
pipeline.add_to(app)
register.add_to(app)
operate.add_to(app)
rollout.add_to(app)
monitors.add_to(app)
tables.add_to(app)
export.add_to(app)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"homeostat {__version__}")
        raise typer.Exit()


@app.callback()
def settings(
    context: typer.Context,
    project: Annotated[
        Path | None,
        typer.Option(
            "-C",
            "--project",
            metavar="DIR",
            help="The project's folder (default: the nearest one upwards with homeostat.yaml).",
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_version, help="Print the version."),
    ] = False,
) -> None:
    context.obj = Settings(project=project, debug=debug)


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run a command line; -> its exit code. Everything that goes wrong is told here."""
    words = hoist(arguments)
    try:
        code = app(args=words, prog_name="homeostat", standalone_mode=False)
        sys.stdout.flush()
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # whoever read our output has seen enough (`homeostat history | head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except Exception as error:  # noqa: BLE001 - the edge: told, written down, and an exit code
        return _tell(error, words)
    return code if isinstance(code, int) else 0


def hoist(arguments: Sequence[str]) -> list[str]:
    """Options of the whole command (-C DIR, --debug) may stand anywhere; put them first."""
    first: list[str] = []
    rest = list(arguments)
    i = 0
    while i < len(rest) and rest[i] != "--":
        if rest[i] in ("-C", "--project") and i + 1 < len(rest):
            first += [rest.pop(i), rest.pop(i)]
        elif rest[i] == "--debug" or rest[i].startswith("--project="):
            first.append(rest.pop(i))
        else:
            i += 1
    return first + rest


def _tell(error: Exception, words: Sequence[str]) -> int:
    """One line on stderr (a definition: a line for each mistake), JSON on stdout if wanted."""
    if type(error).__name__ == "NoArgsIsHelpError":  # where it lives differs between versions
        print(str(error), file=sys.stderr)
        return HELPED
    known = _known(error)
    if "--debug" in words:
        traceback.print_exception(error)
    if known is None:
        known = _unexpected(error)
    if "--json" in words:
        document(error_document(known))
    mistakes = known.mistakes if isinstance(known, BadDefinition) else []
    for line in [m.line() for m in mistakes] or [known.line()]:
        print(f"error: {line}", file=sys.stderr)
    if len(mistakes) > 1:
        print(f"{len(mistakes)} mistakes", file=sys.stderr)
    return known.exit_code


def _known(error: Exception) -> HomeostatError | None:
    """An error that a person can act on, from whatever said so."""
    if isinstance(error, HomeostatError):
        return error
    if hasattr(error, "format_message"):  # usage, as the command-line parser sees it
        usage = HomeostatError(
            str(error.format_message()).replace(": Value error,", ":").rstrip("."),
            remedy="see `homeostat --help`, or `--help` of the command",
        )
        usage.exit_code = 2
        return usage
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable(
            f"the disk is full ({error.filename or 'while writing'})",
            remedy="free some space and do it again; what was done is kept",
        )
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return Unavailable(
            f"not allowed: {error.filename or error}", remedy="check the folder's permissions"
        )
    return None


def _unexpected(error: Exception) -> HomeostatError:
    text = "".join(traceback.format_exception(error))
    where = "--debug shows it"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="homeostat-error-", suffix=".txt", delete=False
        ) as file:
            file.write(text)
        where = f"it is in {file.name}, and --debug shows it"
    except OSError:
        pass  # no room for the traceback either: --debug is left
    return HomeostatError(
        f"unexpected {type(error).__name__}: {error}", remedy=f"the traceback tells more: {where}"
    )
