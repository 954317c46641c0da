"""The laws of DataPlane. Subclass with the fixtures `plane` and `servable`, and name the class
Test..."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from homeostat.core.ports import DataPlane, Gauge, PredictionLog
from homeostat.core.route import Challenger, Route, Servable

ALL_TIME = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
PATIENCE = 10.0
"""Seconds of real time within which workers must have applied a route."""


class DataPlaneContract:
    """Every DataPlane passes this. The plane must have at least one worker. ask: sends one request
    to a model; log: where the plane records it."""

    @pytest.fixture
    def plane(self) -> DataPlane:
        raise NotImplementedError("a subclass gives the plane")

    @pytest.fixture
    def servable(self) -> Callable[[str], Servable]:
        raise NotImplementedError("a subclass gives: version -> a servable that can be loaded")

    @pytest.fixture
    def ask(self, plane: DataPlane) -> Callable[[str], None]:
        raise NotImplementedError("a subclass gives: model -> sends it a request")

    @pytest.fixture
    def log(self, plane: DataPlane) -> PredictionLog:
        raise NotImplementedError("a subclass gives the log that the plane writes")

    def settle(self, plane: DataPlane, model: str, generation: int) -> None:
        """Wait until every worker applies `generation`."""
        deadline = time.monotonic() + PATIENCE
        while plane.observed(model).generation != generation:
            assert time.monotonic() < deadline, f"still {plane.observed(model)}"
            time.sleep(0.005)

    def test_nothing_is_applied_before_something_is_published(self, plane: DataPlane) -> None:
        seen = plane.observed("m")
        assert seen.generation == -1
        assert seen.workers >= 1
        assert seen.failures == {}

    def test_a_published_route_is_applied(
        self, plane: DataPlane, servable: Callable[[str], Servable]
    ) -> None:
        plane.publish(Route("m", 3, servable("1")))
        self.settle(plane, "m", 3)

    def test_publishing_again_changes_nothing(
        self, plane: DataPlane, servable: Callable[[str], Servable]
    ) -> None:
        route = Route("m", 1, servable("1"))
        for _ in range(3):
            plane.publish(route)
        self.settle(plane, "m", 1)

    def test_a_newer_route_takes_over(
        self, plane: DataPlane, servable: Callable[[str], Servable]
    ) -> None:
        plane.publish(Route("m", 1, servable("1")))
        plane.publish(Route("m", 2, servable("1"), servable("2"), percent=10.0, paired=0.5))
        self.settle(plane, "m", 2)
        plane.publish(Route("m", 3, servable("2")))
        self.settle(plane, "m", 3)

    def test_several_challengers_are_applied_together(
        self, plane: DataPlane, servable: Callable[[str], Servable]
    ) -> None:
        shares = [Challenger(servable("2"), 20.0, 0.5), Challenger(servable("3"), 0.0, 1.0, 50.0)]
        plane.publish(Route.split("m", 1, servable("1"), shares))
        self.settle(plane, "m", 1)
        plane.publish(Route.split("m", 2, servable("1"), shares[1:]))
        self.settle(plane, "m", 2)

    def test_an_older_route_is_ignored(
        self, plane: DataPlane, servable: Callable[[str], Servable]
    ) -> None:
        plane.publish(Route("m", 5, servable("1")))
        self.settle(plane, "m", 5)
        plane.publish(Route("m", 4, servable("2")))
        plane.publish(Route("other", 1, servable("1")))
        self.settle(plane, "other", 1)  # by now the older one would have been applied
        assert plane.observed("m").generation == 5

    def test_models_do_not_disturb_each_other(
        self, plane: DataPlane, servable: Callable[[str], Servable]
    ) -> None:
        plane.publish(Route("m", 7, servable("1")))
        plane.publish(Route("other", 2, None))
        self.settle(plane, "m", 7)
        self.settle(plane, "other", 2)

    def test_a_request_that_no_version_can_answer_is_recorded_for_none(
        self, plane: DataPlane, ask: Callable[[str], None], log: PredictionLog
    ) -> None:
        plane.publish(Route("m", 1, None))
        self.settle(plane, "m", 1)
        ask("m")
        (row,) = log.read("m", *ALL_TIME).to_dicts()
        assert (row["version"], row["arm"], row["probability"]) == ("", "", 0.0)
        assert (row["features"], row["score"]) == ([], None)
        assert row["error"]

    def test_gauges_can_be_shown_again_and_again(self, plane: DataPlane) -> None:
        gauge = Gauge("model_drift_score", 0.25, {"model": "m", "feature": 'odd "name"\n'})
        for _ in range(2):
            plane.show([gauge, Gauge("model_drift_alert_total", 3.0, kind="counter")])
        plane.show([])
