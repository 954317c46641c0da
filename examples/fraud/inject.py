"""A drift for a file that has none: from a date on, fraudsters test stolen cards by night.

Until then frauds are large amounts, compromised terminals and stolen credentials. Afterwards
most of them become runs of small payments in the small hours, on cards that were never in
trouble, at a different terminal each time. Nothing that an old model learned to fear is there,
and a new one can see it: the amount, the hour, the number and mean of the card's day.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl

RUN = 5  # payments of one card in a row
MOVED = 0.85  # share of the frauds that change
NIGHT = 5 * 3600  # seconds after midnight by which a run begins


def inject(raw: pl.DataFrame, at: datetime, seed: int) -> pl.DataFrame:
    """raw with the frauds since `at` (a midnight, as in the file: naive or UTC) committed the new
    way, on the same day; in order of time again. As many rows, frauds and ids as before; rows
    before `at` are untouched. Features must be computed anew. TX_FRAUD must be known."""
    rng = np.random.default_rng(seed)
    time = raw.schema["TX_DATETIME"]
    late = pl.col("TX_DATETIME") >= pl.lit(at).cast(time)
    chosen = pl.Series("chosen", rng.random(raw.height) < MOVED)
    moves = (pl.col("TX_FRAUD") == 1) & late & chosen
    frauds = raw.filter(moves).sort("TX_DATETIME", "TRANSACTION_ID")
    n = frauds.height
    if n == 0:
        return raw
    # runs of consecutive frauds, never over midnight
    day = frauds["TX_DATETIME"].dt.date().to_numpy()
    first = np.flatnonzero(np.r_[True, day[1:] != day[:-1]])
    number = np.arange(n) - np.repeat(first, np.diff(np.r_[first, n]))
    place = number % RUN
    run = np.cumsum(place == 0) - 1
    runs = run[-1] + 1
    seconds = rng.integers(0, NIGHT, runs)[run] + place * 300 + rng.integers(0, 300, n)
    new = frauds.with_columns(
        (pl.col("TX_DATETIME").dt.truncate("1d") + pl.Series(seconds) * timedelta(seconds=1)).cast(
            time
        ),
        _pick(rng, raw, "CUSTOMER_ID", runs).gather(run),
        _pick(rng, raw, "TERMINAL_ID", n),
        pl.Series("TX_AMOUNT", np.round(rng.uniform(1, 12, n), 2)),
    )
    start = raw["TX_DATETIME"].min()
    since = pl.col("TX_DATETIME") - pl.lit(start).cast(time).dt.truncate("1d")
    clock = {"TX_TIME_SECONDS": since.dt.total_seconds(), "TX_TIME_DAYS": since.dt.total_days()}
    return (
        pl.concat([raw.filter(~moves), new])
        .sort("TX_DATETIME", maintain_order=True)
        .with_columns(
            value.cast(raw.schema[name]).alias(name)
            for name, value in clock.items()
            if name in raw.columns
        )
    )


def _pick(rng: np.random.Generator, raw: pl.DataFrame, column: str, n: int) -> pl.Series:
    known = raw[column].unique().sort()
    return known.gather(rng.integers(0, len(known), n))
