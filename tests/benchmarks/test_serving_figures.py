"""From latencies to tables and targets."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from benchmarks.serving import measure, report, stats, tables
from benchmarks.serving.plan import Absent, Outcome, Result
from benchmarks.serving.stats import Sample
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]


def run(rate: float, p99: float = 1.0, failed: int = 0) -> Sample:
    return Sample(rate, 0.5, p99, p99, int(rate), failed, server_us=1e6 / rate, client=0.5)


def found(**rates: list[float]) -> Outcome:
    outcome = Outcome({name: name for name in rates})
    for name, values in rates.items():
        outcome.results.append(Result(name, tables.HEAD, [run(v) for v in values]))
    return outcome


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_a_measured_value_that_its_share_does_not_exceed(
    values: list[float], q: float
) -> None:
    at = stats.percentile(values, q)
    assert at in values
    assert sum(v <= at for v in values) >= q * len(values)
    assert sum(v < at for v in values) < q * len(values)


def test_nothing_measured_has_no_percentile_and_holds_no_target() -> None:
    assert math.isnan(stats.percentile([], 0.99))
    assert {target.held for target in tables.targets(Outcome({"homeostat": "ours"}))} == {None}


def test_a_ratio_is_taken_within_a_round_so_that_drift_of_the_machine_cancels() -> None:
    ours = [run(rate) for rate in (1000, 500, 250)]
    theirs = [run(rate) for rate in (100, 50, 25)]
    assert stats.ratio(ours, theirs) == pytest.approx(10)
    assert math.isnan(stats.ratio(ours, []))


def test_the_headline_shows_median_spread_and_how_many_times_faster_ours_is() -> None:
    table = tables.headline(
        found(homeostat=[900, 1000, 1100], fastapi=[90, 100, 110]), tables.HEAD, ""
    )
    assert table.rows[1] == (
        "fastapi", "100", "90.0 to 110", "0.50", "1.00", "10,000", "10.0", "0"
    )  # fmt: skip


def test_targets_are_held_by_the_measured_ratio() -> None:
    held = {t.text: t.held for t in tables.targets(found(homeostat=[900.0], fastapi=[100.0]))}
    assert held["MLP, one row: times fastapi"] is True
    assert held["trees, one row: times fastapi"] is None
    missed = tables.targets(found(homeostat=[700.0], fastapi=[100.0]))
    assert missed[0].held is False


def test_what_could_not_be_measured_is_shown_with_its_reason() -> None:
    outcome = found(homeostat=[900.0], pytriton=[])
    outcome.missing("pytriton", "", "not installed: no such wheel")
    outcome.missing("pytriton", "", "told only once")
    assert outcome.absent == [Absent("pytriton", "", "not installed: no such wheel")]
    text = report.markdown(report.Report("today", "a machine", 1, 1, outcome))
    assert "- pytriton: not installed: no such wheel" in text


def test_a_section_is_replaced_between_its_marks_and_the_rest_stays() -> None:
    page = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n"
    once = report.between_marks(page, "x", "new")
    assert once == "a\n<!-- x: begin -->\n\nnew\n\n<!-- x: end -->\nb\n"
    assert report.between_marks(once, "x", "new") == once
    with pytest.raises(ValueError, match="y: begin"):
        report.between_marks(page, "y", "new")


def test_the_page_has_the_section_that_the_benchmark_rewrites() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    assert report.SECTION in page
    report.between_marks(page, report.SECTION, "")


def test_the_highest_rate_is_found_between_what_held_and_what_did_not() -> None:
    best = measure.search(lambda rate: run(rate, p99=5 if rate <= 1000 else 50), 1500, attempts=8)
    assert 900 <= best.rate <= 1000
    none = measure.search(lambda rate: run(rate, p99=50), 1500, attempts=4)
    assert none.rate == 0
    assert measure.search(lambda rate: run(rate, failed=1), 1500, attempts=4).rate == 0


@given(st.floats(-5, 5), st.integers(0, 2**32 - 1))
def test_a_trend_is_within_its_interval_and_what_stands_still_has_none(
    slope: float, seed: int
) -> None:
    draw = random.Random(seed)
    x = [k / 100 for k in range(200)]
    y = [100 + slope * at + draw.choice((-0.01, 0.01)) for at in x]
    found = stats.trend(x, y)
    assert found is not None
    assert found.low <= found.slope <= found.high
    assert found.slope == pytest.approx(slope, abs=0.02)
    assert found.high - found.low < 0.1
    assert stats.trend(x[:19], y[:19]) is None
    assert stats.trend([1.0] * 200, y) is None


def test_the_interval_of_a_trend_knows_that_neighbouring_points_depend_on_each_other() -> None:
    missed = 0
    for seed in range(400):
        draw, noise, y = random.Random(seed), 0.0, []
        for _ in range(300):  # a second's noise is most of the next one's
            noise = 0.8 * noise + draw.gauss(0, 1)
            y.append(noise)
        found = stats.trend(list(range(300)), y)
        assert found is not None
        missed += not found.low <= 0 <= found.high
    assert missed <= 400 * 0.1  # of 5 % that it may; the least-squares line's own misses 50 %


STARTER = """
import sys, time
from pathlib import Path
from benchmarks.serving.process import Server, free_port
port = free_port()
code = "import os, http.server; os.fork() or os.setsid(); "
code += f"http.server.HTTPServer(('127.0.0.1', {port} if os.getpgid(0) != os.getpid() else 0), "
code += "http.server.SimpleHTTPRequestHandler).serve_forever()"
server = Server([sys.executable, "-c", code], port, "/", Path(sys.argv[1]))
print(*server.pids(), flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_a_killed_benchmark_leaves_no_server_and_no_daemon_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTER, str(tmp_path / "said")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as bench:
        assert bench.stdout is not None
        pids = [int(pid) for pid in bench.stdout.readline().split()]
        bench.send_signal(signal.SIGKILL)
    assert len(pids) == 2  # the server, and a child in a session of its own
    deadline = time.monotonic() + 10
    while any(_lives(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
