"""What is measured, and the processes that measure it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from benchmarks.serving.envs import NotInstalled, environment

HERE = Path(__file__).parent
SHARED = Path(os.environ.get("HOMEOSTAT_SHARED_DATA") or HERE.parents[2] / "shared" / "data")
PEERS = {
    "evidently": "evidently",
    "nannyml": "nannyml",
    "alibi-detect": "alibi-detect",
    "scipy loop": "scipy",
}
OURS = "homeostat"
COLUMNS = 30
REFERENCE = 10_000
EQUAL_WINDOWS = 20
"""Of a stream, at most, where thresholds are set to equal false alarms."""
EQUAL_SHIFTS = (0.1, 0.15, 0.25)
BIG = 10_000_000
Found = dict[str, Any]


class Plan(NamedTuple):
    """seconds: of a peer in a cell. patience: of one comparison of files. equal: features and rows
    of the cells with equal false alarms, and the seconds of a tool there. windows: quiet ones that
    are simulated of ours per cell, in `simulated` seconds at most. limit: of everything."""

    name: str
    seconds: float
    patience: float
    sizes: tuple[int, ...]
    features: tuple[int, ...]
    rows: tuple[int, ...]
    shifts: tuple[float, ...]
    equal: tuple[tuple[int, int], ...]
    equal_seconds: float
    windows: int
    simulated: float
    big: bool
    limit: float


QUICK = Plan("quick", 0.4, 40.0, (10_000, 100_000), (1, 30, 300), (200, 1_000, 10_000),
             (0.5,), ((1, 1_000), (30, 1_000)), 2.0, 500, 4.0, big=False, limit=300.0)  # fmt: skip
FULL = Plan("full", 1.5, 240.0, (10_000, 100_000, 1_000_000), (1, 30, 300),
            (200, 1_000, 10_000, 100_000), (0.3, 0.5, 1.0), ((1, 1_000), (30, 1_000)), 12.0,
            3_000, 150.0, big=True, limit=1_020.0)  # fmt: skip


class Run(NamedTuple):
    """tell: progress. keep: what there is so far. until: when everything has to be over."""

    plan: Plan
    folder: Path
    found: Found
    tell: Callable[[str], None]
    keep: Callable[[Found], None]
    until: float

    def left(self) -> float:
        return self.until - time.monotonic()


def run(
    plan: Plan,
    only: list[str],
    folder: Path,
    tell: Callable[[str], None],
    keep: Callable[[Found], None],
) -> Found:
    """Everything. -> figures, with what could not be had and why. Costs are measured alone, one
    tool after the other; what is not timed, two tools at a time."""
    pythons, missing = _environments(only, tell)
    found: Found = {"missing": missing, "files": [], "quality": [], "equal": [], "real": []}
    began = time.monotonic()

    def told(text: str) -> None:
        tell(f"{time.monotonic() - began:5.0f} s  {text}")

    of = Run(plan, folder, found, told, keep, began + plan.limit)
    _files(of, pythons)
    streams = _streams(folder)
    tools = [tool for tool in pythons if tool not in (SORT, JOINT)]
    # ours first: it has the most to do
    with ThreadPoolExecutor(2) as lanes:
        for done in [lanes.submit(_tool, of, tool, pythons[tool], streams) for tool in tools]:
            done.result()
    for part in ("quality", "equal", "real"):
        found[part].sort(key=lambda cell: tools.index(cell["tool"]))  # lanes end in any order
    found["seconds"] = time.monotonic() - began
    return found


def _tool(of: Run, tool: str, python: str, streams: dict[str, Path]) -> None:
    worker = Worker(tool, python, of)
    try:
        _equal(of, worker)
        _real(of, worker, streams)
        _quality(of, worker)
    finally:
        worker.close()


SORT = "numpy sort"
JOINT = "homeostat, joint too"


def _environments(only: list[str], tell: Callable[[str], None]) -> tuple[dict[str, str], Found]:
    pythons = {OURS: sys.executable, JOINT: sys.executable, SORT: sys.executable}
    missing: Found = {}
    for tool, name in PEERS.items():
        if only and tool not in only:
            continue
        try:
            tell(f"{tool}: its environment (installed once)")
            wanted = HERE / "peers" / f"{name}.txt"
            pythons[tool] = environment(f"drift-{name}", wanted)
        except NotInstalled as error:
            missing[tool] = str(error)
    return pythons, missing


# -- processes ----------------------------------------------------------------------------------


class Worker:
    """One tool in a process of its own, for many jobs."""

    def __init__(self, tool: str, python: str, of: Run) -> None:
        self.tool = tool
        self.cost = 0.0
        """Seconds per value of the largest window so far."""
        self._python, self._of = python, of
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [self._python, str(HERE / "worker.py"), self.tool],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, **job: Any) -> Found:
        """The answer; or an error, when it takes far longer than the job's seconds."""
        patience = min(5 * job["seconds"] + 20, self._of.left())
        if patience < 1:
            return {"error": "no time left"}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        # an answer is one line, so nothing waits in the buffer
        if not select.select([self._process.stdout], [], [], patience)[0]:
            self.close()
            self._start()
            if "rows" in job:  # and larger windows are not tried
                self.cost = patience / (job["rows"] * job["features"])
            return {"error": f"more than {patience:.0f} s"}
        line = self._process.stdout.readline()
        if not line:
            self.close()
            self._start()
            return {"error": "its process ended"}
        found: Found = json.loads(line)
        if found.get("longest") and "rows" in job:
            self.cost = found["longest"] / (job["rows"] * job["features"])
        return found

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def _once(python: str, tool: str, job: Found, patience: float) -> Found:
    """A job in a process of its own, so that its peak memory is its own."""
    try:
        done = subprocess.run(
            [python, str(HERE / "worker.py"), tool],
            input=json.dumps(job) + "\n",
            capture_output=True,
            text=True,
            timeout=patience,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"more than {patience:.0f} s"}
    lines = done.stdout.splitlines()
    found: Found = json.loads(lines[-1]) if lines else {"error": _last(done.stderr)}
    return found


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1][:120] if lines else "its process ended"


# -- cost ---------------------------------------------------------------------------------------


def _files(of: Run, pythons: dict[str, str]) -> None:
    plan, folder = of.plan, of.folder
    warm = [str(folder / f"warm{i}.parquet") for i in (0, 1)]
    for seed, path in enumerate(warm):
        _write(Path(path), 1_000, seed)
    sizes = (*plan.sizes, BIG) if plan.big else plan.sizes
    for rows in sizes:
        paths = [str(folder / f"{name}.parquet") for name in ("before", "after")]
        for seed, path in enumerate(paths):
            _write(Path(path), rows, seed + 10)
        tools = [OURS] if rows == BIG else list(pythons)
        for tool in tools:
            of.tell(f"files of {rows:,} x {COLUMNS}: {tool}")
            job = {"kind": "files", "warm": warm, "before": paths[0], "after": paths[1]}
            answer = _once(pythons[tool], tool, job, plan.patience)
            of.found["files"].append({"tool": tool, "rows": rows, **answer})
            of.keep(of.found)
        for path in paths:
            Path(path).unlink()


def _write(path: Path, rows: int, seed: int) -> None:
    """Normal columns; the last row group is as large as the first, so that nothing is large."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    random = np.random.default_rng(seed)
    schema = pa.schema([(f"f{i}", pa.float64()) for i in range(COLUMNS)])
    with pq.ParquetWriter(path, schema, compression="lz4") as writer:
        for start in range(0, rows, 500_000):
            n = min(500_000, rows - start)
            values = {name: random.normal(size=n) for name in schema.names}
            writer.write_table(pa.table(values, schema=schema))


# -- quality ------------------------------------------------------------------------------------


def _quality(of: Run, worker: Worker) -> None:
    """False alarms of quiet streams, and detection of a move of one column."""
    plan, tool = of.plan, worker.tool
    for features in plan.features:
        for rows in plan.rows:
            of.tell(f"quality, {features} features, windows of {rows:,}: {tool}")
            cell = {"tool": tool, "features": features, "rows": rows}
            expected = worker.cost * features * rows
            if tool != OURS and expected > 4 * plan.seconds:
                cell["error"] = f"~{expected:.0f} s a window"
            else:
                cell |= _cell(of, worker, features, rows)
            of.found["quality"].append(cell)
            of.keep(of.found)


def _cell(of: Run, worker: Worker, features: int, rows: int) -> Found:
    plan, ours = of.plan, worker.tool == OURS
    simulated = max(1.0, min(plan.simulated, of.left() - 30))
    job = {"kind": "simulate" if ours else "windows", "features": features, "rows": rows,
           "reference": REFERENCE, "seconds": simulated if ours else plan.seconds,
           "seed": 1, "count": plan.windows}  # fmt: skip
    quiet = worker.ask(**job, streams=1_000, windows=100 if ours else 50)
    if "error" in quiet:
        return quiet
    alarms = [alarm for s in quiet["streams"] for alarm in s["alarms"]]
    moved = {str(shift): _moved(worker, {**job, "shift": shift}) for shift in plan.shifts}
    return {"windows": len(alarms), "alarms": sum(alarms), "moved": moved}


def _moved(worker: Worker, job: Found) -> Found:
    """Share of streams that alarm in their first window, and windows to the first alarm."""
    job = {**job, "seed": 2, "seconds": job["seconds"] / 2}
    job["count"] = 20 if job["features"] < 300 else 8  # baselines of many columns take a while
    answer = worker.ask(**job, streams=20, windows=10, until_alarm=True)
    streams = [s["alarms"] for s in answer.get("streams", []) if s["alarms"]]
    delays = [a.index(True) + 1 for a in streams if True in a]
    return {
        "streams": len(streams),
        "first": sum(a[0] for a in streams),
        "delay": float(np.mean(delays)) if delays else None,
        "missed": len(streams) - len(delays),
    }


def _equal(of: Run, worker: Worker) -> None:
    """Thresholds at which every tool alarms in 2 of 100 quiet windows; then its delay in each of
    the same moved streams."""
    for features, rows in of.plan.equal:
        of.tell(f"equal false alarms, {features} features, windows of {rows:,}: {worker.tool}")
        cell: Found = {"tool": worker.tool, "features": features, "rows": rows}
        of.found["equal"].append(cell)
        job = {"kind": "windows", "features": features, "rows": rows, "windows": EQUAL_WINDOWS,
               "reference": REFERENCE, "seed": 3, "seconds": of.plan.equal_seconds}  # fmt: skip
        if worker.tool == OURS:  # as the others: anything that moves
            job |= {"min_effect": 0.0, "alpha": 0.02}
        quiet = worker.ask(**job, streams=200, least=110)
        scores = [s for stream in quiet.get("streams", []) for s in stream["scores"]]
        if len(scores) < 100:
            cell["error"] = quiet.get("error", f"only {len(scores)} quiet windows in the time")
            continue
        limit = float(np.quantile(scores, 0.98, method="higher"))
        cell |= {"quiet": len(scores), "delays": {}}
        for shift in EQUAL_SHIFTS:
            answer = worker.ask(**{**job, "seed": 4, "seconds": of.plan.equal_seconds / 3},
                                shift=shift, streams=60, limit=limit, least=20)  # fmt: skip
            cell["delays"][str(shift)] = [
                len(s["scores"]) if s["scores"][-1] > limit else EQUAL_WINDOWS
                for s in answer.get("streams", [])
                if s["scores"] and (s["scores"][-1] > limit or len(s["scores"]) == EQUAL_WINDOWS)
            ]
        of.keep(of.found)


# -- real data ----------------------------------------------------------------------------------


def _real(of: Run, worker: Worker, streams: dict[str, Path]) -> None:
    for name, path in streams.items():
        of.tell(f"{name}: {worker.tool}")
        answer = worker.ask(kind="windows", stored=str(path), seconds=of.plan.equal_seconds / 2)
        row: Found = {"stream": name, "tool": worker.tool}
        for stream in answer.get("streams", []):
            alarms = stream["alarms"]
            row |= {"windows": len(alarms), "alarms": sum(alarms), "what": stream["what"]}
            if True in alarms:
                row["first"] = alarms.index(True) + 1
        if not row.get("windows"):
            row["error"] = answer.get("error", "no time")
        of.found["real"].append(row)
        of.keep(of.found)


def _streams(folder: Path) -> dict[str, Path]:
    """Card transactions, quiet as they are and with amounts half higher from day 11 on; and an
    electricity market, which drifts: its Victorian columns are constant in the first year."""
    made = {}
    path = SHARED / "transactions.parquet"
    if path.exists():
        table = pl.scan_parquet(path).select(
            amount=pl.col("TX_AMOUNT").cast(pl.Float64),
            second_of_day=(pl.col("TX_TIME_SECONDS").cast(pl.Int64) % 86_400).cast(pl.Float64),
            customer=pl.col("CUSTOMER_ID").cast(pl.Float64),
            terminal=pl.col("TERMINAL_ID").cast(pl.Float64),
        )
        cards = table.collect()
        rows = cards.to_numpy()
        quiet = rows[67_000 : 67_000 + 60 * 9_500].reshape(60, 9_500, 4)
        moved = quiet[:20].copy()
        moved[10:, :, 0] *= 1.5
        made["card transactions, a day each"] = rows[:67_000], quiet, cards.columns
        made["the same, amounts +50 % from day 11 on"] = rows[:67_000], moved, cards.columns
    path = SHARED / "elec.csv.gz"
    if path.exists():
        market = pl.read_csv(path).drop("period", "class").cast(pl.Float64)
        year, months = 48 * 365, 48 * 182
        for name, columns, start in (
            ("electricity market, a week each, after its first year", market.columns, 0),
            ("its New South Wales' columns alone", ["nswprice", "nswdemand"], 0),
            ("all columns, a week each, after half of the second year", market.columns, year),
        ):
            rows = market.select(columns).to_numpy()[start:]
            known = year if start == 0 else months
            weeks = (len(rows) - known) // 336
            windows = rows[known : known + weeks * 336].reshape(weeks, 336, -1)
            made[name] = rows[:known], windows, columns
    paths = {}
    for i, (name, (reference, windows, columns)) in enumerate(made.items()):
        paths[name] = folder / f"real{i}.npz"
        np.savez(paths[name], reference=reference, windows=windows, columns=np.array(columns))
    return paths
