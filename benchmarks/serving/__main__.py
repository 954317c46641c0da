"""`python -m benchmarks.serving [--quick | --full] [--docs] [--json FILE]`"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.serving import measure, report
from benchmarks.serving import plan as plans
from benchmarks.serving.process import ROOT, pin
from rich.console import Console


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-serving", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="ours, no-op and FastAPI: 1-2 minutes")
    size.add_argument("--full", action="store_true", help="everybody, about 20 minutes (default)")
    parser.add_argument("--seconds", type=float, help="of each timed run")
    parser.add_argument("--repeats", type=int, help="of the whole, interleaved")
    parser.add_argument("--only", default="", help="names of servers, with commas between")
    parser.add_argument("--cells", default="", help="words that the wanted cells' names contain")
    parser.add_argument("--docs", action="store_true", help="rewrite docs/benchmarks.md's section")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "out" / "bench-serving.json")
    parser.add_argument("--wrk", action="store_true", help="check the generator against wrk")
    given = parser.parse_args()
    sizes = {k: v for k in ("seconds", "repeats") if (v := getattr(given, k)) is not None}
    plan = plans.quick(**sizes) if given.quick else plans.full(**sizes)
    plan = _narrowed(plan, given.only, given.cells)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    pin(measure.CLIENT_CORES)
    console = Console(width=None if sys.stdout.isatty() else 140)
    with telling(console) as tell:
        outcome = measure.run(plan, tell)
    made = report.Report(measure.now(), report.machine(), plan.seconds, plan.repeats, outcome)
    report.show(made, console)
    given.json.parent.mkdir(parents=True, exist_ok=True)
    report.write_json(made, given.json)
    console.print(f"all figures: {given.json}")
    if given.wrk:
        console.print(report.cross_check() if shutil.which("wrk") else "wrk is not installed")
    if given.docs:
        report.write_docs(made, ROOT / "docs")
        console.print("docs/benchmarks.md has been rewritten")
    return 0


@contextlib.contextmanager
def telling(console: Console) -> Iterator[Callable[[str], None]]:
    """What is being done: in a line that changes on a terminal, else a line each on stderr."""
    if not console.is_terminal:
        yield lambda text: print(text, file=sys.stderr, flush=True)
        return
    with console.status("") as status:
        yield status.update


def _narrowed(plan: plans.Plan, only: str, words: str) -> plans.Plan:
    names = {name for name in only.split(",") if name}
    unknown = names - {entry.name for entry in plan.entries}
    if unknown:
        there = ", ".join(entry.name for entry in plan.entries)
        sys.exit(f"no server {', '.join(sorted(unknown))}; expected: {there}")
    entries = [e for e in plan.entries if not names or e.name in names]

    def wanted(cell: plans.Cell) -> bool:
        return all(word in plans.describe(cell) for word in words.split())

    return plan._replace(
        entries=entries,
        pinned=[c for c in plan.pinned if wanted(c)],
        free=[c for c in plan.free if wanted(c)],
    )


if __name__ == "__main__":
    sys.exit(main())
