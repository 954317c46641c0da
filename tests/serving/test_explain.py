"""V1 `:explain` of real workers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from homeostat.core.route import Servable
from homeostat.core.servable import Manifest, read_background, write_background
from homeostat.serving.counters import total

from .conftest import Plane, sigmoid, wait_for

pytestmark = pytest.mark.slow


def explained(plane: Plane, model: Servable, rows: int = 50) -> Servable:
    """The version with a background of random rows."""
    fields = Manifest.read(Path(model.path)).fields
    random = np.random.default_rng(0)
    columns = {f.name: random.normal(size=rows).astype(np.float32) for f in fields}
    write_background(Path(model.path), columns)
    return model


def explain(plane: Plane, *rows: Any, **header: str) -> httpx.Response:
    body = {"instances": list(rows), "id": "e"}
    return plane.client.post("/v1/models/m:explain", json=body, headers=header)


def test_contributions_say_what_moved_the_score_from_the_background(served: Plane) -> None:
    model = explained(served, served.model("1"))
    served.publish(model)
    served.start()
    answer = explain(served, {"a": 1.0, "b": 0.5}, {"a": 0.0, "b": -3.0})
    assert answer.status_code == 200
    said = answer.json()
    assert (said["id"], said["model_version"]) == ("e", "1")
    assert said["predictions"] == pytest.approx([sigmoid(0.0), sigmoid(6.0)], abs=1e-6)
    background = read_background(Path(model.path), Manifest.read(Path(model.path)).fields)
    base = np.mean([sigmoid(a - 2 * b) for a, b in zip(*background.values(), strict=True)])
    for score, one in zip(said["predictions"], said["explanations"], strict=True):
        assert one["base"] == pytest.approx(base, abs=1e-6)
        assert one["contributions"].keys() == {"a", "b"}
        assert one["base"] + sum(one["contributions"].values()) == pytest.approx(score, abs=1e-6)
    assert said["explanations"][1]["contributions"]["b"] > 0.3
    assert explain(served, {"a": 1.0, "b": 0.5}, {"a": 0.0, "b": -3.0}).json() == said
    assert served.logged().is_empty()  # nobody acted on a prediction


def test_the_version_that_answers_a_key_is_the_one_explained(served: Plane) -> None:
    canary = explained(served, served.model("2", weights=(5.0, 5.0)))
    served.publish(explained(served, served.model("1")), canary=canary, percent=50)
    served.start()
    seen = set()
    for key in map(str, range(12)):
        header = {"x-homeostat-key": key}
        answers = served.predict([1, 2], **header).json(), explain(served, [1, 2], **header).json()
        assert len({answer["model_version"] for answer in answers}) == 1
        seen.add(answers[1]["model_version"])
    assert seen == {"1", "2"}


def test_what_cannot_be_explained_says_why(served: Plane) -> None:
    served.publish(explained(served, served.model("1")))
    served.start()
    for rows, status, said in (
        ([[1.0]], 400, "wrong number of features"),
        ([[1.0, 1e39]], 400, "not a finite float32"),
        ([[1.0, 2.0]] * 101, 413, "at most 100"),
    ):
        answer = explain(served, *rows)
        assert (answer.status_code, said in answer.json()["error"]) == (status, True), answer.text
    late = explain(served, [1.0, 2.0], **{"x-homeostat-deadline-ms": "0"})
    assert late.status_code == 504
    assert served.client.post("/v1/models/none:explain", content=b"{}").status_code == 404
    served.publish(served.model("2"))
    answer = explain(served, [1.0, 2.0])
    assert answer.status_code == 501
    assert answer.json()["error"] == (
        "version 2 gives no explanations; expected rows to compare with in its background.json -> "
        "train it again: training writes them"
    )
    damaged = explained(served, served.model("3"))
    (Path(damaged.path) / "background.json").write_text('{"a": [1]}')
    served.publish(damaged)
    answer = explain(served, [1.0, 2.0])
    assert (answer.status_code, "background.json" in answer.json()["error"]) == (500, True)
    sums = total(served.layout.metrics).globals
    assert sums["requests"] == sums["answered"] + sums["shed"] + sums["failed"]


def test_predictions_do_not_wait_for_explanations_and_a_drain_finishes_them(
    served: Plane,
) -> None:
    inputs = [f"x{k}" for k in range(30)]
    large = served.model("1", inputs=inputs, hidden=(512, 512), weights=[0.01] * 512)
    served.publish(explained(served, large, 100))
    served.start()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(
            httpx.post,
            f"{served.url}/v1/models/m:explain",
            json={"instances": [[1.0] * 30] * 3},
            timeout=60,
        )
        wait_for(lambda: total(served.layout.metrics).globals["requests"] == 1, "the request")
        for _ in range(10):
            assert served.predict([1.0] * 30).is_success
        assert not asked.done()
        served.stop()
        assert len(asked.result().json()["explanations"]) == 3
