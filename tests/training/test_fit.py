from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from homeostat.core.errors import BadInput
from homeostat.definition import load_function
from homeostat.training import fit

FEATURES = ("amount", "count", "distance")


@pytest.fixture
def train(table: pl.DataFrame) -> fit.TrainingSet:
    return fit.TrainingSet.of(table, FEATURES, "label", seed=3)


def test_a_training_set_is_float32_with_missing_values_as_nan(table) -> None:
    holed = table.with_columns(count=pl.when(pl.col("amount") > 0).then("count"))
    train = fit.TrainingSet.of(holed, FEATURES, "label")
    assert (train.X.dtype, train.X.shape) == (np.float32, (1200, 3))
    assert np.isnan(train.X[:, 1]).sum() == holed["count"].null_count()
    assert (train.y.dtype, set(train.y)) == (np.int8, {0, 1})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (pl.lit(None, pl.Date).alias("amount"), "features must be numbers"),
        ((pl.col("amount").cast(pl.Float64) * 1e39).alias("amount"), "infinite in float32"),
        ((pl.col("label") * 2).alias("label"), "cannot be the label"),
        (pl.lit(None).alias("label"), "cannot be the label"),
        (pl.lit("yes").alias("label"), "cannot be the label"),
    ],
)
def test_columns_that_cannot_be_learned_from_are_bad_input(table, change, says) -> None:
    with pytest.raises(BadInput, match=says):
        fit.TrainingSet.of(table.with_columns(change), FEATURES, "label")


def test_parameters_and_seeds_reach_the_users_function(train) -> None:
    from sklearn.linear_model import LogisticRegression  # importing it draws random numbers

    seen = []

    def user(given, params):
        seen.append((params, random.random(), np.random.random(), given.seed))
        return LogisticRegression(**params).fit(given.X, given.y)

    first, second = (fit.run(user, train, {"C": 0.5}) for _ in range(2))
    assert seen[0] == seen[1]
    assert seen[0][0] == {"C": 0.5}
    assert first.kind == "scikit-learn"
    assert np.array_equal(fit.score(first, train.X), fit.score(second, train.X))


def test_an_error_in_the_users_code_is_told_with_its_file_and_line(train, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def helper(params):\n"
        "    return params['rate']\n"
        "\n"
        "def fit(train, params):\n"
        "    return helper(params)\n"
    )
    user = load_function("mine:fit", tmp_path)
    with pytest.raises(BadInput, match="fit raised KeyError: 'rate'") as found:
        fit.run(user, train, {})
    assert found.value.path == f"{tmp_path / 'mine.py'}:2"
    assert isinstance(found.value.__cause__, KeyError)


def test_an_error_inside_a_library_is_told_with_the_line_that_called_it(train, tmp_path) -> None:
    (tmp_path / "theirs.py").write_text(
        "from sklearn.linear_model import LogisticRegression\n"
        "def fit(train, params):\n"
        "    return LogisticRegression(C=-1).fit(train.X, train.y)\n"
    )
    with pytest.raises(BadInput, match="InvalidParameterError") as found:
        fit.run(load_function("theirs:fit", tmp_path), train, {})
    assert found.value.path == f"{tmp_path / 'theirs.py'}:3"


class NotBinary:
    classes_ = (0, 1, 2)


def regressor(train, params):
    from sklearn.linear_model import LinearRegression

    return LinearRegression().fit(train.X, train.y)


def unfitted(train, params):
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression()


def three_classes(train, params):
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression().fit(train.X, np.arange(len(train.y)) % 3)


@pytest.mark.parametrize(
    ("user", "says"),
    [
        (lambda train, params: None, "return model"),
        (lambda train, params: train.y, "fitted model itself"),
        (regressor, "predict_proba"),
        (unfitted, "not fitted"),
        (three_classes, "classes 0 and 1"),
    ],
)
def test_what_cannot_be_served_is_bad_input_with_a_remedy(train, user, says) -> None:
    with pytest.raises(BadInput, match=says):
        fit.run(user, train, {})


@pytest.mark.slow
def test_a_keras_model_without_a_sigmoid_gives_no_probabilities(train) -> None:
    def user(given, params):
        import keras

        dense = keras.layers.Dense(1, bias_initializer=keras.initializers.Constant(9))
        return keras.Sequential([keras.Input((3,)), dense])

    with pytest.raises(BadInput, match="sigmoid"):
        fit.run(user, train, {})
