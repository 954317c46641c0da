"""The tables of a run, as Markdown for the terminal and for docs/benchmarks.md."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.drift.cells import BIG, EQUAL, OURS, REFERENCE, Plan

BUDGET = 1 / 720
"""False alarms per window that ours declares: one a month of hourly windows."""
BEGIN, END = "<!-- bench-drift: begin -->", "<!-- bench-drift: end -->"
Found = dict[str, Any]


def markdown(found: Found, plan: Plan) -> str:
    at = datetime.now(UTC)
    parts = [
        f"Measured {at:%F %R} UTC by `make bench-drift` ({plan.name}): {_machine()}.",
        *(f"{tool} could not be installed: {why}." for tool, why in found["missing"].items()),
        "**Two files of n x 30 normal columns, read and compared**",
        _cost(found["files"]),
        "**Windows called drifted in which nothing had moved, per 1,000, with the 95 % interval**"
        f" (reference {REFERENCE:,} rows; ours declares at most {1_000 * BUDGET:.1f})",
        _quiet(found["quality"]),
        "**One column's mean moves: alarms in the first window, and mean windows to the alarm**",
        _moved(found["quality"], plan),
        f"**At equal false alarms** (2 in 100 quiet windows of {EQUAL['rows']:,} rows, "
        f"{EQUAL['features']} features; every tool's threshold set to that): mean windows until "
        f"the alarm, at most {EQUAL['windows']}, with its standard error",
        _equal(found["equal"]),
        "**Recorded streams**",
        _real(found["real"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def write(page: Path, text: str) -> None:
    """Replace the section between the marks. Raises ValueError without them."""
    before, rest = page.read_text().split(BEGIN)
    _, after = rest.split(END)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {len(names)} cores"


def _table(heads: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return "not measured"
    marks = ["---", *("---:" for _ in heads[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in [heads, marks, *rows])


def _tools(cells: list[Found]) -> list[str]:
    return list(dict.fromkeys(cell["tool"] for cell in cells))


def _cost(cells: list[Found]) -> str:
    sizes = list(dict.fromkeys(c["rows"] for c in cells))
    at = {(c["tool"], c["rows"]): c for c in cells}
    rows = []
    for tool in _tools(cells):
        row = [tool]
        for size in sizes:
            cell, ours = at.get((tool, size)), at.get((OURS, size), {})
            row.append(_price(cell, ours if tool != OURS else {}))
        rows.append(row)
    heads = [f"{size:,}" + (" (ours alone)" if size == BIG else "") for size in sizes]
    return _table(["tool", *heads], rows)


def _price(cell: Found | None, ours: Found) -> str:
    if cell is None:
        return "-"
    if "error" in cell:
        return str(cell["error"])
    text = f"{cell['seconds']:.2f} s, {cell['mib']:,.0f} MiB"
    if "seconds" in ours:
        times, room = cell["seconds"] / ours["seconds"], cell["mib"] / ours["mib"]
        text += f" (x{times:.1f}, x{room:.1f})"
    return text


def _by_cell(cells: list[Found]) -> list[tuple[int, int]]:
    return list(dict.fromkeys((c["features"], c["rows"]) for c in cells))


def _quiet(cells: list[Found]) -> str:
    tools, at = _tools(cells), {(c["tool"], c["features"], c["rows"]): c for c in cells}
    rows = []
    for features, size in _by_cell(cells):
        row = [f"{features} x {size:,}"]
        for tool in tools:
            cell = at[tool, features, size]
            row.append(str(cell["error"]) if "error" in cell else _rate(cell))
        rows.append(row)
    total = ["all of these"]
    for tool in tools:
        measured = [c for c in cells if c["tool"] == tool and "error" not in c]
        counted = {key: sum(c[key] for c in measured) for key in ("alarms", "windows")}
        total.append(_rate(counted))
    return _table(["features x rows", *tools], [*rows, total])


def _rate(cell: Found) -> str:
    """With Wilson's interval."""
    n, k, z = cell["windows"], cell["alarms"], 1.96
    if not n:
        return "no time"
    centre = (k + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * np.sqrt(k * (n - k) / n + z**2 / 4)
    low, high = 1_000 * max(0.0, centre - half), 1_000 * (centre + half)
    return f"{1_000 * k / n:.1f} ({low:.1f} to {high:.1f}; {n:,})"


def _moved(cells: list[Found], plan: Plan) -> str:
    tools, at = _tools(cells), {(c["tool"], c["features"], c["rows"]): c for c in cells}
    rows = []
    for features, size in _by_cell(cells):
        for shift in plan.shifts:
            row = [f"{features} x {size:,}, {shift:g} sd"]
            for tool in tools:
                cell = at[tool, features, size].get("moved", {}).get(str(shift), {})
                row.append(_delay(cell))
            rows.append(row)
    return _table(["features x rows, move", *tools], rows)


def _delay(cell: Found) -> str:
    if not cell.get("streams"):
        return "-"
    first = cell["first"] / cell["streams"]
    delay = "" if cell["delay"] is None else f", {cell['delay']:.1f}"
    missed = f", {cell['missed']} missed" if cell["missed"] else ""
    return f"{first:.0%}{delay}{missed} ({cell['streams']})"


def _equal(cells: list[Found]) -> str:
    shifts = ("0.15", "0.25", "0.5")
    rows = []
    for cell in cells:
        if "error" in cell:
            rows.append([cell["tool"], cell["error"], *("-" for _ in shifts)])
            continue
        row = [cell["tool"], f"{cell['quiet']:,}"]
        for shift in shifts:
            d = cell["delays"][shift]
            row.append("-" if d["mean"] is None else f"{d['mean']:.2f} ± {d['se']:.2f}")
        rows.append(row)
    return _table(["tool", "quiet windows", *(f"{s} sd" for s in shifts)], rows)


def _real(cells: list[Found]) -> str:
    tools, at = _tools(cells), {(c["tool"], c["stream"]): c for c in cells}
    rows = []
    for stream in dict.fromkeys(c["stream"] for c in cells):
        row = [stream]
        for tool in tools:
            cell = at[tool, stream]
            text = str(cell.get("error") or f"{cell['alarms']} of {cell['windows']}")
            row.append(text + (f", first {cell['first']}" if "first" in cell else ""))
        rows.append(row)
    return _table(["stream: windows called drifted", *tools], rows)
