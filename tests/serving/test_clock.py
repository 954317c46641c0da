"""What the data plane's clock says of labels and predictions."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from homeostat.core.clock import ScaledClock
from homeostat.serving.keeper import Keeper

from .conftest import Ledger, Plane

pytestmark = pytest.mark.slow


def test_labels_reach_the_ledger_through_a_live_segment(served: Plane) -> None:
    served.publish(served.model("1"))
    start = datetime(2026, 1, 1, tzinfo=UTC)
    clock = ScaledClock(time.time_ns, start=start, rate=3600)
    served.start(clock=str(clock))
    into: list[Any] = []
    keeper = Keeper(served.home, served.log, Ledger(into))
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
    row = served.logged().row(0, named=True)
    assert before - timedelta(microseconds=1) <= row["time"] <= clock.now()
    assert row["latency"] < 5
