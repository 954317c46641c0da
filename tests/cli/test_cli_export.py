"""`homeostat export`, as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from homeostat.cli.main import run
from homeostat.definition.example import scaffold


@pytest.fixture
def project(tmp_path: Path) -> Path:
    scaffold(tmp_path / "fraud")
    return tmp_path / "fraud"


def test_prometheus_gets_its_files_and_the_next_step(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made/prometheus"
    words = ["-C", str(project), "export", "prometheus", "--out", str(out)]
    assert run([*words, "--target", "model:8080", "--every", "5s"]) == 0
    assert sorted(p.name for p in out.iterdir()) == [
        "alertmanager.yml",
        "fraud-detector.rules.yml",
        "prometheus.yml",
    ]
    told = capsys.readouterr().out
    assert f"prometheus --config.file={out / 'prometheus.yml'}" in told
    config = (out / "prometheus.yml").read_text()
    assert "model:8080" in config
    assert "scrape_interval: 5s" in config
    assert run(words) == 0  # made anew
    assert "scrape_interval: 15s" in (out / "prometheus.yml").read_text()


def test_grafana_gets_its_files(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("grafana_foundation_sdk")
    out = tmp_path / "grafana"
    words = ["-C", str(project), "export", "grafana", "--out", str(out), "--json"]
    assert run([*words, "--mounted-at", "/etc/homeostat"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert all((out / name).is_file() for name in told["files"])
    assert len(told["files"]) == 5
    provider = (out / "provisioning/dashboards/homeostat.yml").read_text()
    assert "/etc/homeostat/dashboards" in provider


def test_what_somebody_else_made_is_left_alone(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = tmp_path / "prometheus.yml"
    theirs.write_text("scrape_configs: []\n")
    assert run(["-C", str(project), "export", "prometheus", "--out", str(tmp_path)]) == 2
    assert "was not made by `homeostat export`" in capsys.readouterr().err
    assert theirs.read_text() == "scrape_configs: []\n"
    assert not (tmp_path / "alertmanager.yml").exists()


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--target", "http://localhost:8080/metrics", "--target is not an address"),
        ("--alertmanager", "here", "--alertmanager is not an address"),
        ("--every", "soon", "not a duration"),
        ("--every", "0s", "--every is no time at all"),
    ],
)
def test_bad_options_are_one_line(
    project: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, told: str
) -> None:
    words = ["-C", str(project), "export", "prometheus", "--out", str(project / "x")]
    assert run([*words, option, value]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not (project / "x").exists()
