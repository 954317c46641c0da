"""What a dashboard is made of, as values, and the PromQL that more than one chart asks. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

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


def of_model(model: str) -> str:
    """The selector that picks the series of a model: the `of` below."""
    return f'{{model="{model}"}}'


def series(of: str, **legends: str) -> tuple[Line, ...]:
    """A line per metric of a model, with its legend."""
    return tuple(Line(f"{metric}{of}", legend) for metric, legend in legends.items())


def by_arm(of: str) -> Line:
    """Rows answered per second by each version in each arm."""
    asked = rate("model_predictions_total", of, "version, arm")
    return Line(asked, "version {{version}} {{arm}}")


def rate(metric: str, of: str, by: str = "model") -> str:
    """Of a counter, per second."""
    return f"sum by ({by}) (rate({metric}{of}[{RATE}]))"


def quantile(of: str, by: str, share: str = "0.99") -> str:
    """Of the latency, in seconds."""
    buckets = rate("model_prediction_duration_seconds_bucket", of, f"le, {by}")
    return f"histogram_quantile({share}, {buckets})"


def errors(of: str) -> str:
    """Share of the rows; a model that never failed has no series of failures."""
    answered = rate("model_predictions_total", of)
    failed = f"({rate('model_prediction_errors_total', of)} or 0 * {answered})"
    return f"{failed} / ({failed} + {answered})"


def of_server(expr: str, of: str) -> str:
    """A figure of the whole server, under the model that it serves."""
    return f"{expr} * on (instance, job) group_left (model) homeostat_champion_info{of}"
