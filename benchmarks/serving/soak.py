"""`make bench-soak`: minutes at full rate, with worker kills at the end.

    python -m benchmarks.serving.soak [--minutes 5] [--workers 2] [--kills 3] [--docs]

Workers, keeper, log, metrics and a sticky canary, asked by 32 connections without a pause. Holds:

- memory: the anonymous memory of a worker (that is, without the mapped pages of the log, which
  come and go) is shown to grow by no more than GROWTH, after it has settled: the upper end of the
  95 % interval of its slope is below it. A run too short to show that says so, and does not hold;
- requests = answered + shed + failed, exactly, as the server counts them;
- no answer that a client has heard is missing from the server's count, and what the server counts
  beyond is at most what the kills kept from being heard;
- the log has every prediction that was counted, and beyond these at most what the kills cut off
  between writing it and counting it. Without kills all are equal.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.serving import catalogue, load, measure, models, ours, report, stats
from benchmarks.serving.measure import Running
from benchmarks.serving.payloads import Payload
from benchmarks.serving.plan import HEADLINE
from benchmarks.serving.process import ROOT
from rich.console import Console
from rich.table import Table

from homeostat.serving.counters import total
from homeostat.serving.layout import Layout
from homeostat.serving.status import living

SECTION = "bench-soak"
GROWTH = 1.0
"""MB per million requests: one byte of each."""
SLICE = 5.0
"""Seconds of load at a time: connections are made anew in between, and spread over workers."""
SETTLING = 30.0
"""Seconds of a worker's life after which its memory is looked at: by then every buffer has its
size."""


class Told(NamedTuple):
    """What the clients saw."""

    answered: int
    broken: int
    seconds: float

    def plus(self, sample: stats.Sample, seconds: float) -> Told:
        return Told(
            self.answered + sample.answered + sample.late,
            self.broken + sample.failed,
            self.seconds + seconds,
        )


class Finding(NamedTuple):
    what: str
    found: str
    held: bool


class Point(NamedTuple):
    """seconds: since the start. millions: of requests, of one worker on average."""

    seconds: float
    millions: float
    mb: float


class Soak(NamedTuple):
    """away: seconds without a worker after each kill."""

    told: Told
    away: list[float]
    findings: list[Finding]


class Memory(threading.Thread):
    """Looks once a second at the anonymous memory of every worker. points: by pid."""

    def __init__(self, server: Running, layout: Layout, n: int) -> None:
        super().__init__(daemon=True)
        self._server, self._layout, self._n = server.server, layout, n
        self._ended = threading.Event()
        self.points: dict[int, list[Point]] = defaultdict(list)

    def run(self) -> None:
        start = time.monotonic()
        while not self._ended.wait(1.0):
            millions = total(self._layout.metrics).globals["requests"] / self._n / 1e6
            for pid in workers(self._server.pids()):
                mb = anonymous(pid)
                if mb is not None:
                    self.points[pid].append(Point(time.monotonic() - start, millions, mb))

    def stop(self) -> None:
        self._ended.set()
        self.join()


def workers(pids: list[int]) -> list[int]:
    """Those that run `homeostat.serving.worker`."""
    found = []
    for pid in pids:
        try:
            if b"homeostat.serving.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except OSError:
            continue
    return found


def anonymous(pid: int) -> float | None:
    """MB of memory that is not a mapped file; None when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    sizes = [line.split()[1] for line in text.splitlines() if line.startswith("RssAnon:")]
    return int(sizes[0]) * 1024 / 1e6 if sizes else None


def grown(points: list[Point]) -> stats.Trend | None:
    """MB per million requests after the settling; None where it has not been seen for long
    enough."""
    settled = [p for p in points if p.seconds >= points[0].seconds + SETTLING]
    return stats.trend([p.millions for p in settled], [p.mb for p in settled])


def judged(
    told: Told, counted: dict[str, int], predictions: int, logged: int, growth: list[stats.Trend]
) -> list[Finding]:
    """counted: the server's counters; predictions: rows answered by its count; logged: records
    without an error in the log; growth: MB per million requests, of each worker."""
    ended = counted["answered"] + counted["shed"] + counted["failed"]
    unheard = predictions - told.answered
    beyond = logged - predictions
    lost = counted["lost"]
    worst = max(growth, key=lambda trend: trend.high, default=None)
    return [
        Finding(
            "requests = answered + shed + failed",
            f"{counted['requests']:,} = {counted['answered']:,} + {counted['shed']:,} + "
            f"{counted['failed']:,}",
            counted["requests"] == ended,
        ),
        Finding(
            "answers heard are counted; counted and unheard only by kills",
            f"{told.answered:,} heard, {predictions:,} counted, {told.broken:,} broken off",
            0 <= unheard <= told.broken,
        ),
        Finding(
            "predictions counted are in the log; more only by kills",
            f"{logged:,} records, {beyond:,} more than counted, {lost:,} under way when killed",
            0 <= beyond <= lost,
        ),
        Finding(
            "records that could not be kept",
            f"{counted['log_dropped']:,}",
            counted["log_dropped"] == 0,
        ),
        Finding(
            f"memory of a worker grows by at most {GROWTH:g} MB per million requests",
            "not seen for long enough" if worst is None else _shown(worst, len(growth)),
            worst is not None and worst.high <= GROWTH,
        ),
    ]


def _shown(worst: stats.Trend, n: int) -> str:
    undecided = worst.low <= GROWTH < worst.high
    return (
        f"{worst.slope:+.2f}, 95 % interval {worst.low:+.2f} to {worst.high:+.2f} (the worst of "
        f"{n}){': undecided, take more minutes' if undecided else ''}"
    )


def soak(minutes: float, n: int, kills: int, console: Console) -> Soak:
    """Raises NotStarted, TimeoutError."""
    with tempfile.TemporaryDirectory(prefix="homeostat-soak-") as scratch:
        folder = Path(scratch)
        model = models.make(folder / "models")[models.MLP]
        entry = catalogue.OURS._replace(launch=catalogue.ours_as(ours.KEEPER))
        one = measure.start(entry, model, folder / "run", sys.executable, n)
        layout = Layout(folder / "run" / "home")
        memory = Memory(one, layout, n)
        try:
            heard = total(layout.metrics).globals  # what asking whether it is ready has counted
            memory.start()
            told, away = _ask(one, layout, 60 * minutes, kills, console)
            memory.stop()
            counted, predictions = _settled(layout)
        finally:
            one.server.stop()
        for name in ("requests", "answered", "failed", "shed"):
            counted[name] -= heard[name]
        console.print("reading the log")
        trends = [grown(points) for points in memory.points.values()]
        steady = [trend for trend in trends if trend is not None]
        findings = judged(told, counted, predictions, _logged(layout.home), steady)
        return Soak(told, away, findings)


def _ask(
    one: Running, layout: Layout, seconds: float, kills: int, console: Console
) -> tuple[Told, list[float]]:
    """Load in slices; the last ones each lose a worker halfway. -> and seconds without it."""
    wires = one.entry.wires(Payload("json", 1), one.model.name)
    assert not isinstance(wires, str)
    told, slices = Told(0, 0, 0.0), max(kills + 1, round(seconds / SLICE))
    away: list[float] = []
    for k in range(slices):
        killer = None
        if slices - k <= kills:
            killer = threading.Timer(SLICE / 2, _kill, (layout, away))
            killer.start()
        began = time.monotonic()
        sample = load.closed(one.server.port, wires, HEADLINE, SLICE)
        told = told.plus(sample, time.monotonic() - began)
        if killer is not None:
            killer.join()
        if k % 6 == 0:
            console.print(f"{told.seconds:4.0f} s: {told.answered:,} answered", highlight=False)
    return told, away


def _kill(layout: Layout, away: list[float]) -> None:
    """kill -9 one worker; how many seconds it is until its place answers again, by its status."""
    there = living(layout)
    began = time.monotonic()
    os.kill(there[0].pid, signal.SIGKILL)

    def replaced() -> bool:
        now = living(layout)
        return len(now) == len(there) and there[0].pid not in {worker.pid for worker in now}

    _await(replaced, "a worker after the kill")
    away.append(time.monotonic() - began)


def _settled(layout: Layout) -> tuple[dict[str, int], int]:
    """-> the counters and the rows answered, once nothing is under way."""

    def none_under_way() -> bool:
        sums = total(layout.metrics).globals
        return sums["requests"] == sums["answered"] + sums["shed"] + sums["failed"]

    _await(none_under_way, "the end of every request", patience=15.0)
    found = total(layout.metrics)
    return dict(found.globals), int(sum(values[0] for values in found.series.values()))


def _await(condition: Callable[[], bool], what: str, patience: float = 30.0) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {patience:g} s for {what}")
        time.sleep(0.02)


def _logged(home: Path) -> int:
    """Records without an error, once the keeper has put everything into the table."""
    import polars as pl

    from homeostat.backends.local.ledger import DeltaLedger
    from homeostat.backends.local.prediction_log import DeltaPredictionLog
    from homeostat.serving.keeper import Keeper

    keeper = Keeper(home, DeltaPredictionLog(home), DeltaLedger(home / "labels"))
    try:
        deadline = time.monotonic() + 300
        while any(Layout(home).sealed.iterdir()) and time.monotonic() < deadline:
            keeper.step()
    finally:
        keeper.close()
    table = pl.scan_delta(str(Layout(home).table))
    return int(table.filter(pl.col("error").is_null()).select(pl.len()).collect().item())


def main() -> int:
    """-> 0 when everything held."""
    parser = argparse.ArgumentParser(prog="make bench-soak")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--docs", action="store_true", help="rewrite docs/benchmarks.md's section")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console(width=None if sys.stdout.isatty() else 140)
    found = soak(given.minutes, given.workers, given.kills, console)
    title = (
        f"{given.minutes:g} minutes, {given.workers} workers, {found.told.answered:,} requests "
        f"answered, {found.told.answered / found.told.seconds:,.0f}/s"
    )
    if found.away:
        seconds = ", ".join(f"{s:.2f}" for s in found.away)
        title += f"; a killed worker answers again after {seconds} s, at full load on the others"
    table = Table("what holds", "found", "held")
    for finding in found.findings:
        style = "green" if finding.held else "red"
        table.add_row(finding.what, finding.found, _held(finding), style=style)
    console.print(title, highlight=False)
    console.print(table)
    if given.docs:
        page = ROOT / "docs" / "benchmarks.md"
        rows = [(f.what, f.found, _held(f)) for f in found.findings]
        drawn = report.as_markdown(("what holds", "found", "held"), rows)
        text = f"Measured {measure.now()} by `make bench-soak`: {report.machine()}. {title}."
        content = f"{text}\n\n{drawn}"
        page.write_text(report.between_marks(page.read_text(), SECTION, content))
    return 0 if all(finding.held for finding in found.findings) else 1


def _held(finding: Finding) -> str:
    return "yes" if finding.held else "no"


if __name__ == "__main__":
    sys.exit(main())
