"""What a run has found as tables and as targets held or missed. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.serving import ours
from benchmarks.serving.catalogue import NOOP, OURS
from benchmarks.serving.models import GBM, MLP, TITLES
from benchmarks.serving.plan import CONNECTIONS, HEADLINE, LIMIT_MS, RATES, Cell, Outcome
from benchmarks.serving.stats import Sample, middle, ratio, spread

FORMS = tuple(f"{OURS.name}-{form}" for form in ours.FORMS)
HEAD = Cell(MLP, "json", 1, "closed", HEADLINE)
NONE = "-"


class Table(NamedTuple):
    """Cells are text; the first column is the server."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


def number(value: float) -> str:
    """Three significant digits or whole thousands: as many as a noisy machine justifies."""
    if math.isnan(value):
        return NONE
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def tables(found: Outcome) -> list[Table]:
    """Those that have at least one figure."""
    json, binary, grpc = (
        [Cell(m, kind, n, "closed", HEADLINE) for m, n in pairs]
        for kind, pairs in (
            ("json", ((MLP, 1), (MLP, 100), (GBM, 1), (GBM, 100))),
            ("binary", ((MLP, 1), (MLP, 100), (GBM, 100))),
            ("grpc", ((MLP, 1), (MLP, 100))),
        )
    )
    made = [
        headline(found, HEAD, f"{TITLES[MLP]}, single-row JSON, {HEADLINE} connections, one core"),
        by_cell(found, "Requests/s as JSON (ours is so many times faster)", json, rate, short),
        by_cell(found, "Requests/s, binary tensors and gRPC", [*binary, *grpc], rate, short),
        by_cell(
            found,
            "Requests/s by connections, closed loop, single-row JSON",
            [Cell(MLP, "json", 1, "closed", n) for n in CONNECTIONS],
            rate,
            lambda cell: str(cell.size),
        ),
        by_cell(
            found,
            "Open loop, one core: p50 / p99 in ms from the intended start (answered/s if fewer)",
            [*(Cell(MLP, "json", 1, "open", r) for r in RATES), Cell(MLP, "json", 1, "highest")],
            latency,
            open_title,
        ),
        by_cell(
            found,
            "Two workers on two cores that they share with the client",
            [
                Cell(MLP, "json", 1, "closed", HEADLINE, 2),
                Cell(MLP, "json", 1, "open", RATES[-1], 2),
                Cell(MLP, "json", 1, "highest", 0, 2),
            ],
            lambda s, c, o: (rate if c.load == "closed" else latency)(s, c, o),
            lambda cell: "requests/s" if cell.load == "closed" else open_title(cell),
        ),
        started(found),
    ]
    return [table for table in made if table.rows]


def headline(found: Outcome, cell: Cell, title: str) -> Table:
    """Rate, spread, latency, processor time, and how many times faster ours is."""
    mine = found.samples(OURS.name, cell)
    rows = []
    for name, label in found.servers.items():
        samples = found.samples(name, cell)
        if not samples:
            continue
        m, (low, high) = middle(samples), spread(samples)
        rows.append(
            (
                label,
                number(m.rate),
                f"{number(low)} to {number(high)}",
                number(m.p50),
                number(m.p99),
                number(m.server_us),
                number(ratio(mine, samples)),
                str(m.failed),
            )
        )
    columns = ("requests/s", "spread", "p50 ms", "p99 ms", "CPU us", "ours / it", "failed")
    return Table(title, ("server", *columns), rows)


Show = Callable[[Sequence[Sample], Cell, Sequence[Sample]], str]


def rate(samples: Sequence[Sample], _: Cell, mine: Sequence[Sample]) -> str:
    text = number(middle(samples).rate)
    times = ratio(mine, samples)
    return text if mine is samples or math.isnan(times) else f"{text} (x{number(times)})"


def latency(samples: Sequence[Sample], cell: Cell, _: Sequence[Sample]) -> str:
    m = middle(samples)
    if cell.load == "highest":
        return f"{number(m.rate)}/s" if m.rate else "none"
    text = f"{number(m.p50)} / {number(m.p99)}"
    if m.rate < 0.98 * cell.size:
        text += f" ({number(m.rate)}/s)"
    return f"{text}, {m.failed} failed" if m.failed else text


def by_cell(
    found: Outcome,
    title: str,
    cells: Sequence[Cell],
    show: Show,
    name: Callable[[Cell], str],
) -> Table:
    """A row per server that has any of the cells, a column per cell that any server has."""
    there = [c for c in cells if any(found.samples(s, c) for s in found.servers)]
    rows = []
    for server, label in found.servers.items():
        texts = []
        for cell in there:
            samples = found.samples(server, cell)
            texts.append(show(samples, cell, found.samples(OURS.name, cell)) if samples else NONE)
        if any(text != NONE for text in texts):
            rows.append((label, *texts))
    return Table(title, ("server", *map(name, there)), rows)


def short(cell: Cell) -> str:
    return f"{cell.model.upper()}, {cell.kind}, {cell.rows}"


def open_title(cell: Cell) -> str:
    return f"{cell.size:,}/s" if cell.load == "open" else f"highest, p99 <= {LIMIT_MS:g} ms"


def started(found: Outcome) -> Table:
    rows = [
        (found.servers[s.server], number(s.seconds), number(s.rss), number(s.pss))
        for s in found.started
        if s.model == MLP and s.workers == 1
    ]
    columns = ("server", "ready after s", "resident MB", "proportional MB")
    return Table("Start and memory with the MLP, one worker, all processes", columns, rows)


def absences(found: Outcome) -> list[str]:
    """Sentences about what is not in the tables."""
    told = []
    for gap in found.absent:
        if gap.server in FORMS:
            continue  # as ours, said once
        what = f", {gap.what}" if gap.what else ""
        told.append(f"{found.servers[gap.server]}{what}: {gap.why}")
    return told


# ---------------------------------------------------------------- targets


class Target(NamedTuple):
    """measured: NaN when nothing was. at_least: otherwise at most."""

    text: str
    bound: float
    measured: float
    at_least: bool = True

    @property
    def held(self) -> bool | None:
        """None: not measured, which is no pass."""
        if math.isnan(self.measured):
            return None
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound


TIMES = {
    "fastapi": 8.0,
    "pytriton": 10.0,
    "mlserver": 20.0,
    "bentoml": 20.0,
    "kserve": 20.0,
    "mlflow": 30.0,
}
"""Single-row JSON, MLP: how many times faster ours has to be."""


def targets(found: Outcome) -> list[Target]:
    """Those of issue and design, for the servers that took part."""

    def times(other: str, cell: Cell) -> float:
        return ratio(found.samples(OURS.name, cell), found.samples(other, cell))

    def best(cell: Cell) -> float:
        """Against the fastest peer (the smallest ratio)."""
        others = [times(name, cell) for name in TIMES]
        return min((x for x in others if not math.isnan(x)), default=math.nan)

    def mine(cell: Cell) -> Sample | None:
        samples = found.samples(OURS.name, cell)
        return middle(samples) if samples else None

    def value(cell: Cell, field: str) -> float:
        sample = mine(cell)
        return math.nan if sample is None else float(getattr(sample, field))

    there = [name for name in TIMES if name in found.servers]
    trees = Cell(GBM, "json", 1, "closed", HEADLINE)
    free = Cell(MLP, "json", 1, "open", RATES[-1], 2)
    if not found.samples(OURS.name, free):
        free = Cell(MLP, "json", 1, "open", RATES[-1])
    alone = [s for s in found.started if (s.server, s.model, s.workers) == (OURS.name, MLP, 1)]
    unlogged = found.samples(f"{OURS.name}-{ours.UNLOGGED}", HEAD)
    cost = 1 - ratio(found.samples(OURS.name, HEAD), unlogged) if unlogged else math.nan
    return [
        *(
            Target(f"MLP, one row: times {found.servers[n]}", TIMES[n], times(n, HEAD))
            for n in there
        ),
        Target("MLP, one row: share of the no-op handler", 0.5, times(NOOP.name, HEAD)),
        *(
            Target(f"trees, one row: times {found.servers[n]}", TIMES[n], times(n, trees))
            for n in there
        ),
        Target("MLP, 100 rows as JSON: times the best peer", 2.0, best(_hundred("json"))),
        Target("MLP, 100 rows, binary: times the best peer", 5.0, best(_hundred("binary"))),
        Target("p99 ms at 3,200/s, two cores", 4.0, value(free, "p99"), False),
        Target("failed at 3,200/s", 0, value(free, "failed"), False),
        Target("cost of the log, share of throughput", 0.1, cost, False),
        Target("worker memory MB", 150, alone[0].rss if alone else math.nan, False),
        Target("ready after s", 2.0, alone[0].seconds if alone else math.nan, False),
    ]


def _hundred(kind: str) -> Cell:
    return Cell(MLP, kind, 100, "closed", HEADLINE)
