"""How Grafana writes what boards.py shows: JSON made with the Grafana Foundation SDK."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import common, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.builders import dashboard as sdk
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as model

from homeostat.backends.grafana.charts import Board, Chart

HEIGHTS = {"lines": 8, "figure": 4, "verdict": 8}
OUTCOMES = ("pass", "inconclusive", "error", "fail")
COLOURS = ("green", "yellow", "orange", "red")


def dashboard(board: Board) -> str:
    """The JSON of one dashboard; panels are numbered in order, so equal boards are equal texts."""
    built = (
        sdk.Dashboard(board.title)
        .uid(board.uid)
        .description(board.about)
        .tags(["homeostat"])
        .time("now-24h", "now")
        .refresh("30s")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .with_variable(_source())
        .link(_others())
    )
    number = 0
    for row in board.rows:
        number += 1
        built = built.with_row(sdk.Row(row.title).id(number))
        height = max(HEIGHTS[chart.kind] for chart in row.charts)
        for chart in row.charts:
            number += 1
            built = built.with_panel(_panel(chart).height(height).id(number))
    text: str = JSONEncoder(indent=2, sort_keys=True).encode(built.build())
    return text + "\n"


def _source() -> Any:
    """Which Prometheus, chosen at the top of the dashboard; the first one that is there."""
    return sdk.DatasourceVariable("datasource").label("Prometheus").type("prometheus")


def _others() -> Any:
    link = sdk.DashboardLink("Homeostat").type(model.DashboardLinkType.DASHBOARDS)
    return link.tags(["homeostat"]).as_dropdown(True).keep_time(True)


def _reference() -> Any:
    return model.DataSourceRef(type_val="prometheus", uid="${datasource}")


def _panel(chart: Chart) -> Any:
    panel = {"lines": _lines, "figure": _figure, "verdict": _verdict}[chart.kind](chart)
    panel = (
        panel.title(chart.title)
        .description(chart.about)
        .datasource(_reference())
        .span(chart.width)
        .unit(chart.unit)
    )
    for i, line in enumerate(chart.lines):
        query = prometheus.Dataquery().expr(line.expr).legend_format(line.legend)
        query = query.ref_id(chr(ord("A") + i)).datasource(_reference())
        panel = panel.with_target(query.instant() if chart.kind == "figure" else query.range())
    return panel


def _lines(chart: Chart) -> Any:
    panel = timeseries.Panel().fill_opacity(5).show_points(kinds.VisibilityMode.AUTO)
    legend = common.VizLegendOptions().show_legend(True).placement(kinds.LegendPlacement.BOTTOM)
    panel = panel.legend(legend.display_mode(kinds.LegendDisplayMode.LIST))
    if chart.limit is None:
        return panel
    style = common.GraphThresholdsStyleConfig().mode(kinds.GraphTresholdsStyleMode.DASHED)
    return panel.thresholds(_limit(chart.limit)).thresholds_style(style)


def _figure(chart: Chart) -> Any:
    panel = stat.Panel().graph_mode(kinds.BigValueGraphMode.NONE)
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    if chart.unit == "none":  # what it is called says all: a version, a phase
        panel = panel.text_mode(kinds.BigValueTextMode.NAME)
    return panel if chart.limit is None else panel.thresholds(_limit(chart.limit))


def _verdict(chart: Chart) -> Any:
    words = {
        str(rank): model.ValueMappingResult(text=word, color=colour, index=rank)
        for rank, (word, colour) in enumerate(zip(OUTCOMES, COLOURS, strict=True))
    }
    return statetimeline.Panel().mappings([model.ValueMap(options=words)])


def _limit(value: float) -> Any:
    steps = [model.Threshold(color="green"), model.Threshold(value=value, color="red")]
    return sdk.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)
