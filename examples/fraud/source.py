"""Where the transactions lie, and the table of features made from them."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl

NAME = "transactions.parquet"
REPOSITORY = Path(__file__).resolve().parents[2]


def shared_file() -> Path | None:
    """The benchmark's file: in $HOMEOSTAT_SHARED_DATA, else in ../shared/data beside the
    repository; None where it is not."""
    folder = os.environ.get("HOMEOSTAT_SHARED_DATA") or REPOSITORY.parent / "shared" / "data"
    path = Path(folder) / NAME
    return path if path.is_file() else None


ABSENT = (
    f"{NAME} is not here; put it into ../shared/data beside the repository, "
    "or name its folder in HOMEOSTAT_SHARED_DATA"
)


def transactions(path: Path) -> pl.DataFrame:
    """The raw file, without the scenario of a fraud, which nobody knows in practice."""
    return pl.read_parquet(path).drop("TX_FRAUD_SCENARIO")
