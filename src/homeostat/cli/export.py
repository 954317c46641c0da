"""export: the project as files for the tools that a team runs already."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from homeostat.cli.output import JsonFlag, document, say, settings
from homeostat.core.errors import BadInput, Unavailable

Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the files go; made anew.")]
OURS = "homeostat export"
"""Every file that is made says so; what does not is somebody else's and is left alone."""
_ADDRESS = re.compile(r"[\w.-]+:\d+|\[[0-9a-fA-F:]+\]:\d+")


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(
        name="export",
        help="Write the project as files for other tools.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    group.command("prometheus")(prometheus)
    group.command("grafana")(grafana)
    app.add_typer(group, name="export")


def prometheus(
    context: typer.Context,
    out: Out,
    target: Annotated[
        str, typer.Option("--target", metavar="HOST:PORT", help="Where Prometheus finds the model.")
    ] = "localhost:8080",
    alertmanager: Annotated[
        str, typer.Option("--alertmanager", metavar="HOST:PORT", help="Where it sends alerts.")
    ] = "localhost:9093",
    every: Annotated[
        str, typer.Option("--every", metavar="DURATION", help="How often it scrapes and judges.")
    ] = "15s",
    json: JsonFlag = False,
) -> None:
    """For Prometheus and Alertmanager. A configuration that scrapes, recorded series, alerts."""
    from homeostat import app
    from homeostat.core.duration import Duration

    for option, value in (("--target", target), ("--alertmanager", alertmanager)):
        if not _ADDRESS.fullmatch(value):
            raise BadInput(f"{option} is not an address", expected="host:port", found=repr(value))
    interval = Duration.parse(every)
    if not interval:
        raise BadInput("--every is no time at all", expected="such as 15s", found=repr(every))
    root = settings(context).root()
    files = app.export_prometheus(root, target=target, alertmanager=alertmanager, every=interval)
    _write(out, files, json, f"prometheus --config.file={out / 'prometheus.yml'}")


def grafana(
    context: typer.Context,
    out: Out,
    prometheus: Annotated[
        str, typer.Option("--prometheus", metavar="URL", help="Prometheus, as Grafana reaches it.")
    ] = "http://localhost:9090",
    mounted: Annotated[
        str | None,
        typer.Option(
            "--mounted-at",
            metavar="DIR",
            help="Where Grafana sees --out, when not at the same path.",
        ),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Dashboards for Grafana. And the files by which it finds them and Prometheus."""
    from homeostat import app

    if not prometheus.startswith(("http://", "https://")):
        expected = "such as http://localhost:9090"
        raise BadInput("--prometheus is not a URL", expected=expected, found=repr(prometheus))
    seen = mounted or str(out.resolve())
    root = settings(context).root()
    files = app.export_grafana(root, prometheus=prometheus, folder=f"{seen}/dashboards")
    _write(out, files, json, f"start Grafana with GF_PATHS_PROVISIONING={seen}/provisioning")


def _write(out: Path, files: dict[str, str], as_json: bool, following: str) -> None:
    """All of them or, when one is somebody else's, none."""
    from homeostat.cli.files import write_text

    for name in files:
        path = out / name
        if path.exists() and OURS not in path.read_text(encoding="utf-8", errors="replace"):
            raise BadInput(
                f"{path} was not made by `{OURS}` and is left as it is",
                remedy="write to another folder with --out, or move the file away",
            )
    for name, text in files.items():
        path = out / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(
                f"{path.parent} cannot be made: {error.strerror}",
                remedy="name a folder with --out in one that exists and may be written to",
            ) from error
        write_text(path, text)
    if as_json:
        document({"folder": str(out), "files": list(files)})
        return
    for name in files:
        say(f"  {out / name}")
    say(f"next: {following}")
