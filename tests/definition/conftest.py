"""A definition that is right, to be spoilt in one place at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

RIGHT = """\
name: fraud-detector
data:
  source: data/transactions.parquet
  time: TX_DATETIME
  key: TRANSACTION_ID
  label: {column: TX_FRAUD, matures_after: 7d}
  transform: fraud:features
training:
  fit: fraud:fit
  split: {train: 28d, gap: 7d, test: 7d}
gates:
  auc: {min: 0.8}
rollout:
  steps: [10, 50, 100]
  max_duration: 30d
monitoring:
  quality: {metric: auc, min: 0.75}
retraining: {on: [quality]}
"""

CODE = """\
def features(frame):
    return frame

def fit(train, params):
    return None
"""


@pytest.fixture
def right() -> str:
    return RIGHT


@pytest.fixture
def project(tmp_path: Path) -> Callable[[str], Path]:
    """A project's folder with this definition, its code and its source."""

    def make(text: str) -> Path:
        (tmp_path / "data").mkdir(exist_ok=True)
        columns = {name: [] for name in ("TRANSACTION_ID", "TX_DATETIME", "TX_FRAUD")}
        pl.DataFrame(columns).write_parquet(tmp_path / "data" / "transactions.parquet")
        (tmp_path / "fraud.py").write_text(CODE)
        (tmp_path / "homeostat.yaml").write_text(text)
        return tmp_path

    return make
