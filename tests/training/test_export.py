from __future__ import annotations

import resource

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.core.errors import BadInput, Damaged, NotFound, Refused, Unavailable
from homeostat.core.servable import REFERENCE, Manifest, file_digest
from homeostat.training import export, fit
from homeostat.training.onnx import rounded_down
from homeostat.training.score import score_servable

FEATURES = ("amount", "count", "distance")

pytestmark = [
    # keras 3.15 and tensorflow 2.21 with numpy 2.4
    pytest.mark.filterwarnings("ignore:.*np.object.*:FutureWarning"),
]


def logistic(train, params):
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(**params).fit(train.X, train.y)


def pipeline(train, params):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression()).fit(train.X, train.y)


def forest(train, params):
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(20, random_state=train.seed).fit(train.X, train.y)


def histogram(train, params):
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=20).fit(train.X, train.y)


def lightgbm(train, params):
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_estimators=20, n_jobs=1, verbose=-1).fit(train.X, train.y)


def xgboost(train, params):
    from xgboost import XGBClassifier

    return XGBClassifier(n_estimators=20, n_jobs=1).fit(train.X, train.y)


def lightgbm_in_a_pipeline(train, params):
    from lightgbm import LGBMClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    steps = (
        StandardScaler().set_output(transform="default"),
        LGBMClassifier(n_estimators=20, n_jobs=1, verbose=-1),
    )
    return make_pipeline(*steps).fit(train.X, train.y)


def xgboost_in_a_pipeline(train, params):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from xgboost import XGBClassifier

    return make_pipeline(StandardScaler(), XGBClassifier(n_estimators=20, n_jobs=1)).fit(
        train.X, train.y
    )


def mlp(train, params):
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier((8,), max_iter=400, random_state=0, tol=1e-2).fit(train.X, train.y)


def keras_sigmoid(train, params):
    return _keras(train, 1, "sigmoid", "binary_crossentropy")


def keras_softmax(train, params):
    return _keras(train, 2, "softmax", "sparse_categorical_crossentropy")


def _keras(train, outputs, activation, loss):
    import keras

    model = keras.Sequential(
        [
            keras.Input((train.X.shape[1],)),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(outputs, activation=activation),
        ]
    )
    model.compile("adam", loss)
    model.fit(train.X, train.y, epochs=1, verbose=0)
    return model


def sets(table: pl.DataFrame) -> tuple[fit.TrainingSet, fit.TrainingSet]:
    rows = (table[:900], table[900:])
    return tuple(fit.TrainingSet.of(r, FEATURES, "label", seed=1) for r in rows)


def make(fn, table, folder, **kwargs):
    train, test = sets(table)
    model = kwargs.pop("model", None) or fit.run(fn, train, {})
    reference = pl.DataFrame(test.X, schema=list(FEATURES)).with_columns(
        score=pl.Series(fit.score(model, test.X)), label=pl.Series(test.y)
    )
    return model, export.export(
        model, FEATURES, test.X, folder, name="m", threshold=0.5, reference=reference, **kwargs
    )


@pytest.mark.parametrize(
    "fn",
    [
        logistic,
        pipeline,
        forest,
        histogram,
        mlp,
        lightgbm,
        xgboost,
        pytest.param(
            lightgbm_in_a_pipeline,
            marks=pytest.mark.filterwarnings(
                # LightGBM names its columns itself and scikit-learn then misses them in X
                "ignore:X does not have valid feature names:UserWarning"
            ),
        ),
        xgboost_in_a_pipeline,
        pytest.param(keras_sigmoid, marks=pytest.mark.slow),
        pytest.param(keras_softmax, marks=pytest.mark.slow),
    ],
)
def test_the_exported_model_answers_as_the_original(fn, table, tmp_path) -> None:
    folder = tmp_path / "servable"
    model, manifest = make(fn, table, folder)
    _, test = sets(table)
    assert Manifest.read(folder) == manifest
    assert manifest.inputs == FEATURES
    assert manifest.digest == file_digest(folder / manifest.file)
    served = score_servable(folder, table[900:])
    assert np.abs(served - fit.score(model, test.X)).max() < 1e-4
    assert sorted(p.name for p in folder.iterdir()) == [
        "background.json",
        "model.onnx",
        "reference.parquet",
        "servable.json",
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["servable"]


def test_trees_agree_where_values_are_missing(table, tmp_path) -> None:
    holed = table.with_columns(
        count=pl.when(pl.col("amount") > 1).then(None).otherwise(pl.col("count"))
    )
    for fn in (lightgbm, xgboost, histogram):
        make(fn, holed, tmp_path / fn.__name__)


class Lying:
    """Scores with something else than what is exported."""

    def __init__(self, model) -> None:
        self.model = model

    def predict_proba(self, X):
        p = self.model.predict_proba(X)
        p[7] = [0.25, 0.75] if p[7, 1] < 0.5 else [0.75, 0.25]
        return p


def test_a_model_that_answers_differently_is_refused_with_its_worst_row(
    table, tmp_path, monkeypatch
):
    train, test = sets(table)
    honest = fit.run(logistic, train, {})
    lying = fit.FittedModel("scikit-learn", Lying(honest.model))
    convert = export.convert
    monkeypatch.setattr(export, "convert", lambda m, fields, path: convert(honest, fields, path))
    with pytest.raises(Refused) as refused:
        make(None, table, tmp_path / "servable", model=lying)
    line = refused.value.line()
    assert "1 of 300 test rows" in line
    assert "(7: amount=" in line
    assert f"count={test.X[7, 1]:.9g}" in line
    assert list(tmp_path.iterdir()) == []


def test_a_score_that_is_no_number_is_never_in_parity() -> None:
    X = np.zeros((2, 3), np.float32)
    with pytest.raises(Refused, match="nan"):
        export.check_parity(np.array([0.1, 0.2]), np.array([0.1, np.nan]), X, FEATURES)


def test_a_model_without_a_form_in_onnx_is_bad_input_with_a_remedy(table, tmp_path) -> None:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    def odd(train, params):
        from sklearn.linear_model import LogisticRegression

        return make_pipeline(FunctionTransformer(np.cbrt), LogisticRegression()).fit(
            train.X, train.y
        )

    with pytest.raises(BadInput, match="cannot be exported to ONNX") as found:
        make(odd, table, tmp_path / "servable")
    assert "FunctionTransformer > LogisticRegression" in found.value.line()
    assert found.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_the_reference_is_the_test_set_at_most_fifty_thousand_rows(
    table, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(export, "REFERENCE_ROWS", 100)
    make(logistic, table, tmp_path / "s")
    reference = pl.read_parquet(tmp_path / "s" / REFERENCE)
    assert reference.height == 100
    assert reference.columns == [*FEATURES, "score", "label"]
    assert set(reference.select(FEATURES).dtypes) == {pl.Float32}


def test_a_large_reference_is_drawn_in_stretches_of_rows_that_followed_each_other() -> None:
    drawn = export.stretches(pl.DataFrame({"at": range(10_000)}), 400)["at"].to_numpy()
    assert drawn.size == 400
    gaps = np.diff(drawn)
    assert (gaps > 0).all()
    assert (gaps > 1).sum() <= 19  # 20 rows each
    assert all(500 * i <= at < 500 * (i + 1) for i, at in enumerate(drawn[::20]))
    assert export.stretches(pl.DataFrame({"at": range(3)}), 3)["at"].to_list() == [0, 1, 2]


def test_exporting_again_replaces_the_folder(table, tmp_path) -> None:
    make(logistic, table, tmp_path / "s")
    (tmp_path / "s" / "stale").touch()
    make(forest, table, tmp_path / "s")
    assert not (tmp_path / "s" / "stale").exists()


def test_a_changed_model_file_is_damaged_and_a_missing_one_not_found(table, tmp_path) -> None:
    make(logistic, table, tmp_path / "s")
    with (tmp_path / "s" / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(Damaged):
        score_servable(tmp_path / "s", table)
    with pytest.raises(NotFound):
        score_servable(tmp_path / "none", table)


def test_a_table_without_the_models_features_is_bad_input(table, tmp_path) -> None:
    make(logistic, table, tmp_path / "s")
    with pytest.raises(BadInput, match="'distance'"):
        score_servable(tmp_path / "s", table.drop("distance"))


@given(
    st.lists(st.floats(-(2.0**99), 2.0**99), min_size=1, max_size=20),
    st.floats(-(2.0**99), 2.0**99, width=32),
)
def test_a_threshold_in_float32_decides_as_the_double_for_every_float32(values, x) -> None:
    near = [float(np.nextafter(np.float64(np.float32(v)), np.inf)) for v in values]
    for exact in (*values, *near):
        (kept,) = rounded_down([exact], ["BRANCH_LEQ"])
        for value in (np.float32(x), np.float32(exact), np.float32(kept)):
            assert (float(value) <= exact) == (value <= np.float32(kept))
        assert rounded_down([exact], ["LEAF"]) == [exact]


@pytest.mark.parametrize("fn", [lightgbm, histogram])
def test_boosted_trees_agree_on_features_that_lie_on_their_thresholds(fn, tmp_path) -> None:
    # amounts in cents and values one float32 apart: thresholds rounded to nearest flip branches
    rng = np.random.default_rng(5)
    amount = np.round(rng.gamma(2, 30, 6000), 2).astype(np.float32)
    step = np.spacing(np.float32(1)) * rng.integers(0, 8, 6000)
    table = pl.DataFrame(
        {
            "amount": amount,
            "count": (1 + step).astype(np.float32),
            "distance": (amount / 3).astype(np.float32),
            "label": (amount + step * 1e8 + rng.normal(0, 20, 6000) > 90).astype(int),
        }
    )
    make(fn, table, tmp_path / "s")


@pytest.mark.parametrize("room", [100, 2000])
def test_a_full_disk_is_unavailable_and_leaves_what_was_there(table, tmp_path, room: int) -> None:
    make(logistic, table, tmp_path / "s")
    before = score_servable(tmp_path / "s", table)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))  # the model fits into 2000 bytes
    try:
        with pytest.raises(Unavailable, match="could not be written"):
            make(logistic, table, tmp_path / "s")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert np.array_equal(score_servable(tmp_path / "s", table), before)
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_a_model_of_numbers_and_text_is_exported_with_its_columns(tmp_path):
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    random = np.random.default_rng(0)
    countries = random.choice(["DE", "FR", "IT"], 400)
    amount = random.normal(size=400)
    risky = (amount + 2 * (countries == "FR") + random.normal(size=400) > 1).astype(int)
    table = pl.DataFrame({"amount": amount, "country": countries, "fraud": risky})
    train = fit.TrainingSet.of(table, ["amount", "country"], "fraud")

    def fit_it(train, params):
        coded = make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), ["country"]), remainder="passthrough"
        )
        return make_pipeline(coded, LogisticRegression()).fit(train.X, train.y)

    model = fit.run(fit_it, train, {})
    reference = table.with_columns(score=pl.lit(0.5), label=pl.col("fraud"))
    folder = tmp_path / "servable"
    manifest = export.export(
        model, train.features, train.X, folder, name="m", threshold=0.5, reference=reference
    )
    assert manifest.inputs == ("amount", "country")
    assert [f.datatype for f in manifest.columns] == ["FP32", "BYTES"]
    assert Manifest.read(folder) == manifest
    kept = pl.read_parquet(folder / REFERENCE)
    assert kept["country"].to_list() == countries.tolist()
    # what monitors compare with are the scores that are served
    assert kept["score"].to_list() == score_servable(folder, table).tolist()
    unseen = pl.DataFrame({"country": ["FR", "XX", None], "amount": [0.0, 0.0, 0.0]})
    scores = score_servable(folder, unseen)
    assert scores == pytest.approx(fit.score(model, fit.inputs_of(unseen, manifest.inputs)))
    assert scores[0] > scores[1]
    coded = unseen.with_columns(country=pl.Series([978, 840, None]))
    assert score_servable(folder, coded)[0] == scores[1]
