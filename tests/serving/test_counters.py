from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from homeostat.core.ports import Gauge
from homeostat.serving.counters import BOUNDS, Counters, beats, total
from homeostat.serving.metrics import render


def test_counts_of_all_slots_are_summed_and_continue_after_a_restart(tmp_path: Path) -> None:
    first, second = Counters(tmp_path / "0"), Counters(tmp_path / "1")
    first.series("m", "1", "champion").answered(3, 0.0004)
    second.series("m", "1", "champion").answered(1, 0.3)
    second.series("m", "2", "canary").failed(2)
    first.add("log_dropped", 5)
    again = Counters(tmp_path / "0")  # the worker was killed and started again
    again.series("m", "1", "champion").answered(1, 99.0)
    again.add("log_dropped")
    sums = total(tmp_path)
    assert sums.globals["log_dropped"] == 6
    values = sums.series["m", "1", "champion"]
    assert values[:2] == [5, 0]
    assert values[2] == pytest.approx(3 * 0.0004 + 0.3 + 99.0)
    assert values[3] == 3
    assert values[3 + BOUNDS.index(0.5)] == 1
    assert values[-1] == 1
    assert sums.series["m", "2", "canary"][:2] == [0, 2]


def test_what_a_killed_worker_had_under_way_has_failed(tmp_path: Path) -> None:
    counters = Counters(tmp_path / "0")
    for status in (200, 400, 429, 503, 504, 500, 302):
        counters.began()
        counters.ended(status)
    counters.began()
    counters.began()
    before = total(tmp_path).globals
    assert before["requests"] == 9
    assert (before["answered"], before["shed"], before["failed"], before["lost"]) == (2, 3, 2, 0)
    Counters(tmp_path / "0")  # the next worker takes the slot over
    Counters(tmp_path / "0")
    after = total(tmp_path).globals
    assert (after["answered"], after["shed"], after["failed"], after["lost"]) == (2, 3, 4, 2)


def test_a_damaged_file_is_begun_anew_and_keeps_no_worker_from_starting(tmp_path: Path) -> None:
    counters = Counters(tmp_path / "0")
    counters.began()
    counters.series("m", "1", "champion").answered(1, 0.1)
    data = (tmp_path / "0").read_bytes()
    (tmp_path / "0").write_bytes(data[:512] + bytes(len(data) - 512))  # the head alone was kept
    assert total(tmp_path).globals["requests"] == 0
    Counters(tmp_path / "0").series("m", "1", "champion").answered(1, 0.1)
    assert total(tmp_path).series["m", "1", "champion"][0] == 1


def test_the_heartbeat_is_no_count_and_goes_on_in_the_next_life(tmp_path: Path) -> None:
    assert beats(tmp_path / "0") == 0
    for life in (1, 2):
        counters = Counters(tmp_path / "0")
        counters.beat()
        assert beats(tmp_path / "0") == life
    assert set(total(tmp_path).globals.values()) == {0}


@given(requests=st.lists(st.tuples(st.integers(1, 50), st.floats(0, 20)), min_size=1))
def test_counting_together_is_counting_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, requests: list[tuple[int, float]]
) -> None:
    one, all = (tmp_path_factory.mktemp(name) for name in ("one", "all"))
    for n, seconds in requests:
        Counters(one / "0").series("m", "1", "champion").answered(n, seconds)
    rows, times = map(list, zip(*requests, strict=True))
    Counters(all / "0").series("m", "1", "champion").answered_all(rows, times)
    for folder in (one, all):
        values = total(folder).series["m", "1", "champion"]
        assert values[0] == sum(rows) == sum(values[3:])
    assert total(one).series["m", "1", "champion"] == pytest.approx(
        total(all).series["m", "1", "champion"]
    )


def test_a_series_too_many_is_counted_without_its_name(tmp_path: Path) -> None:
    counters = Counters(tmp_path / "0")
    for i in range(1200):
        counters.series("m", str(i), "champion").answered(1, 0.001)
    counters.series("x" * 1000, "1", "champion").answered(1, 0.001)
    sums = total(tmp_path)
    assert sum(values[0] for values in sums.series.values()) == 1201
    assert sums.series["", "", ""][0] == 1200 - 999 + 1


def test_files_that_are_no_counters_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "0").write_bytes(b"half made")
    assert total(tmp_path).series == {}
    assert total(tmp_path / "missing").series == {}
    Counters(tmp_path / "0").add("labels")  # a file of the wrong size is made anew
    assert total(tmp_path).globals["labels"] == 1


def test_the_text_has_a_head_per_metric_and_cumulative_buckets(tmp_path: Path) -> None:
    counters = Counters(tmp_path / "0")
    counters.series("m", "1", "champion").answered(2, 0.003)
    counters.series("m", "1", "champion").answered(1, 20.0)
    counters.series("m", "", "").failed(1)
    gauges = [
        Gauge("model_drift_score", 0.5, {"feature": 'a "b"\\\n'}),
        Gauge("model_drift_alert_total", 3, {"model": "m"}, kind="counter"),
    ]
    text = render(total(tmp_path), gauges).decode()
    lines = text.splitlines()
    series = 'model="m",version="1",arm="champion"'
    assert f"model_predictions_total{{{series}}} 3" in lines
    assert 'model_prediction_errors_total{model="m",version="",arm=""} 1' in lines
    assert f'model_prediction_duration_seconds_bucket{{{series},le="0.004"}} 2' in lines
    assert f'model_prediction_duration_seconds_bucket{{{series},le="+Inf"}} 3' in lines
    assert f"model_prediction_duration_seconds_count{{{series}}} 3" in lines
    assert 'model_drift_score{feature="a \\"b\\"\\\\\\n"} 0.5' in lines
    assert "# TYPE model_drift_alert_total counter" in lines
    assert "homeostat_log_dropped_total 0" in lines
    parsed = {family.name: family for family in text_string_to_metric_families(text)}
    assert parsed["model_prediction_duration_seconds"].type == "histogram"
    assert parsed["homeostat_requests_in_flight"].type == "gauge"
    (drift,) = parsed["model_drift_score"].samples
    assert (drift.labels, drift.value) == ({"feature": 'a "b"\\\n'}, 0.5)
    assert "unknown" not in {family.type for family in parsed.values()}


@given(value=st.floats(), label=st.text(max_size=10))
def test_any_gauge_is_one_line(
    tmp_path_factory: pytest.TempPathFactory, value: float, label: str
) -> None:
    text = render(total(Path("/nonexistent")), [Gauge("g", value, {"l": label})]).decode()
    (line,) = [x for x in text.split("\n") if x.startswith("g{")]
    assert float(line.rsplit(" ", 1)[1]) == value or value != value
    (sample,) = [
        x for f in text_string_to_metric_families(text) for x in f.samples if x.name == "g"
    ]
    assert sample.labels == {"l": label}
