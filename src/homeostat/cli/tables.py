"""drift and labels: commands on tables in files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from homeostat.cli.output import JsonFlag, document, say, settings

labels = typer.Typer(help="Outcomes of predictions.", no_args_is_help=True, rich_markup_mode=None)


def add_to(app: typer.Typer) -> None:
    app.command("drift")(drift)
    app.add_typer(labels, name="labels")


def drift(
    baseline: Annotated[Path, typer.Argument(metavar="BASELINE", help="Parquet, CSV or JSON.")],
    current: Annotated[Path, typer.Argument(metavar="CURRENT", help="Parquet, CSV or JSON.")],
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Also write an HTML report.")
    ] = None,
    columns: Annotated[
        str | None, typer.Option("--columns", metavar="A,B", help="Compare only these.")
    ] = None,
    min_effect: Annotated[
        float, typer.Option("--min-effect", min=0, max=0.99, help="Smaller movement is no drift.")
    ] = 0.1,
    alpha: Annotated[
        float, typer.Option("--alpha", help="The chance of calling drift what is none.")
    ] = 0.05,
    json: JsonFlag = False,
) -> None:
    """Compare any two tables; exit code 1 when they differ. Needs no project."""
    from homeostat.cli import render
    from homeostat.cli.files import read_table, write_text
    from homeostat.monitoring.drift import compare
    from homeostat.monitoring.spec import Drift

    wanted = [c.strip() for c in columns.split(",")] if columns else None
    spec = Drift(min_effect=min_effect)
    before, after = read_table(baseline), read_table(current)
    found = compare(before, after, spec, alpha=alpha, columns=wanted)
    if report is not None:
        from homeostat.monitoring.report import html

        write_text(report, html(found, before, after))
    document(found) if json else say(render.drift(found, report))
    if not found.verdict.passed:
        raise typer.Exit(1)


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
