"""How often the drift monitor alarms on quiet streams, and how often it sees a given shift.

    python benchmarks/monitor_false_alarms.py [--quick]

Every cell compares independent windows with a reference of 50,000 rows (a new one for every 20),
at the level that hourly windows and a budget of one false alarm a month give. Features are
standard normal, a tenth of them rounded (ties). "quiet" has no movement at all; "at the limit"
moves every feature by exactly the minimum effect, which must not be called drift either. A shift
is a move of the mean of one feature, in standard deviations. Seeds are fixed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import polars as pl
from scipy.stats import norm

from homeostat.monitoring.calibration.budget import alpha_per_window, looks_per_month
from homeostat.monitoring.drift.baseline import Baseline
from homeostat.monitoring.drift.compare import compare_values
from homeostat.monitoring.spec import Drift

HOUR = timedelta(hours=1)
REFERENCE = 50_000
SPEC = Drift(false_alarms_per_month=1)
# a KS distance of d between two normals is a shift of 2 * quantile((1 + d) / 2)
AT_LIMIT = 2 * float(norm.ppf((1 + SPEC.min_effect) / 2))
CELLS = 1_500_000
"""Values drawn in each cell of the table, at most."""


def windows(seed: int, features: int, rows: int, repeat: int, shifts: np.ndarray) -> Iterator[bool]:
    """True for each window that was called drifted."""
    random = np.random.default_rng(seed)
    ties = np.arange(features) % 10 == 1
    names = [f"f{i}" for i in range(features)]
    alpha = alpha_per_window(SPEC.false_alarms_per_month, HOUR)
    base = None
    for i in range(repeat):
        if base is None or i % 20 == 0:
            table = random.normal(size=(REFERENCE, features)).astype(np.float32)
            table[:, ties] = table[:, ties].round(1)
            base = Baseline.build(pl.DataFrame(table, schema=names))
        now = (random.normal(size=(rows, features)) + shifts).astype(np.float32)
        now[:, ties] = now[:, ties].round(1)
        values = {name: now[:, j] for j, name in enumerate(names)}
        found = compare_values(base, values, SPEC, alpha=alpha)
        yield any(column.drifted for column in found)


def main() -> None:
    quick = "--quick" in sys.argv
    alpha = alpha_per_window(SPEC.false_alarms_per_month, HOUR)
    print(f"level of a window: {alpha:.6f} ({looks_per_month(HOUR):.0f} windows a month)\n")
    print(
        "| features | rows | windows | false alarms, quiet | at the limit "
        "| shift 0.3 | shift 0.5 | shift 1.0 |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    total = np.zeros(3, dtype=int)
    for features in (1, 30, 300):
        for rows in (200, 1_000, 10_000, 100_000):
            most = CELLS // 10 if quick else CELLS
            repeat = int(np.clip(most // (features * rows), 3, 2_000))
            cell = 1_000 * features + rows
            quiet = sum(windows(cell, features, rows, repeat, np.zeros(features)))
            limit = sum(windows(cell + 1, features, rows, repeat, np.full(features, AT_LIMIT)))
            seen = []
            for shift in (0.3, 0.5, 1.0):
                shifts = np.zeros(features)
                shifts[0] = shift
                looks = min(repeat, 40)
                found = list(windows(cell + 2, features, rows, looks, shifts))
                seen.append(f"{np.mean(found):.0%}")
            total += np.array([repeat, quiet, limit])
            print(
                f"| {features} | {rows:,} | {repeat:,} | {quiet} | {limit} | {' | '.join(seen)} |",
                flush=True,
            )
    print(
        f"\n{total[0]:,} windows of each kind: {total[1]} false alarms when quiet, "
        f"{total[2]} at the limit; the budget allows {total[0] * alpha:.1f}"
    )
    psi_alone()


def psi_alone(draws: int = 1_000_000) -> None:
    """The approximation behind PSI's bound, at the levels it is used at: ten equal bins drawn
    directly, so that a rate of one in 100,000 can be measured."""
    from homeostat.monitoring.drift import bounds

    print("\nPSI's bound alone, ten bins, reference of 50,000, share of wrong alarms:\n")
    print("| rows | movement | nominal 1e-3 | nominal 1e-4 | nominal 1e-5 |")
    print("| --- | --- | --- | --- | --- |")
    random = np.random.default_rng(7)
    p = np.full(10, 0.1)
    limit = bounds.psi_effect(SPEC.min_effect)
    for rows in (200, 1_000, 10_000):
        for name, effect in (("none, limit 0", 0.0), ("PSI at the limit", limit)):
            q = at_psi(p, effect)
            size = REFERENCE * rows / (REFERENCE + rows)
            before = random.multinomial(REFERENCE, p, size=draws)
            after = random.multinomial(rows, q, size=draws)
            roots = np.sqrt((before + 0.375) / (REFERENCE + 0.75))
            roots = roots - np.sqrt((after + 0.375) / (rows + 0.75))
            statistic = 4 * size * (roots**2).sum(axis=1)
            rates = [
                np.mean(statistic > threshold(alpha, size * effect)) for alpha in (1e-3, 1e-4, 1e-5)
            ]
            print(f"| {rows:,} | {name} | {' | '.join(f'{r:.1e}' for r in rates)} |", flush=True)


def threshold(alpha: float, noncentrality: float) -> float:
    from scipy.stats import chi2, ncx2

    return float(ncx2.isf(alpha, 9, noncentrality) if noncentrality else chi2.isf(alpha, 9))


def at_psi(p: np.ndarray, target: float) -> np.ndarray:
    """Half of the bins gain what the others lose, until PSI is the target."""
    from scipy.optimize import brentq

    sign = np.where(np.arange(p.size) < p.size // 2, 1.0, -1.0)

    def psi(by: float) -> float:
        q = p * (1 + by * sign)
        return float(((q - p) * np.log(q / p)).sum()) - target

    return p * (1 + (brentq(psi, 0, 0.99) if target else 0.0) * sign)


if __name__ == "__main__":
    main()
