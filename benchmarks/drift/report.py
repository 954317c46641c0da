"""The tables of a run, as Markdown for the terminal and for docs/benchmarks.md."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.drift.cells import (
    BIG,
    COLUMNS,
    EQUAL_SHIFTS,
    EQUAL_WINDOWS,
    OURS,
    REFERENCE,
    SORT,
    Plan,
)

BUDGET = 1 / 720
"""False alarms per window that ours declares: one a month of hourly windows."""
BEGIN, END = "<!-- bench-drift: begin -->", "<!-- bench-drift: end -->"
Found = dict[str, Any]


def markdown(found: Found, plan: Plan) -> str:
    at = datetime.now(UTC)
    parts = [
        f"Measured {at:%F %R} UTC by `make bench-drift` ({plan.name}, {found['seconds'] / 60:.0f} "
        f"minutes): {_machine()}.",
        *(f"{tool} could not be installed: {why}." for tool, why in found["missing"].items()),
        "**Two files of n x 30 normal columns, read and compared** (seconds, processor seconds, "
        "peak memory; in brackets how many times our seconds and memory)",
        _cost(found["files"]),
        "**Windows called drifted in which nothing had moved, per 1,000, with the 95 % interval "
        f"and how many there were** (reference {REFERENCE:,} rows; ours declares at most "
        f"{1_000 * BUDGET:.1f})",
        _quiet(found["quality"]),
        "**One column's mean moves: alarms in the first window, and mean windows to the alarm** "
        "(of those that alarm within 10; how many streams in brackets). Ours ignores moves below "
        "0.25 standard deviations here, and declares one false alarm a month",
        _moved(found["quality"], plan),
        "**At equal false alarms** (every tool's threshold set such that it alarms in 2 of 100 "
        "quiet windows; ours with a minimum effect of 0): mean windows until the alarm, at most "
        f"{EQUAL_WINDOWS}, with its standard error; in brackets ours on the same streams",
        _equal(found["equal"]),
        "**Recorded streams**: windows called drifted, the first of them, and the columns that "
        "ours names there",
        _real(found["real"]),
        "**Targets**",
        _table(["target", "bound", "measured", "held"], targets(found)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


# -- targets ------------------------------------------------------------------------------------


def targets(found: Found) -> list[list[str]]:
    """target, bound, measured, held."""
    at = {(c["tool"], c["rows"]): c for c in found["files"] if "error" not in c}
    ours, sort = at.get((OURS, 1_000_000)), at.get((SORT, 1_000_000))
    evidently, big = at.get(("evidently", 1_000_000)), at.get((OURS, BIG))
    slow = next((c for c in found["files"] if (c["tool"], c["rows"]) == ("evidently", 1_000_000)
                 and "error" in c), None)  # fmt: skip
    size = f"1,000,000 x {COLUMNS}"
    rows = [
        _ratio(f"{size}: processor seconds over those of sorting with NumPy", ours, sort, "cpu", 2),
        _ratio(f"{size}: seconds over those of sorting with NumPy", ours, sort, "seconds", 2),
        _ratio(f"{size}: memory over Evidently's", ours, evidently, "mib", 0.25),
    ]
    name = f"{size}: Evidently's seconds over ours"
    if ours and slow and slow["error"].startswith("more than"):
        least = float(slow["error"].split()[2]) / ours["seconds"]
        rows.append([name, ">= 20", f"> {least:.0f}", "yes" if least >= 20 else "not shown"])
    else:
        rows.append(_ratio(name, evidently, ours, "seconds", 20, least=True))
    if big:
        held = "yes" if big["mib"] <= 2_048 else "no"
        measured = f"{big['mib']:,.0f} MiB, {big['seconds']:.1f} s"
        rows.append([f"{BIG:,} x {COLUMNS} out of core: memory", "<= 2,048 MiB", measured, held])
    rows += [_budget(cell) for cell in found["quality"] if cell["tool"] == OURS]
    rows += _delays(found["equal"])
    return rows


def _ratio(
    name: str, one: Found | None, other: Found | None, key: str, bound: float, least: bool = False
) -> list[str]:
    limit = f"{'>=' if least else '<='} {bound:g}"
    if not one or not other:
        return [name, limit, "not measured", "not shown"]
    ratio = one[key] / other[key]
    held = ratio >= bound if least else ratio <= bound
    return [name, limit, f"{ratio:.2f}", "yes" if held else "no"]


def _budget(cell: Found) -> list[str]:
    name = f"false alarms per 1,000 windows, {cell['features']} x {cell['rows']:,}"
    bound = f"<= {1_000 * BUDGET:.2f}"
    if "error" in cell or not cell["windows"]:
        return [name, bound, str(cell.get("error", "no time")), "not shown"]
    low, high = _interval(cell)
    held = "yes" if high <= 1_000 * BUDGET else "no" if low > 1_000 * BUDGET else "within error"
    return [name, bound, _rate(cell), held]


def _delays(cells: list[Found]) -> list[list[str]]:
    """Ours less theirs, on the streams that both were given."""
    rows = []
    for cell in cells:
        if cell["tool"] == OURS:
            continue
        ours = _ours(cells, cell)
        for shift in map(str, EQUAL_SHIFTS):
            name = f"delay less {cell['tool']}'s, {cell['features']} x {cell['rows']:,}, {shift} sd"
            a, b = (c.get("delays", {}).get(shift, []) for c in (ours, cell))
            n = min(len(a), len(b))
            if n < 5:
                rows.append([name, "<= 0 windows", str(cell.get("error", "no time")), "not shown"])
                continue
            gaps = np.subtract(a[:n], b[:n])
            mean, error = float(gaps.mean()), float(gaps.std() / n**0.5)
            held = "yes" if mean <= 0 else "within error" if mean <= 2 * error else "no"
            rows.append([name, "<= 0 windows", f"{mean:+.2f} ± {error:.2f} ({n} streams)", held])
    return rows


def _ours(cells: list[Found], like: Found) -> Found:
    of = (OURS, like["features"], like["rows"])
    return next((c for c in cells if (c["tool"], c["features"], c["rows"]) == of), {})


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
    text = f"{cell['seconds']:.2f} s, {cell['cpu']:.2f} s, {cell['mib']:,.0f} MiB"
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
            cell = at.get((tool, features, size), {"error": "-"})
            row.append(str(cell["error"]) if "error" in cell else _rate(cell))
        rows.append(row)
    total = ["all of these"]
    for tool in tools:
        measured = [c for c in cells if c["tool"] == tool and "error" not in c]
        counted = {key: sum(c[key] for c in measured) for key in ("alarms", "windows")}
        total.append(_rate(counted))
    return _table(["features x rows", *tools], [*rows, total])


def _rate(cell: Found) -> str:
    n, k = cell["windows"], cell["alarms"]
    if not n:
        return "no time"
    low, high = _interval(cell)
    return f"{1_000 * k / n:.1f} ({low:.1f} to {high:.1f}; {n:,})"


def _interval(cell: Found) -> tuple[float, float]:
    """Wilson's, per 1,000."""
    n, k, z = cell["windows"], cell["alarms"], 1.96
    centre = (k + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * np.sqrt(k * (n - k) / n + z**2 / 4)
    return 1_000 * max(0.0, centre - half), 1_000 * float(centre + half)


def _moved(cells: list[Found], plan: Plan) -> str:
    tools, at = _tools(cells), {(c["tool"], c["features"], c["rows"]): c for c in cells}
    rows = []
    for features, size in _by_cell(cells):
        for shift in plan.shifts:
            row = [f"{features} x {size:,}, {shift:g} sd"]
            for tool in tools:
                cell = at.get((tool, features, size), {}).get("moved", {}).get(str(shift), {})
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
    rows = []
    for cell in sorted(cells, key=lambda c: (c["features"], c["rows"])):
        row = [f"{cell['features']} x {cell['rows']:,}", cell["tool"]]
        if "error" in cell:
            rows.append([*row, str(cell["error"]), *("-" for _ in EQUAL_SHIFTS)])
            continue
        row.append(f"{cell['quiet']:,}")
        for shift in map(str, EQUAL_SHIFTS):
            delays = cell["delays"].get(shift, [])
            if len(delays) < 5:
                row.append("no time")
                continue
            text = f"{np.mean(delays):.2f} ± {np.std(delays) / len(delays) ** 0.5:.2f}"
            same = _ours(cells, cell).get("delays", {}).get(shift, [])[: len(delays)]
            if cell["tool"] != OURS and same:
                text += f" ({np.mean(same):.2f})"
            row.append(text)
        rows.append(row)
    return _table(["features x rows", "tool", "quiet windows", *(f"{s} sd" for s in EQUAL_SHIFTS)],
                  rows)  # fmt: skip


def _real(cells: list[Found]) -> str:
    tools, at = _tools(cells), {(c["tool"], c["stream"]): c for c in cells}
    rows = []
    for stream in dict.fromkeys(c["stream"] for c in cells):
        row = [stream]
        for tool in tools:
            cell = at.get((tool, stream), {"error": "-"})
            text = str(cell.get("error") or f"{cell['alarms']} of {cell['windows']}")
            text += f", first {cell['first']}" if "first" in cell else ""
            row.append(text + (f" ({', '.join(cell['what'])})" if cell.get("what") else ""))
        rows.append(row)
    return _table(["stream", *tools], rows)
