"""`homeostat init`: a project that runs at once."""

from __future__ import annotations

import json
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from homeostat.core.errors import BadInput, Unavailable
from homeostat.definition.schema import schema

if TYPE_CHECKING:
    import polars as pl

SEED = 7
DAYS = 56
ROWS = 14_000
_FILES = {
    "homeostat.yaml": "homeostat.yaml",
    "fraud.py": "fraud.py",
    "README.md": "README.md",
    "gitignore": ".gitignore",
}


def scaffold(folder: Path) -> list[str]:
    """Write the example project into a new or empty folder; returns the files written, in order.

    Raises BadInput when the folder holds something, Unavailable when it cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(
            f"{folder} is not empty",
            expected="a new or an empty folder",
            remedy="name another; nothing was written",
        )
    template = resources.files("homeostat.definition") / "template"
    try:
        (folder / "data").mkdir(parents=True, exist_ok=True)
        for source, target in _FILES.items():
            (folder / target).write_text((template / source).read_text(), encoding="utf-8")
        (folder / "homeostat.schema.json").write_text(json.dumps(schema(), indent=2) + "\n")
        transactions(SEED).write_parquet(folder / "data" / "transactions.parquet")
    except OSError as error:
        raise Unavailable(
            f"{folder} cannot be written: {error.strerror or error}",
            remedy="check the folder's permissions and the space on its disk",
        ) from error
    return [*_FILES.values(), "homeostat.schema.json", "data/transactions.parquet"]


def transactions(seed: int) -> pl.DataFrame:
    """Card payments of 300 customers over eight weeks, about 4 % of them fraudulent.

    Customers have their own usual amount; fraud is mostly by night and far above it. A few
    fraudulent payments look like all others, and cannot be found by any model.
    """
    import numpy as np
    import polars as pl

    random = np.random.default_rng(seed)
    customer = random.integers(0, 300, ROWS)
    usual = random.gamma(4.0, 12.0, 300)[customer]
    fraud = random.random(ROWS) < 0.04
    hidden = fraud & (random.random(ROWS) < 0.15)
    loud = fraud & ~hidden
    day = random.integers(0, DAYS, ROWS)
    awake = np.clip(random.normal(14.0, 4.0, ROWS), 0.0, 23.99)
    hour = np.where(loud & (random.random(ROWS) < 0.7), random.uniform(0.0, 6.0, ROWS), awake)
    factor = np.where(loud, random.uniform(1.5, 6.0, ROWS), random.lognormal(0.0, 0.35, ROWS))
    seconds = np.sort(((day + hour / 24.0) * 86_400).astype(np.int64), kind="stable")
    order = np.argsort(day + hour / 24.0, kind="stable")
    start = pl.lit(datetime(2025, 1, 6))
    table = pl.DataFrame(
        {
            "TRANSACTION_ID": np.arange(ROWS),
            "SECONDS": seconds,
            "CUSTOMER_ID": customer[order],
            "TX_AMOUNT": np.round(usual * factor, 2)[order],
            "TX_FRAUD": fraud[order].astype(np.int8),
        }
    )
    at = (start + pl.duration(seconds=pl.col("SECONDS"))).dt.cast_time_unit("us")
    return table.with_columns(TX_DATETIME=at).select(
        "TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TX_AMOUNT", "TX_FRAUD"
    )
