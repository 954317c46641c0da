"""Two models of the published fraud benchmark: how much pairing saves on real scores."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.rollout.evidence import losses

Array = NDArray[np.float64]
FILE = Path(os.environ.get("HOMEOSTAT_SHARED_DATA", "../shared/data")) / "transactions.parquet"
FEATURES = ("TX_AMOUNT", "hour", "weekend", "risk", "mean")


def scores() -> tuple[Array, Array, Array] | None:
    """-> label, and both versions' log loss of each request of a test week; None without the file.

    Champion and candidate: gradient boosting on the amount, the hour, the terminal's share of
    frauds and the customer's mean amount in the weeks before, trained on neighbouring weeks.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    if not FILE.exists():
        return None
    table = pl.read_parquet(FILE).select(
        "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_TIME_DAYS", "TX_FRAUD"
    )
    first = 100
    one, two, test = (_week(table, day) for day in (first, first + 7, first + 21))
    loss = []
    for week in (one, two):
        model = HistGradientBoostingClassifier(max_iter=60, max_depth=4, random_state=1)
        model.fit(week.select(FEATURES).to_numpy(), week["TX_FRAUD"].to_numpy())
        score = model.predict_proba(test.select(FEATURES).to_numpy())[:, 1]
        loss.append(losses("log_loss", test["TX_FRAUD"].cast(float).to_numpy(), score))
    return test["TX_FRAUD"].cast(float).to_numpy(), loss[0], loss[1]


def _week(table: pl.DataFrame, day: int) -> pl.DataFrame:
    """A week's transactions with what was known of them a week before it began."""
    known = table.filter(pl.col("TX_TIME_DAYS").is_between(day - 35, day - 8))
    risk = known.group_by("TERMINAL_ID").agg(risk=pl.col("TX_FRAUD").mean())
    mean = known.group_by("CUSTOMER_ID").agg(mean=pl.col("TX_AMOUNT").mean())
    at = pl.col("TX_DATETIME")
    return (
        table.filter(pl.col("TX_TIME_DAYS").is_between(day, day + 6))
        .join(risk, on="TERMINAL_ID", how="left")
        .join(mean, on="CUSTOMER_ID", how="left")
        .with_columns(hour=at.dt.hour(), weekend=at.dt.weekday() > 5)
        .with_columns(pl.col("weekend").cast(pl.Int8))
        .sort("TX_DATETIME")
    )
