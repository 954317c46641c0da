"""Notices in a real Alertmanager: seen, grouped, silenced, renewed, ended; and it may be down."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest

from homeostat.backends.local import notify
from homeostat.backends.prometheus import files
from homeostat.control.tick import Controller
from homeostat.core.errors import Unavailable
from homeostat.core.ports import RESOLVED, Notice
from homeostat.testing.contracts.notifier import NOTICE, NotifierContract
from homeostat.testing.prometheus import alertmanager, tool
from homeostat.testing.services import NotInstalled
from homeostat.testing.simulate.models import GOOD, Skill
from homeostat.testing.simulate.world import World

pytestmark = pytest.mark.slow


def eventually(condition: Callable[[], Any], what: str, within: float = 20.0) -> Any:
    deadline = time.monotonic() + within
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen within {within:g} s"
        time.sleep(0.05)
    return value


@pytest.fixture(scope="module")
def running() -> Iterator[str]:
    """An Alertmanager with the configuration that `homeostat export prometheus` writes."""
    try:
        with alertmanager(files(World(0).project)["alertmanager.yml"]) as url:
            yield url
    except NotInstalled as missing:
        pytest.skip(str(missing))


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    """Each test has a model of its own: Alertmanager keeps what it was told."""
    return str(request.node.name)


def seen(url: str, model: str, **which: str) -> list[dict[str, Any]]:
    """The alerts of a model that are not over."""
    parameters = {"filter": f'model="{model}"', **which}
    return list(httpx.get(f"{url}/api/v2/alerts", params=parameters).raise_for_status().json())


def about(model: str, **changed: Any) -> Notice:
    return msgspec.structs.replace(NOTICE, model=model, **changed)


def over(notice: Notice) -> Notice:
    return msgspec.structs.replace(
        notice, key=notice.key + RESOLVED, title="over", severity="info", was=notice.severity
    )


class TestAlertmanager(NotifierContract):
    @pytest.fixture
    def notifier(self, running: str) -> Any:
        return notify.notifier(["alertmanager"], running)

    @pytest.fixture
    def told(self, running: str) -> Iterator[Callable[[], list[str]]]:
        yield lambda: [a["annotations"]["summary"] for a in seen(running, NOTICE.model)]
        notify.notifier(["alertmanager"], running).send(over(NOTICE))

    @pytest.fixture
    def outage(self, notifier: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
        return lambda: monkeypatch.setattr(notifier._targets[0], "_url", "http://127.0.0.1:1/")

    def test_a_notice_may_be_repeated(self, notifier: Any, told: Callable[[], list[str]]) -> None:
        """It is one alert: that is what the labels are for."""
        notifier.send(NOTICE)
        notifier.send(NOTICE)
        assert told() == ["harm"]


def test_an_alert_is_seen_with_its_labels_and_ends_with_its_end(running: str, model: str) -> None:
    target = notify.notifier([f"alertmanager+{running}"])
    target.send(about(model))
    (alert,) = seen(running, model)
    assert alert["labels"] == {
        "alertname": "HomeostatQuality",
        "model": model,
        "severity": "critical",
        "kind": "quality",
        "incident": "quality@x",
    }
    assert alert["annotations"]["description"] == NOTICE.text
    assert datetime.fromisoformat(alert["startsAt"]) == NOTICE.since
    assert datetime.fromisoformat(alert["endsAt"]) > datetime.now(UTC) + timedelta(hours=1)
    notify.notifier([f"alertmanager+{running}"]).send(over(about(model)))  # another process
    assert seen(running, model) == []


def test_alerts_of_one_cause_are_one_group(running: str, model: str) -> None:
    target = notify.notifier(["alertmanager"], running)
    target.send(about(model))
    target.send(about(model, key="quality@y"))
    data = about(model, key="data@x", severity="warning", incident="quality@x")
    target.send(data)
    groups = httpx.get(f"{running}/api/v2/alerts/groups").json()
    sizes = {
        g["labels"]["kind"]: len(g["alerts"]) for g in groups if g["labels"].get("model") == model
    }
    assert sizes == {"quality": 2, "data": 1}
    incidents = [a["labels"]["incident"] for a in seen(running, model)]
    assert sorted(incidents) == ["quality@x", "quality@x", "quality@y"]


def test_a_silence_holds_over_renewals(running: str, model: str) -> None:
    target = notify.notifier(["alertmanager"], running)
    target.send(about(model))
    silence = tool(
        "amtool", "--alertmanager.url", running, "silence", "add", f"model={model}",
        "--author", "anna", "--comment", "known", "--duration", "1h",
    )  # fmt: skip
    assert silence.returncode == 0, silence.stderr
    eventually(lambda: not seen(running, model, silenced="false"), "the silence")
    target.renew([about(model)])
    assert seen(running, model, silenced="false") == []
    assert [a["status"]["state"] for a in seen(running, model)] == ["suppressed"]


def test_what_prometheus_says_of_the_same_cause_is_inhibited(running: str, model: str) -> None:
    notify.notifier(["alertmanager"], running).send(about(model))
    labels = {"alertname": "HomeostatModelFails", "model": model, "kind": "quality"}
    other = labels | {"alertname": "HomeostatLoopDown", "kind": "loop"}
    httpx.post(f"{running}/api/v2/alerts", json=[{"labels": labels}, {"labels": other}])

    def states() -> dict[str, str]:
        return {a["labels"]["alertname"]: a["status"]["state"] for a in seen(running, model)}

    wanted = {"HomeostatModelFails": "suppressed", "HomeostatLoopDown": "active"}
    eventually(lambda: wanted.items() <= states().items(), "the inhibition")


class Hands:
    """A clock in a test's hands."""

    def __init__(self) -> None:
        self.at = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.at


def test_an_open_alert_is_renewed_each_minute_and_comes_back_after_a_restart(model: str) -> None:
    hands = Hands()
    config = files(World(0).project)["alertmanager.yml"]
    try:
        with alertmanager(config) as url:
            target = notify.Alertmanager(url, hands)
            target.send(about(model))
            first = seen(url, model)
        with alertmanager(config) as url:  # it kept alerts in memory only
            assert seen(url, model) == []
            target._url = f"{url}/api/v2/alerts"
            target.renew([about(model)])
            (again,) = seen(url, model)
            assert again["fingerprint"] == first[0]["fingerprint"]
            hands.at += timedelta(seconds=30)
            target.renew([about(model)])
            assert seen(url, model)[0]["endsAt"] == again["endsAt"]  # not every second
            hands.at += timedelta(seconds=31)
            target.renew([about(model)])
            assert seen(url, model)[0]["endsAt"] > again["endsAt"]
    except NotInstalled as missing:
        pytest.skip(str(missing))


def test_an_escalation_ends_the_milder_alert(running: str, model: str) -> None:
    target = notify.notifier(["alertmanager"], running)
    target.send(about(model, severity="warning"))
    # by another process, which cannot know what it was before
    target = notify.notifier(["alertmanager"], running)
    target.send(about(model, severity="critical"))
    assert [a["labels"]["severity"] for a in seen(running, model)] == ["critical"]
    target.send(over(about(model, severity="critical")))
    assert seen(running, model) == []


def test_an_alert_that_began_in_a_faster_clock_s_future_is_taken(running: str, model: str) -> None:
    target = notify.notifier(["alertmanager"], running)
    later = about(model, since=datetime.now(UTC) + timedelta(days=300))
    target.send(later)
    assert len(seen(running, model)) == 1
    target.send(over(later))
    assert seen(running, model) == []


def test_the_loop_loses_nothing_while_alertmanager_is_down_and_tells_it_once(
    running: str,
) -> None:
    world = World(30)
    everywhere = notify.Everybody([notify.Alertmanager("http://127.0.0.1:1"), world.mailbox])
    controller = Controller(dataclasses.replace(world.platform, notifier=everywhere))
    world.install(Skill(0, GOOD, broken=0.3))
    problems: list[str] = []
    for step in range(30):
        if step == 20:
            (target, _) = everywhere._targets
            target._url = f"{running}/api/v2/alerts"  # type: ignore[attr-defined]
        world.traffic()
        world.deliver_labels()
        problems += controller.tick().problems
        world.pass_time()
    assert any("cannot reach http://127.0.0.1" in p for p in problems)
    assert [n.key.partition("@")[0] for n in world.mailbox.notices] == ["data"]
    (alert,) = seen(running, "simulated")
    assert alert["labels"]["kind"] == "data"
    assert controller.state().monitor.notices == ()


def test_a_target_that_never_answers_is_unavailable_in_one_line() -> None:
    with pytest.raises(Unavailable, match=r"cannot reach http://127\.0\.0\.1"):
        notify.notifier(["alertmanager+http://127.0.0.1:1"]).send(NOTICE)
