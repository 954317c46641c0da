"""The dashboards: equal projects are equal files, in the shape that Grafana reads."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from homeostat.backends.grafana import files
from homeostat.core.errors import BadInput
from homeostat.definition import Project

Declare = Callable[..., Project]


@pytest.fixture
def dashboards(declared: Declare) -> list[dict[str, Any]]:
    pytest.importorskip("grafana_foundation_sdk")
    made = files(declared())
    return [json.loads(text) for name, text in made.items() if name.endswith(".json")]


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [p for p in dashboard["panels"] if p["type"] != "row"]


def test_the_files_are_those_that_were_looked_at(declared: Declare, golden: Any) -> None:
    pytest.importorskip("grafana_foundation_sdk")
    golden("grafana", files(declared()))
    assert files(declared()) == files(declared())


def test_every_dashboard_and_panel_has_an_id_of_its_own(dashboards: list[dict[str, Any]]) -> None:
    uids = [d["uid"] for d in dashboards]
    assert uids == [f"homeostat-fraud-detector-{n}" for n in ("model", "rollout", "loop")]
    for dashboard in dashboards:
        assert len(dashboard["uid"]) <= 40
        assert "id" not in dashboard or dashboard["id"] is None
        ids = [p["id"] for p in dashboard["panels"]]
        assert ids == list(range(1, len(ids) + 1))


def test_panels_fill_the_grid_without_overlap(dashboards: list[dict[str, Any]]) -> None:
    for dashboard in dashboards:
        cells: Counter[tuple[int, int]] = Counter()
        for panel in dashboard["panels"]:
            at = panel["gridPos"]
            assert at["x"] + at["w"] <= 24
            cells.update(
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            )
        assert max(cells.values()) == 1
        assert len(cells) == 24 * (max(y for _, y in cells) + 1)


def test_every_panel_tells_what_it_shows_and_asks_the_chosen_prometheus(
    dashboards: list[dict[str, Any]],
) -> None:
    for dashboard in dashboards:
        (variable,) = dashboard["templating"]["list"]
        assert (variable["type"], variable["name"]) == ("datasource", "datasource")
        assert variable["query"] == "prometheus"
        assert dashboard["schemaVersion"] >= 36
        for panel in panels(dashboard):
            assert panel["title"]
            assert panel["description"]
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert [t["refId"] for t in panel["targets"]] == list("ABCD")[: len(panel["targets"])]
            for target in panel["targets"]:
                assert target["expr"].count("(") == target["expr"].count(")")
                assert 'model="fraud-detector"' in target["expr"]
                assert target["legendFormat"]


def test_the_story_is_on_the_first_dashboard_and_the_rest_on_the_others(
    dashboards: list[dict[str, Any]],
) -> None:
    titles = [{p["title"] for p in panels(d)} for d in dashboards]
    assert titles[0] >= {"Rate", "Error rate", "Latency", "Live accuracy", "Drift score"}
    assert titles[1] >= {"Phase of the last rollout", "Harm by guard", "Share of the candidate"}
    assert titles[2] >= {"Data quality", "Started and refused", "False-alarm budget"}


def test_a_long_name_still_fits(declared: Declare) -> None:
    pytest.importorskip("grafana_foundation_sdk")
    made = files(declared(**{"fraud-detector": "a" * 60}))
    uids = [json.loads(text)["uid"] for name, text in made.items() if name.endswith(".json")]
    assert len(set(uids)) == 3
    assert all(len(uid) <= 40 for uid in uids)


def test_provisioning_names_the_data_source_and_the_folder(declared: Declare) -> None:
    pytest.importorskip("grafana_foundation_sdk")
    made = files(declared(), prometheus="http://prometheus:9090", folder="/dashboards")
    source = yaml.safe_load(made["provisioning/datasources/homeostat.yml"])
    assert source["apiVersion"] == 1
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    provider = yaml.safe_load(made["provisioning/dashboards/homeostat.yml"])
    assert provider["providers"][0]["options"] == {"path": "/dashboards"}


def test_without_the_sdk_one_line_says_how_to_get_it(
    declared: Declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "homeostat.backends.grafana.build", raising=False)
    monkeypatch.setitem(sys.modules, "grafana_foundation_sdk", None)
    monkeypatch.setitem(sys.modules, "grafana_foundation_sdk.builders", None)
    with pytest.raises(BadInput, match=r"pip install 'homeostat\[grafana\]'"):
        files(declared())


def test_how_all_features_lie_together_is_drawn_where_that_is_declared(declared: Declare) -> None:
    pytest.importorskip("grafana_foundation_sdk")
    asked = declared(**{"min_effect: 0.1": "min_effect: 0.1, joint: true"})
    for project, drawn in ((declared(), False), (asked, True)):
        text = files(project)["dashboards/fraud-detector-model.json"]
        assert ("homeostat_joint_drift" in text) is drawn
