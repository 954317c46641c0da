"""What scoring both versions on the same request saves."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
from benchmarks.rollout import fraud, streams
from benchmarks.rollout.cells import ALPHA

from homeostat.rollout.sequences import width


def pairing() -> list[str]:
    """Requests until no harm is shown to be below the margin, paired and unpaired."""
    lines = [
        "| scores | margin | sd of the paired difference | sd of one loss | paired requests "
        "| unpaired requests at 10 % | at 50 % | paired / best unpaired |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    real = fraud.scores()
    cases = []
    if real is not None:
        cases.append(("fraud benchmark, a week's test", 0.005, real[2] - real[1], real[2]))
    for base, margin in ((0.5, 0.02), (0.01, 0.005)):
        people = streams.population(np.random.default_rng(7), base, "log_loss", 0.0)
        name = f"simulated, {base:.0%} positive"
        cases.append((name, margin, people.harm, people.champion + people.harm))
    for name, margin, harm, loss in cases:
        own, sd = float(harm.std()), float(loss.std())
        paired = _until(partial(_paired, own), margin)
        tenth, half = (_until(partial(_unpaired, sd, part), margin) for part in (0.1, 0.5))
        lines.append(
            f"| {name} | {margin:g} | {harm.std():.4f} | {sd:.4f} | {paired:,.0f} | {tenth:,.0f} | "
            f"{half:,.0f} | {paired / min(tenth, half):.3f} |"
        )
    if real is None:
        lines.append("\nThe published fraud data are not here, so they are left out.")
    return lines


def _paired(sd: float, n: float) -> float:
    return sd * float(width(max(int(n), 1), ALPHA / 2))


def _unpaired(sd: float, part: float, n: float) -> float:
    each = (float(width(max(int(n * p), 1), ALPHA / 4)) for p in (part, 1 - part))
    return sd * sum(each)


def _until(half_width: Callable[[float], float], margin: float) -> float:
    """Where the width of the asymptotic bound falls below the margin."""
    low, high = 1.0, 1e12
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if half_width(middle) <= margin else (middle, high)
    return high
