"""How often a rollout decides wrongly, and how many requests it takes to decide.

Whole rollouts are simulated with the code that decides in production: evidence is looked at
after every request, `decide` is asked on every tick, and nothing is corrected afterwards for
having looked. Requests are drawn from a finite population whose harm is known exactly.

    python benchmarks/rollout_errors.py [--runs 1000] [--requests 20000] [--seed 1]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.duration import Duration
from homeostat.core.verdict import Outcome, Verdict
from homeostat.rollout import commands, sequences
from homeostat.rollout.decide import decide
from homeostat.rollout.evidence import harm_support, losses, measure
from homeostat.rollout.model import Phase, Rollout, evolve
from homeostat.rollout.observations import Answers, Observations
from homeostat.rollout.spec import ErrorGuard, Guards, LatencyGuard, QualityGuard, RolloutSpec

Array = NDArray[np.float64]
ALPHA = 0.05
POPULATION = 200_000
START = datetime(2026, 1, 1, tzinfo=UTC)


class Population(NamedTuple):
    """Labelled requests scored by both versions; the mean of `harm` is exactly what was asked."""

    label: Array
    harm: Array


class Tally(NamedTuple):
    promoted: float
    rolled_back: float
    decided_after: float
    runs: int


def population(
    rng: np.random.Generator, base: float, metric: str, harm: float, disagreement: float
) -> Population:
    """Two logistic scorers that differ by noise, the second pushed off until it does `harm`."""
    label = (rng.random(POPULATION) < base).astype(np.float64)
    side = 2 * label - 1
    prior = math.log(base / (1 - base))
    logit = prior + 2.0 * side + 1.5 * rng.normal(size=POPULATION)
    noise = disagreement * rng.normal(size=POPULATION)
    champion = losses(metric, label, 1 / (1 + np.exp(-logit)))

    def difference(push: float) -> Array:
        score = 1 / (1 + np.exp(-(logit + noise - push * side)))
        return losses(metric, label, score) - champion

    low, high = -6.0, 6.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if difference(middle).mean() < harm else (low, middle)
    return Population(label, difference(high))


def quality_paths(
    harm: Array, label: Array, metric: str, margin: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """-> (passes, fails) after every request: what `evidence.measure` says at each of them."""
    low, high = harm_support(metric)
    unit = (harm - low) / (high - low)
    half, goal = ALPHA / 2, math.log(2 / ALPHA)
    ready = sequences.ready(harm, label)
    running, width = sequences.asymptotic_path(harm, half)
    above_zero = sequences.log_wealth(unit, -low / (high - low), half) >= goal
    below_margin = sequences.log_wealth(1 - unit, (high - margin) / (high - low), half) >= goal
    return (
        np.where(ready, running + width < margin, below_margin),
        np.where(ready, running - width > 0, above_zero),
    )


def roll_out(passes: NDArray[np.bool_], fails: NDArray[np.bool_], every: int) -> tuple[Phase, int]:
    """Drive the real state machine, a tick every `every` requests, five ticks of bake."""
    plan = RolloutSpec(
        bake=Duration(minutes=5), guards=Guards(quality=QualityGuard()), max_duration=Duration(99)
    )
    state: Rollout | None = None
    for event in commands.start(None, id="r", candidate="2", champion="1", plan=plan):
        state = evolve(state, event, START)
    for tick, n in enumerate(range(every, len(passes) + 1, every), start=1):
        outcome = Outcome.INCONCLUSIVE
        if passes[n - 1]:
            outcome = Outcome.PASS
        elif fails[n - every : n].any():  # looked at after every request, not only on ticks
            outcome = Outcome.FAIL
        now = START + timedelta(minutes=tick)
        for event in decide(state, [Verdict("quality", outcome, "", n=n)], now):
            state = evolve(state, event, now)
        assert state is not None
        if not state.live:
            return state.phase, n
    return Phase.STEP, len(passes)


def quality_row(
    rng: np.random.Generator, people: Population, metric: str, margin: float, runs: int, n: int
) -> Tally:
    ends = []
    for _ in range(runs):
        drawn = rng.integers(0, POPULATION, n)
        passes, fails = quality_paths(people.harm[drawn], people.label[drawn], metric, margin)
        ends.append(roll_out(passes, fails, 50))
    return tally(ends)


def ever_wrong(
    rng: np.random.Generator, people: Population, metric: str, runs: int, n: int
) -> tuple[float, float]:
    """-> share of rollouts in which the (lower, upper) bound was ever beyond the true harm."""
    truth = float(people.harm.mean())
    low, high = harm_support(metric)
    half, goal = ALPHA / 2, math.log(2 / ALPHA)
    wrong = np.zeros(2)
    for _ in range(runs):
        drawn = rng.integers(0, POPULATION, n)
        harm, label = people.harm[drawn], people.label[drawn]
        ready = sequences.ready(harm, label)
        running, width = sequences.asymptotic_path(harm, half)
        for side, sign in enumerate((1.0, -1.0)):
            unit = (sign * harm + high) / (high - low)
            m = (sign * truth + high) / (high - low)
            exact = sequences.log_wealth(unit, m, half) >= goal
            wrong[side] += np.where(ready, sign * (running - truth) > width, exact).any()
    return float(wrong[0] / runs), float(wrong[1] / runs)


def tally(ends: list[tuple[Phase, int]]) -> Tally:
    decided = [n for phase, n in ends if phase is not Phase.STEP]
    return Tally(
        sum(p is Phase.PROMOTED for p, _ in ends) / len(ends),
        sum(p is Phase.ROLLED_BACK for p, _ in ends) / len(ends),
        float(np.median(decided)) if len(decided) * 2 > len(ends) else math.nan,
        len(ends),
    )


def arms_row(
    plan: RolloutSpec, draw: Callable[[], tuple[Array, Array]], runs: int, n: int
) -> Tally:
    """Latency (values) or errors (0/1) of two arms, looked at on a grid growing by 5 %."""
    looks = np.unique(np.geomspace(20, n, int(math.log(n / 20) / math.log(1.05))).astype(int))
    nothing = pl.DataFrame()
    ends = []
    for _ in range(runs):
        champion, candidate = draw()
        value = np.stack((champion, candidate), axis=1).ravel()
        canary = np.tile([False, True], n)
        even, time = np.full(2 * n, 0.5), np.arange(2 * n)
        failing = plan.guards.error_rate is not None
        failed = value > 0.5 if failing else np.zeros(2 * n, dtype=np.bool_)
        whole = Answers(time, canary, failed, value, even, np.ones(2 * n, dtype=np.bool_))
        end = (Phase.STEP, n)
        for k in looks:
            seen = Observations(whole.until(2 * int(k) - 1), nothing, ("1", "2"))
            verdict = measure(plan, seen)[0]
            if verdict.failed or verdict.passed:
                end = (Phase.ROLLED_BACK if verdict.failed else Phase.PROMOTED, int(k))
                break
        ends.append(end)
    return tally(ends)


def show(case: str, harm: str, result: Tally) -> None:
    def share(p: float) -> str:
        error = math.sqrt(max(p * (1 - p), 1 / result.runs) / result.runs)
        return f"{p:.3f} ± {error:.3f}"

    median = "-" if math.isnan(result.decided_after) else f"{result.decided_after:,.0f}"
    print(
        f"| {case} | {harm} | {share(result.promoted)} | {share(result.rolled_back)} | {median} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    began = time.perf_counter()
    print(f"alpha {ALPHA}, {args.runs} rollouts a row, {args.requests:,} requests, ", end="")
    print(f"seed {args.seed}; ± is the Monte-Carlo standard error\n")
    print("| guard | true harm | promoted | rolled back | median requests to decide |")
    print("| --- | --- | --- | --- | --- |")
    for base, metric, margin in (
        (0.5, "log_loss", 0.02),
        (0.5, "error", 0.02),
        (0.01, "log_loss", 0.005),
        (0.01, "error", 0.005),
    ):
        for times in (-4, 0, 1, 2, 6):
            rng = np.random.default_rng([args.seed, int(base * 100), len(metric), times + 9])
            if metric == "error" and base < 0.1 and times < 0:
                continue  # there is less than that to gain
            people = population(rng, base, metric, times * margin, disagreement=0.5)
            actual = float(people.harm.mean())
            row = quality_row(rng, people, metric, margin, args.runs, args.requests)
            named = metric.replace("_", " ")
            show(f"{named}, {base:.0%} positive, margin {margin:g}", f"{actual:+.4f}", row)
    few = max(args.runs // 4, 50)
    errors = RolloutSpec(guards=Guards(error_rate=ErrorGuard(margin=0.005)))
    for extra in (0.0, 0.005, 0.01, 0.05):
        rng = np.random.default_rng([args.seed, int(extra * 1000)])

        def failing(rng: np.random.Generator = rng, extra: float = extra) -> tuple[Array, Array]:
            draws = rng.random((2, args.requests))
            return (draws[0] < 0.01).astype(float), (draws[1] < 0.01 + extra).astype(float)

        show(
            "errors, 1 %, margin 0.005",
            f"{extra:+.3f}",
            arms_row(errors, failing, few, args.requests),
        )
    slow = RolloutSpec(guards=Guards(latency_p99=LatencyGuard(max_ratio=1.1, slack=Duration(0))))
    for ratio in (1.0, 1.1, 1.2, 2.0):
        rng = np.random.default_rng([args.seed, int(ratio * 1000)])

        def timed(rng: np.random.Generator = rng, ratio: float = ratio) -> tuple[Array, Array]:
            draws = 0.002 * np.exp(0.5 * rng.normal(size=(2, args.requests)))
            return draws[0], ratio * draws[1]

        show(
            "latency p99, at most 1.1 times",
            f"{ratio:g} times",
            arms_row(slow, timed, few, args.requests),
        )
    print("\n| bound of the mean, alpha 0.05 | true harm | low ever wrong | high ever wrong |")
    print("| --- | --- | --- | --- |")
    for base in (0.5, 0.01, 0.001):
        for metric in ("log_loss", "error"):
            rng = np.random.default_rng([args.seed, int(base * 1000), len(metric)])
            people = population(rng, base, metric, 0.0, disagreement=0.5)
            wrong = ever_wrong(rng, people, metric, args.runs, args.requests)
            cells = " | ".join(
                f"{p:.3f} ± {math.sqrt(max(p * (1 - p), 1 / args.runs) / args.runs):.3f}"
                for p in wrong
            )
            truth = float(people.harm.mean())
            named = metric.replace("_", " ")
            print(f"| {named}, {base:.1%} positive | {truth:+.4f} | {cells} |", flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
