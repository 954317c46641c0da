"""What may be loaded, and that it answers as the original does."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from homeostat.core.errors import BadInput, Damaged, HomeostatError, Refused
from homeostat.core.route import Route, Servable
from homeostat.core.servable import Field, Format, Manifest, file_digest
from homeostat.serving.runtime import SCORE, LoadedModel, load
from homeostat.testing.models import tiny_servable

from .conftest import Plane, wait_for

rng = np.random.default_rng(0)
X = rng.normal(size=(500, 3)).astype(np.float32)
Y = (X[:, 0] - X[:, 1] > 0).astype(int)


def fitted() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression().fit(X, Y)


def servable(folder: Path, file: str, format: Format, **more: Any) -> Servable:
    digest = file_digest(folder / file)
    inputs = more.pop("inputs", ("a", "b", "c"))
    Manifest("m", inputs, file, digest, "score", 0.5, format=format, **more).write(folder)
    return Servable("1", str(folder), digest)


def with_skops(folder: Path) -> tuple[Servable, Any]:
    from skops import io

    model = fitted()
    io.dump(model, folder / "model.skops")
    return servable(folder, "model.skops", "skops"), model


def with_pyfunc(folder: Path, model: Any, **more: Any) -> Servable:
    import mlflow.pyfunc

    mlflow.pyfunc.save_model(str(folder / "model"), python_model=model)
    return servable(folder, "model", "pyfunc", **more)


class Fixed:
    """Answers the same, whatever it is asked."""

    def __init__(self, **answer: Any) -> None:
        self._answer = answer

    def score(self, x: Any) -> Any:
        return self._answer[SCORE]

    def run(self, columns: Any) -> Any:
        return dict(self._answer)


def fixed(results: tuple[Field, ...] = (), **answer: Any) -> LoadedModel:
    manifest = Manifest("m", ("a",), "f", "sha256:0", "score", 0.5, results=results)
    return LoadedModel(Servable("1", "f", "sha256:0"), manifest, Fixed(**answer))


@pytest.mark.parametrize(
    "answer",
    [
        np.zeros(2, np.float32),  # a row left out: every later answer would be another request's
        np.zeros((3, 0), np.float32),
        np.zeros((3, 1, 1), np.float32),
        np.array(["no", "yes", "no"], object),
        [{0: 0.1, 1: 0.9}] * 3,  # ONNX's ZipMap
    ],
)
def test_what_is_not_one_score_per_row_is_no_answer(answer: Any) -> None:
    x = np.zeros((3, 1), np.float32)
    with pytest.raises(HomeostatError, match="does not give one score per row"):
        fixed(score=answer).score(x)
    with pytest.raises(HomeostatError, match="does not give one score per row"):
        fixed((Field("more"),), score=answer, more=np.zeros(3)).run({"a": x[:, 0]})


@pytest.mark.parametrize("more", [None, np.zeros(2), np.zeros((3, 2)), np.array([None] * 3)])
def test_a_further_output_is_as_the_manifest_says_or_the_model_failed(more: Any) -> None:
    model = fixed((Field("more"),), score=np.zeros(3, np.float32), more=more)
    with pytest.raises(HomeostatError, match="output 'more' is not as the manifest says"):
        model.run({"a": np.zeros(3, np.float32)})


@pytest.mark.slow
def test_what_can_run_code_is_refused_unless_it_is_opted_into(tmp_path: Path) -> None:
    made, model = with_skops(tmp_path)
    with pytest.raises(Refused, match=r"serving.formats: \[onnx, skops\]"):
        load(made)
    loaded = load(made, ("onnx", "skops"))
    assert loaded.score(X) == pytest.approx(model.predict_proba(X)[:, 1], abs=1e-6)


@pytest.mark.slow
def test_a_skops_model_that_knows_its_columns_answers_quietly_and_only_in_their_order(
    tmp_path: Path,
) -> None:
    import pandas as pd
    from sklearn.linear_model import LogisticRegression
    from skops import io

    model = LogisticRegression().fit(pd.DataFrame(X, columns=list("abc")), Y)
    io.dump(model, tmp_path / "model.skops")
    scores = load(servable(tmp_path, "model.skops", "skops"), ("skops",)).score(X)  # no warning
    assert scores == pytest.approx(fitted().predict_proba(X)[:, 1], abs=1e-6)
    with pytest.raises(HomeostatError, match="must be in the same order"):
        load(servable(tmp_path, "model.skops", "skops", inputs=("b", "a", "c")), ("skops",))


@pytest.mark.slow
def test_a_skops_file_with_types_of_other_packages_is_refused(tmp_path: Path) -> None:
    from skops import io

    io.dump({"model": fitted(), "where": Path("x")}, tmp_path / "model.skops")
    made = servable(tmp_path, "model.skops", "skops")
    with pytest.raises(Refused, match="types that are not trusted"):
        load(made, ("skops",))


@pytest.mark.slow
def test_a_skops_file_takes_functions_that_score_and_none_that_run_what_a_request_brings(
    tmp_path: Path,
) -> None:
    from numpy.testing import runstring
    from sklearn.feature_selection import SelectKBest, f_classif
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer
    from skops import io

    def kept(first: Any) -> Servable:
        io.dump(make_pipeline(first, fitted()), tmp_path / "model.skops")
        return servable(tmp_path, "model.skops", "skops")

    assert load(kept(SelectKBest(f_classif, k=3).fit(X, Y)), ("skops",)).score(X).shape == (500,)
    for runs in (eval, exec, runstring):  # they read an array as the text of a program
        with pytest.raises(Refused, match="types that are not trusted"):
            load(kept(FunctionTransformer(runs)), ("skops",))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # MLflow's views on type hints
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_pyfunc_model_answers_with_further_outputs_from_text(tmp_path: Path) -> None:
    import mlflow.pyfunc
    import pandas as pd

    class Model(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            amount = model_input["amount"].to_numpy()
            return pd.DataFrame(
                {"score": 1 / (1 + np.exp(-amount)), "where": model_input["country"].str.lower()}
            )

    fields = (Field("amount"), Field("country", "BYTES"))
    made = with_pyfunc(
        tmp_path,
        Model(),
        inputs=("amount", "country"),
        columns=fields,
        results=(Field("where", "BYTES"),),
    )
    with pytest.raises(Refused):
        load(made)
    loaded = load(made, ("pyfunc",))
    assert not loaded.plain
    found = loaded.run(
        {"amount": np.array([0, 1], np.float32), "country": np.array(["FR", "DE"], object)}
    )
    assert found[SCORE] == pytest.approx([0.5, 0.7310586], abs=1e-6)
    assert found["where"].tolist() == ["fr", "de"]


def test_a_folder_in_which_one_file_was_touched_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_text("flavors: {}")
    made = servable(tmp_path, "model", "pyfunc")
    (tmp_path / "model" / "python_model.pkl").write_bytes(b"added")
    with pytest.raises(Damaged, match="not the one that was registered"):
        load(made, ("pyfunc",))
    shutil.rmtree(tmp_path / "model")


def test_weights_in_a_file_that_no_digest_covers_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx

    made = tiny_servable(tmp_path, hidden=(300,), weights=[0.01] * 300)
    whole = onnx.load(tmp_path / "model.onnx")
    onnx.save(whole, tmp_path / "model.onnx", save_as_external_data=True, size_threshold=0)
    monkeypatch.chdir(tmp_path)
    parts = msgspec.structs.replace(made, digest=file_digest(tmp_path / "model.onnx"))
    with pytest.raises(BadInput, match="keeps its weights in another file.*save it whole"):
        load(parts)
    onnx.save(onnx.load(tmp_path / "model.onnx"), tmp_path / "model.onnx")
    assert load(msgspec.structs.replace(made, digest=file_digest(tmp_path / "model.onnx")))


@pytest.mark.slow
def test_a_tree_ensemble_scores_large_batches_as_it_scores_single_rows(tmp_path: Path) -> None:
    from lightgbm import LGBMClassifier

    from homeostat.training.fit import FittedModel
    from homeostat.training.onnx import convert

    model = LGBMClassifier(n_estimators=60, verbose=-1, n_jobs=1).fit(X, Y)
    output = convert(
        FittedModel("lightgbm", model), [Field(n) for n in "abc"], tmp_path / "model.onnx"
    )
    digest = file_digest(tmp_path / "model.onnx")
    Manifest("m", ("a", "b", "c"), "model.onnx", digest, output, 0.5).write(tmp_path)
    loaded = load(Servable("1", str(tmp_path), digest))
    together = loaded.score(X)
    one_by_one = np.concatenate([loaded.score(X[k : k + 1]) for k in range(len(X))])
    assert together.tolist() == one_by_one.tolist()
    assert together == pytest.approx(model.predict_proba(X)[:, 1], abs=1e-5)


@pytest.mark.slow
def test_a_trusted_model_answers_beside_the_event_loop_and_its_failures_are_its_own(
    served: Plane,
) -> None:
    folder = served.home / "models" / "1"
    folder.mkdir(parents=True)
    made, model = with_skops(folder)
    served.plane.publish(Route("m", 1, made))
    served.start(formats=("onnx", "skops"))
    ready = "/v2/models/m/ready"  # scikit-learn takes its time to be imported
    wait_for(lambda: served.client.get(ready).is_success, "the model")
    predict = "/v1/models/m:predict"
    rows = X[:40].tolist()
    answers = [served.client.post(predict, json={"instances": [row]}).json() for row in rows]
    together = served.client.post(predict, json={"instances": rows}).json()["predictions"]
    expected = pytest.approx(model.predict_proba(X[:40])[:, 1], abs=1e-6)
    assert [answer["predictions"][0] for answer in answers] == expected
    assert together == expected
    assert served.client.post(predict, json={"instances": [[1, 2]]}).status_code == 400


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # MLflow's views on type hints
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_code_of_a_model_gives_way_to_answers_sooner_than_python_has_it(served: Plane) -> None:
    import mlflow.pyfunc

    class Model(mlflow.pyfunc.PythonModel):
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return np.full(len(model_input), sys.getswitchinterval())

    folder = served.home / "models" / "1"
    folder.mkdir(parents=True)
    served.plane.publish(Route("m", 1, with_pyfunc(folder, Model())))
    served.start(formats=("onnx", "pyfunc"))
    wait_for(lambda: served.client.get("/v2/models/m/ready").is_success, "the model")
    (seconds,) = served.predict([1, 2, 3]).json()["predictions"]
    assert seconds < sys.getswitchinterval() / 10


@pytest.mark.slow
def test_a_format_that_is_not_trusted_is_reported_and_serves_nobody(served: Plane) -> None:
    folder = served.home / "models" / "1"
    folder.mkdir(parents=True)
    made, _ = with_skops(folder)
    served.plane.publish(Route("m", 1, made))
    served.start()
    wait_for(lambda: served.plane.observed("m").failures, "the report")
    assert "may run code of their own" in served.plane.observed("m").failures["1"]
    asked = {"instances": [[1, 2, 3]]}
    assert served.client.post("/v1/models/m:predict", json=asked).status_code == 503
