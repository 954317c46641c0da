"""Tables of how often, how soon."""

from __future__ import annotations

import math

import numpy as np
from benchmarks.rollout import guards, streams
from benchmarks.rollout.cells import ALPHA, BOTH, PER_TICK, Row
from benchmarks.rollout.streams import Array, Counts, Flags

from homeostat.rollout import sequences
from homeostat.rollout.guards.router import log_evidence_of


def share(p: float, runs: int) -> str:
    return f"{p:.3f} ± {math.sqrt(max(p * (1 - p), 1 / runs) / runs):.3f}"


def errors(rows: list[Row], took: float, workers: int) -> tuple[list[str], list[str]]:
    """-> the table, and what is above alpha in it."""
    runs, seed = rows[0].cell.runs, rows[0].cell.seed
    total, spent = runs * len(rows), sum(row.seconds for row in rows)
    lines = [
        f"alpha {ALPHA}, {runs} rollouts a row, seed {seed}; ± is the Monte-Carlo standard error. "
        f"{total:,} rollouts in {took:.0f} s in {workers} processes; {spent:.0f} s of processor "
        f"time, which is {1e4 * spent / total / workers:.0f} s for 10,000 on {workers} idle cores.",
        "",
        "| guard | base rate | margin | stream | true harm | promoted | rolled back "
        "| stopped at 10 % | median requests |",
        "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    above = []
    for row in rows:
        cell = row.cell
        limit = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / cell.runs)
        for wrong in row.wrong():
            if wrong > limit:
                name = f"{cell.guard}, {cell.base:.1%}, {cell.kind}, {cell.times} x"
                above.append(f"{name}: {wrong:.3f}")
        median = "-" if math.isnan(row.decided) else f"{row.decided:,.0f}"
        lines.append(
            f"| {cell.guard} | {cell.base:.1%} | {cell.margin:g} | {cell.kind} | "
            f"{cell.times:g} x margin | {share(row.promoted, cell.runs)} | "
            f"{share(row.rolled_back, cell.runs)} | {row.tenth:.3f} | {median} |"
        )
    return lines, above


def undeclared(runs: int, seed: int) -> list[str]:
    """Requests that come again and again, and nobody has declared a block."""
    lines = [
        f"{runs} streams a row; requests come five times in a row on average, and nobody said so. "
        "Beyond what is promised: some decide before the dependence can be seen. Scores show it "
        "sooner than losses do.",
        "",
        "| guard | base rate | true harm | neighbours | ever shown harmful | ever shown harmless |",
        "| --- | ---: | ---: | --- | ---: | ---: |",
    ]
    n = 40_000
    looks = np.arange(PER_TICK, n + 1, PER_TICK)
    for metric, base, margin in (
        ("log_loss", 0.5, 0.02),
        ("error", 0.5, 0.02),
        ("error", 0.01, 0.005),
    ):
        for times in (0, 1):
            rng = np.random.default_rng([seed, times, len(metric)])
            people = streams.population(rng, base, metric, times * margin)
            drawn = np.stack([streams.drawn(rng, n, again=True) for _ in range(runs)])
            seen = streams.Stream(people.harm[drawn], people.label[drawn])
            for how, merges, like in (
                ("merged", True, people.score[drawn]),
                ("merged by their losses alone", True, None),
                ("left as they are", False, None),
            ):
                told = guards.quality(seen, metric, margin, BOTH, looks, merges=merges, like=like)
                ever = [share(float(f.any(axis=1).mean()), runs) for f in told]
                lines.append(
                    f"| {metric.replace('_', ' ')} | {base:.0%} | {times} x margin | {how} | "
                    f"{ever[1]} | {ever[0]} |"
                )
    return lines


def experiments(runs: int, seed: int) -> list[str]:
    """Ten challengers of one champion, at alpha / 10 each."""
    lines = [
        f"{runs} experiments a row with ten challengers, at alpha / 10 each.",
        "",
        "| base rate | challengers | a wrong one ever called better | the better one found "
        "| median requests |",
        "| ---: | --- | ---: | ---: | ---: |",
    ]
    n, each = 20_000, (ALPHA / 10, ALPHA / 10)
    looks = np.arange(PER_TICK, n + 1, PER_TICK)
    for base, gain in ((0.5, 0.02), (0.01, 0.005)):
        for better in (0, 1):
            rng = np.random.default_rng([seed, better, int(base * 100)])
            found = []
            for k in range(10):
                people = streams.population(rng, base, "log_loss", -gain if k < better else 0.0)
                seen = streams.independent(rng, people, runs, n)
                found.append(guards.quality(seen, "log_loss", 0.0, each, looks).passes)
            wrong = np.logical_or.reduce([f.any(axis=1) for f in found[better:]])
            right, at = "-", "-"
            if better:
                hit = found[0].any(axis=1)
                right = share(float(hit.mean()), runs)
                at = f"{np.median(looks[found[0].argmax(axis=1)][hit]):,.0f}"
            who = f"one better by {gain:g}, nine alike" if better else "ten alike"
            lines.append(
                f"| {base:.0%} | {who} | {share(float(wrong.mean()), runs)} | {right} | {at} |"
            )
    return lines


def two_rates(runs: int, seed: int) -> list[str]:
    """The 2x2 test beside the difference of two rates' bounds, which it replaced."""
    lines = [
        "| rate | margin | share | true harm | 2x2 e-values | difference of two bounds |",
        "| ---: | ---: | ---: | --- | ---: | ---: |",
    ]
    n = 200_000
    for base, margin, part, extra in (
        (0.01, 0.005, 0.5, 0.0),
        (0.01, 0.005, 0.5, 0.01),
        (0.01, 0.005, 0.1, 0.01),
        (0.001, 0.001, 0.5, 0.0),
        (0.001, 0.001, 0.1, 0.01),
    ):
        rng = np.random.default_rng([seed, int(base * 1e4), int(part * 10), int(extra * 1e4)])
        blocks, ends = streams.two_arms(rng, runs, n, base, extra, share=part)
        told = guards.rates(blocks, margin, BOTH)
        ours = _first(told.fails if extra else told.passes, ends)
        totals = (np.cumsum(v, axis=1).astype(int) for v in blocks)
        before = [
            _difference(run, ends, margin, bool(extra)) for run in np.stack(list(totals), axis=1)
        ]
        lines.append(
            f"| {base:.1%} | {margin:.1%} | {part:.0%} | {extra:+.1%} | {np.median(ours):,.0f} | "
            f"{np.median(before):,.0f} |"
        )
    return lines


def _first(told: Flags, ends: Array) -> Array:
    return np.where(told.any(axis=1), ends[told.argmax(axis=1)], ends[-1])


def _difference(totals: Counts, ends: Counts, margin: float, harm: bool) -> int:
    """After how many requests two bounds tell. totals (4, blocks): requests and events so far."""
    quarter = (ALPHA / 2, ALPHA / 2)
    for j in np.flatnonzero(ends > 50)[::2]:
        na, ka, nb, kb = (int(v) for v in totals[:, j])
        if not na or not nb:
            continue
        one, two = sequences.rate(na, ka, alpha=quarter), sequences.rate(nb, kb, alpha=quarter)
        if (two.low - one.high > 0) if harm else (two.high - one.low < margin):
            return int(ends[j])
    return int(ends[-1])


def router(runs: int, seed: int) -> list[str]:
    """How often a sound router is called broken, and how soon a broken one is (alpha 0.001, its
    part of 0.05)."""
    alpha = 0.001
    lines = [
        "| declared | true share | called broken | median requests |",
        "| ---: | ---: | ---: | ---: |",
    ]
    for declared, true in ((0.1, 0.1), (0.5, 0.5), (0.1, 0.08), (0.1, 0.0), (0.5, 0.45)):
        rng = np.random.default_rng([seed, int(declared * 100), int(true * 100)])
        looks = np.unique(np.geomspace(20, 20_000, 200).astype(int))
        new = rng.binomial(np.diff(looks, prepend=0), true, (runs, len(looks)))
        evidence = log_evidence_of(np.cumsum(new, axis=1), looks, declared)
        broken = evidence >= math.log(2 / alpha)  # the first share has half of alpha
        called = broken.any(axis=1)
        at = looks[broken.argmax(axis=1)][called]
        median = f"{np.median(at):,.0f}" if len(at) * 2 > runs else "-"
        lines.append(
            f"| {declared:.0%} | {true:.0%} | {share(float(called.mean()), runs)} | {median} |"
        )
    return lines
