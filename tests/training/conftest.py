from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

FEATURES = ("amount", "count", "distance")


@pytest.fixture(scope="session")
def table() -> pl.DataFrame:
    """20 days of 60 rows each: key, time, label, three features and a segment."""
    rng = np.random.default_rng(0)
    n = 1200
    X = rng.normal(size=(n, 3)).astype(np.float32)
    label = (X[:, 0] + 0.5 * X[:, 1] ** 2 + rng.normal(0, 0.7, n) > 0.8).astype(np.int64)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return pl.DataFrame(X, schema=list(FEATURES)).with_columns(
        id=pl.int_range(n, eager=True).cast(pl.String),
        time=pl.Series(
            [start + timedelta(minutes=24 * i) for i in range(n)], dtype=pl.Datetime("us", "UTC")
        ),
        label=pl.Series(label),
        segment=pl.Series(rng.choice(["north", "south"], n)),
    )
