"""What is slow or large holds up nobody else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import polars as pl
import pytest

from homeostat.core.route import Route, Servable
from homeostat.serving.counters import total
from homeostat.testing.models import tiny_servable

from .conftest import Plane, wait_for

pytestmark = pytest.mark.slow


def heavy(plane: Plane, version: str, name: str = "m", **how: Any) -> Servable:
    """A network that takes about a millisecond a row."""
    folder = plane.home / "models" / f"{name}-{version}"
    given: dict[str, Any] = {"hidden": (1500, 1500), "weights": [0.001] * 1500, "rows": 10}
    return tiny_servable(folder, inputs=("a", "b"), name=name, version=version, **{**given, **how})


def times(plane: Plane, n: int) -> None:
    """n requests to `m`, one after the other."""
    for _ in range(n):
        plane.predict([1.0, 2.0]).raise_for_status()


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
        wait_for(lambda: statuses, "the first answer")
        yield statuses
    finally:
        stop.set()
        thread.join()


def counted(plane: Plane, version: str, arm: str) -> float:
    """How many predictions of a version in an arm the counters know of."""
    values = total(plane.layout.metrics).series.get(("m", version, arm))
    return values[0] if values else 0.0


def test_answers_wait_for_no_slow_or_failing_challenger(served: Plane) -> None:
    champion = served.model("1")
    served.publish(champion)
    served.start()
    slow, failing = heavy(served, "2"), served.model("3", weights=(float("nan"), 0.0))
    served.publish(champion, canary=slow, paired=1.0)
    for _ in range(10):
        served.predict(*[[1.0, 2.0]] * 200).raise_for_status()
    # were the answers waiting for the shadow, it would be one of them behind at the most
    assert counted(served, "2", "shadow") < counted(served, "1", "champion") - 400
    wait_for(lambda: counted(served, "2", "shadow") == 2000, "the slow shadow")
    served.publish(champion, canary=failing, paired=1.0)
    times(served, 100)
    scored = pl.col("version").is_in(["2", "3"])
    wait_for(lambda: served.logged().filter(scored).height == 2100, "the shadows")
    shadows = served.logged().filter(scored)
    assert shadows["arm"].unique().to_list() == ["shadow"]
    assert shadows.filter(pl.col("version") == "3")["error"].null_count() == 0
    assert shadows.filter(pl.col("version") == "2")["error"].null_count() == 2000


def test_what_the_shadow_cannot_keep_up_with_is_counted_to_the_row(served: Plane) -> None:
    champion = served.model("1")
    served.publish(champion, canary=heavy(served, "2"), paired=1.0)
    served.start()
    for _ in range(12):
        served.predict(*[[1.0, 2.0]] * 2500).raise_for_status()
    shadow = (pl.col("arm") == "shadow") & (pl.col("version") == "2")

    def settled() -> bool:
        skipped = total(served.layout.metrics).globals["shadow_skipped"]
        return served.logged().filter(shadow).height + skipped == 30_000

    wait_for(settled, "every row to be scored or counted", 90)
    assert total(served.layout.metrics).globals["shadow_skipped"] > 0


@pytest.mark.parametrize("rows", [200, 1000])
def test_requests_pass_large_and_slow_ones_of_another_model_by(served: Plane, rows: int) -> None:
    served.publish(served.model("1"))
    served.plane.publish(Route("slow", 1, heavy(served, "1", name="slow")))
    served.start()
    wait_for(lambda: served.plane.observed("slow").generation == 1, "the slow model")
    body = {"instances": [[0.5, 1.5]] * rows}
    with asking(served.url, "/v1/models/slow:predict", body) as statuses:
        before, passed = len(statuses), 0
        while len(statuses) < before + 10:
            times(served, 1)
            passed += 1
    assert set(statuses) == {200}
    # one at a time would be at most one for each of the ten
    assert passed > 20
