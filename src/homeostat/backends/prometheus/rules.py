"""Recording and alert rules of one model, with the thresholds and windows that are declared.

Harm first, as in the monitors: a figure is held against its bound with the whole interval; harm
is critical, broken data and a loop that cannot act are warnings, and movement alone is info. What
no monitor can say, Prometheus says: that the loop, its monitors or the data plane are gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Literal

from homeostat.backends.prometheus.config import document
from homeostat.core.duration import Duration
from homeostat.definition import Project
from homeostat.monitoring.alerts.decide import NO_TRAFFIC
from homeostat.monitoring.quality.health import ERRORS
from homeostat.monitoring.spec import Quality

DEAD = timedelta(minutes=5)
"""A loop that has not turned for this long is down; a turn takes seconds."""
PATIENCE = timedelta(minutes=15)
"""How long something may be tried again before a person should look."""
FIGURE = '{{ $value | printf "%.4g" }}'
"""Prometheus puts the alert's figure here."""

Severity = Literal["critical", "warning", "info"]
Rule = dict[str, Any]
_SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "info")


def rules(project: Project) -> str:
    """The rules file: one group of recorded series, one of alerts."""
    model = project.name
    alerts = [*_harm(project), *_heartbeats(project), *_data(project), *_loop(project)]
    alerts += [*_labels(project), *_movement(project)]
    alerts.sort(key=lambda rule: _SEVERITIES.index(rule["labels"]["severity"]))
    for rule in alerts:
        rule["labels"] = {"model": model, **rule["labels"]}
    return document(
        f"# Rules of {model}. Check them: promtool check rules FILE\n",
        {
            "groups": [
                {"name": f"{model} records", "rules": _records(model)},
                {"name": f"{model} alerts", "rules": alerts},
            ]
        },
    )


def _records(model: str) -> list[Rule]:
    of = f'{{model="{model}"}}'
    answered, failed = f"model_predictions_total{of}", f"model_prediction_errors_total{of}"
    bucket = f"model_prediction_duration_seconds_bucket{of}"
    rate = "sum by (model) (rate({}[5m]))"
    # a model without errors has no series of them
    failing = f"({rate.format(failed)} or 0 * {rate.format(answered)})"
    return [
        {
            "record": "model:predictions:rate5m",
            "expr": f"sum by (model, version, arm) (rate({answered}[5m]))",
        },
        {
            "record": "model:prediction_errors:ratio_rate5m",
            "expr": f"{failing} / ({failing} + {rate.format(answered)})",
        },
        {
            "record": "model:prediction_duration_seconds:p99_5m",
            "expr": f"histogram_quantile(0.99, sum by (le, model, arm) (rate({bucket}[5m])))",
        },
        {
            "record": "model:drift_score:max",
            "expr": f"max by (model, version) (model_drift_score{of})",
        },
    ]


def _alert(
    name: str,
    severity: Severity,
    expr: str,
    summary: str,
    description: str,
    *,
    kind: str,
    holds: timedelta | None = None,
) -> Rule:
    """kind: quality, drift, data, traffic and monitor are those of the loop's own alerts. holds:
    for how long, before it fires."""
    rule: Rule = {"alert": name, "expr": expr}
    if holds is not None:
        rule["for"] = str(Duration.of(holds))
    rule["labels"] = {"severity": severity, "kind": kind}
    see = "homeostat status; homeostat history -e"
    rule["annotations"] = {"summary": summary, "description": description, "see": see}
    return rule


def _harm(project: Project) -> Iterator[Rule]:
    quality, model = project.monitoring.quality, project.name
    if quality is None:
        return
    metric = quality.metric
    of = f'{{model="{model}",metric="{metric}"}}'
    for bound, end, sign in (("min", "high", "<"), ("max", "low", ">")):
        limit = getattr(quality, bound)
        if limit is not None:
            yield _alert(
                "HomeostatModelFails",
                "critical",
                f"homeostat_quality_{end}{of} {sign} {_number(limit)}",
                f"{model} is doing harm",
                f"The whole interval of {metric} is beyond the declared {bound} of "
                f"{_number(limit)}: its nearer end is {FIGURE}.",
                kind="quality",
            )
    yield _loss(quality, of, model)
    gave_up = " or ".join(
        [
            f'homeostat_retrainings_last_week{{model="{model}"}} >= {project.retraining.per_week}',
            f'homeostat_retrainings_without_gain{{model="{model}"}} >= '
            f"{project.retraining.stop_after_no_gain}",
        ]
    )
    yield _alert(
        "HomeostatNeedsAPerson",
        "critical",
        f'({gave_up}) and on (model) homeostat_alert_open{{model="{model}",kind="quality"}} == 1',
        f"{model} is doing harm and may not retrain itself any more",
        "The budget of retrainings is spent or they bring no gain; `homeostat history` tells why.",
        kind="retraining",
        holds=PATIENCE,
    )


def _loss(quality: Quality, of: str, model: str) -> Rule:
    """A loss that was declared to be too much is harm; one by default is a warning."""
    low, tolerance = f"homeostat_quality_loss_low{of}", quality.tolerance
    limit = (
        f"homeostat_quality_loss_tolerance{of}" if tolerance is None else f"{_number(tolerance)}"
    )
    return _alert(
        "HomeostatModelLost",
        "warning" if tolerance is None else "critical",
        f"{low} > {limit}",
        f"{model} is worse than it was when it was tested",
        f"It lost at least {FIGURE} of {quality.metric}: more than tolerated.",
        kind="quality",
    )


def _heartbeats(project: Project) -> Iterator[Rule]:
    model, window = project.name, project.monitoring.window
    of = f'{{model="{model}"}}'
    late = 2 * window + DEAD
    turned, watched = (
        f"homeostat_{name}_timestamp_seconds{of}"
        for name in ("loop_last_tick", "monitor_last_window")
    )
    yield _alert(
        "HomeostatGone",
        "critical",
        f"absent({turned})",
        f"nothing is heard of {model}",
        "Its data plane is not scraped, or its loop has never run: is `homeostat up` running?",
        kind="loop",
        holds=DEAD,
    )
    yield _alert(
        "HomeostatLoopDown",
        "critical",
        f"time() - {turned} > {_number(DEAD.total_seconds())}",
        f"the loop of {model} does not turn",
        "Last {{ $value | humanizeDuration }} ago. The model answers and nobody watches it: "
        "nothing is rolled back, no alert is raised.",
        kind="loop",
    )
    yield _alert(
        "HomeostatMonitorsDown",
        "critical",
        f"time() - {watched} > {_number(late.total_seconds())}",
        f"the monitors of {model} look at nothing",
        f"Windows of {window} close, and the last one that was looked at ended "
        "{{ $value | humanizeDuration }} ago.",
        kind="monitor",
    )
    yield _alert(
        "HomeostatMonitorsSilent",
        "critical",
        f"homeostat_champion_info{of} unless on (model) {watched}",
        f"the monitors of {model} have never looked",
        "There is a champion and no window was looked at.",
        kind="monitor",
        holds=late,
    )


def _data(project: Project) -> Iterator[Rule]:
    model, window = project.name, project.monitoring.window
    of = f'{{model="{model}"}}'
    yield _alert(
        "HomeostatDataBroken",
        "warning",
        f'homeostat_monitor_outcome{{model="{model}",check="data"}} == 3',
        f"data arrive broken at {model}",
        "`homeostat status` names the column and the share of rows; retraining waits.",
        kind="data",
    )
    yield _alert(
        "HomeostatRequestsFail",
        "warning",
        f"model:prediction_errors:ratio_rate5m{of} > {_number(ERRORS)}",
        f"requests to {model} fail",
        "{{ $value | humanizePercentage }} of the rows of the last five minutes were not answered.",
        kind="data",
        holds=DEAD,
    )
    yield _alert(
        "HomeostatNoTraffic",
        "warning",
        f"sum by (model) (increase(model_predictions_total{of}[{window}])) == 0",
        f"{model} is not asked",
        f"No request was answered in {NO_TRAFFIC} windows of {window}: nothing can be judged.",
        kind="traffic",
        holds=(NO_TRAFFIC - 1) * window,
    )
    yield _alert(
        "HomeostatLogDrops",
        "warning",
        "increase(homeostat_log_dropped_total[15m]) * on (instance, job) group_left (model) "
        f"homeostat_champion_info{of} > 0",
        f"predictions of {model} are missing from its log",
        f"About {FIGURE} in 15 minutes: is the disk full?",
        kind="log",
    )


def _loop(project: Project) -> Iterator[Rule]:
    of = f'{{model="{project.name}"}}'
    yield _alert(
        "HomeostatCannotAct",
        "warning",
        f"homeostat_loop_problems{of} > 0",
        f"the loop of {project.name} cannot do what it decided",
        "It tries again on every turn; its output names what does not answer.",
        kind="loop",
        holds=PATIENCE,
    )
    yield _alert(
        "HomeostatNobodyTold",
        "warning",
        f"homeostat_notices_waiting{of} > 0",
        "people are not told what they should know",
        "{{ $value }} notices wait for a target of monitoring.notify that does not answer.",
        kind="notices",
        holds=PATIENCE,
    )
    failed = f'homeostat_runs_total{{model="{project.name}",outcome="failed"}}'
    yield _alert(
        "HomeostatTrainingFailed",
        "warning",
        f"increase({failed}[1h]) > 0",
        f"a training run of {project.name} failed",
        "`homeostat history` tells why; gates that say no are not among these.",
        kind="retraining",
    )
    phase = f'homeostat_rollout_phase{{model="{project.name}",phase="waiting_approval"}}'
    yield _alert(
        "HomeostatAwaitsApproval",
        "info",
        f"{phase} == 1",
        f"a rollout of {project.name} waits for a person",
        "Version {{ $labels.candidate }}: homeostat rollout approve, or abort.",
        kind="rollout",
        holds=PATIENCE,
    )
    back = f'homeostat_rollouts_total{{model="{project.name}",outcome="rolled_back"}}'
    yield _alert(
        "HomeostatRolledBack",
        "info",
        f"increase({back}[1h]) > 0",
        f"a candidate of {project.name} was rolled back",
        "All requests are the champion's again; `homeostat history -e` shows the evidence.",
        kind="rollout",
    )


def _labels(project: Project) -> Iterator[Rule]:
    quality, model, window = project.monitoring.quality, project.name, project.monitoring.window
    if quality is None:
        return
    of, matures = f'{{model="{model}"}}', project.data.label.matures_after
    unseen = matures + (quality.window or window) + 2 * window
    yield _alert(
        "HomeostatQualityUnknown",
        "warning",
        f"homeostat_champion_info{of} unless on (model) model_accuracy{of}",
        f"nobody knows how good {model} is",
        f"For {Duration.of(unseen)} no window could measure {quality.metric}: too few labels.",
        kind="labels",
        holds=unseen,
    )
    slowest = f'homeostat_label_delay_seconds{{model="{model}",share="0.9"}}'
    yield _alert(
        "HomeostatLabelsLate",
        "warning",
        f"{slowest} > {_number(matures.total_seconds())}",
        f"labels of {model} are not final when they are taken to be",
        "One in ten takes longer than {{ $value | humanizeDuration }}; "
        f"data.label.matures_after is {matures}.",
        kind="labels",
        holds=window,
    )


def _movement(project: Project) -> Iterator[Rule]:
    least = project.monitoring.drift.min_effect
    yield _alert(
        "HomeostatDrift",
        "info",
        f'max by (model) (homeostat_drift_low{{model="{project.name}"}}) > {_number(least)}',
        f"the traffic of {project.name} has moved",
        f"A feature moved by at least {FIGURE} (declared: {_number(least)}). "
        "Alone it neither pages nor retrains.",
        kind="drift",
    )


def _number(value: float) -> str:
    """As it was declared, as far as a double tells; no `.0`, no exponent for seconds."""
    return str(int(value)) if value == int(value) else repr(value)
