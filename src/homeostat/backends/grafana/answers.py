"""The first dashboard: how a model answers, and how good it is."""

from __future__ import annotations

from homeostat.backends.grafana.charts import (
    RATE,
    Chart,
    Line,
    Row,
    by_arm,
    errors,
    of_model,
    of_server,
    quantile,
    rate,
    series,
)
from homeostat.definition import Project


def rows(project: Project) -> tuple[Row, ...]:
    of = of_model(project.name)
    alerts = f"sum by (severity) (homeostat_alert_open{of}) or 0 * homeostat_loop_problems{of}"
    now = Row(
        "Now",
        (
            Chart(
                "Champion",
                "The version that answers.",
                series(of, homeostat_champion_info="version {{version}}"),
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
                (Line(rate("model_predictions_total", of), "rows/s"),),
                kind="figure",
                unit="reqps",
                width=4,
            ),
            Chart(
                "Error rate",
                "Share of the rows that were not answered.",
                (Line(errors(of), "errors"),),
                kind="figure",
                unit="percentunit",
                limit=0.01,
                width=4,
            ),
            Chart(
                "Latency p99",
                "From a request's arrival to its answer.",
                (Line(quantile(of, "model"), "p99"),),
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
    latency = tuple(
        Line(quantile(of, "arm", share), f"{name} {{{{arm}}}}")
        for share, name in (("0.99", "p99"), ("0.5", "median"))
    )
    return Row(
        "Requests",
        (
            Chart(
                "Rate",
                "Rows answered per second, by version; those in the shadow answer nobody.",
                (by_arm(of),),
                unit="reqps",
            ),
            Chart(
                "Error rate",
                "Share of the rows that were not answered.",
                (Line(errors(of), "errors"),),
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
                    Line(of_server(f"rate(homeostat_requests_{how}_total[{RATE}])", of), how)
                    for how in ("answered", "shed", "failed", "lost")
                ),
                unit="reqps",
                width=24,
            ),
        ),
    )


def _quality(project: Project, of: str) -> Row:
    joint = project.monitoring.drift.joint
    charts = [
        Chart(
            "Drift score",
            "How far features moved from what the champion was trained on: 0 to 1, per window.",
            series(
                of,
                model_drift_score="{{feature}}",
                **({"homeostat_joint_drift": "all together"} if joint else {}),
                homeostat_drift_min_effect="declared minimum",
            ),
            limit=project.monitoring.drift.min_effect,
        ),
        Chart(
            "Verdicts of the monitors",
            "Green pass, yellow inconclusive, red fail. Nothing measured is never a pass.",
            series(of, homeostat_monitor_outcome="{{check}}"),
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
    return series(of, homeostat_quality_bound="declared {{bound}}")
