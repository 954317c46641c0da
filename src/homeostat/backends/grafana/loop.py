"""The third dashboard: what watches a model, and repairs it."""

from __future__ import annotations

from homeostat.backends.grafana.charts import Chart, Line, Row, of_model, of_server, series
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
            series(of, homeostat_loop_problems="effects", homeostat_notices_waiting="notices"),
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
                series(of, homeostat_window_requests="requests", homeostat_window_errors="failed"),
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
                series(of, homeostat_label_coverage="labelled"),
                unit="percentunit",
            ),
            Chart(
                "Label delay",
                "From request to label: so many are there by then.",
                series(of, homeostat_label_delay_seconds="{{share}} of them"),
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
                series(
                    of,
                    homeostat_retrainings_total="{{trigger}} started",
                    homeostat_retraining_refusals_total="{{trigger}} refused",
                ),
            ),
            Chart(
                "Budget of the week",
                "Retrainings in seven days, and without gain, beside what is declared.",
                series(
                    of,
                    homeostat_retrainings_last_week="last seven days",
                    homeostat_retrainings_per_week="declared",
                    homeostat_retrainings_without_gain="without gain",
                    homeostat_retrainings_without_gain_limit="then asks a person",
                ),
            ),
            Chart(
                "Training runs",
                "Under way, and how they ended.",
                series(
                    of, homeostat_training_running="under way", homeostat_runs_total="{{outcome}}"
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
                series(
                    of,
                    homeostat_false_alarm_budget_used="used",
                    homeostat_false_alarm_budget="declared",
                ),
            ),
            Chart(
                "Calibrated false alarms",
                "Per month, replayed on the champion's own quiet history, with the 95 % interval;"
                " none before `homeostat monitors calibrate`.",
                series(
                    of,
                    homeostat_calibrated_false_alarms="{{check}}",
                    homeostat_calibrated_false_alarms_low="{{check}} at least",
                    homeostat_calibrated_false_alarms_high="{{check}} at most",
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
