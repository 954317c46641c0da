"""drift and labels: commands on tables in files."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from homeostat.cli.output import JsonFlag, document, say, settings
from homeostat.core.errors import BadInput

if TYPE_CHECKING:
    from homeostat.monitoring.spec import Drift

labels = typer.Typer(help="Outcomes of predictions.", no_args_is_help=True, rich_markup_mode=None)


def add_to(app: typer.Typer) -> None:
    app.command("drift")(drift)
    app.add_typer(labels, name="labels")


class Format(enum.StrEnum):
    TEXT = "text"
    JSON = "json"
    MD = "md"


def drift(
    baseline: Annotated[
        Path, typer.Argument(metavar="BASELINE", help="Parquet (or a glob), CSV, JSON or Arrow.")
    ],
    current: Annotated[Path, typer.Argument(metavar="CURRENT", help="The same, of any size.")],
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Also write an HTML report.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option("--columns", metavar="A,B", help="Compare only these.")
    ] = None,
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="A,B", help="Also compare the rows of each of their values."),
    ] = None,
    tests: Annotated[
        str | None,
        typer.Option(
            "--tests",
            metavar="A,B",
            help="ks, psi, js, wasserstein, hellinger, chi2, g, cvm, ad (default: ks,psi).",
        ),
    ] = None,
    prediction: Annotated[
        str | None, typer.Option("--prediction", metavar="COLUMN", help="What a model said.")
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            "--label", metavar="COLUMN", help="What was true: with --prediction, what drift cost."
        ),
    ] = None,
    joint: Annotated[
        bool, typer.Option("--joint/--no-joint", help="Also look at the columns together.")
    ] = True,
    min_effect: Annotated[
        float, typer.Option("--min-effect", min=0, max=0.99, help="Smaller movement is no drift.")
    ] = 0.1,
    alpha: Annotated[
        float, typer.Option("--alpha", help="The chance of calling drift what is none.")
    ] = 0.05,
    form: Annotated[Format, typer.Option("--format", help="What is printed.")] = Format.TEXT,
    json: JsonFlag = False,
) -> None:
    """Compare any two tables; exit code 1 when they differ. Needs no project."""
    from homeostat.cli import render
    from homeostat.cli.files import there, write_text
    from homeostat.monitoring.drift.source import opened
    from homeostat.monitoring.report.page import html
    from homeostat.monitoring.report.report import drift, markdown

    if label is not None and prediction is None:
        raise BadInput("--label says nothing alone", remedy="add --prediction COLUMN")
    for path in (baseline, current):
        there(path)
    with opened(baseline) as before, opened(current) as now:
        found = drift(
            before,
            now,
            spec=_spec(tests, min_effect),
            alpha=alpha,
            columns=_words(columns) or None,
            joint=joint,
            by=_words(by),
            prediction=prediction,
            label=label,
        )
        if report is not None:
            write_text(report, html(found, before, now))
    if json or form is Format.JSON:
        document(found)
    elif form is Format.MD:
        say(markdown(found).rstrip())
    else:
        say(render.drift(found, report))
    if not found.verdict.passed:
        raise typer.Exit(1)


def _words(text: str | None) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()] if text else []


def _spec(tests: str | None, min_effect: float) -> Drift:
    from homeostat.monitoring.drift.column import NAMES
    from homeostat.monitoring.spec import Drift

    wanted = tuple(_words(tests))
    for name in wanted:
        if name not in NAMES or name == "tv":
            known = ", ".join(n for n in NAMES if n != "tv")
            raise BadInput("--tests names no such test", expected=known, found=repr(name))
    return Drift(tests=wanted or "auto", min_effect=min_effect)  # type: ignore[arg-type]


@labels.command("import")
def import_labels(
    context: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Parquet, CSV or JSON: id, label, and maybe time."),
    ],
    json: JsonFlag = False,
) -> None:
    """Take in outcomes from a file. Repeating it changes nothing; another label is a correction."""
    from homeostat.cli.files import read_labels

    platform = settings(context).platform()
    now = platform.clock.now()
    rows = read_labels(file, now)
    # what is known already would be kept as a fact of its own, for having come again
    known = platform.labels.as_known(now, rows["id"]).select("id", "label")
    new = platform.labels.append(rows.join(known, on=["id", "label"], how="anti"))
    if json:
        document({"rows": rows.height, "new": new})
    else:
        say(f"{rows.height:,} labels read, {new:,} of them new")
