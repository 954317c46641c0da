"""Real workers, real sockets."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest

from homeostat.core.clock import ScaledClock
from homeostat.core.duration import Duration
from homeostat.core.errors import Unavailable
from homeostat.core.names import Arm
from homeostat.core.ports import Gauge
from homeostat.core.records import LABELS
from homeostat.core.route import BUCKETS, PAIRING_SALT, Challenger, Route, assign, bucket
from homeostat.serving.keeper import Keeper
from homeostat.serving.records import EXPLORE_SALT
from homeostat.serving.spec import ServingSpec
from homeostat.serving.supervisor import Supervisor

from .conftest import Plane, wait_for

pytestmark = pytest.mark.slow

EVER = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


def sigmoid(z: float) -> float:
    return float(1 / (1 + np.exp(-z)))


def v2(n: int = 1, data: list[float] | None = None, **other: Any) -> dict[str, Any]:
    tensor = {"name": "input", "shape": [n, 2], "datatype": "FP32", "data": data or [1.0, 0.5] * n}
    return {"inputs": [tensor], **other}


def logged(plane: Plane) -> pl.DataFrame:
    return plane.log.read("m", *EVER)


def metric(text: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples that carry all of `labels`."""
    lines = [x for x in text.splitlines() if x.startswith((f"{name}{{", f"{name} "))]
    wanted = [f'{k}="{v}"' for k, v in labels.items()]
    return sum(float(x.rsplit(" ", 1)[1]) for x in lines if all(w in x for w in wanted))


# ---------------------------------------------------------------- one worker, every endpoint


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
        ("POST", "/v1/models/m:explain", 501, "gives no explanations"),
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
    with socket.create_connection(("127.0.0.1", one.server.port), timeout=5) as raw:
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
    rows = logged(one)
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


# ---------------------------------------------------------------- routing


def test_the_split_over_two_workers_is_the_pure_function_of_the_route(served: Plane) -> None:
    served.start(workers=2)
    route = served.publish(served.model("1"), canary=served.model("2"), percent=30, salt="r1")
    for i in range(300):
        key = f"customer-{i}"
        expected = assign(route, key)
        assert expected is not None
        served.connect() if i % 50 == 0 else None  # land on either worker
        answer = served.predict([1.0, 2.0], x_homeostat_key=key).json()
        assert answer["model_version"] == expected.version
        by_id = served.client.post("/v2/models/m/infer", json=v2(id=key)).json()
        assert by_id["model_version"] == expected.version
    rows = logged(served)
    shares = dict(rows.group_by("arm").agg(pl.col("probability").unique()).iter_rows())
    assert shares == {"champion": [0.7], "canary": [0.3]}
    canary = rows.filter(pl.col("arm") == "canary").height / rows.height
    assert 0.2 < canary < 0.4


def test_a_sticky_feature_keeps_a_caller_on_one_version(served: Plane) -> None:
    served.start()
    route = served.publish(
        served.model("1"), canary=served.model("2"), percent=50, sticky="customer"
    )
    for i in range(40):
        row = {"a": 1.0, "b": 2.0, "customer": f"c{i}"}
        expected = assign(route, f"c{i}")
        assert expected is not None
        seen = {served.predict(row).json()["model_version"] for _ in range(3)}
        assert seen == {expected.version}


def test_a_version_asked_for_by_name_answers_whatever_the_split(served: Plane) -> None:
    served.start()
    served.publish(served.model("1"), canary=served.model("2", weights=(3.0, 0.0)))
    answer = served.client.post("/v2/models/m/versions/2/infer", json=v2(id="x")).json()
    assert answer["model_version"] == "2"
    assert logged(served).select("version", "arm", "probability").rows() == [("2", "canary", 1.0)]


def test_without_a_canary_its_traffic_stops_at_once(served: Plane) -> None:
    served.start(workers=2)
    champion = served.model("1")
    served.publish(champion, canary=served.model("2"), percent=100)
    assert served.predict([1.0, 2.0]).json()["model_version"] == "2"
    started = time.monotonic()
    served.publish(champion)
    assert time.monotonic() - started < 1
    for _ in range(20):
        served.connect()
        assert served.predict([1.0, 2.0]).json()["model_version"] == "1"
    gone = served.client.post("/v2/models/m/versions/2/infer", json=v2())
    assert gone.status_code == 404


def test_paired_scoring_logs_the_other_versions_opinion_under_the_same_id(served: Plane) -> None:
    served.start()
    served.publish(
        served.model("1"), canary=served.model("2", weights=(0.0, 1.0)), percent=0, paired=0.5
    )
    ids = [f"request-{i}" for i in range(60)]
    for id in ids:
        served.client.post("/v2/models/m/infer", json=v2(id=id)).raise_for_status()
    sampled = {id for id in ids if bucket(PAIRING_SALT, id) < 0.5 * BUCKETS}
    shadow = pl.col("arm") == "shadow"
    wait_for(lambda: logged(served).filter(shadow).height >= len(sampled), "paired scoring")
    rows = logged(served)
    shadows = rows.filter(shadow)
    assert set(shadows["id"]) == sampled
    assert shadows.height == len(sampled)
    assert shadows["version"].unique().to_list() == ["2"]
    assert shadows["score"].to_list() == pytest.approx([sigmoid(0.5)] * shadows.height)
    assert rows.filter(~shadow)["version"].unique().to_list() == ["1"]
    assert shadows["features"][0].to_list() == [1.0, 0.5]


def test_several_challengers_answer_their_shares_and_score_in_the_shadow(served: Plane) -> None:
    served.start()
    dark, live = served.model("2"), served.model("3")
    shares = [Challenger(dark, 0.0, 1.0), Challenger(live, 40.0, 1.0, at=50.0)]
    served.publish(served.model("1"), **as_fields(shares))
    ids = [f"request-{i}" for i in range(40)]
    for id in ids:
        served.client.post("/v2/models/m/infer", json=v2(id=id)).raise_for_status()
    wait_for(lambda: logged(served).height == 3 * len(ids), "every version's score")
    answered = logged(served).filter(pl.col("arm") != "shadow")
    arms = set(answered.select("version", "arm").rows())
    assert arms == {("1", "champion"), ("3", "canary")}
    assert answered.filter(pl.col("version") == "3")["probability"].unique().to_list() == [0.4]
    scored = logged(served).group_by("id").agg(pl.col("version").sort())
    assert scored["version"].to_list() == [["1", "2", "3"]] * len(ids)


def as_fields(challengers: list[Challenger]) -> dict[str, Any]:
    split = Route.split("m", 0, None, challengers)
    return {
        "canary": split.canary,
        "percent": split.percent,
        "paired": split.paired,
        "at": split.at,
        "others": split.others,
    }


def test_a_failing_shadow_is_a_record_and_never_an_answer(served: Plane) -> None:
    served.start()
    broken = served.model("2", weights=(float("nan"), 0.0))
    wider = served.model("3", inputs=("a", "b", "c"), weights=(1.0, 1.0, 1.0))
    for canary in (broken, wider):
        served.publish(served.model("1"), canary=canary, paired=1.0)
        assert served.predict([1.0, 2.0]).status_code == 200
        at = (pl.col("arm") == "shadow") & (pl.col("version") == canary.version)
        wait_for(lambda at=at: logged(served).filter(at).height, "the shadow's record")
        (row,) = logged(served).filter(at).to_dicts()
        assert row["score"] is None
        assert row["error"]


def test_a_declared_share_of_the_alerts_is_let_through_and_its_propensity_logged(
    served: Plane,
) -> None:
    served.publish(served.model("1"))
    served.start(explore=0.25)
    ids = [f"r{i}" for i in range(80)]
    drawn = {id for id in ids if bucket(EXPLORE_SALT, id) < 0.25 * BUCKETS}
    through = set()
    for id in ids:
        alert = {"instances": [[3.0, 0.0]], "id": id}
        answer = served.client.post("/v1/models/m:predict", json=alert).json()
        if answer.get("explore"):
            through.add(id)
        quiet = {"instances": [[-3.0, 0.0]], "id": f"{id}-quiet"}
        assert "explore" not in served.client.post("/v1/models/m:predict", json=quiet).json()
    assert through == drawn != set()
    rows = logged(served)
    alert = pl.col("score") >= 0.5
    assert rows.filter(alert)["propensity"].unique().to_list() == [0.25]
    assert rows.filter(~alert)["propensity"].unique().to_list() == [1.0]
    body = v2(2, id=min(drawn), data=[3, 0, -3, 0])
    answer = served.client.post("/v2/models/m/infer", json=body).json()
    assert answer["parameters"] == {"explore": True}


# ---------------------------------------------------------------- failing models and versions


def test_a_model_that_answers_nan_is_an_error_for_that_request(served: Plane) -> None:
    served.publish(served.model("1", weights=(float("inf"), 0.0)))  # 0 * inf is no number
    served.start()
    assert served.predict([1.0, 2.0]).json()["predictions"] == [1.0]
    bad = served.predict([0.0, 2.0])
    assert bad.status_code == 500
    assert bad.json()["error"] == "version 1 of m: the model returned no number"
    mixed = served.predict([1.0, 2.0], [0.0, 2.0])
    assert mixed.status_code == 500
    rows = logged(served)
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


# ---------------------------------------------------------------- under load


class Load:
    """Clients that ask without pause, and remember what was acknowledged."""

    def __init__(self, plane: Plane, clients: int = 4) -> None:
        self.url, self.stop = plane.url, threading.Event()
        self.acknowledged: list[str] = []
        self.failed: list[str] = []
        self.broken = 0
        self.threads = [threading.Thread(target=self._ask, args=(k,)) for k in range(clients)]

    def __enter__(self) -> Load:
        for thread in self.threads:
            thread.start()
        wait_for(lambda: len(self.acknowledged) > 50, "the load")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def _ask(self, k: int) -> None:
        client = httpx.Client(base_url=self.url, timeout=10)
        n = 0
        while not self.stop.is_set():
            n += 1
            id = f"{k}-{n}"
            try:
                answer = client.post("/v2/models/m/infer", json=v2(id=id))
            except httpx.TransportError:
                self.broken += 1
                client.close()
                client = httpx.Client(base_url=self.url, timeout=10)
                continue
            if answer.status_code == 200:
                self.acknowledged.append(answer.json()["id"])
            else:
                self.failed.append(answer.text)
        client.close()


def test_models_are_swapped_under_load_without_one_failed_request(served: Plane) -> None:
    versions = [served.model(str(i)) for i in range(1, 5)]
    served.publish(versions[0])
    served.start(workers=2)
    with Load(served) as load:
        for i in range(12):
            served.publish(versions[i % 4], canary=versions[(i + 1) % 4], percent=40, paired=0.2)
    assert load.failed == []
    assert load.broken == 0
    answered = logged(served).filter(pl.col("arm") != "shadow")
    assert sorted(answered["id"]) == sorted(load.acknowledged)
    assert set(answered["version"]) == {"1", "2", "3", "4"}


def test_a_killed_worker_loses_no_acknowledged_record_and_comes_back(served: Plane) -> None:
    served.publish(served.model("1"))
    served.start(workers=2, seal=Duration.parse("1s"))
    assert served.server is not None
    ledger: list[Any] = []
    keeper = Keeper(served.home, served.log, _Ledger(ledger))
    with Load(served) as load:
        for _ in range(2):
            for name in ("worker 0", "worker 1"):
                pid = served.server.pids()[name]
                os.kill(pid, signal.SIGKILL)
                started = time.monotonic()
                wait_for(
                    lambda pid=pid: (
                        pid not in served.server.pids().values()
                        and served.plane.observed("m").workers == 2
                    ),
                    "the restart",
                )
                assert time.monotonic() - started < 5
                keeper.step()
    assert load.failed == []
    assert load.broken >= 1
    ids = logged(served)["id"].to_list()
    assert len(ids) == len(set(ids))
    assert set(load.acknowledged) <= set(ids)
    served.connect()
    text = served.client.get("/metrics").text
    counted = metric(text, "model_predictions_total", version="1")
    assert len(load.acknowledged) <= counted <= len(ids)
    assert metric(text, "homeostat_log_dropped_total") == 0
    served.stop()
    keeper.step()
    keeper.close()
    assert logged(served)["id"].to_list() == ids
    assert list(served.layout.live.iterdir()) == []


class _Ledger:
    def __init__(self, into: list[Any]) -> None:
        self.into = into

    def append(self, labels: pl.DataFrame) -> int:
        assert dict(labels.schema) == LABELS
        self.into += labels.to_dicts()
        return labels.height

    def as_known(self, at: datetime, ids: pl.Series | None = None) -> pl.DataFrame:
        raise NotImplementedError


def test_draining_answers_what_is_in_flight_and_ends_with_0(served: Plane) -> None:
    served.publish(served.model("1"))
    served.start()
    assert served.server is not None
    process = served.server._children[0].process
    assert process is not None
    body = json.dumps({"instances": [[1, 2]]}).encode()
    with socket.create_connection(("127.0.0.1", served.server.port), timeout=5) as raw:
        raw.sendall(
            b"POST /v1/models/m:predict HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n"
            % len(body)
        )
        wait_for(lambda: metric(served.client.get("/metrics").text, "homeostat_requests_total"), "")
        served.client.close()
        stopping = threading.Thread(target=served.server.stop)
        stopping.start()
        time.sleep(0.2)  # the drain has begun; the request is still being sent
        raw.sendall(body)
        text = b"".join(iter(lambda: raw.recv(65536), b""))
        stopping.join()
    assert text.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" in text
    assert process.returncode == 0
    assert served.plane.observed("m").workers == 0
    assert logged(served).height == 1


# ---------------------------------------------------------------- labels, metrics, time, port


def test_labels_reach_the_ledger_through_a_live_segment(served: Plane) -> None:
    served.publish(served.model("1"))
    start = datetime(2026, 1, 1, tzinfo=UTC)
    clock = ScaledClock(time.time_ns, start=start, rate=3600)
    served.start(clock=str(clock))
    into: list[Any] = []
    keeper = Keeper(served.home, served.log, _Ledger(into))
    path = "/v1/models/m/labels"
    labels = [{"id": "a", "label": 1, "time": "2026-01-01T05:00:00+00:00"}, {"id": "b", "label": 0}]
    answer = served.client.post(path, json={"labels": labels})
    assert (answer.status_code, answer.json()) == (200, {"accepted": 2})
    half = served.client.post(path, json={"labels": [*labels, {"id": "c", "label": 5}]})
    assert half.status_code == 400
    assert "$.labels[2].label" in half.json()["error"]
    keeper.step()
    assert [(row["id"], row["label"]) for row in into] == [("a", 1.0), ("b", 0.0)]
    assert into[0]["time"] == datetime(2026, 1, 1, 5, tzinfo=UTC)
    assert into[1]["time"] == into[1]["known"]
    assert start < into[0]["known"] <= clock.now()
    keeper.close()


def test_times_come_from_the_clock_and_latencies_are_real(served: Plane) -> None:
    served.publish(served.model("1"))
    clock = ScaledClock(time.time_ns, start=datetime(2026, 1, 1, tzinfo=UTC), rate=100_000)
    served.start(clock=str(clock))
    before = clock.now()
    served.predict([1, 2])
    row = logged(served).row(0, named=True)
    assert before - timedelta(microseconds=1) <= row["time"] <= clock.now()
    assert row["latency"] < 5


def test_metrics_are_the_exact_sum_over_workers_also_after_a_restart(served: Plane) -> None:
    served.publish(served.model("1"), canary=served.model("2"), percent=50)
    served.start(workers=2)
    assert served.server is not None
    for round in range(2):
        for _ in range(20):
            served.connect()  # spreads over the workers
            served.predict([1, 2], [3, 4])
            served.predict([1])
        if round == 0:
            pid = served.server.pids()["worker 1"]
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda pid=pid: pid not in served.server.pids().values(), "the restart")
            wait_for(lambda: served.plane.observed("m").workers == 2, "the restart")
    served.plane.show([Gauge("model_drift_score", 0.25, {"model": "m"})])
    served.connect()
    text = served.client.get("/metrics").text
    rows = logged(served)
    for version, arm in (("1", Arm.CHAMPION), ("2", Arm.CANARY)):
        n = rows.filter((pl.col("version") == version) & (pl.col("arm") == arm)).height
        labels = {"model": "m", "version": version, "arm": str(arm)}
        assert metric(text, "model_predictions_total", **labels) == n > 0
        assert metric(text, "model_prediction_duration_seconds_count", **labels) == n
    assert metric(text, "model_predictions_total") == 80
    assert metric(text, "model_prediction_errors_total", model="m", version="") == 40
    assert rows.height == 120
    assert metric(text, "model_drift_score") == 0.25


def test_a_port_in_use_and_a_home_in_use_are_told(served: Plane, tmp_path: Path) -> None:
    served.start()
    assert served.server is not None
    about = json.loads(served.layout.server.read_text())
    assert about == {
        "host": "127.0.0.1",
        "port": served.server.port,
        "grpc_port": None,
        "tls": False,
        "pid": os.getpid(),
    }
    with pytest.raises(Unavailable, match="cannot listen on 127"):
        Supervisor(tmp_path / "other", ServingSpec(), port=served.server.port).start()
    with pytest.raises(Unavailable, match="served already"):
        Supervisor(served.home, ServingSpec(), port=0).start()
    assert served.client.get("/v2/health/live").status_code == 200
    served.server.stop()
    assert not served.layout.server.exists()


def test_a_worker_ends_when_its_supervisor_is_gone(served: Plane, tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path;"
        "from homeostat.serving.supervisor import Supervisor;"
        "from homeostat.serving.spec import ServingSpec;"
        f"s = Supervisor(Path({str(served.home)!r}), ServingSpec(), port=0); s.start();"
        "print(s.port, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline()
    assert served.plane.observed("m").workers == 1
    process.kill()
    process.wait()
    process.stdout.close()
    wait_for(lambda: served.plane.observed("m").workers == 0, "the end of the worker")
