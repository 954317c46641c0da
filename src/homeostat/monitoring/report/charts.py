"""The charts of the drift report: Altair specifications, drawn to SVG without a browser."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from homeostat.core.drawing import INK, inked, settings
from homeostat.monitoring.drift.compare import DriftReport
from homeostat.monitoring.drift.distances import Floats
from homeostat.monitoring.drift.views import kind_of

BEFORE, AFTER, QUIET = "#3b82c4", "#e07b39", "#8a94a3"
BARS = 40
WIDE = 420
"""Pixels of a chart that has the page to itself; others share it."""
CATEGORIES = 12
Spec = dict[str, Any]


def ranked(report: DriftReport, most: int = 15) -> str | None:
    """The most moved columns: the distance as a bar, its lower bound as a tick, the limit as a
    line. None when nothing was measured."""
    import altair as alt

    rows = [
        {
            "column": _short(c.column),
            "effect": c.effect,
            "low": c.low or None,
            "moved": "moved" if c.drifted else "not shown",
        }
        for c in report.ranked()[:most]
        if c.effect is not None
    ]
    if not rows:
        return None
    base = alt.Chart(pl.DataFrame(rows)).encode(
        y=alt.Y("column:N", sort=None, title=None, axis=alt.Axis(labelLimit=190))
    )
    bars = base.mark_bar(height={"band": 0.7}).encode(
        x=alt.X(
            "effect:Q",
            title="distance (0 to 1)",
            scale=alt.Scale(domainMin=0),
            axis=alt.Axis(tickCount=6, labelOverlap=True),
        ),
        color=alt.Color(
            "moved:N",
            scale=alt.Scale(domain=["moved", "not shown"], range=[AFTER, QUIET]),
            legend=None,
        ),
    )
    ticks = base.mark_tick(color=INK, thickness=2, size=14).encode(x="low:Q")
    limit = (
        alt.Chart(pl.DataFrame({"limit": [report.min_effect]}))
        .mark_rule(color=INK, strokeDash=[4, 3])
        .encode(x="limit:Q")
    )
    return svg((bars + ticks + limit).properties(width=WIDE, height={"step": 22}))


def bars(rows: list[tuple[str, float]], title: str) -> str | None:
    """Named figures as bars, in their order; None of nothing."""
    import altair as alt

    if not rows:
        return None
    table = pl.DataFrame(
        [{"column": _short(name), "value": value, "sign": value > 0} for name, value in rows]
    )
    chart = (
        alt.Chart(table)
        .mark_bar(height={"band": 0.7})
        .encode(
            y=alt.Y("column:N", sort=None, title=None, axis=alt.Axis(labelLimit=190)),
            x=alt.X("value:Q", title=title, axis=alt.Axis(tickCount=4, labelOverlap=True)),
            color=alt.Color(
                "sign:N", scale=alt.Scale(domain=[True, False], range=[AFTER, BEFORE]), legend=None
            ),
        )
    )
    return svg(chart.properties(width=WIDE, height={"step": 22}))


def overlaid(before: pl.Series, after: pl.Series) -> str | None:
    """Both distributions of one column, as shares of the rows; None with no values to draw."""
    if kind_of(before.dtype) == "categorical" or kind_of(after.dtype) == "categorical":
        return _bars(before.cast(pl.String), after.cast(pl.String))
    instants = before.dtype in (pl.Datetime, pl.Date) and after.dtype.is_temporal()
    return _histogram(_floats(before), _floats(after), instants=instants)


def _floats(series: pl.Series) -> Floats:
    if series.dtype == pl.Date:
        series = series.cast(pl.Datetime("ms"))
    if series.dtype.is_temporal():
        series = (
            series.dt.epoch("ms") if isinstance(series.dtype, pl.Datetime) else series.to_physical()
        )
    values: Floats = series.cast(pl.Float64).drop_nulls().to_numpy()
    finite: Floats = values[np.isfinite(values)]
    return finite


def _histogram(before: Any, after: Any, *, instants: bool) -> str | None:
    import altair as alt

    both = [v for v in (before, after) if v.size]
    if not both:
        return None
    # the outermost half percent would squeeze everything else into one bar
    low = min(float(np.quantile(v, 0.005)) for v in both)
    high = max(float(np.quantile(v, 0.995)) for v in both)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BARS + 1)
    rows = []
    for name, values in (("baseline", before), ("current", after)):
        counts = np.histogram(np.clip(values, low, high), edges)[0] / max(1, values.size)
        # a step lasts until the next edge; the last one is closed by repeating it
        heights = [*counts, counts[-1]]
        rows += [
            {"from": float(a), "share": float(share), "table": name}
            for a, share in zip(edges, heights, strict=True)
        ]
    kind = "T" if instants else "Q"
    chart = (
        alt.Chart(pl.DataFrame(rows))
        .mark_area(interpolate="step-after", fillOpacity=0.3, line={"strokeWidth": 1.4})
        .encode(
            x=alt.X(f"from:{kind}", title=None, axis=alt.Axis(tickCount=5)),
            y=alt.Y("share:Q", title=None, stack=None, axis=alt.Axis(format="%", tickCount=3)),
            color=_tables(),
        )
    )
    return svg(chart.properties(width=300, height=130))


def _bars(before: pl.Series, after: pl.Series) -> str | None:
    import altair as alt

    counts = []
    for name, values in (("baseline", before), ("current", after)):
        found = values.fill_null("(empty)").value_counts(name="n").rows()
        counts += [(name, level, n / max(1, values.len())) for level, n in found]
    if not counts:
        return None
    totals: dict[str, float] = {}
    for _, level, share in counts:
        totals[level] = totals.get(level, 0.0) + share
    kept = sorted(totals, key=lambda level: (-totals[level], level))[:CATEGORIES]
    names = _distinct(kept)
    rows = [
        {"level": names[level], "share": share, "table": name}
        for name, level, share in counts
        if level in names
    ]
    chart = (
        alt.Chart(pl.DataFrame(rows))
        .mark_bar()
        .encode(
            y=alt.Y(
                "level:N",
                sort=list(names.values()),
                title=None,
                axis=alt.Axis(labelLimit=110),
            ),
            yOffset="table:N",
            x=alt.X("share:Q", title=None, axis=alt.Axis(format="%", tickCount=4)),
            color=_tables(),
        )
    )
    return svg(chart.properties(width=200, height={"step": 11}))


def _tables() -> Any:
    import altair as alt

    scale = alt.Scale(domain=["baseline", "current"], range=[BEFORE, AFTER])
    return alt.Color("table:N", scale=scale, legend=None)


def _distinct(levels: list[str]) -> dict[str, str]:
    """A short name for each; texts that only differ further on are numbered."""
    names: dict[str, str] = {}
    for level in levels:
        short, same = _short(level), sum(_short(other) == _short(level) for other in names)
        names[level] = f"{short} ({same + 1})" if same else short
    return names


def _short(text: str) -> str:
    return text if len(text) <= 22 else text[:21] + "…"


def svg(chart: Any) -> str:
    """An SVG element that scales to its place and takes its ink from the page."""
    import vl_convert

    # browsers draw text a little wider than it was measured here
    config = settings(left=16, right=8, grid=0.12, titleFontWeight="normal")
    return inked(vl_convert.vegalite_to_svg({**chart.to_dict(), "config": config}))
