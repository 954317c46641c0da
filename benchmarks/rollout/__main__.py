"""Whole rollouts on streams whose true harm is known: `python -m benchmarks.rollout --help`.

Evidence is looked at again and again, and nothing is corrected afterwards for having looked. Prints
tables with their seeds and Monte-Carlo errors; exit status 1 when an error rate is above alpha by
more than three of its standard errors.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.rollout import beside, pairing, tables
from benchmarks.rollout.cells import cells
from benchmarks.rollout.rollouts import measure

DOCS = Path(__file__).parents[2] / "docs" / "benchmarks.md"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make bench-rollout", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--runs", type=int, default=500, help="rollouts per row (500)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes (2)")
    parser.add_argument(
        "--docs", action="store_true", help="write the tables to docs/benchmarks.md"
    )
    args = parser.parse_args()
    began = time.perf_counter()
    few, seed = max(args.runs // 4, 20), args.seed
    with ProcessPoolExecutor(args.workers) as pool:
        wanted, rows = list(cells(args.runs, seed)), []
        for row in pool.map(measure, wanted):
            rows.append(row)
            print(f"{len(rows)} of {len(wanted)} rows", file=sys.stderr, flush=True)
        table, above = tables.errors(rows, time.perf_counter() - began, args.workers)
        others: dict[str, Callable[[], Iterable[str]]] = {
            "A block that nobody declared": partial(tables.undeclared, few, seed),
            "Experiments": partial(tables.experiments, few, seed),
            "Beside other rules": partial(beside.beside, min(args.runs, 400), seed),
            "What pairing saves": pairing.pairing,
            "Two rates": partial(tables.two_rates, few, seed),
            "The router": partial(tables.router, 10 * args.runs, seed),
        }
        waiting = {title: pool.submit(way) for title, way in others.items()}
        parts = [("How often it is wrong", table)]
        parts += [(title, list(w.result())) for title, w in waiting.items()]
    text = "\n\n".join(f"**{title}**\n\n" + "\n".join(lines) for title, lines in parts)
    print(text)
    if args.docs:
        _write(text)
    for line in above:
        print(f"ABOVE ALPHA: {line}")
    return 1 if above else 0


def _write(text: str) -> None:
    begin, end = "<!-- bench-rollout: begin -->", "<!-- bench-rollout: end -->"
    page = DOCS.read_text()
    before, _, rest = page.partition(begin)
    DOCS.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}")


if __name__ == "__main__":
    raise SystemExit(main())
