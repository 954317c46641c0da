"""Workers that are killed, drained and orphaned, under load."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from prometheus_client.parser import text_string_to_metric_families

from homeostat.core.duration import Duration
from homeostat.core.errors import Unavailable
from homeostat.core.names import Arm
from homeostat.core.ports import Gauge
from homeostat.serving import supervisor
from homeostat.serving.keeper import Keeper
from homeostat.serving.spec import ServingSpec
from homeostat.serving.supervisor import Supervisor, _Child

from .conftest import Ledger, Load, Plane, metric, wait_for

pytestmark = pytest.mark.slow


def test_models_are_swapped_under_load_without_one_failed_request(served: Plane) -> None:
    versions = [served.model(str(i)) for i in range(1, 5)]
    served.publish(versions[0])
    served.start(workers=2)
    with Load(served) as load:
        for i in range(12):
            served.publish(versions[i % 4], canary=versions[(i + 1) % 4], percent=40, paired=0.2)
    assert load.failed == []
    assert load.broken == 0
    answered = served.logged().filter(pl.col("arm") != "shadow")
    assert sorted(answered["id"]) == sorted(load.acknowledged)
    assert set(answered["version"]) == {"1", "2", "3", "4"}


def test_a_killed_worker_loses_no_acknowledged_record_and_comes_back(served: Plane) -> None:
    served.publish(served.model("1"))
    served.start(workers=2, seal=Duration.parse("1s"))
    assert served.server is not None
    ledger: list[Any] = []
    keeper = Keeper(served.home, served.log, Ledger(ledger))
    with Load(served) as load:
        for _ in range(2):
            for name in ("worker 0", "worker 1"):
                pid = served.server.pids()[name]
                os.kill(pid, signal.SIGKILL)
                started = time.monotonic()
                wait_for(
                    lambda pid=pid: (
                        pid not in served.server.pids().values()
                        and served.plane.observed("m").workers == 2
                    ),
                    "the restart",
                )
                assert time.monotonic() - started < 5
                keeper.step()
    assert load.failed == []
    assert load.broken >= 1
    ids = served.logged()["id"].to_list()
    assert len(ids) == len(set(ids))
    assert set(load.acknowledged) <= set(ids)
    served.connect()
    text = served.client.get("/metrics").text
    counted = metric(text, "model_predictions_total", version="1")
    assert len(load.acknowledged) <= counted <= len(ids)
    assert metric(text, "homeostat_log_dropped_total") == 0
    served.stop()
    keeper.step()
    keeper.close()
    assert served.logged()["id"].to_list() == ids
    assert list(served.layout.live.iterdir()) == []


def test_metrics_are_the_exact_sum_over_workers_also_after_a_restart(served: Plane) -> None:
    served.publish(served.model("1"), canary=served.model("2"), percent=50)
    served.start(workers=2)
    assert served.server is not None
    for round in range(2):
        for _ in range(20):
            served.connect()  # spreads over the workers
            served.predict([1, 2], [3, 4])
            served.predict([1])
        if round == 0:
            pid = served.server.pids()["worker 1"]
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda pid=pid: pid not in served.server.pids().values(), "the restart")
            wait_for(lambda: served.plane.observed("m").workers == 2, "the restart")
    served.plane.show([Gauge("model_drift_score", 0.25, {"model": "m"})])
    served.connect()
    text = served.client.get("/metrics").text
    rows = served.logged()
    for version, arm in (("1", Arm.CHAMPION), ("2", Arm.CANARY)):
        n = rows.filter((pl.col("version") == version) & (pl.col("arm") == arm)).height
        labels = {"model": "m", "version": version, "arm": str(arm)}
        assert metric(text, "model_predictions_total", **labels) == n > 0
        assert metric(text, "model_prediction_duration_seconds_count", **labels) == n
    assert metric(text, "model_predictions_total") == 80
    assert metric(text, "model_prediction_errors_total", model="m", version="") == 40
    assert rows.height == 120
    assert metric(text, "model_drift_score") == 0.25
    kinds = {family.name: family.type for family in text_string_to_metric_families(text)}
    # the parser takes `_total` off the names of counters
    assert kinds.items() >= {
        ("model_predictions", "counter"),
        ("model_prediction_errors", "counter"),
        ("model_prediction_duration_seconds", "histogram"),
        ("model_drift_score", "gauge"),
        ("homeostat_model_memory_bytes", "gauge"),
    }


def test_a_port_in_use_and_a_home_in_use_are_told(served: Plane, tmp_path: Path) -> None:
    served.start()
    assert served.server is not None
    about = json.loads(served.layout.server.read_text())
    assert about == {
        "host": "127.0.0.1",
        "port": served.server.port,
        "grpc_port": None,
        "tls": False,
        "pid": os.getpid(),
    }
    with pytest.raises(Unavailable, match="cannot listen on 127"):
        Supervisor(tmp_path / "other", ServingSpec(), port=served.server.port).start()
    with pytest.raises(Unavailable, match="served already"):
        Supervisor(served.home, ServingSpec(), port=0).start()
    assert served.client.get("/v2/health/live").status_code == 200
    served.server.stop()
    assert not served.layout.server.exists()


def test_a_worker_ends_when_its_supervisor_is_gone(served: Plane, tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path;"
        "from homeostat.serving.supervisor import Supervisor;"
        "from homeostat.serving.spec import ServingSpec;"
        f"s = Supervisor(Path({str(served.home)!r}), ServingSpec(), port=0); s.start();"
        "print(s.port, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline()
    assert served.plane.observed("m").workers == 1
    process.kill()
    process.wait()
    process.stdout.close()
    wait_for(lambda: served.plane.observed("m").workers == 0, "the end of the worker")


def test_what_cannot_be_started_is_told_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    program = tmp_path / "program"
    child = supervisor._Child("worker 0", [str(program)], {})
    for second in range(30):
        child.watch(float(second))
    assert [record.getMessage() for record in caplog.records] == [
        f"worker 0 cannot be started: [Errno 2] No such file or directory: '{program}'; trying on"
    ]
    program.symlink_to("/bin/true")
    child.watch(40.0)
    assert child.process is not None
    assert child.process.wait() == 0


def test_time_in_which_the_supervisor_did_not_run_is_not_held_against_a_worker() -> None:
    child = _Child("worker", ["sleep", "60"], os.environ, lambda: 0, patience=30.0)
    child.start(0.0)
    process = child.process
    assert process is not None
    child.watch(0.1)
    child.watch(500.0)  # the machine stood still
    for second in range(501, 528):
        child.watch(float(second))
    assert process.poll() is None
    for second in range(528, 532):
        child.watch(float(second))
    assert process.wait() == -signal.SIGKILL
