"""The third dashboard: what watches a model, and repairs it."""

from __future__ import annotations

from homeostat.backends.grafana.charts import Chart, Line, Row, of_model, of_server
from homeostat.definition import Project


def rows(project: Project) -> tuple[Row, ...]:
    of = of_model(project.name)
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
            (Line(of_server("homeostat_log_dropped_total", of), "records"),),
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
            ),
            Chart(
                "Calibrated false alarms",
                "Per month, replayed on the champion's own quiet history, with the 95 % interval;"
                " none before `homeostat monitors calibrate`.",
                (
                    Line(f"homeostat_calibrated_false_alarms{of}", "{{check}}"),
                    Line(f"homeostat_calibrated_false_alarms_low{of}", "{{check}} at least"),
                    Line(f"homeostat_calibrated_false_alarms_high{of}", "{{check}} at most"),
                ),
            ),
            Chart(
                "Alerts raised",
                "By kind, since the first event; drift: how often it set in.",
                (
                    Line(f"homeostat_alerts_total{of}", "{{kind}}"),
                    Line(f"model_drift_alert_total{of}", "drift set in"),
                    Line(f"homeostat_silenced{of} == 1", "{{kind}} silenced"),
                ),
            ),
        ),
    )
