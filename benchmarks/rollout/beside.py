"""Ours and other rules on the same streams."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from benchmarks.rollout import guards, rules, streams
from benchmarks.rollout.cells import BOTH, STEPS
from benchmarks.rollout.guards import Ends
from benchmarks.rollout.streams import Stream


def beside(runs: int, seed: int) -> list[str]:
    """Ours, Argo's, Flagger's and a fixed horizon on the same streams."""
    per_minute, minutes, bake = 300, 150, 10
    lines = [
        f"{runs} rollouts a row, seed {seed}; {per_minute} requests a minute, steps of "
        f"{', '.join(f'{s:g}' for s in STEPS)} %, ten minutes each at the least, at most "
        f"{minutes} minutes. Exposure: requests that the candidate answered until the end.",
        "",
        "| stream | true harm | rule | promoted | rolled back | undecided | median exposure "
        "| median minutes |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for base, metric, margin in ((0.5, "error", 0.02), (0.01, "log_loss", 0.005)):
        for times in (0, 1, 2, 6):
            rng = np.random.default_rng([seed, int(base * 100), times])
            people = streams.population(rng, base, metric, times * margin)
            found: dict[str, list[Ends]] = {}
            for _ in range(math.ceil(runs / 50)):
                for rule, ends in _ends(rng, people, metric, margin, per_minute, minutes, bake):
                    found.setdefault(rule, []).append(ends)
            for rule, parts in found.items():
                ends = Ends(*(np.concatenate(x)[:runs] for x in zip(*parts, strict=True)))
                done = ends.how != 0
                shares = [float((ends.how == h).mean()) for h in (1, -1, 0)]
                lines.append(
                    f"| {metric.replace('_', ' ')}, {base:.0%}, margin {margin:g} | {times} x | "
                    f"{rule} | {shares[0]:.3f} | {shares[1]:.3f} | {shares[2]:.3f} | "
                    f"{np.median(ends.exposed):,.0f} | "
                    f"{np.median(ends.look[done]) if done.any() else math.nan:,.0f} |"
                )
    return lines


def _ends(
    rng: np.random.Generator,
    people: streams.Population,
    metric: str,
    margin: float,
    per_minute: int,
    minutes: int,
    bake: int,
) -> Iterator[tuple[str, Ends]]:
    drawn = rng.integers(0, streams.POPULATION, (50, per_minute * minutes))
    harm, label, champion = (x[drawn] for x in (people.harm, people.label, people.champion))
    candidate, limit = champion + harm, float(people.champion.mean()) + margin
    looks = np.arange(per_minute, per_minute * minutes + 1, per_minute)
    told = guards.quality(Stream(harm, label), metric, margin, BOTH, looks)
    yield "ours, paired", guards.roll_out(told, looks, STEPS, bake * per_minute)
    yield (
        "Argo: 1-minute breaches, failureLimit 3",
        rules.counting(rng, candidate, limit, per_minute, STEPS, bake, 3, anew=True),
    )
    yield (
        "Flagger: 1-minute checks, threshold 1",
        rules.counting(rng, candidate, limit, per_minute, STEPS, 1, 0, anew=False),
    )
    yield "fixed horizon", rules.fixed_horizon(rng, candidate, champion, margin, per_minute)
