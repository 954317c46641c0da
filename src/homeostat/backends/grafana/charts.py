"""What the dashboards of a model show: boards of rows of charts, as values. Pure."""

from __future__ import annotations

from hashlib import sha256
from typing import Literal

import msgspec

from homeostat.definition import Project

RATE = "$__rate_interval"
"""Grafana puts a length here that fits the chart and how often Prometheus scrapes."""

Kind = Literal["lines", "figure", "verdict"]


class Line(msgspec.Struct, frozen=True):
    """expr: PromQL. legend: with {{label}} for each series of it."""

    expr: str
    legend: str


class Chart(msgspec.Struct, frozen=True):
    """kind: lines over time, a figure that holds now, or verdicts (0 pass ... 3 fail) over time.
    unit: Grafana's id of it. limit: where the figure turns red. width: of 24."""

    title: str
    about: str
    lines: tuple[Line, ...]
    kind: Kind = "lines"
    unit: str = "short"
    limit: float | None = None
    width: int = 8


class Row(msgspec.Struct, frozen=True):
    title: str
    charts: tuple[Chart, ...]


class Board(msgspec.Struct, frozen=True):
    """One dashboard. name: the end of its file name; uid: by which Grafana knows it for good."""

    uid: str
    name: str
    title: str
    about: str
    rows: tuple[Row, ...]


def boards(project: Project) -> tuple[Board, ...]:
    """The model as it answers; its rollout; the loop that watches it."""
    model = project.name
    made = "Made by `homeostat export grafana`."
    shown = (
        ("model", "answers", "How it answers and how good it is.", _model(project)),
        ("rollout", "rollout", "The candidate against the champion.", _rollout(model)),
        ("loop", "loop", "What watches and repairs it.", _loop(project)),
    )
    return tuple(
        Board(_uid(model, name), name, f"{model}: {title}", f"{about} {made}", rows)
        for name, title, about, rows in shown
    )


def _uid(model: str, name: str) -> str:
    """Grafana takes 40 characters."""
    plain = f"homeostat-{model}-{name}"
    return plain if len(plain) <= 40 else f"{sha256(model.encode()).hexdigest()[:30]}-{name}"


def _of(model: str, **labels: str) -> str:
    pairs = {"model": model, **labels}
    return "{" + ",".join(f'{name}="{value}"' for name, value in pairs.items()) + "}"


def _rate(metric: str, of: str, by: str = "model") -> str:
    return f"sum by ({by}) (rate({metric}{of}[{RATE}]))"


def _p99(of: str, by: str, share: str = "0.99") -> str:
    rate = _rate("model_prediction_duration_seconds_bucket", of, f"le, {by}")
    return f"histogram_quantile({share}, {rate})"


def _errors(of: str) -> str:
    """Share of the rows; a model that never failed has no series of failures."""
    answered = _rate("model_predictions_total", of)
    failed = f"({_rate('model_prediction_errors_total', of)} or 0 * {answered})"
    return f"{failed} / ({failed} + {answered})"


def _of_server(expr: str, of: str) -> str:
    """A figure of the whole server, under the model that it serves."""
    return f"{expr} * on (instance, job) group_left (model) homeostat_champion_info{of}"


# -- the model ---------------------------------------------------------------------------------


def _model(project: Project) -> tuple[Row, ...]:
    of = _of(project.name)
    alerts = f"sum by (severity) (homeostat_alert_open{of}) or 0 * homeostat_loop_problems{of}"
    now = Row(
        "Now",
        (
            Chart(
                "Champion",
                "The version that answers.",
                (Line(f"homeostat_champion_info{of}", "version {{version}}"),),
                kind="figure",
                unit="none",
                width=4,
            ),
            Chart(
                "Open alerts",
                "By severity; `homeostat status` tells what each one is about.",
                (Line(alerts, "{{severity}}"),),
                kind="figure",
                limit=1,
                width=4,
            ),
            Chart(
                "Requests per second",
                "Rows answered.",
                (Line(_rate("model_predictions_total", of), "rows/s"),),
                kind="figure",
                unit="reqps",
                width=4,
            ),
            Chart(
                "Error rate",
                "Share of the rows that were not answered.",
                (Line(_errors(of), "errors"),),
                kind="figure",
                unit="percentunit",
                limit=0.01,
                width=4,
            ),
            Chart(
                "Latency p99",
                "From a request's arrival to its answer.",
                (Line(_p99(of, "model"), "p99"),),
                kind="figure",
                unit="s",
                width=4,
            ),
            Chart(
                "Largest drift",
                "Of all features and the score, in the last window.",
                (Line(f"max by (model) (model_drift_score{of})", "distance"),),
                kind="figure",
                limit=project.monitoring.drift.min_effect,
                width=4,
            ),
        ),
    )
    return (now, _requests(of), _quality(project, of))


def _requests(of: str) -> Row:
    by = "version, arm"
    latency = tuple(
        Line(_p99(of, "arm", share), f"{name} {{{{arm}}}}")
        for share, name in (("0.99", "p99"), ("0.5", "median"))
    )
    return Row(
        "Requests",
        (
            Chart(
                "Rate",
                "Rows answered per second, by version; those in the shadow answer nobody.",
                (Line(_rate("model_predictions_total", of, by), "version {{version}} {{arm}}"),),
                unit="reqps",
            ),
            Chart(
                "Error rate",
                "Share of the rows that were not answered.",
                (Line(_errors(of), "errors"),),
                unit="percentunit",
            ),
            Chart(
                "Latency",
                "Of one request; histogram buckets double, so a quantile is exact to a factor 2.",
                latency,
                unit="s",
            ),
            Chart(
                "How requests end",
                "Per second, of every kind and model on this server; shed: for want of capacity or"
                " time, lost: their worker was killed.",
                tuple(
                    Line(_of_server(f"rate(homeostat_requests_{how}_total[{RATE}])", of), how)
                    for how in ("answered", "shed", "failed", "lost")
                ),
                unit="reqps",
                width=24,
            ),
        ),
    )


def _quality(project: Project, of: str) -> Row:
    charts = [
        Chart(
            "Drift score",
            "How far features moved from what the champion was trained on: 0 to 1, per window.",
            (
                Line(f"model_drift_score{of}", "{{feature}}"),
                Line(f"homeostat_drift_min_effect{of}", "declared minimum"),
            ),
            limit=project.monitoring.drift.min_effect,
        ),
        Chart(
            "Verdicts of the monitors",
            "Green pass, yellow inconclusive, red fail. Nothing measured is never a pass.",
            (Line(f"homeostat_monitor_outcome{of}", "{{check}}"),),
            kind="verdict",
        ),
    ]
    if project.monitoring.quality is not None:
        live = Chart(
            "Live accuracy",
            "The declared metric on final labels, with its interval; a gap: not measured.",
            (
                Line(f"model_accuracy{of}", "{{metric}} of version {{version}}"),
                Line(f"homeostat_quality_low{of}", "at least"),
                Line(f"homeostat_quality_high{of}", "at most"),
                *_bounds(project, of),
            ),
        )
        charts.insert(0, live)
        if project.monitoring.quality.estimate:
            charts.append(_estimate(of))
    return Row("Model", tuple(charts))


def _estimate(of: str) -> Chart:
    return Chart(
        "Estimated quality",
        "What quality may be, guessed without labels; a gap: withdrawn. No measurement.",
        (
            Line(f"homeostat_estimated_quality{of}", "{{metric}}, guessed"),
            Line(f"homeostat_estimated_quality_low{of}", "at least"),
            Line(f"homeostat_estimated_quality_high{of}", "at most"),
            Line(f"homeostat_estimate_standing{of} == 1", "{{standing}}"),
        ),
        width=24,
    )


def _bounds(project: Project, of: str) -> tuple[Line, ...]:
    quality = project.monitoring.quality
    if quality is None or (quality.min is None and quality.max is None):
        return ()
    return (Line(f"homeostat_quality_bound{of}", "declared {{bound}}"),)


# -- the rollout -------------------------------------------------------------------------------


def _rollout(model: str) -> tuple[Row, ...]:
    of = _of(model)
    phase = f"homeostat_rollout_phase{of} == 1"
    by = "version, arm"
    progress = Row(
        "Progress",
        (
            Chart(
                "Phase of the last rollout",
                "shadow, step, waiting_approval, paused, promoted or rolled_back.",
                (Line(phase, "version {{candidate}}: {{phase}}"),),
                kind="figure",
                unit="none",
            ),
            Chart(
                "Share of the candidate",
                "Percent of the requests, as decided.",
                (Line(f"homeostat_rollout_percent{of}", "version {{candidate}}"),),
                unit="percent",
            ),
            Chart(
                "Requests by arm",
                "As answered; shadow: scored in pairs, off the response path.",
                (Line(_rate("model_predictions_total", of, by), "version {{version}} {{arm}}"),),
                unit="reqps",
            ),
        ),
    )
    evidence = Row(
        "Evidence",
        (
            Chart(
                "Harm by guard",
                "How much worse the candidate is, with its bounds at all times and what is"
                " tolerated; latency as a ratio.",
                (
                    Line(f"homeostat_guard_harm{of}", "{{guard}}"),
                    Line(f"homeostat_guard_harm_low{of}", "{{guard}} at least"),
                    Line(f"homeostat_guard_harm_high{of}", "{{guard}} at most"),
                    Line(f"homeostat_guard_limit{of}", "{{guard}} tolerated"),
                ),
            ),
            Chart(
                "Verdicts of the guards",
                "It advances when all pass, is rolled back when one fails, and else holds.",
                (Line(f"homeostat_guard_outcome{of}", "{{guard}}"),),
                kind="verdict",
            ),
            Chart(
                "Observations by guard",
                "What the verdicts rest on.",
                (Line(f"homeostat_guard_requests{of}", "{{guard}}"),),
            ),
            Chart(
                "Latency p99 by arm",
                "The candidate beside the champion.",
                (Line(_p99(of, "arm"), "{{arm}}"),),
                unit="s",
                width=12,
            ),
            Chart(
                "Rollouts that ended",
                "Since the first event.",
                (Line(f"homeostat_rollouts_total{of}", "{{outcome}}"),),
                width=12,
            ),
        ),
    )
    return (progress, evidence)


# -- the loop ----------------------------------------------------------------------------------


def _loop(project: Project) -> tuple[Row, ...]:
    of = _of(project.name)
    return (_alive(project, of), _data(of), _retraining(of), _alarms(of))


def _alive(project: Project, of: str) -> Row:
    window = project.monitoring.window.total_seconds()
    beats = (
        Chart(
            "Last turn of the loop",
            "Ago, by the loop's clock; a turn takes seconds.",
            (Line(f"time() - homeostat_loop_last_tick_timestamp_seconds{of}", "ago"),),
            kind="figure",
            unit="s",
            limit=300,
            width=6,
        ),
        Chart(
            "Last window looked at",
            f"Ended so long ago; windows of {project.monitoring.window} close.",
            (Line(f"time() - homeostat_monitor_last_window_timestamp_seconds{of}", "ago"),),
            kind="figure",
            unit="s",
            limit=2 * window + 300,
            width=6,
        ),
        Chart(
            "Cannot be done now",
            "What the loop tries again: its own effects, and notices that wait.",
            (
                Line(f"homeostat_loop_problems{of}", "effects"),
                Line(f"homeostat_notices_waiting{of}", "notices"),
            ),
            kind="figure",
            limit=1,
            width=6,
        ),
        Chart(
            "Log records dropped",
            "Predictions that could not be kept, since the counters began.",
            (Line(_of_server("homeostat_log_dropped_total", of), "records"),),
            kind="figure",
            limit=1,
            width=6,
        ),
    )
    return Row("Alive", beats)


def _data(of: str) -> Row:
    return Row(
        "Data and labels",
        (
            Chart(
                "Requests per window",
                "What the monitors looked at.",
                (
                    Line(f"homeostat_window_requests{of}", "requests"),
                    Line(f"homeostat_window_errors{of}", "failed"),
                ),
            ),
            Chart(
                "Data quality",
                "Share of the rows with a fault that was found; zero while all is well.",
                (
                    Line(
                        f"homeostat_data_fault_share{of} or 0 * homeostat_window_requests{of}",
                        "{{fault}}",
                    ),
                ),
                unit="percentunit",
            ),
            Chart(
                "Labels that are there",
                "Share of the requests whose labels should be final that have one.",
                (Line(f"homeostat_label_coverage{of}", "labelled"),),
                unit="percentunit",
            ),
            Chart(
                "Label delay",
                "From request to label: so many are there by then.",
                (Line(f"homeostat_label_delay_seconds{of}", "{{share}} of them"),),
                unit="s",
                width=24,
            ),
        ),
    )


def _retraining(of: str) -> Row:
    return Row(
        "Retraining",
        (
            Chart(
                "Started and refused",
                "By trigger, since the first event.",
                (
                    Line(f"homeostat_retrainings_total{of}", "{{trigger}} started"),
                    Line(f"homeostat_retraining_refusals_total{of}", "{{trigger}} refused"),
                ),
            ),
            Chart(
                "Budget of the week",
                "Retrainings in seven days, and without gain, beside what is declared.",
                (
                    Line(f"homeostat_retrainings_last_week{of}", "last seven days"),
                    Line(f"homeostat_retrainings_per_week{of}", "declared"),
                    Line(f"homeostat_retrainings_without_gain{of}", "without gain"),
                    Line(f"homeostat_retrainings_without_gain_limit{of}", "then asks a person"),
                ),
            ),
            Chart(
                "Training runs",
                "Under way, and how they ended.",
                (
                    Line(f"homeostat_training_running{of}", "under way"),
                    Line(f"homeostat_runs_total{of}", "{{outcome}}"),
                ),
            ),
        ),
    )


def _alarms(of: str) -> Row:
    return Row(
        "Alarms",
        (
            Chart(
                "False-alarm budget",
                "Expected false alarms that the windows of the last 30 days were allowed, beside"
                " what is declared for a month.",
                (
                    Line(f"homeostat_false_alarm_budget_used{of}", "used"),
                    Line(f"homeostat_false_alarm_budget{of}", "declared"),
                ),
                width=12,
            ),
            Chart(
                "Alerts raised",
                "By kind, since the first event; drift: how often it set in.",
                (
                    Line(f"homeostat_alerts_total{of}", "{{kind}}"),
                    Line(f"model_drift_alert_total{of}", "drift set in"),
                ),
                width=12,
            ),
        ),
    )
