"""Many models on one server, and what happens when they do not all fit."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.core.errors import NotFound
from homeostat.core.route import Challenger, Route, Servable
from homeostat.core.servable import Field, Manifest
from homeostat.serving import repository
from homeostat.serving.layout import Layout
from homeostat.serving.residents import Usage, surplus
from homeostat.serving.routes import RETRY, Routes
from homeostat.testing.models import tiny_servable

from .conftest import Plane, wait_for

usages = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=2),
    st.builds(Usage, memory=st.integers(0, 100), used=st.floats(0, 100)),
    max_size=8,
)


@given(usage=usages, budget=st.integers(0, 400))
def test_the_least_recently_used_go_and_no_more_than_needed(
    usage: dict[str, Usage], budget: int
) -> None:
    gone = surplus(usage, budget)
    stay = usage.keys() - set(gone)
    total = sum(usage[name].memory for name in stay)
    if not budget:
        assert gone == []
    elif len(stay) > 1:
        assert total <= budget
    for name in gone:
        assert all(usage[name].used <= usage[other].used for other in stay)
    if gone:
        assert total + usage[gone[-1]].memory > budget


def servable(home: Path, name: str, version: str = "1", **how: Any) -> Any:
    folder = home / "models" / f"{name}-{version}"
    return tiny_servable(folder, name=name, version=version, weights=(1.0, -2.0), **how)


def publish(layout: Layout, route: Route) -> None:
    layout.route(route.model).write_bytes(msgspec.json.encode(route))


def settle(routes: Routes) -> None:
    def settled() -> bool:
        routes.poll(time.monotonic())
        return routes.settled

    wait_for(settled, "the loads")


def test_a_model_that_had_to_go_comes_back_when_it_is_asked_for(tmp_path: Path) -> None:
    layout = Layout(tmp_path).make()
    for name in ("a", "b", "c"):
        publish(layout, Route(name, 1, servable(tmp_path, name)))
    routes = Routes(layout, lambda: None, budget=1)  # nothing fits beside another
    settle(routes)
    (left,) = routes.models
    assert set(routes.parked) == {"a", "b", "c"} - {left}
    assert routes.generations == {"a": 1, "b": 1, "c": 1}
    wanted = min(routes.parked)
    assert routes.find(wanted) is None
    settle(routes)
    assert routes.find(wanted) is not None
    assert set(routes.models) == {wanted}
    states = {e.name: (e.state, e.memory > 0) for e in routes.index()}
    assert states.pop(wanted) == ("READY", True)
    assert set(states.values()) == {("UNAVAILABLE", False)}
    routes.close()


def test_what_somebody_unloaded_stays_away_until_it_is_loaded(tmp_path: Path) -> None:
    layout = Layout(tmp_path).make()
    first, second = (servable(tmp_path, "m", v) for v in ("1", "2"))
    publish(layout, Route("m", 1, first))
    routes = Routes(layout, lambda: None)
    settle(routes)
    with pytest.raises(NotFound, match="no model 'other'; expected one of: m"):
        routes.unload("other")
    routes.unload("m")
    settle(routes)
    assert routes.models == {}
    assert routes.is_unloaded("m")
    assert routes.find("m") is None
    publish(layout, Route("m", 2, second))  # the loop goes on, and nothing is loaded
    settle(routes)
    assert routes.generations == {"m": 2}
    assert routes.models == {}
    assert [(e.version, e.state, e.reason) for e in routes.index()] == [
        ("2", "UNAVAILABLE", "unloaded")
    ]
    routes.load("m")
    settle(routes)
    assert [(e.version, e.state) for e in routes.index()] == [("2", "READY")]
    routes.close()


def test_a_model_unloaded_while_it_is_being_loaded_stays_away(tmp_path: Path) -> None:
    layout = Layout(tmp_path).make()
    publish(layout, Route("m", 1, servable(tmp_path, "m")))
    routes = Routes(layout, lambda: None)
    routes.poll(time.monotonic())  # starts to load
    routes.unload("m")
    settle(routes)
    assert routes.models == {}
    assert routes.is_unloaded("m")
    assert routes.generations == {"m": 1}
    routes.close()


def test_who_loads_and_who_unloads_at_once_are_told_who_was_last(tmp_path: Path) -> None:
    layout = Layout(tmp_path).make()
    publish(layout, Route("m", 1, servable(tmp_path, "m")))
    routes = Routes(layout, lambda: None)
    settle(routes)

    async def both(*asked: Callable[[Routes, str], Awaitable[None]]) -> list[Any]:
        done = asyncio.gather(*(ask(routes, "m") for ask in asked), return_exceptions=True)
        await asyncio.sleep(0)  # all have asked, in this order, before anybody looks
        while not done.done():
            routes.poll(time.monotonic())
            await asyncio.sleep(0)
        return list(await done)

    overtaken, loaded = asyncio.run(both(repository.unload, repository.load))
    assert (str(overtaken), loaded) == ("m was loaded again while it was unloaded", None)
    assert routes.find("m") is not None
    assert asyncio.run(both(repository.unload)) == [None]
    overtaken, unloaded = asyncio.run(both(repository.load, repository.unload))
    assert (str(overtaken), unloaded) == ("m was unloaded again while it was loaded", None)
    assert routes.find("m") is None
    routes.close()


def test_a_version_that_fails_does_not_drive_others_out_again_and_again(tmp_path: Path) -> None:
    layout = Layout(tmp_path).make()
    absent = Servable("2", str(tmp_path / "absent"), "sha256:0")
    first = servable(tmp_path, "a")
    publish(layout, Route("a", 1, first, canary=absent))
    routes = Routes(layout, lambda: None, budget=1)
    settle(routes)
    publish(layout, Route("b", 1, servable(tmp_path, "b")))
    settle(routes)
    assert set(routes.models) == {"b"}
    routes.poll(time.monotonic() + 10 * RETRY)
    assert routes.settled  # nothing is loaded that nobody asked for
    routes.find("a")
    settle(routes)
    assert {name: served.route.champion for name, served in routes.models.items()} == {"a": first}
    assert "no manifest" in routes.failures["a"]["2"]
    routes.close()


def _no_text(folder: Path) -> None:
    (folder / "servable.json").write_bytes(b'{"name": "\xff"}')


def _another_shape(folder: Path) -> None:
    manifest = Manifest.read(folder)
    msgspec.structs.replace(manifest, results=(Field(manifest.output, shape=(7,)),)).write(folder)


@pytest.mark.parametrize("spoil", [_no_text, _another_shape])
def test_a_version_that_cannot_be_loaded_is_a_failure_of_its_own(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    layout = Layout(tmp_path).make()
    bad = servable(tmp_path, "bad")
    spoil(Path(bad.path))
    publish(layout, Route("bad", 1, bad))
    publish(layout, Route("good", 1, servable(tmp_path, "good")))
    routes = Routes(layout, lambda: None)
    settle(routes)
    assert set(routes.models) == {"good"}
    assert bad.path in routes.failures["bad"]["1"]
    routes.close()


def test_without_a_file_handle_left_what_is_served_stays(tmp_path: Path) -> None:
    layout = Layout(tmp_path).make()
    publish(layout, Route("m", 1, servable(tmp_path, "m")))
    routes = Routes(layout, lambda: None)
    settle(routes)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    publish(layout, Route("m", 2, servable(tmp_path, "m", "2")))
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        routes.poll(time.monotonic())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert set(routes.models) == {"m"}
    settle(routes)
    assert routes.generations == {"m": 2}
    routes.close()


def test_a_route_that_could_not_be_read_once_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = Layout(tmp_path).make()
    publish(layout, Route("m", 1, servable(tmp_path, "m")))
    routes = Routes(layout, lambda: None)

    def fail(path: Path) -> bytes:
        raise OSError(errno.EIO, "Input/output error", str(path))

    with monkeypatch.context() as broken:
        broken.setattr(Path, "read_bytes", fail)
        routes.poll(time.monotonic())
    assert "Input/output error" in routes.failures["m"]["route"]
    settle(routes)
    assert routes.generations == {"m": 1}
    assert routes.failures == {}
    routes.close()


@pytest.mark.slow
def test_a_dozen_models_with_several_versions_each_answer_side_by_side(served: Plane) -> None:
    for k in range(12):
        name = f"m{k}"
        first, *others = (servable(served.home, name, str(v), bias=float(k)) for v in range(1, 4))
        dark = [Challenger(other) for other in others]
        served.plane.publish(Route.split(name, 1, first, dark))
    served.start(workers=2)
    scores = set()
    for k in range(12):
        for version in ("1", "2", "3"):
            path = f"/v2/models/m{k}/versions/{version}/infer"
            tensor = {"name": "input", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 0.5]}
            answer = served.client.post(path, json={"inputs": [tensor]}).json()
            assert (answer["model_name"], answer["model_version"]) == (f"m{k}", version)
            scores.add(answer["outputs"][0]["data"][0])
    assert len(scores) == 12
    lines = served.client.get("/metrics").text.splitlines()
    shown = [x for x in lines if x.startswith("homeostat_model_memory_bytes{")]
    assert len(shown) == 36
    assert all(float(x.rsplit(" ", 1)[1]) > 0 for x in shown)


@pytest.mark.slow
def test_over_its_budget_a_server_loads_on_demand_and_holds_up_nobody(served: Plane) -> None:
    for name in ("a", "b"):
        large = servable(served.home, name, hidden=(), rows=10)
        served.plane.publish(Route(name, 1, large))
    big = tiny_servable(
        served.home / "models" / "big", name="big", hidden=(1500, 1500), weights=[0.01] * 1500
    )
    served.plane.publish(Route("big", 1, big))
    served.start(memory=6)  # MB: big has 9
    body = {"instances": [[1.0, 0.5]]}

    def ask(name: str) -> httpx.Response:
        return served.client.post(f"/v1/models/{name}:predict", json=body)

    for name in ("big", "a", "b", "big", "a"):
        first = ask(name)
        assert first.status_code in (200, 503)
        if first.status_code == 503:
            assert first.headers["retry-after"]
        wait_for(lambda name=name: ask(name).status_code == 200, f"{name} to be loaded")
    assert ask("a").status_code == 200
