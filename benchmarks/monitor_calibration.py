"""False alarms of what explains an alarm: change points, moved mixes of classes, scores that mean
something else; whether a certificate's interval holds the rate that a monitor really has; and
whether levels that were solved for on one history keep to the budget on another; and what rows that
hang together do to the monitors of drift, data and quality.

    python benchmarks/monitor_calibration.py [--runs 1000] [--only solved]

Everything is drawn from worlds in which nothing has changed, so every finding is a false one; then
from worlds in which something has, to see what is found, and whether it is called by its name.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special
from scipy.signal import lfilter

from homeostat.core.duration import Duration
from homeostat.core.metrics import measure
from homeostat.core.names import METRICS
from homeostat.core.verdict import Outcome, Verdict
from homeostat.monitoring.alerts.change import change_point
from homeostat.monitoring.alerts.triage import triage
from homeostat.monitoring.calibration.history import History, Setting
from homeostat.monitoring.calibration.levels import nominal
from homeostat.monitoring.calibration.measure import rate_of, rates, solve
from homeostat.monitoring.drift.baseline import Baseline
from homeostat.monitoring.drift.betting import wager, weigh
from homeostat.monitoring.drift.dependence import in_order, of_metric
from homeostat.monitoring.drift.watch import BASELINE
from homeostat.monitoring.model import Evidence
from homeostat.monitoring.profiles.profile import Scheme
from homeostat.monitoring.quality.health import NULLS, at_least
from homeostat.monitoring.quality.outcomes import Meaning
from homeostat.monitoring.spec import Drift, MonitoringSpec, Quality
from homeostat.monitoring.window import Reference

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


def traffic(
    n: int, random: np.random.Generator, *, together: float
) -> tuple[NDArray[np.float32], Floats, Floats]:
    """-> features (n, 5), score, label. together: correlation of a row with the one before it."""
    noise = random.normal(size=(n, 5)) * np.sqrt(1 - together**2)
    x = lfilter([1.0], [1.0, -together], noise, axis=0)
    score = 1 / (1 + np.exp(2 - x[:, 0] - x[:, 1]))
    return x.astype(np.float32), score, (random.random(n) < score).astype(np.float64)


def solved(runs: int) -> None:
    """Solved on a history of 20,000 rows; fresh: 60 months that nothing was solved on."""
    print("Levels solved for on one history (24 months of replay), on fresh traffic (60 months).\n")
    print("| rows hang together | budget | times the nominal level: drift, data, quality ", end="")
    print("| false alarms a month: replayed | fresh (95 %) |")
    print("| --- | --- | --- | --- | --- |")
    features = tuple("abcde")
    for together, budget in ((0.0, 1.0), (0.5, 1.0), (0.9, 1.0), (0.9, 4.0)):
        spec = MonitoringSpec(
            window=Duration(hours=6),
            drift=Drift(false_alarms_per_month=budget),
            quality=Quality("auc", min=0.72),
        )
        for seed in range(max(1, runs // 300)):
            random = np.random.default_rng([seed, int(10 * together)])
            made, seen, fresh = (
                as_history(*traffic(n, random, together=together))
                for n in (20_000, 20_000, 250 * 120 * 60)
            )
            table = pl.DataFrame(made.inputs, schema=list(features)).with_columns(
                made.rows["score"], made.rows["label"]
            )
            reference = Reference.build(table, features, spec)
            setting = Setting(reference, spec, "1", 250, timedelta(hours=6), block=250)
            levels, replayed = solve(seen, setting, 24, seed)
            found = rates(fresh, setting, 60, random, levels)
            times = ", ".join(f"{r.level / nominal(spec):g}" for r in replayed)
            whole = rate_of("drift", sum(r.alarms for r in found), found[0].months, 0.0)
            print(
                f"| {together:g} | {budget:g} | {times} | {sum(r.per_month for r in replayed):.2f} "
                f"| {whole.per_month:.2f} ({whole.low:.2f} to {whole.high:.2f}) |",
                flush=True,
            )


def alike(runs: int) -> None:
    """The monitor of drift alone, six columns, windows of 250 rows, one false alarm a month."""
    print("Rows that hang together, counted as independent ones and as what they are worth.\n")
    print("| correlation | counted as | false alarms a month (95 %) | windows: 0.5 sd | 1 sd |")
    print("| --- | --- | --- | --- | --- |")
    episodes = max(10, runs // 30)
    for together in (0.0, 0.5, 0.9):
        for worth in (False, True):
            alarms, months = 0, 0
            for seed in range(max(1, runs // 150)):
                alarms += sum(_begun(_named(together, 120 * 10, seed, worth=worth)))
                months += 10
            rate = rate_of("drift", alarms, months, 0.0)
            late = []
            for by in (0.5, 1.0):
                named = [
                    _named(together, 120, s, worth=worth, by=by, first=True)
                    for s in range(episodes)
                ]
                found = [len(n) for n in named]
                late.append(f"{np.mean(found):.1f} ± {np.std(found) / episodes**0.5:.1f}")
            print(
                f"| {together:g} | {'worth' if worth else 'independent'} | {rate.per_month:.2f} "
                f"({rate.low:.2f} to {rate.high:.2f}) | {late[0]} | {late[1]} |",
                flush=True,
            )
    print()


def _named(
    together: float, windows: int, seed: int, *, worth: bool, by: float = 0.0, first: bool = False
) -> list[bool]:
    """Whether a column is named after each window. by: how far the first column has moved, in
    standard deviations. first: end with the first such window."""
    random, alpha = np.random.default_rng([seed, int(10 * together)]), 1 / 120
    table, now = (
        pl.DataFrame(
            lfilter([1.0], [1.0, -together], random.normal(size=(n, 6)), axis=0)
            * np.sqrt(1 - together**2),
            schema=list("abcdef"),
        )
        for n in (20_000, 250 * windows)
    )
    base = Baseline.build(table)
    scheme = Scheme.of(in_order(base, table) if worth else base)
    codes = [
        b.codes(now[b.column.name].to_numpy() + by * (i == 0)) for i, b in enumerate(scheme.bins)
    ]
    evidence: tuple[Evidence, ...] = ()
    found: list[bool] = []
    for start in range(0, 250 * windows, 250):
        won = {}
        for b, code in zip(scheme.bins, codes, strict=True):
            seen = b.seen(np.bincount(code[start : start + 250], minlength=b.size), 0)
            bets = wager(b.column, seen, 0.1, alpha / 6 * BASELINE)
            if bets is not None:
                won[b.column.name] = bets
        evidence = weigh(evidence, won, 1 / (alpha * (1 - BASELINE)), 6)
        found.append(any(e.named for e in evidence))
        if first and found[-1]:
            break
    return found


def _begun(named: list[bool]) -> list[bool]:
    return [now and not before for before, now in zip([False, *named], named, strict=False)]


def worth(runs: int) -> None:
    """Windows of 500 rows; the design effect is that of a test set of 20,000. Quality: a floor at
    what the metric really is. Data: as many values missing as are allowed. In both an alarm is
    false, and each window may spend 1 % on one."""
    print("Alarms of data and quality at their limit, by how rows are counted (1 % is allowed).\n")
    print("| correlation | what | a row is worth | alarms: independent | as it is worth |")
    print("| --- | --- | --- | --- | --- |")
    for together in (0.0, 0.5, 0.9):
        random = np.random.default_rng([4, int(10 * together)])
        names = ("auc", "recall", "log_loss")
        test, many = (labelled(n, random, together=together) for n in (20_000, 1_000_000))
        true = {m: measure(*many, only=(m,))[m].value or 0.0 for m in names}
        windows = [labelled(500, random, together=together) for _ in range(4 * runs)]
        for name in names:
            design = of_metric(name, *test, threshold=0.5, k=100)
            beyond = []
            for counted in (1.0, design):
                found = [
                    measure(*w, confidence=0.98, only=(name,), design=counted)[name]
                    for w in windows
                ]
                up = METRICS[name].higher_is_better
                ends = [(e.high if up else e.low) for e in found if e.value is not None]
                late = [e is not None and (e < true[name] if up else e > true[name]) for e in ends]
                beyond.append(float(np.mean(late)))
            _told(together, name, design, beyond)
        base = lacking(20_000, random, together=together, share=0.10)
        column = in_order(Baseline.build(base), base).columns[0]
        nulls = [
            lacking(500, random, together=together, share=0.15)["a"].null_count()
            for _ in range(4 * runs)
        ]
        limit = column.nulls / (column.n + column.nulls) + NULLS
        beyond = [
            float(np.mean([at_least(n / d, 500 / d, 0.01) > limit for n in nulls]))
            for d in (1.0, column.design_nulls)
        ]
        _told(together, "missing values", column.design_nulls, beyond)
    print()


def _told(together: float, what: str, design: float, alarms: list[float]) -> None:
    found = " | ".join(f"{share:.1%}" for share in alarms)
    print(f"| {together:g} | {what} | {1 / design:.2f} | {found} |", flush=True)


def alike_rows(n: int, random: np.random.Generator, *, together: float) -> Floats:
    """Standard normal, each correlated with the one before it, (n,)."""
    noise = random.normal(size=n + 200) * np.sqrt(1 - together**2)
    return np.asarray(lfilter([1.0], [1.0, -together], noise))[200:]


def labelled(n: int, random: np.random.Generator, *, together: float) -> tuple[Floats, Floats]:
    """-> label, score: neighbours are alike in what the model knows, and in what it does not."""
    score = 1 / (1 + np.exp(1 - 1.5 * alike_rows(n, random, together=together)))
    chance = special.ndtr(alike_rows(n, random, together=together))
    return (chance < score).astype(np.float64), score


def lacking(n: int, random: np.random.Generator, *, together: float, share: float) -> pl.DataFrame:
    gone = special.ndtr(alike_rows(n, random, together=together)) < share
    return pl.DataFrame({"a": pl.Series(random.normal(size=n)).set(pl.Series(gone), None)})


def as_history(x: NDArray[np.float32], score: Floats, label: Floats) -> History:
    rows = pl.DataFrame({"score": score, "label": label, "propensity": np.ones(len(x))})
    empty = pl.Series("features", [[]] * len(x), dtype=pl.List(pl.Float32))
    return History(rows.with_columns(empty), "log", inputs=x)


def main() -> None:
    parser = argparse.ArgumentParser(description="False alarms of what explains an alarm.")
    parser.add_argument("--runs", type=int, default=1_000)
    tables = {f.__name__: f for f in (change_points, causes, intervals, solved, alike, worth)}
    parser.add_argument("--only", choices=tables)
    args = parser.parse_args()
    for name, table in tables.items():
        if args.only in (None, name):
            table(args.runs)


if __name__ == "__main__":
    main()
