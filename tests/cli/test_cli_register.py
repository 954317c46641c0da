"""Models that were made elsewhere become versions, or are refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from homeostat.cli import main as cli
from homeostat.core.route import Servable
from homeostat.core.servable import Field, Manifest
from homeostat.serving.runtime import SCORE, LoadedModel, load

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

FORMATS = ("onnx", "skops", "pyfunc")
rng = np.random.default_rng(0)
AMOUNT = rng.normal(size=400).astype(np.float32)
COUNTRY = rng.choice(["FR", "DE"], 400)
FRAUD = (AMOUNT + rng.normal(scale=0.3, size=400) > 0).astype(int)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that trusts every format, and `test.parquet` in it."""
    folder = tmp_path / "fraud"
    assert cli.run(["init", str(folder)]) == 0
    trust(folder, "[onnx, skops, pyfunc]")
    table = {"amount": AMOUNT, "country": COUNTRY, "TX_FRAUD": FRAUD}
    pl.DataFrame(table).write_parquet(folder / "test.parquet")
    monkeypatch.chdir(folder)
    return folder


def trust(project: Path, formats: str) -> None:
    file = project / "homeostat.yaml"
    text = file.read_text()
    file.write_text(text.replace("serving:\n", f"serving:\n  formats: {formats}\n"))


@pytest.fixture
def ask(project: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*words: object) -> Any:
        capsys.readouterr()
        assert cli.run(["-C", str(project), "register", *map(str, words), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def loaded(found: Any) -> LoadedModel:
    version = found["version"]
    return load(Servable(version["version"], version["path"], version["digest"]), FORMATS)


def pyfunc(folder: Path, *, signed: bool = True) -> Path:
    """A model with text among its inputs and an output beside the score."""
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.models import infer_signature

    class Model(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            amount = model_input["amount"].to_numpy()
            where = model_input["country"].str.lower()
            return pd.DataFrame({"score": 1 / (1 + np.exp(-amount)), "where": where})

    asked = pd.DataFrame({"amount": AMOUNT[:3].astype(float), "country": COUNTRY[:3]})
    said = pd.DataFrame({"score": [0.5], "where": ["fr"]})
    how = {"signature": infer_signature(asked, said)} if signed else {}
    mlflow.pyfunc.save_model(str(folder), python_model=Model(), **how)
    return folder


def skops(file: Path, X: Any) -> Path:
    from sklearn.linear_model import LogisticRegression
    from skops import io

    io.dump(LogisticRegression().fit(X, FRAUD), file)
    return file


def onnx(file: Path) -> Path:
    """Two outputs that could be the score, and one that says the text again."""
    from onnx import TensorProto, helper, save

    number, text = TensorProto.FLOAT, TensorProto.STRING

    def value(name: str, kind: int) -> Any:
        return helper.make_tensor_value_info(name, kind, [None, 1])

    graph = helper.make_graph(
        [
            helper.make_node("Sigmoid", ["amount"], ["p"]),
            helper.make_node("Identity", ["country"], ["where"]),
            helper.make_node("Add", ["amount", "amount"], ["double"]),
        ],
        "typed",
        [value("amount", number), value("country", text)],
        [value("p", number), value("where", text), value("double", number)],
    )
    opsets = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, ir_version=9, opset_imports=opsets), str(file))
    return file


def test_a_pyfunc_model_is_registered_with_its_signature_and_a_further_output(
    project: Path, ask: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    model = pyfunc(project / "model")
    found = ask(model, "--test", "test.parquet", "--result", "where", "--by", "anna")
    assert found["version"]["version"] == "1"
    assert found["version"]["metrics"]["auc"] > 0.9
    assert found["version"]["tags"]["trigger"] == "registered by anna"
    serving = loaded(found)
    assert serving.columns == (Field("amount", "FP64"), Field("country", "BYTES"))
    said = serving.run({"amount": np.zeros(2), "country": np.array(["FR", "DE"], object)})
    assert (said[SCORE].tolist(), said["where"].tolist()) == ([0.5, 0.5], ["fr", "de"])
    capsys.readouterr()
    assert cli.run(["-C", str(project), "lineage", "1"]) == 0
    assert f"model file      {model}" in capsys.readouterr().out
    again = ask(model, "--test", "test.parquet", "--result", "where")
    assert again["version"]["version"] == "1"
    other = ask(model, "--test", "test.parquet", "--threshold", "0.9")
    assert other["version"]["version"] == "2"
    assert loaded(other).threshold == 0.9


def test_a_version_registered_by_hand_is_shown_as_waiting_until_it_is_rolled_out(
    project: Path, ask: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*words: str) -> str:
        capsys.readouterr()
        assert cli.run(["-C", str(project), *words]) == 0
        return capsys.readouterr().out

    model = onnx(project / "model.onnx")
    for _ in range(2):  # the same again is the same version, and is told once
        ask(model, "--test", "test.parquet", "--output", "p", "--by", "anna")
    assert told("history").endswith(f"  version 1 registered by anna, from {model}\n")
    assert told("history").count("\n") == 1
    shown = told("status")
    assert "registered  version 1, for a person to roll out: homeostat rollout start 1" in shown
    assert shown.endswith("next        homeostat rollout start 1\n")
    assert told("rollout", "start", "1").startswith("champion    version 1 since ")
    shown = told("status")
    assert "registered  " not in shown
    assert shown.endswith("next        homeostat up\n")


def test_a_pyfunc_model_without_a_signature_is_told_its_inputs(project: Path, ask: Any) -> None:
    model = pyfunc(project / "model", signed=False)
    named = ("--input", "amount", "--input", "country:BYTES")
    found = ask(model, "--test", "test.parquet", *named, "--result", "where:BYTES")
    assert loaded(found).columns == (Field("amount"), Field("country", "BYTES"))


@pytest.mark.parametrize("named", [True, False])
def test_a_skops_model_is_registered_with_the_names_it_was_fitted_on(
    project: Path, ask: Any, named: bool
) -> None:
    import pandas as pd

    matrix = AMOUNT.reshape(-1, 1)
    X = pd.DataFrame({"amount": AMOUNT}) if named else matrix
    model = skops(project / "model.skops", X)
    words = () if named else ("--input", "amount")
    serving = loaded(ask(model, "--test", "test.parquet", *words))
    assert serving.inputs == ("amount",)
    assert np.mean((serving.score(matrix) > 0.5) == FRAUD) > 0.8


def test_an_onnx_model_answers_with_the_outputs_that_were_asked_for(
    project: Path, ask: Any
) -> None:
    model = onnx(project / "model.onnx")
    words = ("--output", "p", "--result", "where", "--result", "double")
    found = ask(model, "--test", "test.parquet", *words)
    manifest = Manifest.read(Path(found["version"]["path"]))
    assert manifest.results == (Field("where", "BYTES"), Field("double"))
    said = loaded(found).run(
        {"amount": np.ones(1, np.float32), "country": np.array(["FR"], object)}
    )
    assert (said["where"].tolist(), said["double"].tolist()) == (["FR"], [2.0])
    kept = pl.read_parquet(Path(found["version"]["path"]) / "reference.parquet")
    assert kept.columns == ["amount", "country", "score", "label"]
    assert kept["label"].to_list() == FRAUD.tolist()


def test_what_cannot_be_registered_is_one_line_with_what_to_do(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph, matrix = onnx(project / "model.onnx"), AMOUNT.reshape(-1, 1)
    scikit = skops(project / "model.skops", np.hstack([matrix, matrix]))
    flipped = pl.read_parquet(project / "test.parquet").with_columns(
        TX_FRAUD=1 - pl.col("TX_FRAUD")
    )
    flipped.write_parquet(project / "flipped.parquet")
    flipped.drop("country").write_parquet(project / "short.parquet")
    flipped.drop("TX_FRAUD").write_parquet(project / "unlabelled.parquet")
    (project / "model.txt").write_text("no model")
    (project / "broken.onnx").write_text("no graph")
    test = ("--test", "test.parquet")
    p = ("--output", "p")
    for words, code, says in (
        ((project / "model.txt", *test), 2, "expected a file NAME.onnx or NAME.skops"),
        ((project / "nothing", *test), 2, "found nothing"),
        ((project / "broken.onnx", *test), 3, "not a model that can be loaded"),
        ((graph, *test), 2, "say which one: --output NAME"),
        ((graph, *test, "--output", "q"), 2, "expected one of: p, where, double"),
        ((graph, *test, *p, "--result", "q"), 2, "no output 'q'"),
        ((graph, *test, *p, "--input", "q"), 2, "no input 'q'"),
        ((graph, *test, *p, "--input", "amount:FLOAT"), 2, "no such type: 'FLOAT'"),
        ((graph, *test, *p, "--input", "amount:INT64"), 2, "not a model to serve"),
        ((graph, *test, *p, "--digest", "sha256:0"), 3, "not the one that was meant"),
        ((graph, "--test", "short.parquet", *p), 2, "lacks 1 of the 2 inputs"),
        ((graph, "--test", "unlabelled.parquet", *p), 2, "no column 'TX_FRAUD'"),
        ((graph, "--test", "none.parquet", *p), 2, "none.parquet"),
        ((graph, "--test", "flipped.parquet", *p), 1, "not registered"),
        ((scikit, *test, "--input", "amount"), 2, "add --input NAME (or NAME:TYPE)"),
        ((scikit, *test, "--input", "a", "--input", "b", "--result", "q"), 2, "leave out --result"),
    ):
        capsys.readouterr()
        assert cli.run(["-C", str(project), "register", *map(str, words)]) == code, words
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert says in told
    capsys.readouterr()
    assert cli.run(["-C", str(project), "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["waiting"] == []


def test_a_format_that_nobody_opted_into_is_refused_before_it_is_read(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trust(project, "[onnx]")
    text = (project / "homeostat.yaml").read_text()
    (project / "homeostat.yaml").write_text(text.replace("  formats: [onnx, skops, pyfunc]\n", ""))
    (project / "model").mkdir()
    (project / "model" / "MLmodel").write_text("nothing that could be read")
    words = ["register", str(project / "model"), "--test", "test.parquet"]
    assert cli.run(["-C", str(project), *words]) == 1
    told = capsys.readouterr().err
    assert "trust this format: `serving.formats: [onnx, pyfunc]`" in told
    assert told.count("\n") == 1


def test_the_pipeline_compares_its_candidate_with_a_champion_of_another_format(
    project: Path, ask: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    import pandas as pd

    source = pl.read_parquet(project / "data" / "transactions.parquet")
    test = pl.DataFrame(
        {
            "TX_AMOUNT": source["TX_AMOUNT"],
            "NIGHT": source["TX_DATETIME"].dt.hour() < 6,
            "TX_FRAUD": source["TX_FRAUD"],
        }
    ).drop_nulls()
    test.write_parquet(project / "own.parquet")
    from sklearn.linear_model import LogisticRegression
    from skops import io

    X = pd.DataFrame({"TX_AMOUNT": test["TX_AMOUNT"], "NIGHT": test["NIGHT"].cast(float)})
    io.dump(LogisticRegression().fit(X, test["TX_FRAUD"].to_numpy()), project / "own.skops")
    ask(project / "own.skops", "--test", "own.parquet")
    assert cli.run(["-C", str(project), "rollout", "start", "1"]) == 0
    capsys.readouterr()
    assert cli.run(["-C", str(project), "run", "--json"]) == 0
    run = json.loads(capsys.readouterr().out)
    assert run["version"] == "2"
    parts = run["stages"]["evaluate"]["parts"]
    assert any("champion" in part["check"] for part in parts)
