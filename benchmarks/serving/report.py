"""Showing a run: on the terminal, as JSON, and as the section of docs/benchmarks.md."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import msgspec
from benchmarks.serving import load, payloads, tables
from benchmarks.serving.catalogue import NOOP, OURS
from benchmarks.serving.models import MLP
from benchmarks.serving.plan import HEADLINE, Outcome
from benchmarks.serving.process import Server, free_port
from benchmarks.serving.stats import middle
from rich.console import Console
from rich.table import Table as RichTable

SECTION = "bench-serving"
_HELD = {True: "yes", False: "no", None: "not measured"}


class Report(msgspec.Struct, frozen=True):
    """A run with its date, machine and settings."""

    at: str
    machine: str
    seconds: float
    repeats: int
    outcome: Outcome


def machine() -> str:
    """Processor, cores, Python and the versions that matter."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    parts = ", ".join(f"{p} {version(p)}" for p in ("uvloop", "httptools", "msgspec"))
    return (
        f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, "
        f"Python {sys.version.split()[0]}, onnxruntime {version('onnxruntime')}, {parts}"
    )


def show(report: Report, console: Console) -> None:
    """Tables, what is missing, and the targets."""
    found = report.outcome
    for table in tables.tables(found):
        drawn = RichTable(title=table.title, title_justify="left")
        for i, column in enumerate(table.columns):
            drawn.add_column(column, justify="left" if i == 0 else "right")
        for row in table.rows:
            drawn.add_row(*row, style="bold" if row[0] == OURS.title else "")
        console.print(drawn)
    for line in tables.absences(found):
        console.print(f"not measured: {line}", style="yellow", markup=False)
    drawn = RichTable(title="Targets", title_justify="left")
    for column in ("target", "bound", "measured", "held"):
        drawn.add_column(column)
    for target in tables.targets(found):
        style = {True: "green", False: "red", None: "dim"}[target.held]
        drawn.add_row(*_target(target), style=style)
    console.print(drawn)
    console.print(ceiling(found))


def _target(target: tables.Target) -> tuple[str, str, str, str]:
    sign = ">=" if target.at_least else "<="
    bound, measured = f"{sign} {target.bound:g}", tables.number(target.measured)
    return target.text, bound, measured, _HELD[target.held]


def ceiling(found: Outcome) -> str:
    """What the load generator could do at most, from its own share of its core."""
    samples = found.samples(NOOP.name, tables.HEAD)
    if not samples:
        return "the load generator's ceiling is measured with the no-op handler, which was left out"
    m = middle(samples)
    most = m.rate / m.client
    return (
        f"load generator: {m.rate:,.0f} requests/s against the no-op handler with "
        f"{m.client:.0%} of its core, so at most about {most:,.0f}"
        + (": it was the limit there, not the server" if m.client > 0.97 else "")
    )


def write_json(report: Report, path: Path) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")


# ---------------------------------------------------------------- documents


def markdown(report: Report) -> str:
    """The section of docs/benchmarks.md."""
    found = report.outcome
    parts = [
        f"Measured {report.at} by `make bench-serving`: {report.machine}. Medians of "
        f"{report.repeats} interleaved rounds of {report.seconds:g} s; ratios are medians of "
        "ratios within a round.",
        "![requests per second of each server](images/bench-serving.svg)",
    ]
    for table in tables.tables(found):
        parts += [f"**{table.title}**", as_markdown(table.columns, table.rows)]
    if gaps := tables.absences(found):
        parts += ["**Not measured**", "\n".join(f"- {gap}" for gap in gaps)]
    rows = [_target(target) for target in tables.targets(found)]
    parts += ["**Targets**", as_markdown(("target", "bound", "measured", "held"), rows)]
    parts.append(f"{ceiling(found).capitalize()}.")
    return "\n\n".join(parts)


def as_markdown(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table; the first column is text, the others are figures."""
    lines = [columns, ("---", *("---:" for _ in columns[1:])), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def between_marks(text: str, section: str, content: str) -> str:
    """`text` with what stands between the section's marks replaced. Raises ValueError."""
    begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"expected the marks {begin} and {end}")
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"


def write_docs(report: Report, docs: Path) -> None:
    """Rewrite the section of docs/benchmarks.md and its chart."""
    page = docs / "benchmarks.md"
    page.write_text(between_marks(page.read_text(), SECTION, markdown(report)))
    picture = docs / "images" / "bench-serving.svg"
    picture.write_text(chart(report.outcome))


def chart(found: Outcome) -> str:
    """Requests per second of each server as SVG, on a logarithmic scale."""
    import altair as alt
    import vl_convert

    rows = [
        {"server": label, "rate": middle(samples).rate, "ours": name.startswith(OURS.name)}
        for name, label in found.servers.items()
        if (samples := found.samples(name, tables.HEAD)) and name not in tables.FORMS
    ]
    base = alt.Chart(
        alt.Data(values=rows),
        title=alt.TitleParams(
            "Single rows as JSON: requests per second",
            subtitle="MLP, 32 connections, one core; log, metrics and routing on in ours",
            anchor="start",
        ),
    )
    y = alt.Y("server:N", sort="-x", title=None, axis=alt.Axis(labelLimit=260, minExtent=200))
    rates = [row["rate"] for row in rows]
    ends = (0.7 * min(rates, default=1.0), 1.8 * max(rates, default=1.0))
    ticks = [n * 10**k for k in range(1, 6) for n in (1, 3)]
    x = alt.X(
        "rate:Q",
        scale=alt.Scale(type="log", domain=ends, nice=False),
        axis=alt.Axis(values=ticks, format=",.0f"),
        title="requests per second",
    )
    colour = alt.condition("datum.ours", alt.value("#1b7f5c"), alt.value("#9aa5b1"))
    points = base.mark_circle(size=140, opacity=1).encode(x=x, y=y, color=colour)
    text = base.mark_text(align="left", dx=9).encode(
        x=x, y=y, text=alt.Text("rate:Q", format=",.0f")
    )
    drawn = (points + text).properties(width=520, height=24 * len(rows) + 20, padding=14)
    return str(vl_convert.vegalite_to_svg(drawn.to_json()))


# ---------------------------------------------------------------- wrk


def cross_check() -> str:
    """The no-op handler under wrk and under our generator, one after the other."""
    port = free_port()
    body, _ = payloads.v2_json(payloads.batches(1)[0])
    lua = (
        f"wrk.method='POST'; wrk.body=[[{body.decode()}]]; "
        "wrk.headers['content-type']='application/json'"
    )
    command = [sys.executable, "-m", "benchmarks.serving.noop", "--port", str(port)]
    server = Server(command, port, "/", Path(os.devnull), cores=frozenset({0}))
    try:
        ours = load.closed(port, payloads.http_wires(payloads.V2, MLP, 1), HEADLINE, 2.0).rate
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write(lua)
            script.flush()
            url = f"http://127.0.0.1:{port}/v2/models/{MLP}/infer"
            words = ["wrk", "-t1", f"-c{HEADLINE}", "-d2s", "-s", script.name, url]
            said = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True)
    finally:
        server.stop()
    line = next(line for line in said.stdout.splitlines() if "Requests/sec" in line)
    return f"no-op handler: ours {ours:,.0f} requests/s, wrk {line.split(':')[1].strip()}"
