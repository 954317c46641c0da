"""Every endpoint of one worker, over real sockets."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from homeostat.core.route import Route
from homeostat.serving.api import PATHS, Api
from homeostat.serving.counters import Counters
from homeostat.serving.intake import Intake
from homeostat.serving.layout import Layout
from homeostat.serving.routes import Routes
from homeostat.serving.spec import ServingSpec

from .conftest import Plane, sigmoid, v2

pytestmark = pytest.mark.slow


def test_both_protocols_answer_with_the_same_score(one: Plane) -> None:
    expected = sigmoid(1.0 - 2 * 0.5)
    first = one.predict([1.0, 0.5], [1.0, 0.5]).json()
    assert first["predictions"] == pytest.approx([expected] * 2)
    assert first["model_version"] == "1"
    assert len(first["id"]) == 32
    named = one.predict({"b": 0.5, "a": 1}).json()
    assert named["predictions"] == pytest.approx([expected])
    second = one.client.post("/v2/models/m/infer", json=v2(id="mine")).json()
    assert second["id"] == "mine"
    assert (second["model_name"], second["model_version"]) == ("m", "1")
    assert second["outputs"][0]["data"] == pytest.approx([expected])
    third = one.client.post("/v2/models/m/versions/1/infer", json=v2(3)).json()
    assert third["outputs"][0]["shape"] == [3]


def test_the_server_tells_about_itself(one: Plane) -> None:
    get = one.client.get
    assert get("/v1/models").json() == {"models": ["m"]}
    assert get("/v1/models/m").json() == {"name": "m", "ready": True}
    assert get("/v2").json()["name"] == "homeostat"
    assert get("/v2/health/live").json() == {"live": True}
    assert get("/v2/health/ready").json() == {"ready": True}
    assert get("/v2/models/m/ready").json() == {"name": "m", "ready": True}
    assert get("/v2/models/m/versions/1/ready").json() == {"name": "m", "ready": True}
    about = get("/v2/models/m").json()
    assert about["versions"] == ["1"]
    assert about["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 2]}]
    assert about["parameters"]["features"] == ["a", "b"]
    assert get("/v2/models/m/versions/1").json() == about
    head = one.client.head("/v2/models/m")
    assert head.status_code == 200
    assert head.content == b""
    assert int(head.headers["content-length"]) > 0


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/nowhere", 404, "no such path"),
        ("GET", "/v2/models/m%2Fready", 404, "no model 'm%2Fready'"),
        ("POST", "/v2/repository/models/other/unload", 404, "no model 'other'"),
        ("GET", "/v1/models/other", 404, "no model 'other'; expected one of: m"),
        ("POST", "/v1/models/other:predict", 404, "no model 'other'"),
        ("POST", "/v2/models/other/infer", 404, "no model 'other'"),
        ("POST", "/v2/models/m/versions/9/infer", 404, "no version '9'; expected one of: 1"),
        ("GET", "/v2/models/m/versions/9", 404, "no version '9'"),
        ("GET", "/v2/models/m/versions/9/ready", 404, "no version '9'"),
        ("POST", "/v1/models/other/labels", 404, "no model 'other'"),
        ("GET", "/v1/models/m:predict", 405, "POST"),
        ("DELETE", "/v2/models/m", 405, "GET"),
        ("POST", "/metrics", 405, "GET"),
        ("POST", "/v1/models/m:explain", 400, "not JSON"),
        ("POST", "/v1/models/m:predict", 400, "not JSON"),
        ("POST", "/v2/models/m/infer", 400, "not JSON"),
        ("POST", "/v1/models/m/labels", 400, "list of labels"),
    ],
)
def test_errors_have_a_status_and_a_sentence(
    one: Plane, method: str, path: str, status: int, said: str
) -> None:
    answer = one.client.request(method, path)
    assert answer.status_code == status
    assert said in answer.json()["error"]
    if status == 405:
        assert said in answer.headers["allow"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"instances": [[1, NaN]]}', 400),
        (b'{"instances": [[1, 1e39]]}', 400),
        (b'{"instances": [[1, "x"]]}', 400),
        (b'{"instances": [[1, null]]}', 400),
        (b'{"instances": [[1]]}', 400),
        (b'{"instances": [{"a": 1, "zz": 2}]}', 400),
        (json.dumps({"instances": [[1, 2]] * 1001}).encode(), 413),
        (b" " * 200_001, 413),
    ],
)
def test_inputs_that_cannot_be_used_are_refused(one: Plane, body: bytes, status: int) -> None:
    answer = one.client.post("/v1/models/m:predict", content=body)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert one.predict([1.0, 1.0]).status_code == 200


def test_one_bad_request_does_not_spoil_those_of_the_same_tick(one: Plane) -> None:
    bodies = [b'{"instances": [[%d, %b]]}' % (i, b"1e39" if i == 3 else b"1") for i in range(6)]
    head = b"POST /v1/models/m:predict HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n"
    assert one.server is not None
    with socket.create_connection(("127.0.0.1", one.server.port)) as raw:
        raw.sendall(b"".join(head % len(body) + body for body in bodies))
        raw.shutdown(socket.SHUT_WR)
        text = b"".join(iter(lambda: raw.recv(65536), b""))
    statuses = [int(part[:3]) for part in text.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 200, 200, 400, 200, 200]
    got = [float(score) for score in re.findall(rb'"predictions":\[([^]]+)\]', text)]
    assert got == pytest.approx([sigmoid(i - 2) for i in range(6) if i != 3])


def test_a_large_body_sent_with_curls_expect_is_taken(one: Plane) -> None:
    body = json.dumps({"instances": [[1, 2]] * 500}).encode()
    assert one.server is not None
    with socket.create_connection(("127.0.0.1", one.server.port), timeout=60) as raw:
        raw.sendall(
            b"POST /v1/models/m:predict HTTP/1.1\r\nhost: h\r\n"
            b"expect: 100-continue\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        )
        assert raw.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.sendall(body)
        text = b"".join(iter(lambda: raw.recv(65536), b""))
    assert text.startswith(b"HTTP/1.1 200 OK")


def test_every_prediction_and_every_error_is_in_the_log(one: Plane) -> None:
    good = one.client.post("/v2/models/m/infer", json=v2(2, id="log-me")).json()
    one.client.post("/v1/models/m:predict", json={"instances": [[1]], "id": "log-error"})
    rows = one.logged()
    mine = rows.filter(pl.col("id").str.starts_with("log-me"))
    assert mine["id"].to_list() == ["log-me/0", "log-me/1"]
    assert mine["score"].to_list() == good["outputs"][0]["data"]
    assert mine["features"].to_list() == [[1.0, 0.5]] * 2
    assert mine.select("version", "arm", "probability", "error").row(0) == (
        "1",
        "champion",
        1,
        None,
    )
    assert 0 < mine["latency"][0] < 5
    assert abs((mine["time"][0] - datetime.now(UTC)).total_seconds()) < 60
    (error,) = rows.filter(pl.col("id") == "log-error").to_dicts()
    assert (error["version"], error["score"], error["features"]) == ("", None, [])
    assert "expected 2 (a, b)" in error["error"]


def test_a_worker_imports_nothing_heavy() -> None:
    code = (
        "import sys, homeostat.serving.worker, homeostat.serving.runtime, onnxruntime;"
        "print([m for m in ('polars','mlflow','sklearn','pandas','onnx','tensorflow','deltalake')"
        " if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code]).strip() == b"[]"


def test_paths_written_in_many_ways_do_not_keep_a_new_one_from_being_remembered(
    tmp_path: Path,
) -> None:
    layout = Layout(tmp_path).make()
    (layout.routes / "m.json").write_bytes(msgspec.json.encode(Route("m", 1, None)))
    routes = Routes(layout, lambda: None)
    routes.poll(0.0)
    engine: Any = None  # finding an endpoint asks neither it nor the log
    intake, counters = Intake(ServingSpec(), routes, engine), Counters(layout.metrics / "0")
    api = Api(intake, engine, engine, counters, int, bytes, engine)
    for k in range(2 * PATHS):
        api._find(b"/v2/models/m/versions/%d/infer" % k)
        api._find(b"/v2/models/m/infer?k=%d" % k)
    api._find(b"/v2/models/m/infer")
    assert len(api._paths) == PATHS
    assert b"/v2/models/m/infer" in api._paths
    assert not [target for target in api._paths if b"?" in target]
