"""The handbook's features: equal to a slow reading of their definition, and blind to the future."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

START = datetime(2018, 4, 1)
DAY = timedelta(days=1)


def sample(seed: int, n: int = 400, days: int = 50) -> pl.DataFrame:
    """Few customers and terminals, and many equal times, some of them whole days apart."""
    rng = np.random.default_rng(seed)
    seconds = np.sort(rng.integers(0, days * 24, n) * 3600)
    return pl.DataFrame(
        {
            "TRANSACTION_ID": np.arange(n),
            "TX_DATETIME": [START + timedelta(seconds=int(s)) for s in seconds],
            "CUSTOMER_ID": rng.integers(0, 6, n),
            "TERMINAL_ID": rng.integers(0, 5, n),
            "TX_AMOUNT": np.round(rng.gamma(2, 30, n), 2),
            "TX_FRAUD": (rng.random(n) < 0.2).astype(np.int8),
        }
    )


def slow(raw: pl.DataFrame) -> list[dict[str, float]]:
    """Row by row, as the definition reads."""
    rows = raw.to_dicts()
    return [feature_row(row, rows[: i + 1], rows) for i, row in enumerate(rows)]


def feature_row(
    row: dict[str, Any], until: list[dict[str, Any]], every: list[dict[str, Any]]
) -> dict[str, float]:
    now = row["TX_DATETIME"]
    out = {
        "TX_AMOUNT": row["TX_AMOUNT"],
        "TX_DURING_WEEKEND": float(now.weekday() >= 5),
        "TX_DURING_NIGHT": float(now.hour <= 6),
    }
    for days in (1, 7, 30):
        mine = [
            r["TX_AMOUNT"]
            for r in until
            if r["CUSTOMER_ID"] == row["CUSTOMER_ID"] and r["TX_DATETIME"] > now - days * DAY
        ]
        out[f"CUSTOMER_NB_TX_{days}D"] = len(mine)
        out[f"CUSTOMER_AVG_AMOUNT_{days}D"] = sum(mine) / len(mine)
        end = now - 7 * DAY
        there = [
            r["TX_FRAUD"]
            for r in every
            if r["TERMINAL_ID"] == row["TERMINAL_ID"] and end - days * DAY < r["TX_DATETIME"] <= end
        ]
        out[f"TERMINAL_NB_TX_{days}D"] = len(there)
        out[f"TERMINAL_RISK_{days}D"] = sum(there) / len(there) if there else 0.0
    return out


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_features_equal_a_slow_reading_of_their_definition(seed: int) -> None:
    import fraud

    raw = sample(seed)
    found = fraud.features(raw).select(fraud.FEATURES).to_numpy()
    expected = pl.DataFrame(slow(raw)).select(fraud.FEATURES).to_numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_customer_windows_equal_those_of_pandas() -> None:
    import fraud

    raw = sample(3)
    frame = raw.to_pandas().set_index("TX_DATETIME", drop=False)
    table = fraud.features(raw)
    for days in (1, 7, 30):
        rolled = frame.groupby("CUSTOMER_ID")["TX_AMOUNT"].rolling(f"{days}D").mean()
        by_customer = table.sort("CUSTOMER_ID", maintain_order=True)
        np.testing.assert_allclose(
            by_customer[f"CUSTOMER_AVG_AMOUNT_{days}D"], rolled.to_numpy(), rtol=1e-5
        )


@settings(deadline=None, max_examples=25)
@given(cut=st.integers(1, 400), seed=st.integers(0, 5))
def test_cutting_off_the_future_changes_no_row(cut: int, seed: int) -> None:
    import fraud

    raw = sample(seed)
    assert_frame_equal(fraud.features(raw.head(cut)), fraud.features(raw).head(cut))


def test_labels_that_are_not_known_yet_are_not_needed() -> None:
    import fraud

    raw = sample(4)
    end = raw["TX_DATETIME"].max()
    late = pl.col("TX_DATETIME") > pl.lit(end) - 7 * DAY
    unknown = raw.with_columns(
        pl.when(late).then(None).otherwise(pl.col("TX_FRAUD")).alias("TX_FRAUD")
    )
    names = list(fraud.FEATURES)
    assert_frame_equal(fraud.features(unknown).select(names), fraud.features(raw).select(names))


def test_times_with_a_zone_give_the_same_features() -> None:
    import fraud

    raw = sample(5)
    zoned = raw.with_columns(pl.col("TX_DATETIME").dt.replace_time_zone("UTC"))
    names = list(fraud.FEATURES)
    assert_frame_equal(fraud.features(zoned).select(names), fraud.features(raw).select(names))


def test_an_empty_file_has_no_rows_and_all_columns() -> None:
    import fraud

    table = fraud.features(sample(0).clear())
    assert table.height == 0
    assert set(fraud.FEATURES) <= set(table.columns)


@pytest.mark.slow
@pytest.mark.shared
def test_the_whole_file_keeps_order_and_the_protocol_finds_the_published_rows(
    raw: pl.DataFrame,
) -> None:
    import fraud
    from protocol import train_and_test
    from table import WEEK

    table = fraud.features(raw)
    assert table["TRANSACTION_ID"].equals(raw["TRANSACTION_ID"])
    train, test = train_and_test(table, WEEK)
    assert (train.height, train["TX_FRAUD"].sum()) == (67_240, 598)
    assert (test.height, test["TX_FRAUD"].sum()) == (58_264, 385)


@pytest.mark.slow
@pytest.mark.shared
def test_logistic_regression_and_the_tree_reach_the_published_figures(raw: pl.DataFrame) -> None:
    import fraud
    from table import ONE_WEEK, WEEK, kept, measure

    table = fraud.features(raw)
    for name, fit, params, published, _ in ONE_WEEK[:2]:
        assert kept(measure(table, fit, params, WEEK), published, 0.005), name
