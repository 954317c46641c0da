"""Whole rollouts of one row, by guard."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

import numpy as np
from benchmarks.rollout import callers, guards, streams
from benchmarks.rollout.cells import (
    ALPHA,
    BAKE,
    BATCH,
    BLOCK,
    BOTH,
    CALLERS,
    PER_TICK,
    STEPS,
    Cell,
    Row,
)
from benchmarks.rollout.checks import as_decided, as_judged
from benchmarks.rollout.guards import Ends, Says
from benchmarks.rollout.streams import Array, Counts, Flags, Stream

from homeostat.rollout import sequences, two_by_two
from homeostat.rollout.evidence import harm_support
from homeostat.rollout.guards.common import Alpha
from homeostat.rollout.guards.estimate import LEAST_LABELS, SPENT, adjusted

Batch = Callable[[int], Ends]
"""So many rollouts."""


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


def _ended(told: Says, looks: Counts) -> Ends:
    ends = guards.roll_out(told, looks, STEPS, BAKE)
    as_decided(told, looks, ends)
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
            as_judged(seen, metric, cell.margin, told, looks)
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
    be, three margins, once or twice. autocorrelated: all requests of a block are of one slice."""
    fine = streams.population(rng, cell.base, "log_loss", 0.0)
    harmed = streams.population(rng, cell.base, "log_loss", 3 * cell.times * cell.margin)
    turn = np.array([0, 1, 0, 2, 1, 0, 3, 1, 2, 0])
    many = 400_000 if cell.base > 0.1 else 1_200_000
    n, block = (many, BLOCK) if cell.kind == "autocorrelated" else (40_000, 1)
    places = [np.flatnonzero(np.resize(turn, n // block) == k) for k in range(4)]

    def draw(people: streams.Population, runs: int, requests: int) -> Stream:
        if cell.kind == "autocorrelated":
            return streams.repeated(rng, people, runs, requests, block)
        late = cell.kind == "late labels"
        return (streams.late if late else streams.independent)(rng, people, runs, requests)

    def say(seen: Stream, looks: Counts) -> Says:
        own = [place[place < looks[-1] // block] for place in places]
        return guards.in_slices(seen, own, "log_loss", cell.margin, ALPHA, looks)

    def batch(runs: int) -> Ends:
        whole = Stream(*(np.empty((runs, n // block)) for _ in range(2)), block)
        for k, own in enumerate(places):
            part = draw(harmed if k == 2 else fine, runs, block * len(own))
            whole.harm[:, own], whole.positive[:, own] = part.harm, part.positive
        return _growing(
            runs, (n // 16, n // 4, n), lambda length, live: whole.of(live).first(length), say
        )

    return batch


def _estimated(rng: np.random.Generator, cell: Cell) -> Batch:
    """Every tenth request has a label (autocorrelated: every tenth block); both versions' scores
    are known of all. A look that passes is followed by one after each bake."""
    people = streams.population(rng, cell.base, "log_loss", cell.times * cell.margin)
    again = cell.kind == "autocorrelated"
    n, unit = 100_000 if cell.base > 0.1 and not again else 200_000, BLOCK if again else 1
    grid = np.geomspace(500, n - len(STEPS) * BAKE, 24).astype(int) // BAKE * BAKE
    looks = np.unique(grid[:, None] + BAKE * np.arange(len(STEPS)))
    block = np.arange(n) // unit
    at = np.flatnonzero(block % 10 == 0)
    low, high = ((1 - SPENT) * ALPHA,) * 2, Alpha(SPENT * ALPHA, SPENT * ALPHA)

    def one() -> tuple[list[bool], list[bool]]:
        drawn = streams.drawn(rng, n, again=again)
        harm, label, z = people.harm[drawn], people.label[drawn], people.expected[:, drawn].T
        passes, fails = list[bool](), list[bool]()
        for look in looks:
            if look not in grid and not (passes and passes[-1]):
                passes.append(False)
                fails.append(False)
                continue
            known, every = at[: np.searchsorted(at, look)], slice(0, look)
            mine, ours = (block[known], block[every]) if again else (None, None)
            h, y = harm[known], label[known]
            bounds = sequences.mean(h, harm_support("log_loss"), alpha=low, label=y, block=mine)
            ends = bounds.low, bounds.high
            if len(known) >= LEAST_LABELS:
                told = adjusted(h, z[known], z[every], y, (mine, ours), high)
                if told is not None and told[2] - told[0] < (bounds.high - bounds.point) / 1.05:
                    ends = told[1:]
            passes.append(ends[1] < cell.margin)
            fails.append(ends[0] > 0)
            if fails[-1] or sum(passes[-len(STEPS) :]) == len(STEPS):
                break  # it is over
        rest = [False] * (len(looks) - len(passes))
        return passes + rest, fails + rest

    def batch(runs: int) -> Ends:
        found = [one() for _ in range(runs)]
        return _ended(Says(*(np.array(x) for x in zip(*found, strict=True))), looks)

    return batch


def _rates(rng: np.random.Generator, cell: Cell) -> Batch:
    """A tenth goes to the candidate until the end. autocorrelated: whether a request can go wrong
    comes in spells that both versions have in common."""
    if cell.kind in CALLERS:
        return _callers(rng, cell)
    n = {0.5: 50_000, 0.05: 200_000, 0.01: 400_000, 0.001: 600_000}[cell.base]

    def batch(runs: int) -> Ends:
        spells = cell.kind == "autocorrelated"
        extra = cell.times * cell.margin
        blocks, looks = streams.two_arms(rng, runs, n, cell.base, extra, spells=spells)
        return _ended(guards.rates(blocks, cell.margin, BOTH), looks)

    return batch


def _callers(rng: np.random.Generator, cell: Cell) -> Batch:
    """A tenth of the callers is kept on the candidate."""
    many, n, together = CALLERS[cell.kind]
    ends = two_by_two.cuts(n)
    looks = ends[ends >= 100][::2]
    extra = cell.times * cell.margin

    def one(k: int) -> Says:
        kept = callers.fails(rng, many, n, cell.base, extra, together=together)
        told = callers.rates(kept, looks, cell.margin, BOTH)
        if k == 0:
            callers.rates_as_judged(kept, looks, cell.margin, BOTH, told)
        return told

    def batch(runs: int) -> Ends:
        return _ended(_all([one(k) for k in range(runs)]), looks)

    return batch


def _slow_callers(rng: np.random.Generator, cell: Cell) -> Batch:
    """As `_latency`, where callers are slow and not requests."""
    many, n, _ = CALLERS[cell.kind]
    looks = np.unique(np.geomspace(20_000, n, 16).astype(int))

    def batch(runs: int) -> Ends:
        told = []
        for _ in range(runs):
            kept = callers.waits(rng, many, n, 1 + cell.times * cell.margin)
            told.append(callers.latency(kept, looks, 1 + cell.margin, Alpha(*BOTH)))
        return _ended(_all(told), looks)

    return batch


def _all(told: list[Says]) -> Says:
    """Of one run each."""
    return Says(*(np.stack(flags) for flags in zip(*told, strict=True)))


def _latency(rng: np.random.Generator, cell: Cell) -> Batch:
    """Log-normal latencies; the candidate's are longer by a factor. Every tenth request is its own.
    autocorrelated: in one of five spells of requests both are slower by half."""
    if cell.kind in CALLERS:
        return _slow_callers(rng, cell)
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
    """Rates of alerts in two groups of 70 and 30 %, apart by so many times what is allowed.
    autocorrelated: each request comes five times in a row, on average."""
    again = cell.kind == "autocorrelated"
    n, step = (300_000, 10 * BLOCK) if again else (60_000, 10)
    looks = np.unique(np.geomspace(10 * step, n, 60 if step == 10 else 30).astype(int))
    looks = looks // step * step
    groups = np.stack((looks * 7 // 10, looks * 3 // 10), axis=1)
    rate = np.array([cell.base, cell.base + cell.times * cell.margin])

    def batch(runs: int) -> Ends:
        if again:
            alerts, worth = streams.repeats(rng, rate, groups, runs, BLOCK)
        else:
            new = rng.binomial(np.diff(groups, axis=0, prepend=0), rate, (runs, len(looks), 2))
            alerts, worth = np.cumsum(new, axis=1), None
        told = guards.bias(alerts, groups, cell.margin, BOTH, worth)
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
