"""What is measured, and the processes that measure it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
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
EQUAL = {"features": COLUMNS, "rows": 1_000, "windows": 20}
"""The cell in which thresholds are set to equal false alarms."""
BIG = 10_000_000
Found = dict[str, Any]


class Plan(NamedTuple):
    """seconds: of a tool in a cell. patience: of one comparison of files."""

    name: str
    seconds: float
    patience: float
    sizes: tuple[int, ...]
    features: tuple[int, ...]
    rows: tuple[int, ...]
    shifts: tuple[float, ...]
    equal_seconds: float
    big: bool


QUICK = Plan("quick", 0.4, 40.0, (10_000, 100_000), (1, 30, 300), (200, 1_000, 10_000),
             (0.5,), 2.0, big=False)  # fmt: skip
FULL = Plan("full", 3.0, 400.0, (10_000, 100_000, 1_000_000), (1, 30, 300),
            (200, 1_000, 10_000, 100_000), (0.3, 0.5, 1.0), 20.0, big=True)  # fmt: skip


def run(plan: Plan, only: list[str], folder: Path, tell: Callable[[str], None]) -> Found:
    """Everything, tool by tool in each cell. -> figures, with what could not be had and why."""
    pythons, missing = _environments(only, tell)
    found: Found = {"missing": missing, "files": [], "quality": [], "equal": [], "real": []}
    _files(plan, pythons, folder, tell, found)
    workers = {t: Worker(t, p) for t, p in pythons.items() if t not in ("numpy sort", JOINT)}
    try:
        _quality(plan, workers, tell, found)
        _equal(plan, workers, tell, found)
        _real(plan, workers, folder, tell, found)
    finally:
        for worker in workers.values():
            worker.close()
    return found


JOINT = "homeostat, joint too"


def _environments(only: list[str], tell: Callable[[str], None]) -> tuple[dict[str, str], Found]:
    pythons = {OURS: sys.executable, JOINT: sys.executable, "numpy sort": sys.executable}
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

    def __init__(self, tool: str, python: str) -> None:
        self.tool = tool
        self.longest = 0.0
        self.cost = 0.0
        """Seconds per value of the largest window so far."""
        self._process = subprocess.Popen(
            [python, str(HERE / "worker.py"), tool],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, **job: Any) -> Found:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        found: Found = json.loads(line) if line else {"error": "its process ended"}
        if found.get("longest"):
            self.cost = found["longest"] / (job.get("rows", 1) * job.get("features", 1))
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
    found: Found = json.loads(lines[-1]) if lines else {"error": done.stderr[-200:].strip()}
    return found


# -- cost ---------------------------------------------------------------------------------------


def _files(
    plan: Plan, pythons: dict[str, str], folder: Path, tell: Callable[[str], None], found: Found
) -> None:
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
            tell(f"files of {rows:,} x {COLUMNS}: {tool}")
            job = {"kind": "files", "warm": warm, "before": paths[0], "after": paths[1]}
            answer = _once(pythons[tool], tool, job, plan.patience)
            found["files"].append({"tool": tool, "rows": rows, **answer})


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


def _quality(
    plan: Plan, workers: dict[str, Worker], tell: Callable[[str], None], found: Found
) -> None:
    """False alarms of quiet streams, and detection of a move of one column."""
    for features in plan.features:
        for rows in plan.rows:
            for tool, worker in workers.items():
                tell(f"quality, {features} features, windows of {rows:,}: {tool}")
                cell = {"tool": tool, "features": features, "rows": rows}
                expected = worker.cost * features * rows
                if expected > 4 * plan.seconds:
                    found["quality"].append({**cell, "error": f"~{expected:.0f} s a window"})
                    continue
                job = {"kind": "windows", "features": features, "rows": rows,
                       "reference": REFERENCE, "seconds": plan.seconds, "seed": 1}  # fmt: skip
                quiet = worker.ask(**job, streams=1_000, windows=50)
                if "error" in quiet:
                    found["quality"].append({**cell, **quiet})
                    continue
                alarms = [alarm for s in quiet["streams"] for alarm in s["alarms"]]
                moved = {
                    str(shift): _moved(worker, {**job, "shift": shift}) for shift in plan.shifts
                }
                found["quality"].append(
                    {**cell, "windows": len(alarms), "alarms": sum(alarms), "moved": moved}
                )


def _moved(worker: Worker, job: Found) -> Found:
    """Share of streams that alarm in their first window, and windows to the first alarm."""
    answer = worker.ask(**{**job, "seed": 2, "seconds": job["seconds"] / 2}, streams=20,
                        windows=10, until_alarm=True)  # fmt: skip
    streams = [s["alarms"] for s in answer.get("streams", []) if s["alarms"]]
    delays = [a.index(True) + 1 for a in streams if True in a]
    return {
        "streams": len(streams),
        "first": sum(a[0] for a in streams),
        "delay": float(np.mean(delays)) if delays else None,
        "missed": len(streams) - len(delays),
    }


def _equal(
    plan: Plan, workers: dict[str, Worker], tell: Callable[[str], None], found: Found
) -> None:
    """Thresholds at which every tool alarms in 2 of 100 quiet windows; then their delays."""
    for tool, worker in workers.items():
        tell(f"equal false alarms: {tool}")
        job = {"kind": "windows", **EQUAL, "reference": REFERENCE, "seed": 3,
               "seconds": plan.equal_seconds}  # fmt: skip
        if tool == OURS:
            job |= {"min_effect": 0.0, "alpha": 0.02}
        quiet = worker.ask(**job, streams=200)
        scores = [s for stream in quiet.get("streams", []) for s in stream["scores"]]
        if len(scores) < 50:
            short = quiet.get("error", f"only {len(scores)} quiet windows in the time")
            found["equal"].append({"tool": tool, "error": short})
            continue
        limit = float(np.quantile(scores, 0.98, method="higher"))
        delays = {}
        for shift in (0.15, 0.25, 0.5):
            answer = worker.ask(**{**job, "seed": 4, "seconds": plan.equal_seconds / 2},
                                shift=shift, streams=40)  # fmt: skip
            first = [
                next((i + 1 for i, s in enumerate(stream["scores"]) if s > limit), None)
                for stream in answer.get("streams", [])
                if len(stream["scores"]) >= 5
            ]
            found_at = [EQUAL["windows"] if f is None else f for f in first]
            delays[str(shift)] = {
                "mean": float(np.mean(found_at)) if found_at else None,
                "se": float(np.std(found_at) / max(1, len(found_at)) ** 0.5) if found_at else None,
                "streams": len(found_at),
            }
        found["equal"].append({"tool": tool, "quiet": len(scores), "delays": delays})


# -- real data ----------------------------------------------------------------------------------


def _real(
    plan: Plan, workers: dict[str, Worker], folder: Path, tell: Callable[[str], None], found: Found
) -> None:
    for name, reference, windows in _streams():
        path = folder / "real.npz"
        np.savez(path, reference=reference, windows=windows)
        for tool, worker in workers.items():
            tell(f"{name}: {tool}")
            answer = worker.ask(kind="windows", stored=str(path), rows=windows.shape[1],
                                features=reference.shape[1],
                                seconds=plan.equal_seconds)  # fmt: skip
            alarms = [a for s in answer.get("streams", []) for a in s["alarms"]]
            row = {"stream": name, "tool": tool, "windows": len(alarms), "alarms": sum(alarms)}
            if True in alarms:
                row["first"] = alarms.index(True) + 1
            found["real"].append(
                row if alarms else {**row, "error": answer.get("error", "no time")}
            )


def _streams() -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Card transactions, quiet as they are and with amounts half higher from window 11 on;
    and an electricity market, which drifts."""
    made = []
    path = SHARED / "transactions.parquet"
    if path.exists():
        table = pl.scan_parquet(path).select(
            pl.col("TX_AMOUNT").cast(pl.Float64),
            (pl.col("TX_TIME_SECONDS").cast(pl.Int64) % 86_400).cast(pl.Float64),
            pl.col("CUSTOMER_ID").cast(pl.Float64),
            pl.col("TERMINAL_ID").cast(pl.Float64),
        )
        rows = table.collect().to_numpy()
        reference, rest = rows[:67_000], rows[67_000:]
        quiet = rest[: 60 * 9_500].reshape(60, 9_500, 4)
        moved = quiet[:20].copy()
        moved[10:, :, 0] *= 1.5
        made.append(("card transactions, a day each", reference, quiet))
        made.append(("the same, amounts +50 % from day 11 on", reference, moved))
    path = SHARED / "elec.csv.gz"
    if path.exists():
        market = pl.read_csv(path).drop("period", "class").cast(pl.Float64).to_numpy()
        year = 48 * 365
        weeks = (len(market) - year) // 336
        windows = market[year : year + weeks * 336].reshape(weeks, 336, -1)
        made.append(
            ("electricity market, a week each, after its first year", market[:year], windows)
        )
    return made
