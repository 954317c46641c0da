"""The demo project's functions: what the model sees, and how it is fitted.

`features` is called twice: as the transform of the training data, and by the client that asks
the server to score a payment. One function, so the two cannot disagree.
"""

from __future__ import annotations

from typing import Any

import polars as pl

FEATURES: dict[str, pl.Expr] = {
    "amount_log": pl.col("TX_AMOUNT").log1p(),
    "amount_ratio": (pl.col("TX_AMOUNT") / pl.col("CUSTOMER_MEAN_AMOUNT")).log(),
    "count_1h": pl.col("CUSTOMER_COUNT_1H"),
    "count_1d": pl.col("CUSTOMER_COUNT_1D"),
    "since_last_log": pl.col("SECONDS_SINCE_LAST").log1p(),
    "distance_log": pl.col("DISTANCE_KM").log1p(),
    "new_terminal": pl.col("NEW_TERMINAL"),
    "card_present": pl.col("CARD_PRESENT"),
    "terminal_risk": pl.col("TERMINAL_RISK"),
    "terminal_age_log": pl.col("TERMINAL_AGE_DAYS").log1p(),
    "hour_sin": (pl.col("LOCAL_HOUR") * (2 * 3.141592653589793 / 24)).sin(),
    "hour_cos": (pl.col("LOCAL_HOUR") * (2 * 3.141592653589793 / 24)).cos(),
}


def features(raw: pl.DataFrame) -> pl.DataFrame:
    """Payments -> key, time, label (where it is there) and the model's float32 features."""
    kept = [c for c in ("TRANSACTION_ID", "TX_DATETIME", "TX_FRAUD") if c in raw.columns]
    return raw.select(
        *kept, *(value.cast(pl.Float32).alias(name) for name, value in FEATURES.items())
    )


def features_in_euros(raw: pl.DataFrame) -> pl.DataFrame:
    """The mistake of act two: somebody tidied the training amounts, cents -> euros.

    Train and test agree with each other, so every figure measured offline is as good as before;
    the requests that come in still carry cents.
    """
    return features(raw.with_columns(pl.col("TX_AMOUNT") / 100))


def fit(train: Any, params: dict[str, Any]) -> Any:
    """Gradient boosting. train: X (n, d) float32, y (n,) 0/1, seed."""
    from lightgbm import LGBMClassifier

    fixed = {"random_state": train.seed, "deterministic": True, "n_jobs": 2, "verbose": -1}
    return LGBMClassifier(**(fixed | params)).fit(train.X, train.y)
