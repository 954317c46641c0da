"""The second dashboard: the candidate against the champion."""

from __future__ import annotations

from homeostat.backends.grafana.charts import Chart, Line, Row, of_model, quantile, rate


def rows(model: str) -> tuple[Row, ...]:
    of = of_model(model)
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
                (Line(rate("model_predictions_total", of, by), "version {{version}} {{arm}}"),),
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
                (Line(quantile(of, "arm"), "{{arm}}"),),
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
