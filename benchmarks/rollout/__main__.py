"""Whole rollouts on streams whose true harm is known: `python -m benchmarks.rollout --help`.

Evidence is looked at on every tick and nothing is corrected afterwards for having looked. Prints
tables with their seeds and Monte-Carlo errors; exit status 1 when an error rate is above alpha by
more than three of its standard errors.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from benchmarks.rollout import fraud, rules, streams
from benchmarks.rollout.streams import Array, Ends, Flags

from homeostat.core.duration import Duration
from homeostat.core.verdict import Outcome, Verdict
from homeostat.rollout import commands, sequences
from homeostat.rollout.decide import decide
from homeostat.rollout.guards.router import log_evidence
from homeostat.rollout.model import Phase, Rollout, evolve
from homeostat.rollout.sequences import width
from homeostat.rollout.spec import Guards, QualityGuard, RolloutSpec

ALPHA = 0.05
STEPS = (10.0, 25.0, 50.0, 75.0, 100.0)
BAKE, PER_TICK, BATCH = 5, 50, 100
DOCS = Path(__file__).parents[2] / "docs" / "benchmarks.md"
START = datetime(2026, 1, 1, tzinfo=UTC)


class Cell(NamedTuple):
    """One row of the first table. times: true harm in margins. kind: of the stream."""

    guard: str
    base: float
    margin: float
    times: float
    kind: str
    runs: int
    seed: int


class Row(NamedTuple):
    cell: Cell
    promoted: float
    rolled_back: float
    tenth: float
    decided: float
    seconds: float  # of the processor

    def wrong(self) -> float | None:
        """The share of runs that went wrong; None where either end would be right."""
        if self.cell.times <= 0:
            return self.rolled_back
        return self.promoted if self.cell.times >= 1 else None


def cells(runs: int, seed: int) -> Iterator[Cell]:
    for guard in ("log_loss", "error"):
        for base, margin in ((0.5, 0.02), (0.01, 0.005), (0.001, 0.002)):
            for kind in ("independent", "autocorrelated", "late labels"):
                for times in (0, 1, 2) if kind == "independent" else (0, 1):
                    yield Cell(guard, base, margin, times, kind, runs, seed)
    for base, margin in ((0.5, 0.05), (0.01, 0.005), (0.001, 0.001)):
        for kind in ("independent", "autocorrelated"):
            for times in (0, 1, 2) if kind == "independent" else (0, 1):
                yield Cell("error rate", base, margin, times, kind, runs, seed)


def measure(cell: Cell) -> Row:
    began = time.process_time()
    key = [cell.seed, int(cell.base * 1000), len(cell.guard), int(cell.times * 10), len(cell.kind)]
    rng = np.random.default_rng(key)
    judge = _error_rate if cell.guard == "error rate" else _quality(rng, cell)
    parts = []
    for _ in range(math.ceil(cell.runs / BATCH)):
        passes, fails, per_tick = judge(rng, cell)
        ends = streams.roll_out(passes, fails, STEPS, BAKE, per_tick)
        if not parts:
            _as_decided(passes, fails, ends)
        parts.append(ends)
    ends = Ends(*(np.concatenate(x)[: cell.runs] for x in zip(*parts, strict=True)))
    decided = ends.tick[ends.how != 0] * per_tick
    return Row(
        cell,
        float((ends.how == 1).mean()),
        float((ends.how == -1).mean()),
        float(((ends.how == -1) & (ends.percent <= 10)).mean()),
        float(np.median(decided)) if len(decided) * 2 > len(ends.how) else math.nan,
        time.process_time() - began,
    )


Judge = Callable[[np.random.Generator, Cell], tuple[Flags, Flags, int]]


def _quality(rng: np.random.Generator, cell: Cell) -> Judge:
    n, delay = 20_000, 2_000
    people = streams.population(rng, cell.base, cell.guard, cell.times * cell.margin)

    def judge(rng: np.random.Generator, cell: Cell) -> tuple[Flags, Flags, int]:
        drawn = streams.drawn(rng, BATCH, n, cell.kind)
        harm, label = people.harm[drawn], people.label[drawn]
        if cell.kind == "late labels":
            order = streams.late(rng, label, delay)
            harm, label = (np.take_along_axis(x, order, axis=1) for x in (harm, label))
        block = 25 if cell.kind == "autocorrelated" else 1
        passes, fails = streams.quality(harm, label, cell.guard, cell.margin, ALPHA, block)
        return passes[:, PER_TICK - 1 :: PER_TICK], fails[:, PER_TICK - 1 :: PER_TICK], PER_TICK

    return judge


def _error_rate(rng: np.random.Generator, cell: Cell) -> tuple[Flags, Flags, int]:
    """A tenth goes to the candidate until the end. autocorrelated: whether a request can fail
    comes in spells that both versions have in common."""
    n, per_tick = 50_000, 250
    canary = rng.random((BATCH, n)) < 0.1
    rate = np.full((BATCH, n), cell.base)
    if cell.kind == "autocorrelated":
        spell = np.repeat(rng.random((BATCH, n // 500)) < 0.2, 500, axis=1)
        rate = np.where(
            spell, min(cell.base * 4, 0.9), (cell.base - 0.2 * min(cell.base * 4, 0.9)) / 0.8
        )
    more = cell.times * cell.margin * canary
    event = rng.random((BATCH, n)) < rate + more
    passes, fails, ends = streams.rates(canary, event, cell.margin, ALPHA)
    looks = np.searchsorted(ends, np.arange(per_tick, n + 1, per_tick), side="right") - 1
    return passes[:, looks], fails[:, looks], per_tick


def _as_decided(passes: Flags, fails: Flags, ends: Ends) -> None:
    """The simulation decides as `decide` does: some runs go through the real state machine."""
    plan = RolloutSpec(
        bake=Duration(minutes=BAKE),
        guards=Guards(quality=QualityGuard()),
        max_duration=Duration(99),
    )
    for run in range(3):
        state: Rollout | None = None
        for event in commands.start(None, id="r", candidate="2", champion="1", plan=plan):
            state = evolve(state, event, START)
        tick = 0
        while state is not None and state.live and tick < passes.shape[1]:
            outcome = Outcome.FAIL if fails[run, tick] else Outcome.INCONCLUSIVE
            if passes[run, tick] and not fails[run, tick]:
                outcome = Outcome.PASS
            tick += 1
            now = START + timedelta(minutes=tick)
            for event in decide(state, [Verdict("quality", outcome, "", n=tick)], now):
                state = evolve(state, event, now)
        assert state is not None
        how = {Phase.PROMOTED: 1, Phase.ROLLED_BACK: -1}.get(state.phase, 0)
        assert (how, tick) == (ends.how[run], ends.tick[run]), "the simulation decides otherwise"


# -- the tables --------------------------------------------------------------------------------


def share(p: float, runs: int) -> str:
    return f"{p:.3f} ± {math.sqrt(max(p * (1 - p), 1 / runs) / runs):.3f}"


def errors(runs: int, seed: int, workers: int) -> tuple[list[str], list[str]]:
    """-> the table, and what is above alpha in it."""
    began = time.perf_counter()
    with ProcessPoolExecutor(workers) as pool:
        rows = list(pool.map(measure, cells(runs, seed)))
    took = time.perf_counter() - began
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
        cell, wrong = row.cell, row.wrong()
        limit = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / cell.runs)
        if wrong is not None and wrong > limit:
            above.append(f"{cell.guard}, {cell.base:.1%}, {cell.kind}, {cell.times} x: {wrong:.3f}")
        median = "-" if math.isnan(row.decided) else f"{row.decided:,.0f}"
        lines.append(
            f"| {cell.guard.replace('_', ' ')} | {cell.base:.1%} | {cell.margin:g} | {cell.kind} | "
            f"{cell.times:g} x margin | {share(row.promoted, cell.runs)} | "
            f"{share(row.rolled_back, cell.runs)} | {row.tenth:.3f} | {median} |"
        )
    return lines, above


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
                    f"{np.median(ends.tick[done]) if done.any() else math.nan:,.0f} |"
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
    drawn = streams.drawn(rng, 50, per_minute * minutes, "independent")
    harm, label, champion = (x[drawn] for x in (people.harm, people.label, people.champion))
    candidate, limit = champion + harm, float(people.champion.mean()) + margin
    passes, fails = streams.quality(harm, label, metric, margin, ALPHA)
    every = slice(per_minute - 1, None, per_minute)
    yield (
        "ours, paired",
        streams.roll_out(passes[:, every], fails[:, every], STEPS, bake, per_minute),
    )
    yield (
        "Argo: 1-minute breaches, failureLimit 3",
        rules.counting(rng, candidate, limit, per_minute, STEPS, bake, 3, anew=True),
    )
    yield (
        "Flagger: 1-minute checks, threshold 1",
        rules.counting(rng, candidate, limit, per_minute, STEPS, 1, 0, anew=False),
    )
    yield "fixed horizon", rules.fixed_horizon(rng, candidate, champion, margin, per_minute)


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


def two_rates(runs: int, seed: int) -> list[str]:
    """The 2x2 test beside the difference of two rates' bounds, which it replaced."""
    lines = [
        "| rate | margin | share | true harm | 2x2 e-values | difference of two bounds |",
        "| ---: | ---: | ---: | --- | ---: | ---: |",
    ]
    n = 100_000
    for base, margin, part, extra in (
        (0.01, 0.005, 0.5, 0.0),
        (0.01, 0.005, 0.5, 0.01),
        (0.01, 0.005, 0.1, 0.01),
        (0.001, 0.001, 0.5, 0.0),
        (0.001, 0.001, 0.1, 0.01),
    ):
        rng = np.random.default_rng([seed, int(base * 1e4), int(part * 10), int(extra * 1e4)])
        canary = rng.random((runs, n)) < part
        event = rng.random((runs, n)) < base + extra * canary
        passes, fails, ends = streams.rates(canary, event, margin, ALPHA)
        told = fails if extra else passes
        ours = _first(told, ends)
        before = [
            _difference(c, e, ends, margin, bool(extra)) for c, e in zip(canary, event, strict=True)
        ]
        lines.append(
            f"| {base:.1%} | {margin:.1%} | {part:.0%} | {extra:+.1%} | {np.median(ours):,.0f} | "
            f"{np.median(before):,.0f} |"
        )
    return lines


def _first(told: Flags, ends: Array) -> Array:
    return np.where(told.any(axis=1), ends[told.argmax(axis=1)], ends[-1])


def _difference(canary: Flags, event: Flags, ends: Array, margin: float, harm: bool) -> int:
    quarter = (ALPHA / 2, ALPHA / 2)
    for end in ends[ends > 50][::2]:
        c, e = canary[:end], event[:end]
        one = sequences.rate(int((~c).sum()), int((e & ~c).sum()), alpha=quarter)
        two = sequences.rate(int(c.sum()), int((e & c).sum()), alpha=quarter)
        if (two.low - one.high > 0) if harm else (two.high - one.low < margin):
            return int(end)
    return int(ends[-1])


def router(runs: int, seed: int) -> list[str]:
    """How often a sound router is called broken, and how soon a broken one is."""
    alpha = 0.001
    lines = [
        "| declared | true share | called broken | median requests |",
        "| ---: | ---: | ---: | ---: |",
    ]
    for declared, true in ((0.1, 0.1), (0.5, 0.5), (0.1, 0.08), (0.1, 0.0), (0.5, 0.45)):
        rng = np.random.default_rng([seed, int(declared * 100), int(true * 100)])
        looks = np.unique(np.geomspace(20, 20_000, 60).astype(int))
        firsts = []
        for _ in range(runs):
            canary = rng.random(20_000) < true
            found = [
                log_evidence(canary[:k], np.full(k, declared)) >= math.log(1 / alpha) for k in looks
            ]
            firsts.append(int(looks[found.index(True)]) if any(found) else 0)
        hit = [f for f in firsts if f]
        median = f"{np.median(hit):,.0f}" if len(hit) * 2 > runs else "-"
        lines.append(f"| {declared:.0%} | {true:.0%} | {share(len(hit) / runs, runs)} | {median} |")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make bench-rollout", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--runs", type=int, default=200, help="rollouts per row (200)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes (2)")
    parser.add_argument(
        "--docs", action="store_true", help="write the tables to docs/benchmarks.md"
    )
    args = parser.parse_args()
    table, above = errors(args.runs, args.seed, args.workers)
    few = max(args.runs // 4, 20)
    parts = [
        ("How often it is wrong", table),
        ("Beside other rules", beside(args.runs, args.seed)),
        ("What pairing saves", pairing()),
        ("Two rates", two_rates(few, args.seed)),
        ("The router", router(args.runs, args.seed)),
    ]
    text = "\n\n".join(f"**{title}**\n\n" + "\n".join(lines) for title, lines in parts)
    print(text)
    if args.docs:
        _write(text)
    for line in above:
        print(f"ABOVE ALPHA: {line}")
    return 1 if above else 0


def _write(text: str) -> None:
    begin, end = "<!-- bench-rollout: begin -->", "<!-- bench-rollout: end -->"
    page = DOCS.read_text()
    before, _, rest = page.partition(begin)
    DOCS.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}")


if __name__ == "__main__":
    raise SystemExit(main())
