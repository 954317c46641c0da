"""monitors calibrate, silence, silences, unsilence."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from homeostat.cli.output import JsonFlag, document, progress, say, settings
from homeostat.cli.person import By, person

if TYPE_CHECKING:
    from homeostat.monitoring.calibration.certificate import Calibrated

group = typer.Typer(
    help="How far monitors can be trusted; silences.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def add_to(app: typer.Typer) -> None:
    app.add_typer(group, name="monitors")


@group.command()
def calibrate(
    context: typer.Context,
    months: Annotated[
        float, typer.Option("--months", min=0.01, help="Months of quiet traffic to replay.")
    ] = 3.0,
    episodes: Annotated[
        int, typer.Option("--episodes", min=1, help="Streams to try each shift in.")
    ] = 20,
    on: Annotated[
        str, typer.Option("--on", metavar="HISTORY", help="log, reference, or auto.")
    ] = "auto",
    rows: Annotated[
        int | None,
        typer.Option("--rows", min=20, help="Requests in a window (unset: as many as were)."),
    ] = None,
    solve: Annotated[
        bool, typer.Option("--solve", help="Use the levels that keep to the declared budget.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the draws.")] = 0,
    by: By = None,
    json: JsonFlag = False,
) -> None:
    """Measure false alarms and delays. On your own quiet history; the certificate is kept."""
    from homeostat.control.calibrate import calibrate as measure
    from homeostat.core.errors import BadInput

    if on not in ("auto", "log", "reference"):
        raise BadInput("no such history", expected="log, reference or auto", found=repr(on))
    found = measure(
        settings(context).platform(),
        months=months,
        episodes=episodes,
        on=on,  # type: ignore[arg-type]
        rows=rows,
        solve=solve,
        seed=seed,
        by=by or person(),
        progress=progress(piped=not json),
    )
    document(found) if json else say(_certificate(found, solve=solve))


Kind = Annotated[
    str, typer.Argument(metavar="ALERT", help="quality, drift, data, traffic, monitor, or all.")
]


@group.command()
def silence(
    context: typer.Context,
    kind: Kind,
    length: Annotated[str, typer.Option("--for", metavar="DURATION", help="Such as 2h.")],
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="Recorded; needed.")],
    by: By = None,
    json: JsonFlag = False,
) -> None:
    """Tell nobody of an alert for a while. It is recorded all the same."""
    _silence(context, kind, length, why, by, as_json=json)


@group.command()
def unsilence(context: typer.Context, kind: Kind, by: By = None, json: JsonFlag = False) -> None:
    """End a silence before its time."""
    _silence(context, kind, "0s", "ended", by, as_json=json)


@group.command()
def silences(context: typer.Context, json: JsonFlag = False) -> None:
    """The silences that hold now."""
    from homeostat.control.status import status

    found = status(settings(context).books()).silences
    document(found) if json else say("\n".join(s.sentence for s in found) or "none")


def _silence(
    context: typer.Context, kind: str, length: str, why: str, by: str | None, *, as_json: bool
) -> None:
    from homeostat.control.commands import monitors_silence
    from homeostat.core.duration import Duration

    platform = settings(context).platform()
    state = monitors_silence(platform, kind, Duration.parse(length), why, by or person())
    found = state.monitor.silences[kind]
    if as_json:
        document(found)
    else:
        over = found.until <= platform.clock.now()
        say(f"{kind} alerts are told again" if over else found.sentence)


def _certificate(found: Calibrated, *, solve: bool) -> str:
    from homeostat.cli.render import columns
    from homeostat.core.duration import Duration

    on = "what it was trained and tested on (it has too little traffic yet)"
    if found.source == "log":
        on = f"its quiet traffic of {found.since:%F %R} to {found.until:%F %R}"
    lines = [
        f"monitors of version {found.version}, replayed on {on}, {found.rows:,} requests a window",
        "nothing has changed there, so that every alarm is a false one",
        "",
    ]
    table = [["monitor", "false alarms a month", "95 % sure", "counted", "a window may spend"]]
    table += [
        [
            r.monitor,
            f"{r.per_month:.2f}",
            f"{r.low:.2f} to {r.high:.2f}",
            f"{r.alarms} in {r.months:.1f} months",
            f"1 in {1 / r.level:,.0f}",
        ]
        for r in found.rates
    ]
    lines += columns(table, right=(1, 2, 3, 4))
    lines += [
        f"{r.monitor} was in alarm {r.open:.0%} of the time: this traffic is not what it is "
        "compared with, and its number of false alarms says nothing"
        for r in found.rates
        if r.stuck
    ]
    lines += ["", "what would be seen, and how soon (median, from the change to the alert):"]
    shifts = [["monitor", "change", "seen", "after"]]
    shifts += [
        [
            d.monitor,
            d.shift,
            f"{d.seen} of {d.episodes}" + (f" ({d.already} in alarm before)" if d.already else ""),
            "-" if d.median is None else str(Duration.of(timedelta(seconds=d.median))),
        ]
        for d in found.delays
    ]
    lines += columns(shifts, right=(2, 3))
    total = sum(r.per_month for r in found.rates)
    lines += ["", f"together {total:.2f} false alarms a month; {found.budget:g} declared"]
    if found.solved:
        lines.append("these levels are used from now on, for this version")
        lines += found.beyond if solve else ()
    else:
        lines.append("homeostat monitors calibrate --solve looks for the most sensitive levels")
        lines[-1] += " that keep to what is declared"
    return "\n".join(lines)
