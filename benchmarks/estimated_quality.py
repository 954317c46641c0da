"""Quality that is not simply measured: what the published data say of it, and what its intervals
are worth.

    python benchmarks/estimated_quality.py [--runs 200] [--data ../shared/data]

First NannyML's modified California housing data: each method's estimate of the monthly AUC beside
the realised one. Then the coverage of every interval, by simulation: metrics corrected for
outcomes that the model prevented and labels that are missing (nominal 95 %), estimates under
covariate shift, and expected losses of a regression. Seeds are fixed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.metrics import measure
from homeostat.monitoring.quality.corrected import corrected
from homeostat.monitoring.quality.estimate.loss import LossModel
from homeostat.monitoring.quality.estimate.masses import SUPPORTED
from homeostat.monitoring.quality.estimate.service import Estimator, Rows

Floats = NDArray[np.float64]
INPUTS = [
    "MedInc", "HouseAge", "AveRooms", "AveBedrms", "Population", "AveOccup", "Latitude",
    "Longitude",
]  # fmt: skip
METHODS = ("cbpe", "weighted", "label_shift", "label_shift_bbse")


def california(folder: Path) -> None:
    def read(name: str) -> pl.DataFrame:
        return pl.read_csv(folder / f"california_housing_{name}.csv.gz", try_parse_dates=True)

    def rows(table: pl.DataFrame) -> Rows:
        label = table["clf_target"].cast(pl.Float64).to_numpy()
        return Rows(table.select(INPUTS).to_numpy(), table["y_pred_proba"].to_numpy(), label)

    later = read("analysis").join(read("analysis_gt"), on="id", maintain_order="left")
    later = later.with_columns(month=pl.col("timestamp").dt.strftime("%Y-%m"))
    months = [(part["month"][0], rows(part)) for part in later.partition_by("month")][:11]
    estimator = Estimator(rows(read("reference")), "auc")
    print("California housing, AUC by month; labels of the month before are known.\n")
    print("| month | realised | ours | CBPE | weighted | EM | BBSE | standing | not passed |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    errors: list[list[float]] = []
    before = None
    for month, now in months:
        assert now.label is not None
        real = measure(now.label, now.score, only=("auc",))["auc"].value or 0.0
        found = estimator.estimate(now, before)
        ours = estimator.conditional_value(now) or 0.0
        said = [ours, *(found.others[m] for m in METHODS)]
        errors.append([abs(x - real) for x in said])
        checks = ", ".join(c.check for c in found.checks if not c.passed)
        figures = " | ".join(f"{x:.4f}" for x in said)
        print(f"| {month} | {real:.4f} | {figures} | {found.standing} | {checks} |")
        before = now
    print(f"| mean error | | {' | '.join(f'{x:.4f}' for x in np.mean(errors, axis=0))} | | |\n")


def sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))


def fraud(n: int, random: np.random.Generator) -> tuple[Floats, Floats]:
    """-> label, score: about 10 % positive, the model a little too sure of itself."""
    z = 1.5 * random.normal(size=n)
    label = (random.random(n) < sigmoid(-3.1 + 1.8 * z)).astype(np.float64)
    return label, sigmoid(-3.5 + 1.5 * z)


def corrections(runs: int) -> None:
    threshold = 0.3
    truth_label, truth_score = fraud(2_000_000, np.random.default_rng(1))
    print("Corrected metrics: scores from 0.3 on are blocked but for an explored share, and up to")
    print("20 % of the other labels are missing, more so of low scores. Share of 95 % intervals")
    print("that hold the true figure (standard error about 1.5 %), and mean error.\n")
    print("| metric | rows | explored | known alone | inverse probability | doubly robust |")
    print("| --- | --- | --- | --- | --- | --- |")
    for metric in SUPPORTED:
        if metric == "precision_at_k":
            continue  # k of how many rows? it is no figure of the population
        truth = measure(truth_label, truth_score, threshold=threshold, only=(metric,))[metric]
        assert truth.value is not None
        for n, explore in ((2_000, 0.2), (4_000, 0.1), (20_000, 0.05)):
            held: dict[str, list[tuple[bool, float]]] = {"naive": [], "weighted": [], "robust": []}
            for seed in range(runs):
                random = np.random.default_rng([seed, n])
                label, score = fraud(n, random)
                chance = np.where(score >= threshold, explore, 1.0)
                known = (random.random(n) < chance) & (random.random(n) >= 0.2 * (1 - score))
                label = np.where(known, label, np.nan)
                found = corrected(metric, label, score, chance, threshold=threshold)
                for name, kept in held.items():
                    e = getattr(found, name)
                    if e.value is not None:
                        kept.append((e.low <= truth.value <= e.high, e.value - truth.value))
            cells = " | ".join(
                f"{np.mean([h for h, _ in kept]):.1%}, {np.mean([e for _, e in kept]):+.4f}"
                for kept in held.values()
            )
            print(f"| {metric} | {n:,} | {explore:.0%} | {cells} |", flush=True)
    print()


def estimates(runs: int) -> None:
    print("Estimates without labels when only the features move: share of 95 % intervals that hold")
    print("what is then measured on the same rows.\n")
    print("| metric | shift | rows | coverage | mean error | CBPE's |")
    print("| --- | --- | --- | --- | --- | --- |")

    def world(n: int, seed: int, shift: float) -> Rows:
        random = np.random.default_rng([seed, 5])
        x = random.normal(size=(n, 2)) + np.array([shift, 0.0])
        label = random.random(n) < sigmoid(1.5 * x[:, 0] + 0.8 * x[:, 1] - 1)
        return Rows(x, sigmoid(1.2 * x[:, 0] - 1), label.astype(np.float64))

    for metric in ("auc", "average_precision", "log_loss", "accuracy", "recall"):
        for shift, n in ((0.0, 1_000), (-1.0, 1_000), (1.0, 5_000)):
            held, error, plain = [], [], []
            for seed in range(1, max(20, runs // 2) + 1):
                if seed % 5 == 1:  # what was learnt is a draw as well
                    estimator = Estimator(world(10_000, 1_000_000 + seed, 0.0), metric)
                now = world(n, seed, shift)
                said = estimator.interval(now)
                assert now.label is not None
                was = measure(now.label, now.score, only=(metric,))[metric].value
                if said.value is None or said.low is None or said.high is None or was is None:
                    continue
                held.append(said.low <= was <= said.high)
                error.append(abs(said.value - was))
                plain.append(abs((estimator.cbpe(now.score) or 0.0) - was))
            row = f"{np.mean(held):.1%} | {np.mean(error):.4f} | {np.mean(plain):.4f}"
            print(f"| {metric} | {shift:+g} | {n:,} | {row} |", flush=True)
    print()


def losses(runs: int) -> None:
    print("Expected losses of a regression, inputs moved by 0.7: coverage of what is then seen.\n")
    print("| loss | rows | coverage |")
    print("| --- | --- | --- |")

    def rows(n: int, shift: float, random: np.random.Generator) -> tuple[Floats, Floats, Floats]:
        x = random.normal(size=(n, 2)) + np.array([shift, 0.0])
        noise = random.normal(size=n) * (0.5 + np.maximum(0, x[:, 0]))
        return x, x[:, 0], x[:, 0] + noise

    kinds: dict[str, Callable[[Floats], Floats]] = {"absolute": np.abs, "squared": np.square}
    for kind, of in kinds.items():
        for n in (500, 5_000):
            held = []
            for seed in range(runs):
                if seed % 5 == 0:
                    model = LossModel(*rows(8_000, 0.0, np.random.default_rng([seed])), loss=kind)
                x, prediction, truth = rows(n, 0.7, np.random.default_rng([seed, n]))
                said, was = model.estimate(x, prediction), float(of(truth - prediction).mean())
                assert said.low is not None
                assert said.high is not None
                held.append(said.low <= was <= said.high)
            print(f"| {kind} | {n:,} | {np.mean(held):.1%} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Estimated and corrected quality.")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    args = parser.parse_args()
    folder = args.data / "california"
    if folder.exists():
        california(folder)
    else:
        print(f"the California data are not at {folder}: that table is left out\n")
    corrections(args.runs)
    estimates(args.runs)
    losses(args.runs)


if __name__ == "__main__":
    main()
