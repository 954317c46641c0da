"""The two functions that homeostat.yaml names: the features, and how a model is made."""

from __future__ import annotations

from typing import Any

import polars as pl


def features(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows as they were ingested -> rows with the columns the model sees. No row may look at
    what happened after it: the windows below end before the row's own time."""
    past: dict[str, Any] = {"by": "TX_DATETIME", "window_size": "7d", "closed": "left"}
    amount, time, customer = pl.col("TX_AMOUNT"), pl.col("TX_DATETIME"), "CUSTOMER_ID"
    one = amount.is_not_null().cast(pl.Float64)
    mean = amount.rolling_mean_by(**past).over(customer)
    return frame.sort("TX_DATETIME").with_columns(
        NIGHT=(time.dt.hour() < 6).cast(pl.Int8),
        WEEKEND=(time.dt.weekday() >= 6).cast(pl.Int8),
        CUSTOMER_COUNT_7D=one.rolling_sum_by(**past).over(customer).fill_null(0),
        CUSTOMER_MEAN_7D=mean.fill_null(0),
        AMOUNT_OVER_MEAN=(amount / mean).fill_null(1),
    )


def fit(train: Any, params: dict[str, Any]) -> Any:
    """train.X (rows x features), train.y (0 or 1), train.seed -> a fitted classifier."""
    from lightgbm import LGBMClassifier

    # the same rows give the same model, however busy the machine is
    exact = {"random_state": train.seed, "deterministic": True, "force_row_wise": True}
    model = LGBMClassifier(**exact, n_jobs=2, verbose=-1, **params)
    return model.fit(train.X, train.y)
