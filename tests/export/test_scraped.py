"""A real Prometheus scrapes a real data plane that shows what a real loop found, and every
expression of the rules and the dashboards has data there.

The loop runs first, in the simulator's time; what it showed on each turn is then shown again by
the data plane, one turn per scrape.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest
import yaml

from homeostat.backends import grafana
from homeostat.backends import prometheus as rules
from homeostat.backends.local.plane import LocalDataPlane
from homeostat.control.gauges import HELP
from homeostat.control.record import record
from homeostat.control.tick import Controller
from homeostat.core.duration import Duration
from homeostat.core.ports import Gauge
from homeostat.core.route import Route
from homeostat.definition import Project
from homeostat.monitoring.calibration.certificate import Calibrated, Rate
from homeostat.monitoring.model import Silenced
from homeostat.serving.spec import ServingSpec
from homeostat.serving.supervisor import Supervisor
from homeostat.testing.models import tiny_servable
from homeostat.testing.prometheus import Prometheus, alertmanager, prometheus, tool
from homeostat.testing.services import NotInstalled
from homeostat.testing.simulate.models import GOOD, Skill
from homeostat.testing.simulate.world import MODEL, World

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

EVERY = Duration.parse("500ms")
BEAT = "homeostat_loop_last_tick_timestamp_seconds"
CERTIFICATE = Calibrated(
    "1", "log", None, None, 60, 1.0, (Rate("drift", 1, 2.0, 0.5, 0.1, 1.2, 0.001),)
)
SILENCE = Silenced("traffic", datetime(2026, 2, 1, tzinfo=UTC), "known", "anna")
PLANE = {
    "model_predictions_total",
    "model_prediction_errors_total",
    "model_prediction_duration_seconds_bucket",
    "homeostat_log_dropped_total",
}


class Watched(NamedTuple):
    """prometheus: has scraped for `seconds`. alerts: the URL of the Alertmanager. text: what
    /metrics said at last."""

    project: Project
    prometheus: Prometheus
    alerts: str
    seconds: float
    text: str


def eventually(condition: Callable[[], Any], what: str, within: float = 30.0) -> Any:
    deadline = time.monotonic() + within
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen within {within:g} s"
        time.sleep(0.05)
    return value


def world_of_trouble() -> tuple[Project, list[list[Gauge]]]:
    """A model that fails some requests; the world changes, it is retrained and replaced.
    -> what was shown on the turns on which something other than a time has changed."""
    worlds = (World(seed) for seed in itertools.count())
    world = next(w for w in worlds if _plain(w.project))
    project = _with_all(world.project)
    controller = Controller(dataclasses.replace(world.platform, project=project))
    world.install(Skill(0, GOOD, broken=0.1))
    shown: list[list[Gauge]] = []
    for step in itertools.count():
        if step == 12:
            world.change()
            record(world.platform, [CERTIFICATE, SILENCE])
        world.traffic()
        world.deliver_labels()
        controller.tick()
        world.look()
        world.pass_time()
        if not shown or _figures(world.plane.gauges) != _figures(shown[-1]):
            shown.append(list(world.plane.gauges))
        if ("promoted" in (how for _, _, how in world.observer.ended)) and step % 6 == 0:
            return project, shown
        assert step < 100, world.history
    raise AssertionError("unreachable")


def _plain(project: Project) -> bool:
    """Nobody has to approve, and all steps are taken."""
    plan = project.rollout
    plain = not plan.approve and plan.shadow is None and plan.no_data == "hold"
    return plain and plan.guards.error_rate is not None and len(plan.steps) == 5


def _with_all(project: Project) -> Project:
    monitoring = project.monitoring
    assert monitoring.quality is not None
    quality = msgspec.structs.replace(monitoring.quality, estimate=True)
    drift = msgspec.structs.replace(monitoring.drift, joint=True)
    return msgspec.structs.replace(
        project, monitoring=msgspec.structs.replace(monitoring, quality=quality, drift=drift)
    )


def _figures(gauges: list[Gauge]) -> list[Gauge]:
    return [g for g in gauges if g.name != BEAT]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    project, shown = world_of_trouble()
    folder = tmp_path_factory.mktemp("watched")
    plane = LocalDataPlane(folder / "home")
    versions = [tiny_servable(folder / v, inputs=("a", "b"), version=v) for v in ("1", "2")]
    plane.publish(Route(MODEL, 1, versions[0], canary=versions[1], percent=50, paired=1.0))
    with ExitStack() as stack:
        server = Supervisor(folder / "home", ServingSpec(), port=0, workers=1)
        server.start()
        stack.callback(server.stop)
        client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{server.port}"))
        try:
            made = rules.files(project)
            url = stack.enter_context(alertmanager(made["alertmanager.yml"]))
            made = rules.files(
                project,
                target=f"127.0.0.1:{server.port}",
                alertmanager=url.removeprefix("http://"),
                every=EVERY,
            )
            for name, text in made.items():
                (folder / name).write_text(text)
            running = stack.enter_context(prometheus(folder / "prometheus.yml"))
        except NotInstalled as missing:
            pytest.skip(str(missing))
        began = time.monotonic()
        for gauges in shown:
            _turn(client, plane, gauges, running)
        seconds = time.monotonic() - began + 5
        yield Watched(project, running, url, seconds, client.get("/metrics").text)


def _turn(
    client: httpx.Client, plane: LocalDataPlane, gauges: list[Gauge], running: Prometheus
) -> None:
    """Some requests, one of them bad; then wait until all of it was scraped."""
    plane.show(gauges)
    for i in range(20):
        client.post(f"/v1/models/{MODEL}:predict", json={"instances": [[i, 1]]})
    client.post(f"/v1/models/{MODEL}:predict", json={"instances": [[1]]})
    beat = next(g.value for g in gauges if g.name == BEAT)
    eventually(lambda: [v for _, v in running.query(BEAT)] == [beat], "a scrape")


def test_promtool_finds_nothing_wrong_with_what_is_shown(watched: Watched) -> None:
    done = tool("promtool", "check", "metrics", given=watched.text)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_name_is_scraped_with_its_type_and_help(watched: Watched) -> None:
    names = set(watched.prometheus.get("label/__name__/values"))
    assert set(HELP) <= names
    metadata = watched.prometheus.get("metadata")
    for name, text in HELP.items():
        kind = "counter" if name.endswith("_total") else "gauge"
        if f"# HELP {name} " in watched.text:  # only what was shown last is in the metadata
            assert metadata[name] == [{"type": kind, "help": text, "unit": ""}]


def expressions(project: Project) -> list[tuple[str, str]]:
    """Titles of panels and what they ask."""
    found = []
    for name, text in grafana.files(project).items():
        if name.endswith(".json"):
            for panel in json.loads(text)["panels"]:
                found += [(panel["title"], t["expr"]) for t in panel.get("targets", [])]
    return found


def test_every_expression_of_the_dashboards_has_data(watched: Watched) -> None:
    pytest.importorskip("grafana_foundation_sdk")
    found = expressions(watched.project)
    assert len(found) > 40
    without = []
    for title, expr in found:
        series = watched.prometheus.over_time(
            expr.replace("$__rate_interval", "5s"), watched.seconds
        )
        if not any(math.isfinite(v) for _, values in series for v in values):
            without.append(f"{title}: {expr}")
    assert without == []


def test_the_charts_tell_the_story(watched: Watched) -> None:
    def values(expr: str) -> list[float]:
        series = watched.prometheus.over_time(expr, watched.seconds, step=0.5)
        return [v for _, values in series for v in values]

    of = f'{{model="{MODEL}"}}'
    accuracy = values(f"model_accuracy{of}")
    assert min(accuracy) < 0.75 < max(accuracy)
    assert {10.0, 25.0, 50.0, 75.0, 100.0} <= set(values(f"homeostat_rollout_percent{of}"))
    assert max(values(f'homeostat_alert_open{{kind="quality",model="{MODEL}"}}')) == 1
    assert max(values(f'homeostat_data_fault_share{{fault="errors",model="{MODEL}"}}')) > 0.01
    assert set(values(f'homeostat_rollouts_total{{outcome="promoted",model="{MODEL}"}}')) == {0, 1}
    (ratio,) = [v for _, v in watched.prometheus.query("model:prediction_errors:ratio_rate5m")]
    assert ratio == pytest.approx(1 / 41, abs=0.02)  # each request is answered and shadowed


def test_every_rule_is_evaluated_on_series_that_are_scraped(watched: Watched) -> None:
    groups = watched.prometheus.get("rules")["groups"]
    found = [rule for group in groups for rule in group["rules"]]
    assert [r["name"] for r in found if r["health"] != "ok"] == []
    recorded = {r["name"] for r in found if r["type"] == "recording"}
    shown = set(watched.prometheus.get("label/__name__/values"))
    assert recorded <= shown
    for rule in found:
        named = set(
            re.findall(r"\b(?:homeostat|model)[:_][\w:]+", re.sub(r'"[^"]*"', "", rule["query"]))
        )
        assert named <= set(HELP) | PLANE | recorded, rule["name"]


def test_harm_fires_and_a_loop_that_stands_still_is_told_to_alertmanager(watched: Watched) -> None:
    firing = f'ALERTS{{alertname="HomeostatModelFails",alertstate="firing",model="{MODEL}"}}'
    ((labels, _), *_) = watched.prometheus.over_time(firing, watched.seconds, step=0.5)
    assert (labels["severity"], labels["kind"]) == ("critical", "quality")

    def told() -> list[dict[str, str]]:
        found = httpx.get(f"{watched.alerts}/api/v2/alerts").json()
        return [a["labels"] for a in found if a["labels"]["alertname"] == "HomeostatLoopDown"]

    (down,) = eventually(told, "an alert of the loop")  # the simulator's time is long past
    assert (down["model"], down["severity"]) == (MODEL, "critical")


def test_the_configuration_names_one_place_to_scrape(watched: Watched) -> None:
    (target,) = watched.prometheus.get("targets")["activeTargets"]
    assert (target["health"], target["labels"]["job"]) == ("up", MODEL)
    config = yaml.safe_load(watched.prometheus.get("status/config")["yaml"])
    assert config["global"]["scrape_interval"] == "500ms"
