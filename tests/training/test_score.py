"""Servables whose inputs have types score rows of a table as they score requests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from homeostat.core.duration import Duration
from homeostat.core.errors import BadInput, Refused
from homeostat.core.route import Servable
from homeostat.core.servable import Field, Manifest, file_digest
from homeostat.serving.runtime import SCORE, load
from homeostat.training import evaluate, gates
from homeostat.training.score import inputs, score_servable
from homeostat.training.spec import AgainstChampion, GatesSpec, Split, TrainingSpec

FIELDS = (
    Field("count", "INT64"),
    Field("weekend", "BOOL"),
    Field("exact", "FP64"),
    Field("country", "BYTES"),
    Field("amount"),
    Field("last", "FP32", (2,)),
)
WEIGHTS = {"count": 0.5, "weekend": -1.0, "exact": 2.0, "country": 1.0, "amount": 0.3}


@pytest.fixture
def champion(tmp_path: Path) -> Servable:
    """score = sigmoid of a weighted sum of all inputs; a country weighs 3 if it is `de`."""
    from onnx import TensorProto, helper, save

    kinds = {"INT64": "INT64", "BOOL": "BOOL", "FP64": "DOUBLE", "BYTES": "STRING", "FP32": "FLOAT"}
    ins, nodes = [], []
    for field in FIELDS:
        kind = getattr(TensorProto, kinds[field.datatype])
        ins.append(helper.make_tensor_value_info(field.name, kind, [None, *(field.shape or (1,))]))
        number = f"{field.name}_number"
        if field.name == "country":
            nodes.append(
                helper.make_node(
                    "LabelEncoder", ["country"], [number], domain="ai.onnx.ml",
                    keys_strings=["de"], values_floats=[3.0], default_float=0.0,
                )
            )  # fmt: skip
        elif field.shape:
            nodes.append(helper.make_node("ReduceSum", [field.name, "one"], [number], keepdims=1))
        else:
            nodes.append(helper.make_node("Cast", [field.name], [number], to=TensorProto.FLOAT))
        weight = float(WEIGHTS.get(field.name, 0.1))
        nodes.append(helper.make_node("Constant", [], [f"{number}_w"], value_float=weight))
        nodes.append(helper.make_node("Mul", [number, f"{number}_w"], [f"{number}_part"]))
    parts = [f"{field.name}_number_part" for field in FIELDS]
    nodes += [
        helper.make_node("Sum", parts, ["sum"]),
        helper.make_node("Sigmoid", ["sum"], ["score"]),
    ]
    out = helper.make_tensor_value_info("score", TensorProto.FLOAT, [None, 1])
    one = helper.make_tensor("one", TensorProto.INT64, [1], [1])
    graph = helper.make_graph(nodes, "typed", ins, [out], [one])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    folder = tmp_path / "champion"
    folder.mkdir()
    save(helper.make_model(graph, ir_version=9, opset_imports=opsets), folder / "model.onnx")
    digest = file_digest(folder / "model.onnx")
    names = tuple(field.name for field in FIELDS)
    Manifest("m", names, "model.onnx", digest, "score", 0.5, columns=FIELDS).write(folder)
    return Servable("1", str(folder), digest)


@pytest.fixture
def table() -> pl.DataFrame:
    random, n = np.random.default_rng(0), 2000
    return pl.DataFrame(
        {
            # as files have them: narrower, wider, counted as floats
            "count": random.integers(0, 5, n).astype(np.float64),
            "weekend": random.integers(0, 2, n).astype(np.int8),
            "exact": random.normal(size=n),
            "country": random.choice(["de", "fr", None], n).tolist(),
            "amount": random.gamma(2.0, 1.0, n),
            "last": random.normal(size=(n, 2)).tolist(),
        }
    )


def expected(table: pl.DataFrame) -> np.ndarray:
    z = sum(WEIGHTS[n] * table[n].to_numpy() for n in ("count", "weekend", "exact", "amount"))
    z = z + 3 * (table["country"] == "de").fill_null(value=False).to_numpy()
    return 1 / (1 + np.exp(-(z + 0.1 * np.array(table["last"].to_list()).sum(axis=1))))


def test_inputs_of_every_type_are_scored_as_a_request_with_them_is(champion, table) -> None:
    scores = score_servable(Path(champion.path), table)
    assert scores == pytest.approx(expected(table), abs=1e-6)
    columns = inputs(table, Manifest.read(Path(champion.path)))
    assert scores.tolist() == load(champion).run(columns)[SCORE].ravel().tolist()


def test_a_champion_with_typed_inputs_is_compared_with_a_candidate(champion, table) -> None:
    random = np.random.default_rng(1)
    champions = score_servable(Path(champion.path), table)
    label = (random.random(table.height) < champions).astype(int)
    split = Split(*(Duration.parse(d) for d in ("10d", "2d", "6d")))
    spec = TrainingSpec(fit="m:f", split=split)
    for candidate, passed in ((champions, True), (random.random(table.height), False)):
        verdict = gates.decide(
            GatesSpec(against_champion=AgainstChampion("auc", 0.01)),
            evaluate.evaluate(label, candidate, spec, {}),
            label=label,
            candidate=candidate,
            champion=champions,
        )
        assert [part.check for part in verdict.parts] == ["against_champion"]
        assert verdict.passed is passed


def test_whole_numbers_beyond_floats_are_kept_to_the_last_digit(champion, table) -> None:
    many = pl.Series("count", [2**62 + 1] * table.height)
    columns = inputs(table.with_columns(many), Manifest.read(Path(champion.path)))
    assert columns["count"].tolist() == [2**62 + 1] * table.height


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("count", 2.5, "found 2.5 in row 7"),
        ("count", None, "found None in row 7"),
        ("weekend", 2, "found 2 in row 7"),
    ],
)
def test_a_value_without_a_place_in_its_input_is_named(
    champion, table, column: str, value: object, says: str
) -> None:
    changed = table[column].to_list()
    changed[7] = value
    with pytest.raises(BadInput, match=f"1 values of column '{column}'.*{says}"):
        score_servable(Path(champion.path), table.with_columns(pl.Series(column, changed)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (pl.lit("3").alias("count"), "column 'count' is not of the type .* expected INT64"),
        (pl.lit([1.0, 2.0, 3.0]).alias("last"), "column 'last' is not of the shape"),
    ],
)
def test_a_column_of_another_type_or_shape_is_named(champion, table, change, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        score_servable(Path(champion.path), table.with_columns(change))


def test_a_column_that_is_not_there_is_named(champion, table) -> None:
    with pytest.raises(BadInput, match="no column 'country'"):
        score_servable(Path(champion.path), table.drop("country"))


def test_a_champion_of_another_format_is_refused_with_what_to_do(champion, table) -> None:
    folder = Path(champion.path)
    text = (folder / "servable.json").read_text().replace('"onnx"', '"skops"')
    (folder / "servable.json").write_text(text)
    with pytest.raises(Refused, match="format skops"):
        score_servable(folder, table)
