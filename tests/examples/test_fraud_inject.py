"""The injected drift: the past untouched, the same rows and labels, an old model blind to it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

AT = datetime(2018, 4, 11)


def sample(n: int = 4000, days: int = 20) -> pl.DataFrame:
    rng = np.random.default_rng(1)
    seconds = np.sort(rng.integers(0, days * 86400, n))
    return pl.DataFrame(
        {
            "TRANSACTION_ID": np.arange(n, dtype=np.int32),
            "TX_DATETIME": [datetime(2018, 4, 1) + timedelta(seconds=int(s)) for s in seconds],
            "CUSTOMER_ID": rng.integers(0, 60, n),
            "TERMINAL_ID": rng.integers(0, 50, n),
            "TX_AMOUNT": np.round(rng.gamma(2, 30, n) + 15, 2),
            "TX_TIME_SECONDS": seconds.astype(np.int32),
            "TX_TIME_DAYS": (seconds // 86400).astype(np.int16),
            "TX_FRAUD": (rng.random(n) < 0.05).astype(np.int8),
        }
    )


def test_the_past_and_the_honest_are_untouched() -> None:
    from inject import inject

    raw = sample()
    drifted = inject(raw, AT, seed=7)
    before = pl.col("TX_DATETIME") < AT
    assert_frame_equal(drifted.filter(before), raw.filter(before))
    honest = pl.col("TX_FRAUD") == 0
    assert_frame_equal(drifted.filter(honest), raw.filter(honest))


def test_frauds_stay_on_their_day_keep_their_ids_and_become_small_and_nightly() -> None:
    from inject import inject

    raw = sample()
    drifted = inject(raw, AT, seed=7)
    assert drifted.schema == raw.schema
    assert drifted["TX_DATETIME"].is_sorted()
    assert drifted["TRANSACTION_ID"].sort().equals(raw["TRANSACTION_ID"].sort())
    day = pl.col("TX_DATETIME").dt.date().alias("day")
    per_day = [f.group_by(day).agg(pl.col("TX_FRAUD").sum()).sort("day") for f in (raw, drifted)]
    assert_frame_equal(*per_day)
    frauds = drifted.filter(pl.col("TX_FRAUD") == 1, pl.col("TX_DATETIME") >= AT)
    small = frauds.filter(pl.col("TX_AMOUNT") <= 12, pl.col("TX_DATETIME").dt.hour() <= 6)
    assert small.height / frauds.height > 0.7
    whole = (pl.col("TX_DATETIME") - datetime(2018, 4, 1)).dt.total_seconds().cast(pl.Int32)
    assert drifted.select(same=(whole == pl.col("TX_TIME_SECONDS")).all()).item()


def test_the_same_seed_is_the_same_drift_with_or_without_a_zone() -> None:
    from inject import inject

    raw = sample()
    zoned = raw.with_columns(pl.col("TX_DATETIME").dt.replace_time_zone("UTC"))
    again = inject(zoned, AT.replace(tzinfo=UTC), seed=7)
    again = again.with_columns(pl.col("TX_DATETIME").dt.replace_time_zone(None))
    assert_frame_equal(again, inject(raw, AT, seed=7))
    assert not again.equals(inject(raw, AT, seed=8))


def test_a_date_after_the_file_changes_nothing() -> None:
    from inject import inject

    raw = sample()
    assert inject(raw, datetime(2019, 1, 1), seed=7) is raw


@pytest.mark.slow
@pytest.mark.shared
def test_an_old_model_goes_blind_and_a_week_of_drifted_labels_brings_most_of_it_back(
    raw: pl.DataFrame,
) -> None:
    import fraud
    from inject import inject
    from protocol import matrix, scores, training_set
    from sklearn.metrics import average_precision_score

    table = fraud.features(inject(raw, datetime(2018, 7, 22), seed=7))

    def between(since: datetime, days: int) -> pl.DataFrame:
        time = pl.col("TX_DATETIME")
        return table.filter(time >= since, time < since + timedelta(days=days))

    def worth(model: object, rows: pl.DataFrame) -> float:
        return float(average_precision_score(rows["TX_FRAUD"], scores(model, matrix(rows))))

    old = fraud.fit_boosting(training_set(between(datetime(2018, 6, 17), 7)), {})
    new = fraud.fit_boosting(training_set(between(datetime(2018, 7, 22), 7)), {})
    calm = worth(old, between(datetime(2018, 7, 8), 7))
    later = between(datetime(2018, 8, 12), 7)
    frozen = worth(old, later)
    assert calm - frozen > 0.5
    assert worth(new, later) - frozen > 2 / 3 * (calm - frozen)
