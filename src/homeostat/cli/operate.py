"""up, serve, status, history, lineage, demo, and the hidden keeper."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from homeostat.cli.output import JsonFlag, document, say, settings
from homeostat.core.errors import BadInput

if TYPE_CHECKING:
    from homeostat.control.readiness import Readiness
    from homeostat.control.tick import TickReport
    from homeostat.serving.address import Address

GRPC_PORT = 8081

Host = Annotated[str, typer.Option("--host", help="The address to listen on.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")]
GrpcPort = Annotated[
    int | None,
    typer.Option(
        "--grpc-port",
        min=0,
        max=65535,
        help="gRPC; 0 takes a free one (default: 8081, or a free one with --port 0).",
    ),
]
NoGrpc = Annotated[bool, typer.Option("--no-grpc", help="HTTP only.")]
TlsCert = Annotated[
    Path | None,
    typer.Option("--tls-cert", metavar="PEM", help="Serve HTTPS and gRPC over TLS with it."),
]
TlsKey = Annotated[
    Path | None, typer.Option("--tls-key", metavar="PEM", help="The certificate's key.")
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Processes (default: serving.replicas.min)."),
]
Parent = Annotated[
    int | None, typer.Option("--parent", metavar="PID", help="End when this process is gone.")
]


def add_to(app: typer.Typer) -> None:
    app.command("up")(up)
    app.command("serve")(serve)
    app.command("status")(status)
    app.command("history")(history)
    app.command("lineage")(lineage)
    app.command("demo")(demo)
    app.command("keeper", hidden=True)(keeper)
    app.command("controller", hidden=True)(controller)


def up(
    context: typer.Context,
    host: Host = "127.0.0.1",
    port: Port = 8080,
    grpc_port: GrpcPort = None,
    no_grpc: NoGrpc = False,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    workers: Workers = None,
    interval: Annotated[
        float, typer.Option("--interval", min=0.01, help="Seconds between two looks at the loop.")
    ] = 1.0,
    json: JsonFlag = False,
) -> None:
    """Serve, watch, retrain and roll out. Everything, on this machine, until Ctrl-C."""
    where = _address(host, port, grpc_port, tls_cert, tls_key, no_grpc=no_grpc)
    loop = ["--interval", str(interval), *(["--json"] if json else [])]
    _serve(context, where, workers, as_json=json, loop=loop)


def serve(
    context: typer.Context,
    host: Host = "127.0.0.1",
    port: Port = 8080,
    grpc_port: GrpcPort = None,
    no_grpc: NoGrpc = False,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    workers: Workers = None,
    json: JsonFlag = False,
) -> None:
    """Answer requests only (the data plane), until Ctrl-C."""
    where = _address(host, port, grpc_port, tls_cert, tls_key, no_grpc=no_grpc)
    _serve(context, where, workers, as_json=json)


def _serve(
    context: typer.Context,
    where: Address,
    workers: int | None,
    *,
    as_json: bool,
    loop: list[str] | None = None,
) -> None:
    from homeostat import app

    platform = settings(context).platform()
    ready, tell = _announcer(platform.stream, as_json=as_json), _teller(as_json=as_json)
    app.serve(platform, where, workers, ready=ready, tell=tell, note=_complain, loop=loop)


def _address(
    host: str,
    port: int,
    grpc_port: int | None,
    certificate: Path | None,
    key: Path | None,
    *,
    no_grpc: bool,
) -> Address:
    from homeostat.serving.address import Address, Tls

    if no_grpc and grpc_port is not None:
        raise BadInput("--grpc-port and --no-grpc contradict each other")
    if (certificate is None) != (key is None):
        raise BadInput("--tls-cert and --tls-key belong together", remedy="give both")
    if grpc_port is None and not no_grpc:
        grpc_port = 0 if port == 0 else GRPC_PORT
    tls = Tls(certificate, key) if certificate is not None and key is not None else None
    return Address(host, port, grpc_port, tls)


def _announcer(model: str, *, as_json: bool) -> Callable[[Address], None]:
    """Tells where the model is, once requests are accepted there."""

    def announce(where: Address) -> None:
        if as_json:
            about = {"host": where.host, "port": where.port, "grpc_port": where.grpc_port}
            document({"model": model, **about, "tls": where.tls is not None})
        else:
            at = f"[{where.host}]" if ":" in where.host else where.host
            scheme = "http" if where.tls is None else "https"
            grpc = "" if where.grpc_port is None else f", gRPC at {at}:{where.grpc_port}"
            say(f"{model} at {scheme}://{at}:{where.port}{grpc} (Ctrl-C ends it)")
        sys.stdout.flush()

    return announce


def _teller(*, as_json: bool) -> Callable[[Readiness], None]:
    """Tells whether predictions are answered there, and by which version."""

    def tell(found: Readiness) -> None:
        from homeostat.cli import render

        if as_json:
            import msgspec

            document({"ready": found.version is not None, **msgspec.structs.asdict(found)})
        else:
            say(render.readiness(found))
        sys.stdout.flush()

    return tell


def _complain(text: str) -> None:
    """What cannot be done now, and does not keep the rest from working."""
    print(f"note: {text}", file=sys.stderr, flush=True)


def keeper(context: typer.Context, parent: Parent = None) -> None:
    """Seal the prediction log and take in labels (started by `up`)."""
    from homeostat import app

    app.keeper(settings(context).root(), parent=parent)


def controller(
    context: typer.Context,
    interval: Annotated[float, typer.Option("--interval", min=0.01)] = 1.0,
    parent: Parent = None,
    json: JsonFlag = False,
) -> None:
    """Turn the loop (started by `up`); tells what it and people decide, a line (or JSON document)
    each."""
    from homeostat import app
    from homeostat.cli import render
    from homeostat.control.history import history as read

    platform = settings(context).platform()

    def tell(report: TickReport | str) -> None:
        if json:
            document({"note": report} if isinstance(report, str) else report)
        elif isinstance(report, str):
            say(render.note(report))
        else:
            lines = [line for line in read(platform, after=report.since) if line.seq <= report.seq]
            if lines:
                say(render.history(lines))
            for problem in report.problems:
                say(render.note(problem))
        sys.stdout.flush()

    app.controller(platform, interval=interval, tell=tell, parent=parent)


def status(context: typer.Context, json: JsonFlag = False) -> None:
    """Who serves, what is under way or wrong, what is next."""
    from homeostat.cli import render
    from homeostat.control.status import status as look

    found = look(settings(context).books())
    document(found) if json else say(render.status(found))


def history(
    context: typer.Context,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, help="The last so many decisions.")
    ] = 20,
    evidence: Annotated[
        bool, typer.Option("--evidence", "-e", help="With the figures each one rests on.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="Every monitoring window too.")] = False,
    json: JsonFlag = False,
) -> None:
    """Every decision with its reason, oldest first."""
    from homeostat.cli import render
    from homeostat.control.history import history as read

    lines = read(settings(context).books(), limit, everything=everything)
    document(lines) if json else say(render.history(lines, evidence=evidence))


def lineage(
    context: typer.Context,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Such as 3.")],
    json: JsonFlag = False,
) -> None:
    """What a version was made of, and what it came after."""
    from homeostat.control.history import champions
    from homeostat.registry.lineage import lineage as trace
    from homeostat.registry.lineage import text

    books = settings(context).books()
    tree = trace(version, books.registry.versions(books.stream), champions(books))
    document(tree) if json else say(text(tree))


def demo(
    act: Annotated[
        str, typer.Option("--act", metavar="ACT", help="recovery, bad-candidate or both.")
    ] = "both",
    folder: Annotated[
        Path, typer.Option("--folder", metavar="DIR", help="Where it plays; made anew.")
    ] = Path("homeostat-demo"),
    seed: Annotated[int, typer.Option("--seed", help="Of the generated world.")] = 7,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE", help="Default: DIR/demo.svg.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Watch the loop close. The world changes, a model fails, the system repairs it."""
    from homeostat.cli.demo import play

    code = play(act, folder, seed=seed, picture=picture, as_json=json)
    if code:
        raise typer.Exit(code)
