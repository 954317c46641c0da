from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import pytest

from homeostat.backends.local.plane import LocalDataPlane
from homeostat.backends.local.prediction_log import DeltaPredictionLog
from homeostat.backends.memory.log import MemoryPredictionLog
from homeostat.backends.memory.plane import MemoryDataPlane
from homeostat.core.errors import BadInput, Damaged
from homeostat.core.ports import DataPlane, PredictionLog
from homeostat.core.route import Challenger, Route, Servable, assign, shadows
from homeostat.serving.spec import ServingSpec
from homeostat.serving.supervisor import Supervisor
from homeostat.testing.contracts.plane import DataPlaneContract
from homeostat.testing.models import tiny_servable


class TestMemoryDataPlane(DataPlaneContract):
    @pytest.fixture
    def log(self) -> PredictionLog:
        return MemoryPredictionLog()

    @pytest.fixture
    def plane(self, log: MemoryPredictionLog) -> DataPlane:
        return MemoryDataPlane(log, lambda version, x, ids: x[:, 0].astype(np.float64))

    @pytest.fixture
    def ask(self, plane: MemoryDataPlane) -> Callable[[str], None]:
        def ask(model: str) -> None:
            plane.serve(model, ["a"], np.ones((1, 2), np.float32), datetime(2026, 1, 1, tzinfo=UTC))

        return ask

    @pytest.fixture
    def servable(self) -> Callable[[str], Servable]:
        return lambda version: Servable(version, "nowhere", "sha256:0")


def test_the_plane_in_memory_splits_and_pairs_as_the_real_one() -> None:
    places = ((2, 20.0, 1.0, 0.0), (3, 0.0, 0.3, 30.0), (4, 25.5, 0.0, 70.0))
    shares = [Challenger(Servable(str(v), "", ""), p, q, at) for v, p, q, at in places]
    route = Route.split("m", 1, Servable("1", "", ""), shares, salt="r1")
    log = MemoryPredictionLog()
    plane = MemoryDataPlane(log, lambda version, x, ids: np.full(len(ids), 0.5))
    plane.publish(route)
    ids, at = [f"id-{i}" for i in range(500)], datetime(2026, 1, 1, tzinfo=UTC)
    plane.serve("m", ids, np.ones((500, 2), np.float32), at)
    rows = log.read("m", at, at + timedelta(seconds=1))
    found = {(r["id"], r["version"], r["arm"], round(r["probability"], 9)) for r in rows.to_dicts()}
    expected = set()
    for id in ids:
        drawn = assign(route, id)
        assert drawn is not None
        expected.add((id, drawn.version, str(drawn.arm), round(drawn.probability, 9)))
        expected |= {(id, s.version, "shadow", 1.0) for s in shadows(route, drawn.version, id)}
    assert found == expected


@pytest.mark.slow
class TestLocalDataPlane(DataPlaneContract):
    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[Supervisor]:
        server = Supervisor(tmp_path, ServingSpec(), port=0, workers=2)
        server.start()
        yield server
        server.stop()

    @pytest.fixture
    def plane(self, tmp_path: Path, server: Supervisor) -> DataPlane:
        return LocalDataPlane(tmp_path)

    @pytest.fixture
    def log(self, tmp_path: Path) -> PredictionLog:
        return DeltaPredictionLog(tmp_path)

    @pytest.fixture
    def ask(self, server: Supervisor) -> Callable[[str], None]:
        def ask(model: str) -> None:
            url = f"http://127.0.0.1:{server.port}/v1/models/{model}:predict"
            assert httpx.post(url, json={"instances": [[1.0, 2.0]]}).status_code == 503

        return ask

    @pytest.fixture
    def servable(self, tmp_path: Path) -> Callable[[str], Servable]:
        return lambda version: tiny_servable(tmp_path / f"v{version}", version=version)


def test_without_a_worker_nothing_is_observed(tmp_path: Path) -> None:
    seen = LocalDataPlane(tmp_path).observed("m")
    assert (seen.generation, seen.workers) == (-1, 0)


def test_the_published_route_can_be_read_back(tmp_path: Path) -> None:
    plane = LocalDataPlane(tmp_path)
    assert plane.published("m") is None
    route = Route("m", 2, Servable("1", "there", "sha256:1"), sticky="customer")
    plane.publish(route)
    plane.publish(Route("m", 1, None))
    assert plane.published("m") == route


@pytest.mark.parametrize("name", ["", "../m", "a/b", ".hidden", "a b", "m\n"])
def test_a_name_that_cannot_be_in_a_url_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="unusable model name"):
        LocalDataPlane(tmp_path).publish(Route(name, 1, None))


def test_a_damaged_route_is_told_and_not_overwritten(tmp_path: Path) -> None:
    plane = LocalDataPlane(tmp_path)
    path = tmp_path / "serving" / "routes" / "m.json"
    path.write_text("{ not json")
    with pytest.raises(Damaged, match=r"m\.json"):
        plane.publish(Route("m", 1, None))
    with pytest.raises(Damaged):
        plane.published("m")
