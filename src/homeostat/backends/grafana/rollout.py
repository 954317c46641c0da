"""The second dashboard: the candidate against the champion."""

from __future__ import annotations

from homeostat.backends.grafana.charts import Chart, Line, Row, by_arm, of_model, quantile, series


def rows(model: str) -> tuple[Row, ...]:
    of = of_model(model)
    phase = f"homeostat_rollout_phase{of} == 1"
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
                series(of, homeostat_rollout_percent="version {{candidate}}"),
                unit="percent",
            ),
            Chart(
                "Requests by arm",
                "As answered; shadow: scored in pairs, off the response path.",
                (by_arm(of),),
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
                series(
                    of,
                    homeostat_guard_harm="{{guard}}",
                    homeostat_guard_harm_low="{{guard}} at least",
                    homeostat_guard_harm_high="{{guard}} at most",
                    homeostat_guard_limit="{{guard}} tolerated",
                ),
            ),
            Chart(
                "Verdicts of the guards",
                "It advances when all pass, is rolled back when one fails, and else holds.",
                series(of, homeostat_guard_outcome="{{guard}}"),
                kind="verdict",
            ),
            Chart(
                "Observations by guard",
                "What the verdicts rest on.",
                series(of, homeostat_guard_requests="{{guard}}"),
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
                series(of, homeostat_rollouts_total="{{outcome}}"),
                width=12,
            ),
        ),
    )
    return (progress, evidence)
