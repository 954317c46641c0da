"""Models with text among their inputs and outputs beside the score, from file to log."""

from __future__ import annotations

import json
import math
import struct
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from homeostat.core.records import input_type, inputs_of
from homeostat.core.route import Route, Servable
from homeostat.core.servable import Manifest
from homeostat.monitoring.drift.column import Levels
from homeostat.monitoring.profiles.profile import look
from homeostat.monitoring.profiles.traffic import WHOLE, profiles
from homeostat.monitoring.spec import MonitoringSpec
from homeostat.monitoring.window import Reference
from homeostat.serving import oip

from .conftest import Plane, two_outputs

pytestmark = pytest.mark.slow


def test_text_goes_in_and_further_outputs_come_out_and_both_are_logged(served: Plane) -> None:
    served.plane.publish(Route("m", 1, two_outputs(served.home / "models" / "1")))
    served.start()
    rows = [{"amount": 0, "country": "FR"}, {"amount": 2.5, "country": "Åland"}]
    answer = served.client.post("/v1/models/m:predict", json={"instances": rows, "id": "x"}).json()
    assert answer["predictions"][0] == pytest.approx({"score": 0.5, "where": "FR", "double": 0.0})
    assert answer["predictions"][1]["where"] == "Åland"
    inputs = [
        {"name": "amount", "shape": [1], "datatype": "FP32", "data": [1.0]},
        {"name": "country", "shape": [1], "datatype": "BYTES", "data": ["DE"]},
    ]
    tensors = served.client.post("/v2/models/m/infer", json={"inputs": inputs, "id": "y"}).json()
    outputs = {t["name"]: t["data"] for t in tensors["outputs"]}
    assert outputs["where"] == ["DE"]
    assert outputs["double"] == [2.0]
    logged = served.logged().sort("id")
    assert logged["id"].to_list() == ["x/0", "x/1", "y"]
    assert logged["features"].to_list() == [[0.0], [2.5], [1.0]]
    countries = [json.loads(text)["country"] for text in logged["inputs"]]
    assert countries == ["FR", "Åland", "DE"]
    tested = {"amount": [0.0, 1.0], "country": ["FR", "DE"], "score": [0.5, 0.7], "label": [0, 1]}
    table = pl.DataFrame({name: values * 50 for name, values in tested.items()})
    fields = Manifest.read(served.home / "models" / "1").fields
    watched = Reference.build(table, fields, MonitoringSpec()).watched
    start, day = logged["time"].dt.truncate("1d")[0], timedelta(days=1)
    found = profiles(logged, watched, "1", start, 2 * day, 1)[WHOLE][0]
    seen = {base.name: seen for base, seen in look(watched.whole, found)}
    assert seen["amount"].n == seen["score"].n == 3
    assert isinstance(seen["country"], Levels)
    assert seen["country"].counts.tolist() == [1, 1, 1]
    assert seen["country"].unseen == 1


def test_the_log_gives_inputs_of_every_type_by_their_names(served: Plane) -> None:
    echo = served.echo("1")
    served.plane.publish(Route("m", 1, echo))
    served.start()
    fields = Manifest.read(Path(echo.path)).fields
    row: dict[str, Any] = {f.name: 1 for f in fields}
    row |= {"in_bytes": "Åland", "in_bool": True, "in_fp32": 0.5, "in_fp64": 1e300}
    row |= {"in_int64": -(2**63), "in_uint64": 2**64 - 1}
    for instance in (row, {"in_fp32": 1.0}):  # the second is malformed
        served.client.post("/v1/models/m:predict", json={"instances": [instance]})
    found = inputs_of(served.logged(), fields)
    assert dict(found.schema) == {field.name: input_type(field) for field in fields}
    assert found.to_dicts() == [row, dict.fromkeys(row)]


def test_a_wrong_type_is_refused_and_spoils_no_other(served: Plane) -> None:
    served.plane.publish(Route("m", 1, two_outputs(served.home / "models" / "1")))
    served.start()
    for row in ({"amount": "x", "country": "FR"}, {"amount": 1, "country": 7}, {"amount": 1}):
        answer = served.client.post("/v1/models/m:predict", json={"instances": [row]})
        assert answer.status_code == 400
        assert answer.json()["error"]
    fine = {"instances": [{"amount": 1, "country": ""}]}
    assert served.client.post("/v1/models/m:predict", json=fine).is_success


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_is_not_finite_is_refused_however_it_comes(served: Plane, number: float) -> None:
    import grpc

    served.plane.publish(Route("m", 1, two_outputs(served.home / "models" / "1")))
    served.start(grpc=True)
    assert served.server is not None
    amount, country = struct.pack("<f", number), struct.pack("<I", 2) + b"DE"
    inputs = [
        {"name": name, "shape": [1], "datatype": kind, "parameters": {"binary_data_size": len(raw)}}
        for name, kind, raw in (("amount", "FP32", amount), ("country", "BYTES", country))
    ]
    head = json.dumps({"inputs": inputs}).encode()
    answer = served.client.post(
        "/v2/models/m/infer",
        content=head + amount + country,
        headers={"Inference-Header-Content-Length": str(len(head))},
    )
    assert answer.status_code == 400
    assert "not a finite number" in answer.json()["error"]
    message = oip.message("ModelInferRequest")(model_name="m")
    message.inputs.add(name="amount", datatype="FP64", shape=[1]).contents.fp64_contents.append(
        number
    )
    message.inputs.add(name="country", datatype="BYTES", shape=[1]).contents.bytes_contents.append(
        b"DE"
    )
    with grpc.insecure_channel(f"127.0.0.1:{served.server.grpc_port}") as channel:
        call = channel.unary_unary(f"/{oip.SERVICE}/ModelInfer")
        with pytest.raises(grpc.RpcError, match="not a finite number") as caught:
            call(message.SerializeToString(), timeout=60)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_request_with_more_text_than_a_block_takes_is_logged_whole(served: Plane) -> None:
    served.plane.publish(Route("m", 1, two_outputs(served.home / "models" / "1")))
    served.start(max_body=40_000_000)
    texts = [letter * 900_000 for letter in "abcdefghijklmnopqrst"]
    rows = [{"amount": 1, "country": text} for text in texts]
    answer = served.client.post("/v1/models/m:predict", json={"instances": rows, "id": "x"})
    assert answer.is_success
    logged = served.logged()
    found = {row["id"]: json.loads(row["inputs"])["country"] for row in logged.to_dicts()}
    assert found == {f"x/{k}": text for k, text in enumerate(texts)}


def test_a_pipeline_with_categories_serves_what_it_was_fitted_to_say(served: Plane) -> None:
    import numpy as np
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    from homeostat.training import export, fit

    random = np.random.default_rng(0)
    table = pl.DataFrame(
        {"amount": random.normal(size=300), "country": random.choice(["DE", "FR"], 300)}
    ).with_columns(fraud=(pl.col("amount") + (pl.col("country") == "FR") > 0.5).cast(int))
    train = fit.TrainingSet.of(table, ["amount", "country"], "fraud")
    coded = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["country"]), remainder="passthrough"
    )
    model = fit.FittedModel(
        "scikit-learn", make_pipeline(coded, LogisticRegression()).fit(train.X, train.y)
    )
    reference = table.with_columns(score=pl.lit(0.5), label=pl.col("fraud"))
    folder = served.home / "models" / "1"
    folder.parent.mkdir(parents=True)
    manifest = export.export(
        model, train.features, train.X, folder, name="m", threshold=0.5, reference=reference
    )
    served.plane.publish(Route("m", 1, Servable("1", str(folder), manifest.digest)))
    served.start()
    rows = table.head(50).select("amount", "country").to_dicts()
    answer = served.client.post("/v1/models/m:predict", json={"instances": rows}).json()
    assert answer["predictions"] == pytest.approx(fit.score(model, train.X[:50]), abs=1e-5)
