"""The published protocol: who is left out, and what an investigator finds in a day."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

START = date(2018, 7, 1)


def cards(rows: list[tuple[int, int, int]]) -> pl.DataFrame:
    """(day from START, customer, fraud) -> a table."""
    return pl.DataFrame(
        {
            "TX_DATETIME": [datetime(2018, 7, 1) + timedelta(days=d, hours=9) for d, _, _ in rows],
            "CUSTOMER_ID": [c for _, c, _ in rows],
            "TX_FRAUD": [f for _, _, f in rows],
        }
    )


def test_cards_known_to_be_stolen_are_left_out_of_the_test() -> None:
    from protocol import train_and_test

    table = cards(
        [
            (3, 1, 1),  # in the training week: blocked from the first test day
            (14, 1, 0),
            (7, 2, 1),  # known on day 15
            (14, 2, 0),
            (15, 2, 0),
            (14, 3, 1),  # found in the test itself: known after it
            (20, 3, 1),
        ]
    )
    train, test = train_and_test(table, START)
    assert train["CUSTOMER_ID"].to_list() == [1]
    assert test.sort("CUSTOMER_ID", "TX_DATETIME")["CUSTOMER_ID"].to_list() == [2, 3, 3]


def test_card_precision_counts_a_card_once_and_forgets_it_when_found() -> None:
    from protocol import card_precision

    table = cards([(0, 1, 1), (0, 1, 0), (0, 2, 0), (1, 1, 1), (1, 2, 0), (1, 3, 1)])
    score = np.array([0.2, 0.9, 0.8, 0.9, 0.5, 0.1])
    # day 0: card 1 (by its other payment) and card 2 -> 1/2; day 1: cards 2 and 3 -> 1/2
    assert card_precision(table, score, k=2) == 0.5
    # day 0: card 1 -> 1; day 1: card 2 -> 0
    assert card_precision(table, score, k=1) == 0.5


def test_the_definition_names_the_features_and_functions_of_the_module(project: Path) -> None:
    import fraud
    import yaml

    text = yaml.safe_load((project / "homeostat.yaml").read_text())
    assert tuple(text["data"]["features"]) == fraud.FEATURES
    assert text["data"]["transform"] == "fraud:features"
    assert hasattr(fraud, text["training"]["fit"].partition(":")[2])


def toy(n: int = 3000) -> Any:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 15)).astype(np.float32) * 40
    y = (X[:, 0] + X[:, 1] + rng.normal(size=n) * 20 > 60).astype(np.int8)
    return SimpleNamespace(X=X, y=y, seed=0)


@pytest.mark.parametrize("name", ["fit_logistic", "fit_tree", "fit_forest", "fit_boosting"])
def test_every_fit_learns_and_repeats_itself(name: str) -> None:
    import fraud
    from protocol import scores

    train = toy()
    fit = getattr(fraud, name)
    one, two = (scores(fit(train, {}), train.X) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert one[train.y == 1].mean() > one[train.y == 0].mean() + 0.2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # TensorFlow's own deprecations, not ours to mend
def test_the_network_learns_and_repeats_itself() -> None:
    import fraud
    from protocol import scores

    train = toy()
    params = {"epochs": 3}
    one, two = (scores(fraud.fit_network(train, params), train.X) for _ in range(2))
    np.testing.assert_allclose(one, two, atol=1e-6)
    assert one[train.y == 1].mean() > one[train.y == 0].mean() + 0.2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the converters' own deprecations
@pytest.mark.parametrize(
    "name", ["fit_logistic", "fit_tree", "fit_forest", "fit_boosting", "fit_network"]
)
def test_every_fitted_model_can_be_served(name: str, tmp_path: Path) -> None:
    import fraud

    from homeostat.training.export import export
    from homeostat.training.fit import TrainingSet, run

    train = toy()
    frame = pl.DataFrame(train.X, schema=list(fraud.FEATURES))
    given = TrainingSet(train.X, train.y, fraud.FEATURES, frame)
    fitted = run(getattr(fraud, name), given, {"epochs": 2} if name == "fit_network" else {})
    reference = frame.with_columns(score=pl.lit(0.5), label=pl.Series(train.y))
    manifest = export(
        fitted,
        fraud.FEATURES,
        train.X,
        tmp_path / name,
        name="card-fraud",
        threshold=0.5,
        reference=reference,
    )
    assert manifest.inputs == fraud.FEATURES
