"""Which version answers, which scores beside it, and what the log says of that."""

from __future__ import annotations

import time
from typing import Any

import polars as pl
import pytest

from homeostat.core.route import BUCKETS, PAIRING_SALT, Challenger, Route, assign, bucket
from homeostat.serving.records import EXPLORE_SALT

from .conftest import Plane, sigmoid, v2, wait_for

pytestmark = pytest.mark.slow


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
    rows = served.logged()
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
    assert served.logged().select("version", "arm", "probability").rows() == [("2", "canary", 1.0)]


def test_rows_by_position_for_a_version_by_name_are_what_its_metadata_says(served: Plane) -> None:
    served.start()
    other = served.model("2", inputs=("c", "a", "b"), weights=(1.0, 0.0, -1.0))
    served.publish(served.model("1"), canary=other, percent=0, paired=1.0)
    about = served.client.get("/v2/models/m/versions/2").json()
    assert about["parameters"]["features"] == ["c", "a", "b"]
    (tensor,) = about["inputs"]
    request = {**tensor, "shape": [1, 3], "data": [1.0, 3.0, 0.5]}
    answer = served.client.post("/v2/models/m/versions/2/infer", json={"inputs": [request]}).json()
    assert answer["outputs"][0]["data"] == pytest.approx([sigmoid(0.5)])
    # and so it is for the version that scores beside it
    wait_for(lambda: served.logged().height == 2, "paired scoring")
    (shadow,) = served.logged().filter(pl.col("arm") == "shadow").to_dicts()
    assert (shadow["version"], shadow["features"]) == ("1", [3.0, 0.5])
    assert served.client.post("/v2/models/m/infer", json=v2()).json()["model_version"] == "1"


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
    wait_for(lambda: served.logged().filter(shadow).height >= len(sampled), "paired scoring")
    rows = served.logged()
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
    wait_for(lambda: served.logged().height == 3 * len(ids), "every version's score")
    answered = served.logged().filter(pl.col("arm") != "shadow")
    arms = set(answered.select("version", "arm").rows())
    assert arms == {("1", "champion"), ("3", "canary")}
    assert answered.filter(pl.col("version") == "3")["probability"].unique().to_list() == [0.4]
    scored = served.logged().group_by("id").agg(pl.col("version").sort())
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
        wait_for(lambda at=at: served.logged().filter(at).height, "the shadow's record")
        (row,) = served.logged().filter(at).to_dicts()
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
    rows = served.logged()
    alert = pl.col("score") >= 0.5
    assert rows.filter(alert)["propensity"].unique().to_list() == [0.25]
    assert rows.filter(~alert)["propensity"].unique().to_list() == [1.0]
    body = v2(2, id=min(drawn), data=[3, 0, -3, 0])
    answer = served.client.post("/v2/models/m/infer", json=body).json()
    assert answer["parameters"] == {"explore": True}
