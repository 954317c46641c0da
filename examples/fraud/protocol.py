"""How the handbook measures: train a week, wait a week for labels, test a week.

Le Borgne et al., chapters 4 and 5. Cards known to be compromised are blocked in practice, so
they are left out of the test; what counts is which cards an investigator looks at each day.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl
from fraud import DELAY, FEATURES
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

DAYS = 7
CARDS = 100  # an investigator's day


@dataclass(frozen=True)
class TrainingSet:
    """What a `fit` function reads: X (n, 15) float32, y (n,) 0/1, the seed."""

    X: NDArray[np.float32]
    y: NDArray[np.int8]
    seed: int = 0


@dataclass(frozen=True)
class Figures:
    auc: float
    average_precision: float
    card_precision: float

    def __sub__(self, other: Figures) -> Figures:
        return Figures(
            self.auc - other.auc,
            self.average_precision - other.average_precision,
            self.card_precision - other.card_precision,
        )


def train_and_test(
    table: pl.DataFrame, start: date, *, train: int = DAYS, gap: int = DELAY, test: int = DAYS
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of `train` days from `start`, and of `test` days after a gap of `gap` days (that of
    the labels). Of test day d, the cards with a fraud from `start` until d - gap - 1 are left out.
    """
    day = pl.col("TX_DATETIME").dt.date()
    first = start + timedelta(days=train + gap)
    fitted = table.filter(day >= start, day < start + timedelta(days=train))
    wanted = table.filter(day >= first, day < first + timedelta(days=test))
    stolen = (
        table.filter(pl.col("TX_FRAUD") == 1, day >= start)
        .group_by("CUSTOMER_ID")
        .agg(day.min().alias("stolen"))
    )
    blocked = pl.col("stolen") < day - pl.duration(days=gap)
    seen = wanted.join(stolen, on="CUSTOMER_ID", how="left", maintain_order="left").filter(
        ~blocked.fill_null(value=False)
    )
    return fitted, seen.drop("stolen")


def matrix(table: pl.DataFrame) -> NDArray[np.float32]:
    return np.ascontiguousarray(table.select(FEATURES).to_numpy(), dtype=np.float32)


def training_set(table: pl.DataFrame, seed: int = 0) -> TrainingSet:
    return TrainingSet(matrix(table), table["TX_FRAUD"].cast(pl.Int8).to_numpy(), seed)


def card_precision(test: pl.DataFrame, score: NDArray[np.floating], k: int = CARDS) -> float:
    """Per day the k cards with the highest score of a transaction: the share of them that were
    compromised, the ones already found left out on later days; the mean over days."""
    days = test.select(
        "CUSTOMER_ID", "TX_FRAUD", pl.col("TX_DATETIME").dt.date().alias("day")
    ).with_columns(pl.Series("score", score))
    found: list[int] = []
    shares = []
    for _, rows in days.group_by("day", maintain_order=True):
        cards = (
            rows.filter(~pl.col("CUSTOMER_ID").is_in(found))
            .group_by("CUSTOMER_ID")
            .agg(pl.col("score", "TX_FRAUD").max())
            .sort(["score", "CUSTOMER_ID"], descending=[True, False])
        )
        hits = cards.head(k).filter(pl.col("TX_FRAUD") == 1)["CUSTOMER_ID"]
        shares.append(len(hits) / k)
        found += hits.to_list()
    return float(np.mean(shares))


def figures(test: pl.DataFrame, score: NDArray[np.floating]) -> Figures:
    label = test["TX_FRAUD"].to_numpy()
    return Figures(
        float(roc_auc_score(label, score)),
        float(average_precision_score(label, score)),
        card_precision(test, score),
    )


def scores(model: object, X: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probability of fraud, (n,), from a scikit-learn-like or a Keras model."""
    if hasattr(model, "predict_proba"):
        return np.asarray(model.predict_proba(X), dtype=np.float64)[:, 1]
    found = model(X, training=False)  # type: ignore[operator]
    return np.asarray(found, dtype=np.float64)[:, 0]
