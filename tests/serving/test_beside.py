"""What is slow or large holds up nobody else."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import polars as pl
import pytest

from homeostat.core.route import Route, Servable
from homeostat.serving.counters import total
from homeostat.testing.models import tiny_servable

from .conftest import Plane, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.alone]

EVER = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


def heavy(plane: Plane, version: str, name: str = "m", **how: Any) -> Servable:
    """A network that takes about a millisecond a row."""
    folder = plane.home / "models" / f"{name}-{version}"
    given: dict[str, Any] = {"hidden": (1500, 1500), "weights": [0.001] * 1500, "rows": 10}
    return tiny_servable(folder, inputs=("a", "b"), name=name, version=version, **{**given, **how})


SLOW: dict[str, Any] = {"hidden": (3000, 3000), "weights": [0.001] * 3000}
"""Some ten milliseconds a row."""


def milliseconds(plane: Plane, n: int = 150) -> list[float]:
    """How long each of n requests took, one after the other."""
    taken = []
    for _ in range(n):
        started = time.perf_counter()
        plane.predict([1.0, 2.0]).raise_for_status()
        taken.append((time.perf_counter() - started) * 1000)
    return taken


def usual(taken: list[float]) -> float:
    """The lowest fifth's bound: what other processes add to some requests is not in it, and what
    the server adds to each is."""
    return statistics.quantiles(taken, n=5)[0]


@contextmanager
def asking(url: str, path: str, body: dict[str, Any]) -> Iterator[list[int]]:
    """One more client that asks without pause; -> the statuses it gets."""
    stop, statuses = threading.Event(), []

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            while not stop.is_set():
                statuses.append(client.post(path, json=body).status_code)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        wait_for(lambda: statuses, "the first answer", 30)
        yield statuses
    finally:
        stop.set()
        thread.join()


def test_a_slow_or_failing_challenger_does_not_slow_the_champions_answers(served: Plane) -> None:
    champion = served.model("1")
    served.publish(champion)
    served.start()
    slow, failing = heavy(served, "2", **SLOW), served.model("3", weights=(float("nan"), 0.0))
    milliseconds(served, 30)
    alone, beside = [], {slow: [], failing: []}
    for _ in range(3):  # in turns: the machine drifts
        served.publish(champion)
        alone += milliseconds(served, 100)
        for challenger, taken in beside.items():
            served.publish(champion, canary=challenger, paired=1.0)
            taken += milliseconds(served, 100)
    for taken in beside.values():
        assert usual(taken) < 2 * usual(alone)
    scored = pl.col("version").is_in(["2", "3"])
    wait_for(lambda: served.log.read("m", *EVER).filter(scored).height == 600, "the shadows", 30)
    shadows = served.log.read("m", *EVER).filter(scored)
    assert shadows["arm"].unique().to_list() == ["shadow"]
    assert shadows.filter(pl.col("version") == "3")["error"].null_count() == 0
    assert shadows.filter(pl.col("version") == "2")["error"].null_count() == 300


def test_what_the_shadow_cannot_keep_up_with_is_counted_to_the_row(served: Plane) -> None:
    champion = served.model("1")
    served.publish(champion, canary=heavy(served, "2"), paired=1.0)
    served.start()
    for _ in range(12):
        served.predict(*[[1.0, 2.0]] * 2500).raise_for_status()
    shadow = (pl.col("arm") == "shadow") & (pl.col("version") == "2")

    def settled() -> bool:
        skipped = total(served.layout.metrics).globals["shadow_skipped"]
        return served.log.read("m", *EVER).filter(shadow).height + skipped == 30_000

    wait_for(settled, "every row to be scored or counted", 90)
    assert total(served.layout.metrics).globals["shadow_skipped"] > 0


def test_small_requests_pass_a_large_one_by(served: Plane) -> None:
    served.publish(served.model("1"))
    served.start()
    rows = {"instances": [[0.5, 1.5]] * 10_000}
    path = "/v2/models/m/infer"
    tensor = {"name": "input", "shape": [10_000, 2], "datatype": "FP32", "data": [0.5] * 20_000}
    milliseconds(served, 30)
    alone = milliseconds(served)
    with asking(served.url, path, {"inputs": [tensor]}) as statuses:
        beside = milliseconds(served)
    whole = time.perf_counter()
    served.client.post("/v1/models/m:predict", json=rows).raise_for_status()
    whole = (time.perf_counter() - whole) * 1000
    assert set(statuses) == {200}
    assert usual(beside) < usual(alone) + whole / 2


def test_a_slow_model_holds_up_no_other(served: Plane) -> None:
    served.publish(served.model("1"))
    large = heavy(served, "1", name="slow", **SLOW)
    served.plane.publish(Route("slow", 1, large))
    served.start()
    milliseconds(served, 30)
    alone = milliseconds(served)
    one = {"instances": [[0.5, 1.5]]}
    with asking(served.url, "/v1/models/slow:predict", one) as statuses:
        started, before = time.perf_counter(), len(statuses)
        beside = milliseconds(served)
        elapsed, asked = (time.perf_counter() - started) * 1000, len(statuses) - before
    assert set(statuses) == {200}
    slow = elapsed / max(1, asked)
    assert usual(beside) < usual(alone) + slow / 2
