"""python -m homeostat.testing.simulate --seeds 1000 [--first N] [--jobs N] [--json]"""

from __future__ import annotations

import argparse
import collections
import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

# one thread each: the frames are small, and the seeds are what runs side by side
os.environ.setdefault("POLARS_MAX_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")


def main() -> int:
    """Exit code 0 when every law held for every seed, else 1 (the first reports are printed)."""
    parser = argparse.ArgumentParser(prog="python -m homeostat.testing.simulate")
    parser.add_argument("--seeds", type=int, default=1000, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--reports", type=int, default=3, help="how many failures to print whole")
    args = parser.parse_args()
    began = time.perf_counter()
    failed = _run(range(args.first, args.first + args.seeds), args.jobs, args.reports)
    print(f"{args.seeds} seeds in {time.perf_counter() - began:.1f} s")
    return 1 if failed else 0


def _run(seeds: range, jobs: int, reports: int) -> int:
    from homeostat.testing.simulate.run import Outcome, simulate

    def outcomes() -> Iterable[Outcome]:
        if jobs == 1 or len(seeds) == 1:
            yield from map(simulate, seeds)
            return
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            yield from pool.map(simulate, seeds, chunksize=max(1, min(25, len(seeds) // jobs)))

    ended: collections.Counter[str] = collections.Counter()
    laws: collections.Counter[str] = collections.Counter()
    total = collections.Counter({"steps": 0, "crashes": 0, "events": 0})
    for outcome in outcomes():
        ended.update(outcome.ended)
        total.update(steps=outcome.steps, crashes=outcome.crashes, events=outcome.events)
        if outcome.law:
            laws[outcome.law] += 1
            if laws.total() <= reports:
                print(outcome.report, end="\n\n", flush=True)
    rollouts = ", ".join(f"{n:,} {how}" for how, n in ended.most_common())
    print(f"rollouts: {rollouts or 'none'}")
    print(", ".join(f"{n:,} {what}" for what, n in total.items()))
    for law, n in laws.most_common():
        print(f"BROKEN in {n} seeds: {law}")
    return laws.total()


if __name__ == "__main__":
    sys.exit(main())
