"""Do the intervals of `homeostat.core.metrics` cover as often as they say?

    python benchmarks/metric_intervals.py [--seeds 2000]

Worlds draw a score s and a label with P(1) = truth(s); the true figure of a world comes from two
million rows. Every world and seed is independent; printed is the share of seeds whose interval
holds the true figure (95 % is nominal; the calibration error's is conservative by construction,
Wilson's for a few rows of a share near 1 falls short),
and the mean width. `paired` is the interval of the difference to a noisier model on the same rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from homeostat.core.metrics import difference, measure
from homeostat.core.names import METRICS

Array = NDArray[np.float64]


class World(NamedTuple):
    """base: mean of the logit; spread: its deviation; tilt: truth = expit(tilt * logit)."""

    name: str
    rows: int
    base: float
    spread: float
    tilt: float = 1.0


WORLDS = (
    World("balanced, 50 rows", 50, 0.0, 1.5),
    World("balanced, 1000 rows", 1_000, 0.0, 1.5),
    World("8 % positives, 500 rows", 500, -4.0, 2.0),
    World("8 % positives, 10000 rows", 10_000, -4.0, 2.0),
    World("overconfident, 2000 rows", 2_000, -1.0, 2.0, 0.6),
    World("1 % positives, 5000 rows", 5_000, -6.0, 1.8),
)


def draw(world: World, rows: int, rng: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    """-> label, score, a rival's score, P(label = 1)."""
    logit = rng.normal(world.base, world.spread, rows)
    truth = expit(world.tilt * logit)
    label = (rng.random(rows) < truth).astype(float)
    return label, expit(logit), expit(logit + rng.normal(0, 0.7, rows)), truth


def binned_error(score: Array, truth: Array) -> float:
    """The calibration error that an infinite number of labels on these rows would show."""
    order = np.argsort(score)
    parts = np.array_split((truth - score)[order], 10)
    return float(sum(abs(part.sum()) for part in parts) / len(score))


def coverage(world: World, seeds: int) -> dict[str, tuple[float, float, float, int]]:
    """metric -> covered, mean width, covered by the paired interval, seeds where defined."""
    k = max(world.rows // 50, 10)
    label, score, rival, _ = draw(world, 2_000_000, np.random.default_rng(10**6))
    scale = len(label) // world.rows * k  # the same share of the rows as k of the world's
    true = {m: e.value for m, e in measure(label, score, k=scale).items()}
    true_rival = {m: e.value for m, e in measure(label, rival, k=scale).items()}
    hits = {m: np.zeros(4) for m in METRICS}
    for seed in range(seeds):
        label, score, rival, truth = draw(world, world.rows, np.random.default_rng(seed))
        true["calibration_error"] = binned_error(score, truth)
        for metric, found in measure(label, score, k=k).items():
            if found.value is None:
                continue
            gap = difference(metric, label, score, rival, k=k)
            goal = true[metric] - true_rival[metric]
            hits[metric] += (
                found.low <= true[metric] <= found.high,
                found.high - found.low,
                gap.value is not None and gap.low <= goal <= gap.high,
                1,
            )
    return {
        m: (c / max(n, 1), w / max(n, 1), p / max(n, 1), int(n)) for m, (c, w, p, n) in hits.items()
    }


def main(say: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2000)
    seeds = parser.parse_args().seeds
    say(f"coverage of nominal 95 % intervals, seeds 0 to {seeds - 1}")
    for world in WORLDS:
        say(f"\n{world.name}")
        say(f"  {'metric':<20}{'covered':>9}{'width':>9}{'paired':>9}{'defined':>9}")
        for metric, (covered, width, paired, defined) in coverage(world, seeds).items():
            both = f"{paired:9.3f}" if metric != "calibration_error" else f"{'':9}"
            say(f"  {metric:<20}{covered:9.3f}{width:9.4f}{both}{defined:9d}")


if __name__ == "__main__":
    main()
