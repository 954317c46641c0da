"""Whole rollouts on streams whose true harm is known: `python -m benchmarks.rollout --help`.

Evidence is looked at again and again, and nothing is corrected afterwards for having looked. Prints
tables with their seeds and Monte-Carlo errors; exit status 1 when an error rate is above alpha by
more than three of its standard errors.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from benchmarks.rollout import fraud, guards, rules, streams
from benchmarks.rollout.guards import Ends, Says
from benchmarks.rollout.streams import Array, Counts, Flags, Stream

from homeostat.core.duration import Duration
from homeostat.core.verdict import Outcome, Verdict
from homeostat.rollout import commands, sequences
from homeostat.rollout.decide import decide
from homeostat.rollout.evidence import harm_support
from homeostat.rollout.guards.common import Alpha
from homeostat.rollout.guards.estimate import SPENT, adjusted
from homeostat.rollout.guards.router import log_evidence_of
from homeostat.rollout.model import Phase, Rollout, evolve
from homeostat.rollout.sequences import width
from homeostat.rollout.spec import Guards, QualityGuard, RolloutSpec

ALPHA = 0.05
BOTH = (ALPHA, ALPHA)
STEPS = (10.0, 25.0, 50.0, 75.0, 100.0)
BAKE, PER_TICK, BATCH = 250, 50, 100
"""In requests: the least length of a step, from look to look; and rollouts computed at once."""
BLOCK = 25
"""Of requests that come again and again: declared in the rows called autocorrelated."""
DOCS = Path(__file__).parents[2] / "docs" / "benchmarks.md"
START = datetime(2026, 1, 1, tzinfo=UTC)
KINDS = ("independent", "autocorrelated", "late labels")
TIMES = (0, 1, 2)


class Cell(NamedTuple):
    """One row of the first table. times: true harm in margins. kind: of the stream."""

    guard: str
    base: float
    margin: float
    times: int
    kind: str
    runs: int
    seed: int

    @property
    def harmless(self) -> float:
        """Up to how many margins nothing may be called harmful."""
        return 1 if self.guard in ("latency p99", "bias") else 0


class Row(NamedTuple):
    cell: Cell
    promoted: float
    rolled_back: float
    tenth: float
    decided: float
    seconds: float  # of the processor

    def wrong(self) -> list[float]:
        """The shares of runs that went wrong: rolled back without harm, promoted with it."""
        found = [self.rolled_back] if self.cell.times <= self.cell.harmless else []
        return [*found, self.promoted] if self.cell.times >= 1 else found


def cells(runs: int, seed: int) -> Iterator[Cell]:
    asked: list[tuple[str, tuple[tuple[float, float], ...], tuple[str, ...]]] = [
        ("log loss", ((0.5, 0.02), (0.01, 0.005), (0.001, 0.002)), KINDS),
        ("error", ((0.5, 0.02), (0.01, 0.005), (0.001, 0.002)), KINDS),
        ("log loss, in slices", ((0.5, 0.02), (0.01, 0.005)), ("independent", "late labels")),
        ("log loss, 10 % labelled", ((0.5, 0.02), (0.01, 0.005)), ("independent",)),
        ("error rate", ((0.5, 0.05), (0.01, 0.005), (0.001, 0.001)), KINDS[:2]),
        ("latency objective", ((0.05, 0.01), (0.01, 0.005)), KINDS[:2]),
        ("latency p99", ((0.01, 0.1),), KINDS[:2]),
        ("bias", ((0.5, 0.1), (0.05, 0.03)), ("independent",)),
    ]
    for guard, bases, kinds in asked:
        for base, margin in bases:
            for kind in kinds:
                for times in TIMES:
                    yield Cell(guard, base, margin, times, kind, runs, seed)


def measure(cell: Cell) -> Row:
    began = time.process_time()
    words = f"{cell.guard}/{cell.kind}".encode()
    rng = np.random.default_rng([cell.seed, int(cell.base * 1000), cell.times, *words])
    batch = WAYS[cell.guard](rng, cell)
    parts = [batch(BATCH) for _ in range(math.ceil(cell.runs / BATCH))]
    ends = Ends(*(np.concatenate(x)[: cell.runs] for x in zip(*parts, strict=True)))
    decided = ends.at[ends.how != 0]
    return Row(
        cell,
        float((ends.how == 1).mean()),
        float((ends.how == -1).mean()),
        float(((ends.how == -1) & (ends.percent <= 10)).mean()),
        float(np.median(decided)) if len(decided) * 2 > len(ends.how) else math.nan,
        time.process_time() - began,
    )


# -- one row of the first table ----------------------------------------------------------------

Batch = Callable[[int], Ends]
"""So many rollouts."""


def _ended(told: Says, looks: Counts) -> Ends:
    ends = guards.roll_out(told, looks, STEPS, BAKE)
    _as_decided(told, looks, ends)
    return ends


def _growing(
    runs: int,
    lengths: Iterable[int],
    seen: Callable[[int, Flags], Stream],
    say: Callable[[Stream, Counts], Says],
) -> Ends:
    """Few requests first, more for the runs that have not decided on them. seen: the first so many
    of those that are left."""
    live = np.ones(runs, dtype=np.bool_)
    counts = (np.zeros(runs, dtype=np.intp) for _ in range(3))
    ends = Ends(*counts, np.zeros(runs), np.zeros(runs))
    for length in lengths:
        looks = np.arange(PER_TICK, length + 1, PER_TICK)
        found = _ended(say(seen(length, live), looks), looks)
        ends.put(live, found)
        live[live] = found.how == 0
        if not live.any():
            break
    return ends


def _quality(rng: np.random.Generator, cell: Cell) -> Batch:
    metric = cell.guard.replace(" ", "_")
    people = streams.population(rng, cell.base, metric, cell.times * cell.margin)
    n, block = 40_000, 1
    if cell.kind == "autocorrelated":
        n, block = (800_000 if cell.base < 0.01 else 200_000), BLOCK

    def say(seen: Stream, looks: Counts) -> Says:
        told = guards.quality(seen, metric, cell.margin, BOTH, looks)
        if block == 1 and len(looks) <= n // 16 // PER_TICK:
            _as_judged(seen, metric, cell.margin, told, looks)
        return told

    def batch(runs: int) -> Ends:
        whole = Stream(np.empty((runs, 0)), np.empty((runs, 0)), block)
        if cell.kind == "late labels":
            whole = streams.late(rng, people, runs, n)
        known = np.ones(runs, dtype=np.bool_)

        def seen(length: int, live: Flags) -> Stream:
            nonlocal whole, known
            whole, known = whole.of(live[known]), live.copy()
            missing = length - block * whole.harm.shape[1]
            if missing > 0:
                left = len(whole.harm)
                if block > 1:
                    later = streams.repeated(rng, people, left, missing, block)
                else:
                    later = streams.independent(rng, people, left, missing)
                whole = whole.then(later)
            return whole.first(length)

        return _growing(runs, (n // 16, n // 4, n), seen, say)

    return batch


def _slices(rng: np.random.Generator, cell: Cell) -> Batch:
    """Four slices of 40, 30, 20 and 10 %, in turn; only the third is harmed: by what a slice may
    be, three margins, once or twice."""
    fine = streams.population(rng, cell.base, "log_loss", 0.0)
    harmed = streams.population(rng, cell.base, "log_loss", 3 * cell.times * cell.margin)
    n, turn = 40_000, np.array([0, 1, 0, 2, 1, 0, 3, 1, 2, 0])
    places = [np.flatnonzero(np.resize(turn, n) == k) for k in range(4)]
    draw = streams.late if cell.kind == "late labels" else streams.independent

    def say(seen: Stream, looks: Counts) -> Says:
        own = [place[place < looks[-1]] for place in places]
        return guards.in_slices(seen, own, "log_loss", cell.margin, ALPHA, looks)

    def batch(runs: int) -> Ends:
        whole = Stream(*(np.empty((runs, n)) for _ in range(2)))
        for k, own in enumerate(places):
            part = draw(rng, harmed if k == 2 else fine, runs, len(own))
            whole.harm[:, own], whole.positive[:, own] = part.harm, part.positive
        return _growing(
            runs, (n // 16, n // 4, n), lambda length, live: whole.of(live).first(length), say
        )

    return batch


def _estimated(rng: np.random.Generator, cell: Cell) -> Batch:
    """Every tenth request has a label; both versions' scores are known of all."""
    people = streams.population(rng, cell.base, "log_loss", cell.times * cell.margin)
    n = 100_000 if cell.base > 0.1 else 200_000
    looks = np.unique(np.geomspace(500, n, 24).astype(int) // 10 * 10)
    low, high = ((1 - SPENT) * ALPHA,) * 2, Alpha(SPENT * ALPHA, SPENT * ALPHA)

    def one() -> tuple[list[bool], list[bool]]:
        drawn = rng.integers(0, streams.POPULATION, n)
        harm, label = people.harm[drawn[::10]], people.label[drawn[::10]]
        z = people.expected[:, drawn].T
        passes, fails = [], []
        for look in looks:
            k = int(look) // 10
            bounds = sequences.mean(harm[:k], harm_support("log_loss"), alpha=low, label=label[:k])
            ends = bounds.low, bounds.high
            if k >= 400:
                every = z[:look]
                told = adjusted(harm[:k], every[::10], every, label[:k], (None, None), high)
                if told is not None and told[2] - told[0] < (bounds.high - bounds.point) / 1.05:
                    ends = told[1:]
            passes.append(ends[1] < cell.margin)
            fails.append(ends[0] > 0)
            if fails[-1]:
                break
        rest = [False] * (len(looks) - len(passes))
        return passes + rest, fails + rest

    def batch(runs: int) -> Ends:
        found = [one() for _ in range(runs)]
        return _ended(Says(*(np.array(x) for x in zip(*found, strict=True))), looks)

    return batch


def _rates(rng: np.random.Generator, cell: Cell) -> Batch:
    """A tenth goes to the candidate until the end. autocorrelated: whether a request can go wrong
    comes in spells that both versions have in common."""
    n = {0.5: 50_000, 0.05: 200_000, 0.01: 400_000, 0.001: 600_000}[cell.base]

    def batch(runs: int) -> Ends:
        spells = cell.kind == "autocorrelated"
        extra = cell.times * cell.margin
        blocks, looks = streams.two_arms(rng, runs, n, cell.base, extra, spells=spells)
        return _ended(guards.rates(blocks, cell.margin, BOTH), looks)

    return batch


def _latency(rng: np.random.Generator, cell: Cell) -> Batch:
    """Log-normal latencies; the candidate's are longer by a factor. Every tenth request is its own.
    autocorrelated: in one of five spells of requests both are slower by half."""
    n, runs_at_once = 200_000, 20
    looks = np.unique(np.geomspace(2_000, n, 60).astype(int) // 10 * 10)
    mine = np.arange(n) % 10 == 9

    def some(runs: int) -> Says:
        x = 0.3 * rng.standard_normal((runs, n), dtype=np.float32)
        if cell.kind == "autocorrelated":
            bad = rng.random((runs, n // streams.SPELL)) < 0.2
            x += np.where(np.repeat(bad, streams.SPELL, axis=1), np.float32(math.log(1.5)), 0)
        longer = math.log1p(cell.times * cell.margin)
        first, second = (
            [np.exp(v + more) for v in _largest(x[:, own], looks * int(own.sum()) // n)]
            for own, more in ((~mine, 0.0), (mine, longer))
        )
        return guards.latency(first, second, looks, 1 + cell.margin, BOTH)

    def batch(runs: int) -> Ends:
        parts = [some(runs_at_once) for _ in range(runs // runs_at_once)]
        return _ended(Says(*(np.concatenate(x) for x in zip(*parts, strict=True))), looks)

    return batch


def _largest(x: Array, ends: Counts) -> list[Array]:
    """Of x (runs, n), after each of so many: the largest 3 % so far and some, descending."""
    kept, found = x[:, :0], list[Array]()
    for begin, end in zip([0, *ends[:-1]], ends, strict=True):
        kept = np.concatenate((kept, x[:, begin:end]), axis=1)
        most = int(0.03 * end) + 60
        if kept.shape[1] > most:
            kept = -np.partition(-kept, most - 1, axis=1)[:, :most]
        found.append(-np.sort(-kept, axis=1).astype(np.float64))
    return found


def _bias(rng: np.random.Generator, cell: Cell) -> Batch:
    """Rates of alerts in two groups of 70 and 30 %, apart by so many times what is allowed."""
    n = 60_000
    looks = np.unique(np.geomspace(100, n, 60).astype(int) // 10 * 10)
    groups = np.stack((looks * 7 // 10, looks * 3 // 10), axis=1)
    rate = np.array([cell.base, cell.base + cell.times * cell.margin])

    def batch(runs: int) -> Ends:
        new = rng.binomial(np.diff(groups, axis=0, prepend=0), rate, (runs, len(looks), 2))
        told = guards.bias(np.cumsum(new, axis=1), groups, cell.margin, BOTH)
        return _ended(told, looks)

    return batch


WAYS: dict[str, Callable[[np.random.Generator, Cell], Batch]] = {
    "log loss": _quality,
    "error": _quality,
    "log loss, in slices": _slices,
    "log loss, 10 % labelled": _estimated,
    "error rate": _rates,
    "latency objective": _rates,
    "latency p99": _latency,
    "bias": _bias,
}


# -- the simulation does what the package does -------------------------------------------------


def _as_decided(told: Says, looks: Counts, ends: Ends) -> None:
    """The simulation decides as `decide` does: a run goes through the real state machine."""
    plan = RolloutSpec(
        bake=Duration(seconds=BAKE),
        guards=Guards(quality=QualityGuard()),
        max_duration=Duration(9999),
    )
    state: Rollout | None = None
    for event in commands.start(None, id="r", candidate="2", champion="1", plan=plan):
        state = evolve(state, event, START)
    look = 0
    while state is not None and state.live and look < len(looks):
        outcome = Outcome.FAIL if told.fails[0, look] else Outcome.INCONCLUSIVE
        if told.passes[0, look] and not told.fails[0, look]:
            outcome = Outcome.PASS
        now = START + timedelta(seconds=int(looks[look]))
        look += 1
        for event in decide(state, [Verdict("quality", outcome, "", n=look)], now):
            state = evolve(state, event, now)
    assert state is not None
    how = {Phase.PROMOTED: 1, Phase.ROLLED_BACK: -1}.get(state.phase, 0)
    assert (how, look) == (ends.how[0], ends.look[0]), "the simulation decides otherwise"


def _as_judged(seen: Stream, metric: str, margin: float, told: Says, looks: Counts) -> None:
    """Its guards say what `sequences.mean` does."""
    for look in range(4, len(looks), max(len(looks) // 6, 1)):
        n = int(looks[look])
        bounds = sequences.mean(
            seen.harm[0, :n], harm_support(metric), alpha=BOTH, label=seen.positive[0, :n]
        )
        says = (told.passes[0, look], told.fails[0, look])
        assert says == (bounds.high < margin, bounds.low > 0), "the guards say otherwise"


# -- the tables --------------------------------------------------------------------------------


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
        "Beyond what is promised: some decide before the dependence can be seen.",
        "",
        "| guard | base rate | true harm | neighbours | ever shown harmful | ever shown harmless |",
        "| --- | ---: | ---: | --- | ---: | ---: |",
    ]
    n = 40_000
    looks = np.arange(PER_TICK, n + 1, PER_TICK)
    for metric, base, margin in (("log_loss", 0.5, 0.02), ("error", 0.5, 0.02)):
        for times in (0, 1):
            rng = np.random.default_rng([seed, times, len(metric)])
            people = streams.population(rng, base, metric, times * margin)
            seen = streams.repeated(rng, people, runs, n, 1)
            for how, merges in (("merged", True), ("left as they are", False)):
                told = guards.quality(seen, metric, margin, BOTH, looks, merges=merges)
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


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make bench-rollout", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--runs", type=int, default=500, help="rollouts per row (500)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes (2)")
    parser.add_argument(
        "--docs", action="store_true", help="write the tables to docs/benchmarks.md"
    )
    args = parser.parse_args()
    began = time.perf_counter()
    few, seed = max(args.runs // 4, 20), args.seed
    with ProcessPoolExecutor(args.workers) as pool:
        rows = list(pool.map(measure, cells(args.runs, seed)))
        table, above = errors(rows, time.perf_counter() - began, args.workers)
        others: dict[str, Callable[[], Iterable[str]]] = {
            "A block that nobody declared": partial(undeclared, few, seed),
            "Experiments": partial(experiments, few, seed),
            "Beside other rules": partial(beside, min(args.runs, 400), seed),
            "What pairing saves": pairing,
            "Two rates": partial(two_rates, few, seed),
            "The router": partial(router, 10 * args.runs, seed),
        }
        waiting = {title: pool.submit(way) for title, way in others.items()}
        parts = [("How often it is wrong", table)]
        parts += [(title, list(w.result())) for title, w in waiting.items()]
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
