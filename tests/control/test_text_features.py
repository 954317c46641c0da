"""A model with texts among its features, in the whole loop: trained, served, watched."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from homeostat.control import status
from homeostat.control.calibrate import calibrate
from homeostat.control.model import LoopEvent, load
from homeostat.core.events import decode
from homeostat.core.servable import Manifest
from homeostat.monitoring.model import AlertRaised
from homeostat.testing.replay import Replay

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
START = datetime(2026, 3, 2, tzinfo=UTC)
CHANGE, END = START + 4 * HOUR, START + 8 * HOUR

DEFINITION = """\
name: payments
data:
  source: payments.parquet
  time: at
  key: id
  label: {column: fraud, matures_after: 1h}
  features: [country, amount, abroad, shop]
training: {fit: "model:fit", split: {train: 6d, gap: 0s, test: 2d}}
gates: {auc: {min: 0.7}}
monitoring: {window: 1h, drift: {by: [country]}}
retraining: {on: [schedule], schedule: weekly}
"""
MODEL = """\
from lightgbm import LGBMClassifier
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder


def fit(train, params):
    texts = ["country", "shop"]
    coded = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), texts),
        remainder="passthrough",
    )
    model = LGBMClassifier(n_estimators=20, num_leaves=7, verbose=-1, n_jobs=1)
    return make_pipeline(coded, model).fit(train.X, train.y)
"""


def payments(n: int, since: datetime, until: datetime, seed: int) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    country = random.choice(["DE", "FR", "IT"], n, p=[0.6, 0.3, 0.1])
    amount, abroad = random.normal(size=n), random.random(n) < 0.2
    risk = amount + 2.0 * (country == "FR") + abroad - 1
    return pl.DataFrame(
        {
            "id": [f"{seed}-{i}" for i in range(n)],
            "at": [since + (until - since) * i / n for i in range(n)],
            "country": country,
            "amount": amount,
            "abroad": abroad,
            "shop": random.choice(["a", "b", None], n),
            "fraud": (random.random(n) < 1 / (1 + np.exp(-2 * risk))).astype(int),
        }
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    folder = tmp_path_factory.mktemp("payments")
    (folder / "homeostat.yaml").write_text(DEFINITION)
    (folder / "model.py").write_text(MODEL)
    payments(6_000, START - 9 * DAY, START, 1).write_parquet(folder / "payments.parquet")
    later = pl.col("at") >= CHANGE
    drawn = pl.Series(np.random.default_rng(2).random(4_000))
    rows = payments(4_000, START, END, 3).with_columns(
        # other countries, and one that nobody has seen before
        country=pl.when(later & (drawn < 0.3))
        .then(pl.lit("FR"))
        .when(later & (drawn > 0.85))
        .then(pl.lit("BR"))
        .otherwise("country")
    )
    labels = pl.DataFrame(schema={"id": pl.String, "label": pl.Float64}).with_columns(
        time=pl.lit(START), known=pl.lit(START)
    )
    traffic = rows.drop("fraud").rename({"at": "time"})
    found = Replay(folder, folder / ".home", traffic=traffic, labels=labels, start=START)
    found.train_first()
    return found


@pytest.mark.slow
def test_a_category_that_moved_is_alarmed_by_its_name_and_an_unseen_one_is_broken_data(
    trained: Replay,
) -> None:
    platform = trained.platform
    version = platform.registry.get("payments", "1")
    datatypes = [field.datatype for field in Manifest.read(Path(version.path)).fields]
    assert datatypes == ["BYTES", "FP32", "FP32", "BYTES"]
    assert platform.reference(version).columns == [
        *("country", "amount", "abroad", "shop"),
        *("score", "label"),
    ]
    trained.run(CHANGE + HOUR / 2, HOUR / 2)
    assert load(platform.events.read("payments")).monitor.open_alerts == ()
    measured = calibrate(platform, months=0.02, episodes=2, rows=500)
    assert {d.shift for d in measured.delays} >= {"50% of one text's rows with one value"}
    trained.run(END, HOUR / 2)
    records = platform.events.read("payments")
    raised = {
        e.kind: e for e in (decode(r, LoopEvent) for r in records) if isinstance(e, AlertRaised)
    }
    assert raised.keys() == {"drift", "data"}
    assert "columns moved: country" in raised["drift"].text
    assert "country are in categories that were never seen before" in raised["data"].text
    assert not any("shop" in e.text or "amount" in e.text for e in raised.values())
    shown = status.status(platform)
    assert "country" in {m.feature for m in load(records).monitor.moved}
    assert any("country" in alert.sentence for alert in load(records).monitor.open_alerts)
    assert "country" in str(shown)
