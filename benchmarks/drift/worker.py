"""One tool in its own environment: jobs as JSON lines on stdin, answers as JSON lines on stdout.

    python worker.py TOOL

Knows nothing of this project except in the tool `homeostat`; NumPy and pandas are in every
environment. A tool answers for windows of a stream in order: which of them it calls drifted by
its defaults, and a score that rises with its certainty, for thresholds that are set afterwards.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

warnings.filterwarnings("ignore")
Table = np.ndarray
Answer = tuple[Any, ...]
"""Does it alarm, a score, and of which columns where the tool says so."""
Detector = Callable[[Table], Answer]


def names(features: int) -> list[str]:
    return [f"f{i}" for i in range(features)]


# -- the tools: a detector for windows, and a comparison of two files ----------------------------


def scipy_detector(reference: Table, job: dict[str, Any]) -> Detector:
    """Every column with ks_2samp at 0.05, as a loop would have it."""
    from scipy.stats import ks_2samp

    def look(window: Table) -> Answer:
        p = min(
            float(ks_2samp(reference[:, i], window[:, i], method="asymp").pvalue)
            for i in range(window.shape[1])
        )
        return p < 0.05, -np.log(max(p, 1e-300))

    return look


def scipy_files(before: str, after: str) -> None:
    import pandas as pd
    from scipy.stats import ks_2samp

    a, b = pd.read_parquet(before), pd.read_parquet(after)
    for name in a.columns:
        ks_2samp(a[name], b[name], method="asymp")


def evidently_report(reference: Any, current: Any) -> list[tuple[float, float, bool]]:
    """-> per column its value, its threshold, and whether less is more drifted."""
    from evidently import Report
    from evidently.presets import DataDriftPreset

    found = Report([DataDriftPreset()]).run(current, reference).dict()["metrics"]
    columns = [m for m in found if m["config"]["type"].endswith("ValueDrift")]
    return [
        (float(m["value"]), float(m["config"]["threshold"]), "p_value" in m["config"]["method"])
        for m in columns
    ]


def evidently_detector(reference: Table, job: dict[str, Any]) -> Detector:
    """DataDriftPreset; alarms when any column is called drifted."""
    import pandas as pd

    before = pd.DataFrame(reference, columns=names(reference.shape[1]))

    def look(window: Table) -> Answer:
        found = evidently_report(before, pd.DataFrame(window, columns=before.columns))
        ratios = [
            limit / max(value, 1e-300) if less else value / limit for value, limit, less in found
        ]
        return max(ratios) >= 1, float(np.log(max(max(ratios), 1e-300)))

    return look


def evidently_files(before: str, after: str) -> None:
    import pandas as pd

    evidently_report(pd.read_parquet(before), pd.read_parquet(after))


def nannyml_detector(reference: Table, job: dict[str, Any]) -> Detector:
    """UnivariateDriftCalculator with chunks as long as the windows; alarms when any column does."""
    import nannyml
    import pandas as pd

    columns = names(reference.shape[1])
    calculator = nannyml.UnivariateDriftCalculator(column_names=columns, chunk_size=job["rows"])
    calculator.fit(pd.DataFrame(reference, columns=columns))

    def look(window: Table) -> Answer:
        found = calculator.calculate(pd.DataFrame(window, columns=columns))
        last = found.filter(period="analysis").to_df().iloc[-1]
        ratios = []
        for name in columns:
            mine = {key[-1]: value for key, value in last.items() if key[0] == name}
            limit = mine.get("upper_threshold")
            if limit:
                ratios.append(float(mine["value"]) / float(limit))
        alarm = any(bool(value) for key, value in last.items() if key[-1] == "alert")
        return alarm, max(ratios, default=0.0)

    return look


def nannyml_files(before: str, after: str) -> None:
    import nannyml
    import pandas as pd

    a, b = pd.read_parquet(before), pd.read_parquet(after)
    calculator = nannyml.UnivariateDriftCalculator(column_names=list(a.columns), chunk_number=10)
    calculator.fit(a)
    calculator.calculate(b)


def alibi_detector(reference: Table, job: dict[str, Any]) -> Detector:
    """KSDrift at 0.05, corrected over the columns."""
    from alibi_detect.cd import KSDrift

    made = KSDrift(reference, p_val=0.05)

    def look(window: Table) -> Answer:
        found = made.predict(window)["data"]
        return bool(found["is_drift"]), -float(np.log(max(np.min(found["p_val"]), 1e-300)))

    return look


def alibi_files(before: str, after: str) -> None:
    import pandas as pd
    from alibi_detect.cd import KSDrift

    KSDrift(pd.read_parquet(before).to_numpy(), p_val=0.05).predict(
        pd.read_parquet(after).to_numpy()
    )


class Monitor:
    """Our monitor over windows, at the level of hourly windows and one false alarm a month."""

    def __init__(self, reference: Table, job: dict[str, Any]) -> None:
        import polars as pl

        from homeostat.monitoring.drift.baseline import Baseline
        from homeostat.monitoring.profiles.profile import Scheme
        from homeostat.monitoring.spec import Drift

        self.names = job.get("columns") or names(reference.shape[1])
        self.scheme = Scheme.of(Baseline.build(pl.DataFrame(reference, schema=self.names)))
        self.spec = Drift(min_effect=job.get("min_effect", 0.1))
        self.alpha = job.get("alpha", 1 / 720)
        self.evidence: tuple[Any, ...] = ()

    def seen(self, window: Table) -> Sequence[tuple[Any, Any]]:
        from homeostat.monitoring.profiles.profile import look, profile

        values = {name: window[:, i] for i, name in enumerate(self.names)}
        rows = np.arange(len(window), dtype=np.uint64)
        return look(self.scheme, profile(self.scheme, values, rows)[0])

    def look(self, found: Sequence[tuple[Any, Any]]) -> Answer:
        """What `watch` decides by, without the figures that it tells people."""
        from homeostat.monitoring.drift.watch import gathered

        pairs = {base.name: (base, seen) for base, seen in found}
        self.evidence = gathered(pairs, self.spec, self.alpha, self.evidence, {})
        return (
            any(e.named for e in self.evidence),
            max((e.log for e in self.evidence), default=-100.0),
            [e.feature for e in self.evidence if e.named],
        )


def homeostat_detector(reference: Table, job: dict[str, Any]) -> Detector:
    monitor = Monitor(reference, job)
    return lambda window: monitor.look(monitor.seen(window))


def simulate(tool: str, job: dict[str, Any]) -> dict[str, Any]:
    """As `windows`, of ours alone, and cheap: the counts in the bins of a profile are drawn, and
    not the rows."""
    from scipy.special import ndtr

    found: list[dict[str, Sequence[Any]]] = []
    left, deadline = job["count"], time.perf_counter() + job["seconds"]
    while left > 0 and time.perf_counter() < deadline:
        random = np.random.default_rng([job["seed"], len(found), job["features"], job["rows"]])
        monitor = Monitor(random.normal(size=(job["reference"], job["features"])), job)
        moves = [job.get("shift", 0.0), *(0.0 for _ in monitor.names[1:])]
        shares = [
            np.diff(np.concatenate(([0.0], ndtr(b.edges - by), [1.0])))
            for b, by in zip(monitor.scheme.bins, moves, strict=True)
        ]
        alarms: list[bool] = []
        for _ in range(min(left, job["windows"])):
            if time.perf_counter() > deadline:
                break
            seen = [
                (b.column, b.seen(random.multinomial(job["rows"], p), 0))
                for b, p in zip(monitor.scheme.bins, shares, strict=True)
            ]
            alarms.append(monitor.look(seen)[0])
            if alarms[-1] and job.get("until_alarm"):
                break
        left -= 1 if job.get("until_alarm") else len(alarms)
        found.append({"alarms": alarms})
    return {"streams": found}


def homeostat_files(before: str, after: str) -> None:
    from homeostat.monitoring.report.report import drift

    drift(before, after, joint=False)


def homeostat_joint_files(before: str, after: str) -> None:
    from homeostat.monitoring.report.report import drift

    drift(before, after)


def numpy_files(before: str, after: str) -> None:
    """The yardstick: sort every column of both tables."""
    import polars as pl

    for path in (before, after):
        for name in pl.scan_parquet(path).collect_schema():
            np.sort(pl.scan_parquet(path).select(name).collect().to_series().to_numpy())


TOOLS: dict[str, tuple[Any, Any]] = {
    "homeostat": (homeostat_detector, homeostat_files),
    "homeostat, joint too": (None, homeostat_joint_files),
    "evidently": (evidently_detector, evidently_files),
    "nannyml": (nannyml_detector, nannyml_files),
    "alibi-detect": (alibi_detector, alibi_files),
    "scipy loop": (scipy_detector, scipy_files),
    "numpy sort": (None, numpy_files),
}


# -- jobs ---------------------------------------------------------------------------------------


def files(tool: str, job: dict[str, Any]) -> dict[str, Any]:
    """Seconds to read and compare two files (the second of two runs of a small one has warmed the
    imports), and the peak memory of the process in MiB."""
    compare = TOOLS[tool][1]
    compare(*job["warm"])
    start, worked = time.perf_counter(), time.process_time()
    compare(job["before"], job["after"])
    return {
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - worked,
        "mib": peak(),
    }


def peak() -> float:
    """MiB at most so far. (getrusage's figure is inherited from the process that started us.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def drawn(job: dict[str, Any], seed: int) -> np.ndarray:
    """One window: standard normal columns; the first one moved by `shift` standard deviations."""
    table = np.random.default_rng(seed).normal(size=(job["rows"], job["features"]))
    table[:, 0] += job.get("shift", 0.0)
    return table


def streams(job: dict[str, Any]) -> Iterator[tuple[np.ndarray, Iterator[np.ndarray]]]:
    """A reference and its windows, again and again. Each has a new reference."""
    if "stored" in job:
        with np.load(job["stored"]) as stored:
            reference, whole = stored["reference"], stored["windows"]
            job |= {"rows": whole.shape[1], "columns": stored["columns"].tolist()}
        yield reference, iter(whole)
        return
    for i in range(job["streams"]):
        base = 1_000_003 * job["seed"] + 10_007 * i
        reference = np.random.default_rng(base).normal(size=(job["reference"], job["features"]))
        yield reference, (drawn(job, base + 1 + k) for k in range(job["windows"]))


def windows(tool: str, job: dict[str, Any]) -> dict[str, Any]:
    """Per stream the alarms and scores of its windows, until the job's seconds are over; a window
    that would not fit is not begun. least: windows for which four times as long may be taken, if
    that suffices."""
    found: list[dict[str, Sequence[Any]]] = []
    start = time.perf_counter()
    longest, looked, least = 0.0, 0, job.get("least", 0)

    def over() -> bool:
        spent = time.perf_counter() - start
        if looked < min(least, 3):
            return spent > 4 * job["seconds"]
        if looked < least and spent / looked * least < 4 * job["seconds"]:
            return False
        return bool(spent + longest > job["seconds"])

    for reference, whole in streams(job):
        if over():
            break
        detector = TOOLS[tool][0](reference, job)
        alarms: list[bool] = []
        scores: list[float] = []
        what: list[str] = []
        for window in whole:
            began = time.perf_counter()
            if over():
                break
            alarm, score, *of = detector(window)
            longest = max(longest, time.perf_counter() - began)
            looked += 1
            alarms.append(bool(alarm))
            scores.append(float(score))
            if alarm and not what:
                what = [name for some in of for name in some]
            if alarm and job.get("until_alarm"):
                break
            if score > job.get("limit", np.inf):
                break
        found.append({"alarms": alarms, "scores": scores, "what": what})
    return {"streams": found, "longest": longest}


def main() -> None:
    tool = sys.argv[1]
    answers = sys.stdout
    sys.stdout = sys.stderr  # what a library prints is no answer
    warm = False
    for line in sys.stdin:
        job = json.loads(line)
        try:
            if job["kind"] == "windows" and not warm:
                some = np.random.default_rng(0).normal(size=(400, 2))
                TOOLS[tool][0](some, {"rows": 100, "features": 2})(some[:100])  # its imports
                warm = True
            answer = {"files": files, "windows": windows, "simulate": simulate}[job["kind"]](
                tool, job
            )
        except Exception as error:  # noqa: BLE001 - a tool's failure is a result to be shown
            answer = {"error": f"{type(error).__name__}: {error}"[:200]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
