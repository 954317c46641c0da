"""The rules for Prometheus: checked by promtool, and each alert fires when it should."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from homeostat.backends.prometheus import files
from homeostat.definition import Project
from homeostat.testing.prometheus import tool
from homeostat.testing.services import NotInstalled

Declare = Callable[..., Project]
M = 'model="fraud-detector"'
AUC = f'{{{M},metric="auc",version="3"}}'
BEAT = f"homeostat_loop_last_tick_timestamp_seconds{{{M}}}"
WATCHED = f"homeostat_monitor_last_window_timestamp_seconds{{{M}}}"
CHAMPION = f'homeostat_champion_info{{{M},version="3",instance="a",job="b"}}'
OPEN = f'homeostat_alert_open{{{M},kind="quality",severity="critical"}}'
ALIVE = {BEAT: "0+60x600", WATCHED: "0+60x600", CHAMPION: "1x600"}
"""A loop that turned a minute ago, always; values are in minutes from 1970 on."""


class Case(NamedTuple):
    """series: as promtool writes them, a value a minute. fires: at so many minutes."""

    alert: str
    series: dict[str, str]
    fires: dict[int, bool]


def alive(**more: str) -> dict[str, str]:
    return {**ALIVE, **more}


CASES = (
    Case(
        "HomeostatModelFails",
        {f"homeostat_quality_high{AUC}": "0.9x9 0.79x9"},
        {9: False, 10: True},
    ),
    Case(
        "HomeostatModelLost",
        {
            f"homeostat_quality_loss_low{AUC}": "0.04x9 0.06x9",
            f"homeostat_quality_loss_tolerance{AUC}": "0.05x20",
        },
        {9: False, 10: True},
    ),
    Case(
        "HomeostatNeedsAPerson",
        {f"homeostat_retrainings_last_week{{{M}}}": "3x40", OPEN: "_x9 1x30"},
        {9: False, 20: False, 26: True},
    ),
    Case(
        "HomeostatNeedsAPerson",
        {f"homeostat_retrainings_without_gain{{{M}}}": "1x9 2x30", OPEN: "1x40"},
        {20: False, 26: True},
    ),
    Case("HomeostatGone", {BEAT: "0+60x9 stale"}, {9: False, 12: False, 16: True}),
    Case("HomeostatLoopDown", {BEAT: "0x20"}, {5: False, 6: True}),
    Case("HomeostatMonitorsDown", {WATCHED: "0x200"}, {125: False, 126: True}),
    Case("HomeostatMonitorsSilent", {CHAMPION: "1x200"}, {124: False, 126: True}),
    Case(
        "HomeostatDataBroken",
        {f'homeostat_monitor_outcome{{{M},check="data"}}': "0x4 1x4 3x4"},
        {8: False, 10: True},
    ),
    Case(
        "HomeostatRequestsFail",
        {
            f"model_predictions_total{{{M}}}": "0+990x60",
            f"model_prediction_errors_total{{{M}}}": "0+9x20 189+11x40",
        },
        {20: False, 40: True},
    ),
    Case(
        "HomeostatNoTraffic",
        {f"model_predictions_total{{{M}}}": "0+10x9 90x300"},
        {180: False, 200: True},
    ),
    Case(
        "HomeostatLogDrops",
        {CHAMPION: "1x60", 'homeostat_log_dropped_total{instance="a",job="b"}': "0x29 5x30"},
        {29: False, 32: True, 50: False},
    ),
    Case(
        "HomeostatCannotAct",
        {f"homeostat_loop_problems{{{M}}}": "0 1x10 0 1x30"},
        {11: False, 20: False, 28: True},
    ),
    Case(
        "HomeostatNobodyTold", {f"homeostat_notices_waiting{{{M}}}": "2x30"}, {14: False, 16: True}
    ),
    Case(
        "HomeostatTrainingFailed",
        {f'homeostat_runs_total{{{M},outcome="failed"}}': "0x9 1x100"},
        {9: False, 12: True, 80: False},
    ),
    Case(
        "HomeostatAwaitsApproval",
        {f'homeostat_rollout_phase{{{M},candidate="4",phase="waiting_approval"}}': "0 1x40"},
        {10: False, 17: True},
    ),
    Case(
        "HomeostatRolledBack",
        {f'homeostat_rollouts_total{{{M},outcome="rolled_back"}}': "0x9 1x100"},
        {9: False, 12: True},
    ),
    Case(
        "HomeostatQualityUnknown",
        alive(),
        {415: False, 425: True},
    ),
    Case(
        "HomeostatQualityUnknown",
        alive(**{f"model_accuracy{AUC}": "0.9x600"}),
        {425: False},
    ),
    Case(
        "HomeostatLabelsLate",
        {f'homeostat_label_delay_seconds{{{M},share="0.9"}}': "7200x9 7201x90"},
        {60: False, 71: True},
    ),
    Case(
        "HomeostatDrift",
        {
            f'homeostat_drift_low{{{M},feature="a",version="3"}}': "0.05x20",
            f'homeostat_drift_low{{{M},feature="b",version="3"}}': "0.1x9 0.11x9",
        },
        {9: False, 10: True},
    ),
)


def checked(name: str, *words: str, given: str = "") -> str:
    """What the tool says; skipped where it is not installed."""
    try:
        done = tool(name, *words, given=given)
    except NotInstalled as missing:
        pytest.skip(str(missing))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def written(folder: Path, made: dict[str, str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in made.items():
        (folder / name).write_text(text)
    return folder


def alerts(made: dict[str, str]) -> dict[str, Any]:
    groups = yaml.safe_load(made["fraud-detector.rules.yml"])["groups"]
    return {rule["alert"]: rule for rule in groups[1]["rules"]}


def test_the_files_are_those_that_were_looked_at(declared: Declare, golden: Any) -> None:
    golden("prometheus", files(declared()))
    assert files(declared()) == files(declared())


def test_promtool_and_amtool_find_nothing_wrong(declared: Declare, tmp_path: Path) -> None:
    folder = written(tmp_path / "out", files(declared()))
    rules = folder / "fraud-detector.rules.yml"
    n = len(alerts(files(declared()))) + 4
    assert f"{n} rules found" in checked("promtool", "check", "rules", str(rules))
    checked("promtool", "check", "config", str(folder / "prometheus.yml"))
    checked("amtool", "check-config", str(folder / "alertmanager.yml"))


@pytest.mark.slow
def test_every_alert_fires_when_it_should_and_not_before(declared: Declare, tmp_path: Path) -> None:
    sooner = {"matures_after: 7d": "matures_after: 2h", "window: 1d": "window: 3h"}
    made = files(declared(**sooner))
    folder = written(tmp_path / "out", made)
    fired = {case.alert for case in CASES if any(case.fires.values())}
    assert fired == set(alerts(made))
    tests = [_test(case) for case in CASES]
    document = {"rule_files": ["fraud-detector.rules.yml"], "tests": tests}
    (folder / "tests.yml").write_text(yaml.safe_dump({"evaluation_interval": "1m", **document}))
    checked("promtool", "test", "rules", str(folder / "tests.yml"))


def _test(case: Case) -> dict[str, Any]:
    firing = f'count(ALERTS{{alertname="{case.alert}",alertstate="firing"}})'
    return {
        "name": case.alert,
        "interval": "1m",
        "input_series": [{"series": s, "values": v} for s, v in case.series.items()],
        "promql_expr_test": [
            {
                "expr": firing,
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
            }
            for minute, fires in case.fires.items()
        ],
    }


def test_an_alert_tells_the_figure_and_the_declared_bound(
    declared: Declare, tmp_path: Path
) -> None:
    folder = written(tmp_path / "out", files(declared()))
    expected = {
        "exp_labels": {
            "severity": "critical",
            "kind": "quality",
            "model": "fraud-detector",
            "metric": "auc",
            "version": "3",
        },
        "exp_annotations": {
            "summary": "fraud-detector is doing harm",
            "description": "The whole interval of auc is beyond the declared min of 0.8: its "
            "nearer end is 0.79.",
            "see": "homeostat status; homeostat history -e",
        },
    }
    test = {
        "interval": "1m",
        "input_series": [{"series": f"homeostat_quality_high{AUC}", "values": "0.79x5"}],
        "alert_rule_test": [
            {"alertname": "HomeostatModelFails", "eval_time": "2m", "exp_alerts": [expected]}
        ],
    }
    document = {"rule_files": ["fraud-detector.rules.yml"], "tests": [test]}
    (folder / "tests.yml").write_text(yaml.safe_dump(document))
    checked("promtool", "test", "rules", str(folder / "tests.yml"))


def test_thresholds_follow_the_definition(declared: Declare) -> None:
    changed = files(
        declared(**{"min: 0.8,": "max: 0.123456789, tolerance: 0.02,", "auc": "log_loss"})
    )
    found = alerts(changed)
    of = '{model="fraud-detector",metric="log_loss"}'
    assert found["HomeostatModelFails"]["expr"] == f"homeostat_quality_low{of} > 0.123456789"
    assert found["HomeostatModelLost"]["expr"] == f"homeostat_quality_loss_low{of} > 0.02"
    assert found["HomeostatModelLost"]["labels"]["severity"] == "critical"
    longer = alerts(files(declared(**{"window: 1h": "window: 6h"})))
    assert longer["HomeostatMonitorsDown"]["expr"].endswith("> 43500")


def test_a_project_without_live_quality_has_no_alerts_on_it(declared: Declare) -> None:
    found = alerts(files(declared(**{"  quality: {metric: auc, min: 0.8, window: 1d}\n": ""})))
    assert "HomeostatModelFails" not in found
    assert "HomeostatQualityUnknown" not in found
    assert "HomeostatMonitorsDown" in found


def test_harm_comes_first_and_movement_pages_nobody(declared: Declare) -> None:
    found = alerts(files(declared()))
    severities = [rule["labels"]["severity"] for rule in found.values()]
    assert severities == sorted(severities, key=["critical", "warning", "info"].index)
    assert found["HomeostatDrift"]["labels"]["severity"] == "info"
    assert found["HomeostatDataBroken"]["labels"]["severity"] == "warning"
