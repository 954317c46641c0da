"""What is asked of whom, and what a run has found. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from benchmarks.serving import catalogue
from benchmarks.serving.catalogue import Entry
from benchmarks.serving.models import GBM, MLP
from benchmarks.serving.payloads import Payload
from benchmarks.serving.stats import Sample

HEADLINE = 32
CONNECTIONS = (1, 8, HEADLINE, 128)
RATES = (250, 1000, 3200)
LIMIT_MS = 10.0
"""p99 that the highest rate has to hold."""


class Cell(msgspec.Struct, frozen=True):
    """One thing measured. load: `closed` with so many connections, `open` at so many requests
    per second, or `highest`: the rate of an open loop that still holds LIMIT_MS.
    workers: 1 is pinned to a core, the client to the other; 2 are not pinned."""

    model: str
    kind: str
    rows: int
    load: str
    size: int = 0
    workers: int = 1

    @property
    def payload(self) -> Payload:
        return Payload(self.kind, self.rows)


class Result(msgspec.Struct):
    """The repeats of a cell for one server, in the order in which they ran."""

    server: str
    cell: Cell
    samples: list[Sample] = []


class Started(msgspec.Struct, frozen=True):
    """seconds: from the start to the first success. rss, pss: MB once it had answered."""

    server: str
    model: str
    workers: int
    seconds: float
    rss: float
    pss: float


class Absent(msgspec.Struct, frozen=True):
    """What could not be measured, and why. what: empty means nothing of this server could."""

    server: str
    what: str
    why: str


class Outcome(msgspec.Struct):
    """Everything a run has found. servers: name -> title, in the order of the catalogue."""

    servers: dict[str, str] = {}
    results: list[Result] = []
    started: list[Started] = []
    absent: list[Absent] = []

    def result(self, server: str, cell: Cell) -> Result:
        """The result to add to."""
        for found in self.results:
            if found.server == server and found.cell == cell:
                return found
        made = Result(server, cell)
        self.results.append(made)
        return made

    def samples(self, server: str, cell: Cell) -> list[Sample]:
        """Empty when there are none."""
        return next((r.samples for r in self.results if (r.server, r.cell) == (server, cell)), [])

    def missing(self, server: str, what: str, why: str) -> None:
        if not any((a.server, a.what) == (server, what) for a in self.absent):
            self.absent.append(Absent(server, what, why))


class Plan(NamedTuple):
    """seconds: of a timed run. cells: those of one pinned worker, and those of two free ones."""

    entries: Sequence[Entry]
    pinned: Sequence[Cell]
    free: Sequence[Cell]
    seconds: float
    repeats: int

    def cells(self, entry: Entry, workers: int) -> list[Cell]:
        """What is measured of a server with so many workers."""
        if workers == 1:
            return [c for c in self.pinned if not entry.brief or c in BRIEF]
        return list(self.free) if entry.two_workers is True and not entry.brief else []


BRIEF = frozenset(Cell(MLP, "json", n, "closed", HEADLINE) for n in (1, 100))
"""What is measured of a variant."""


def quick(seconds: float = 1.0, repeats: int = 3) -> Plan:
    cells = [
        *(Cell(MLP, "json", 1, "closed", n) for n in (1, HEADLINE)),
        Cell(MLP, "json", 100, "closed", HEADLINE),
        Cell(MLP, "binary", 100, "closed", HEADLINE),
        Cell(GBM, "json", 1, "closed", HEADLINE),
        Cell(MLP, "json", 1, "open", 3200),
    ]
    return Plan(catalogue.QUICK, cells, (), seconds, repeats)


def full(seconds: float = 1.2, repeats: int = 3) -> Plan:
    pinned = [
        *(Cell(MLP, "json", 1, "closed", n) for n in CONNECTIONS),
        Cell(MLP, "json", 100, "closed", HEADLINE),
        *(Cell(MLP, kind, n, "closed", HEADLINE) for kind in ("binary", "grpc") for n in (1, 100)),
        *(Cell(GBM, "json", n, "closed", HEADLINE) for n in (1, 100)),
        Cell(GBM, "binary", 100, "closed", HEADLINE),
        *(Cell(MLP, "json", 1, "open", rate) for rate in RATES),
        Cell(MLP, "json", 1, "highest"),
    ]
    free = [
        Cell(MLP, "json", 1, "closed", HEADLINE, 2),
        Cell(MLP, "json", 1, "open", RATES[-1], 2),
        Cell(MLP, "json", 1, "highest", 0, 2),
    ]
    return Plan(catalogue.EVERYBODY, pinned, free, seconds, repeats)


def describe(cell: Cell) -> str:
    how = {
        "closed": f"closed loop, {cell.size} connection{'s' if cell.size > 1 else ''}",
        "open": f"open loop, {cell.size:,}/s",
        "highest": f"highest rate with p99 <= {LIMIT_MS:g} ms",
    }[cell.load]
    two = ", 2 workers" if cell.workers > 1 else ""
    return f"{cell.model}, {cell.payload}, {how}{two}"
