"""Versions that cannot answer, or cannot be loaded, and more requests than are let in."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from homeostat.core.route import Route

from .conftest import Plane, metric, wait_for

pytestmark = pytest.mark.slow


def test_a_model_that_answers_nan_is_an_error_for_that_request(served: Plane) -> None:
    served.publish(served.model("1", weights=(float("inf"), 0.0)))  # 0 * inf is no number
    served.start()
    assert served.predict([1.0, 2.0]).json()["predictions"] == [1.0]
    bad = served.predict([0.0, 2.0])
    assert bad.status_code == 500
    assert bad.json()["error"] == "version 1 of m: the model returned no number"
    mixed = served.predict([1.0, 2.0], [0.0, 2.0])
    assert mixed.status_code == 500
    rows = served.logged()
    assert rows["score"].to_list() == [1.0, None, None, None]
    assert rows["error"].null_count() == 1
    assert rows["features"].list.len().unique().to_list() == [2]
    text = served.client.get("/metrics").text
    assert metric(text, "model_prediction_errors_total", version="1") == 3


def test_with_no_model_ready_the_answer_is_503_and_it_recovers(served: Plane) -> None:
    served.start()
    assert served.client.get("/v2/health/ready").status_code == 503
    assert served.predict([1, 2]).status_code == 404
    served.publish(None)
    answer = served.predict([1, 2])
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert served.client.get("/v1/models/m").json() == {"name": "m", "ready": False}
    assert served.client.get("/v1/models/m").status_code == 503
    served.publish(served.model("1"))
    assert served.predict([1, 2]).status_code == 200


@pytest.mark.parametrize("damage", ["bytes", "missing", "manifest", "width"])
def test_a_damaged_version_is_refused_and_the_former_route_stays(
    served: Plane, damage: str
) -> None:
    served.start()
    good = served.model("1")
    served.publish(good)
    bad = served.model("2")
    file = Path(bad.path) / "model.onnx"
    if damage == "bytes":
        file.write_bytes(file.read_bytes()[:-5] + b"xxxxx")
    elif damage == "missing":
        file.unlink()
    else:
        manifest = Path(bad.path) / "servable.json"
        text = manifest.read_text()
        manifest.write_text("{" if damage == "manifest" else text.replace('"b"', '"b", "c"'))
    served.plane.publish(Route("m", 50, good, bad, percent=50.0))
    failures = wait_for(lambda: served.plane.observed("m").failures, "the failure")
    assert list(failures) == ["2"]
    assert served.plane.observed("m").generation == served.generation
    assert all(served.predict([1, 2]).json()["model_version"] == "1" for _ in range(10))
    served.generation = 50
    served.publish(good)  # the loop gives up on it
    assert served.plane.observed("m").failures == {}


def test_a_version_that_is_repaired_is_taken_without_being_told(served: Plane) -> None:
    bad = served.model("2")
    file = Path(bad.path) / "model.onnx"
    content = file.read_bytes()
    file.write_bytes(b"half")
    served.plane.publish(Route("m", 1, served.model("1"), bad, percent=100.0))
    served.start()
    assert served.plane.observed("m").failures.keys() == {"2"}
    assert served.plane.observed("m").generation == -1
    assert served.predict([1, 2]).json()["model_version"] == "1"  # better than nobody
    file.write_bytes(content)
    wait_for(lambda: served.plane.observed("m").generation == 1, "the repaired route")
    assert served.predict([1, 2]).json()["model_version"] == "2"


def test_a_route_file_of_junk_is_a_failure_and_changes_nothing(served: Plane) -> None:
    served.start()
    served.publish(served.model("1"))
    served.layout.route("m").write_text("junk")
    failures = wait_for(lambda: served.plane.observed("m").failures, "the failure")
    assert "m.json cannot be read" in failures["route"]
    assert served.predict([1, 2]).status_code == 200


def test_more_than_the_declared_concurrency_is_shed(served: Plane) -> None:
    served.publish(served.model("1"))
    served.start(concurrency=4)
    body = b'{"instances": [[1, 2]]}'
    request = b"POST /v1/models/m:predict HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n%b"
    assert served.server is not None
    with socket.create_connection(("127.0.0.1", served.server.port)) as raw:
        raw.sendall(request % (len(body), body) * 10)  # one tick of the event loop
        raw.shutdown(socket.SHUT_WR)
        text = b"".join(iter(lambda: raw.recv(65536), b""))
    statuses = [int(part[:3]) for part in text.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200] * 4 + [503] * 6
    assert text.count(b"retry-after: 1") == 6
    assert served.predict([1, 2]).status_code == 200
