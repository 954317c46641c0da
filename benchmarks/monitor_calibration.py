"""False alarms of what explains an alarm: change points, moved mixes of classes, scores that mean
something else; and whether a certificate's interval holds the rate that a monitor really has.

    python benchmarks/monitor_calibration.py [--runs 1000]

Everything is drawn from worlds in which nothing has changed, so every finding is a false one; then
from worlds in which something has, to see what is found, and whether it is called by its name.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from homeostat.core.verdict import Outcome, Verdict
from homeostat.monitoring.calibration import rate_of
from homeostat.monitoring.change import change_point
from homeostat.monitoring.outcomes import Meaning
from homeostat.monitoring.triage import triage

Floats = NDArray[np.float64]
START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def change_points(runs: int) -> None:
    print("Change points: series of windows, the mean moved by so many standard deviations.\n")
    print("| windows | moved by | found | within 2 windows of it |")
    print("| --- | --- | --- | --- |")
    for n in (30, 100, 200):
        for by in (0.0, 2.0, 4.0):
            random = np.random.default_rng([n, int(by)])
            at, found = 2 * n // 3, []
            for _ in range(runs):
                y = random.normal(size=n) + np.where(np.arange(n) >= at, by, 0.0)
                seen = change_point([(START + i * HOUR, float(v)) for i, v in enumerate(y)])
                found.append(None if seen is None else abs(seen - START - at * HOUR) <= 2 * HOUR)
            share = np.mean([f is not None for f in found])
            near = "-" if by == 0 else f"{np.mean([bool(f) for f in found]):.1%}"
            print(f"| {n} | {by:g} | {share:.1%} | {near} |", flush=True)
    print()


def sample(
    n: int, random: np.random.Generator, prior: float, now: float, flip: bool, shift: float
) -> tuple[Floats, Floats]:
    """-> score, label; the score is calibrated for `prior`."""
    y = (random.random(n) < now).astype(np.float64)
    x = random.normal(size=n) + 2 * y
    odds = np.log(prior / (1 - prior))

    def chance(at: Floats) -> Floats:
        return np.asarray(1 / (1 + np.exp(-(2 * at - 2 + odds))))

    if shift:
        x = x + shift
        y = (random.random(n) < chance(x)).astype(np.float64)
    return chance(x), 1 - y if flip else y


def causes(runs: int) -> None:
    moved = Verdict("drift", Outcome.FAIL, "moved", n=1)
    still = Verdict("drift", Outcome.PASS, "still", n=1)
    worlds: dict[str, tuple[float, bool, float, Verdict, str]] = {
        "nothing": (1.0, False, 0.0, still, "nothing"),
        "inputs": (1.0, False, -0.7, moved, "covariate shift"),
        "mix of classes x 2.5": (2.5, False, 0.0, moved, "label shift"),
        "labels swapped": (1.0, True, 0.0, still, "concept"),
    }
    print("Causes named on final labels (confidence 1 - 1/2160), by base rate and labels.\n")
    print("| base rate | labels | what changed | named rightly | most often else |")
    print("| --- | --- | --- | --- | --- |")
    for prior, n in ((0.2, 300), (0.2, 3_000), (0.02, 3_000), (0.02, 30_000)):
        meaning = Meaning.learn(*sample(20_000, np.random.default_rng(1), prior, prior, False, 0.0))
        assert meaning is not None
        for name, (factor, flip, shift, drift, right) in worlds.items():
            named = []
            for seed in range(max(50, runs // 5)):
                random = np.random.default_rng([seed, n])
                score, label = sample(n, random, prior, prior * factor, flip, shift)
                seen = meaning.outcomes(score, label, np.ones(n), confidence=1 - 1 / 2160)
                found = triage(broken=None, drift=drift, moved=("x",), labels=seen)
                named.append("nothing" if found is None else str(found.change))
            wrong = sorted(set(named) - {right}, key=named.count)
            share = np.mean([w == right for w in named])
            print(f"| {prior:.0%} | {n:,} | {name} | {share:.1%} | {''.join(wrong[-1:])} |")
    print()


def intervals(runs: int) -> None:
    print(
        "A certificate's 95 % interval of false alarms a month: share that holds the true rate.\n"
    )
    print("| true rate | months replayed | coverage |")
    print("| --- | --- | --- |")
    for rate in (0.1, 1.0, 5.0):
        for months in (1.0, 3.0, 12.0):
            random = np.random.default_rng([int(rate * 10), int(months)])
            counts = random.poisson(rate * months, runs)
            found = [rate_of("drift", int(k), months, 0.0) for k in counts]
            held = np.mean([r.low <= rate <= r.high for r in found])
            print(f"| {rate:g} | {months:g} | {held:.1%} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="False alarms of what explains an alarm.")
    parser.add_argument("--runs", type=int, default=1_000)
    args = parser.parse_args()
    change_points(args.runs)
    causes(args.runs)
    intervals(args.runs)


if __name__ == "__main__":
    main()
