"""The figures of a dossier over time, drawn to SVG without a browser."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from homeostat.core.drawing import INK, inked, settings
from homeostat.rollout.dossier.model import Dossier, Guard, Point

HARM, LIMIT, SHARE = "#3b82c4", "#d05a3c", "#7a8aa0"
WIDTH, HEIGHT, MARGIN = 560, 150, 46
SETTLED = 0.4
"""The scale fits the figures of the last part of the way, and the bounds at its end: those before
may be so wide that nothing else would show."""


def guard(found: Guard, began: datetime, ended: datetime) -> str | None:
    """One guard: the measured harm as a line, its bounds as a band that narrows, what is
    tolerated dashed. None where nothing was measured."""
    import altair as alt

    points = [p for p in found.path if p.figure is not None]
    if not points:
        return None
    low, high = _scale(points, found.threshold)
    rows = [
        {
            "at": p.at,
            "figure": _within(p.figure, low, high),
            "low": low if p.low is None else _within(p.low, low, high),
            "high": high if p.high is None else _within(p.high, low, high),
        }
        for p in points
    ]
    scale = alt.Scale(domain=[low, high], nice=False)
    base = alt.Chart(pl.DataFrame(rows)).encode(x=_time(began, ended))
    y = alt.Y("low:Q", title=None, scale=scale, axis=alt.Axis(tickCount=4, minExtent=MARGIN))
    if len(points) > 1:
        band = base.mark_area(color=HARM, opacity=0.22).encode(y=y, y2="high:Q")
        line = base.mark_line(color=HARM, strokeWidth=2)
    else:  # decided on its first figures
        band = base.mark_rule(color=HARM, opacity=0.4, strokeWidth=6).encode(y=y, y2="high:Q")
        line = base.mark_point(color=HARM, filled=True, size=60, opacity=1)
    layers = [band, line.encode(y=alt.Y("figure:Q", scale=scale))]
    if low < 0 < high:
        layers.append(_rule(0.0, scale, INK, 0.5, [1, 0]))
    if found.threshold is not None:
        layers.append(_rule(found.threshold, scale, LIMIT, 1.0, [5, 3]))
    return svg(alt.layer(*layers).properties(width=WIDTH, height=HEIGHT))


def exposure(found: Dossier) -> str:
    """The share of the requests that each candidate had, over time."""
    import altair as alt

    rows = _shares(found)
    chart = (
        alt.Chart(pl.DataFrame(rows))
        .mark_area(interpolate="step-after", color=SHARE, opacity=0.35, line={"color": SHARE})
        .encode(
            x=_time(found.began, rows[-1]["at"]),
            y=alt.Y(
                "percent:Q",
                title=None,
                scale=alt.Scale(domain=[0, 100]),
                axis=alt.Axis(
                    values=[0, 25, 50, 75, 100],
                    labelExpr="datum.value + ' %'",
                    minExtent=MARGIN,
                ),
            ),
        )
    )
    return svg(chart.properties(width=WIDTH, height=90))


def _shares(found: Dossier) -> list[dict[str, Any]]:
    """Each moment once: of several things at the same time, how they left it."""
    shares = {m.at: m.percent for m in _while_live(found)}
    shares[found.ended or found.at] = list(shares.values())[-1]
    return [{"at": at, "percent": percent} for at, percent in shares.items()]


def _while_live(found: Dossier) -> list[Any]:
    ends = ("rollout.promoted", "rollout.rolled_back")
    return [m for m in found.timeline if m.kind not in ends]


def _scale(points: Sequence[Point], threshold: float | None) -> tuple[float, float]:
    late = points[int(len(points) * (1 - SETTLED)) :]
    last = points[-1]
    shown = [*(p.figure for p in late), last.low, last.high, 0.0, threshold]
    ends = [v for v in shown if v is not None]
    low, high = min(ends), max(ends)
    room = 0.15 * (high - low) or 1e-6
    return low - room, high + room


def _within(value: float | None, low: float, high: float) -> float | None:
    return None if value is None else min(max(value, low), high)


def _time(began: datetime, ended: datetime) -> Any:
    """The axis of time, in UTC, the same in every chart of a page."""
    import altair as alt

    length = ended - began
    form = "%H:%M" if length < timedelta(days=1) else "%b %d, %H:%M"
    if length < timedelta(minutes=5):
        form = "%H:%M:%S"
    if length > timedelta(days=6):
        form = "%b %d"
    scale = alt.Scale(domain=[began.isoformat(), ended.isoformat()], type="utc")
    axis = alt.Axis(tickCount=5, format=form, labelFlush=False)
    return alt.X("at:T", title=None, scale=scale, axis=axis)


def _rule(value: float, scale: Any, colour: str, opacity: float, dash: list[int]) -> Any:
    import altair as alt

    return (
        alt.Chart(pl.DataFrame({"value": [value]}))
        .mark_rule(color=colour, opacity=opacity, strokeDash=dash, strokeWidth=1.4)
        .encode(y=alt.Y("value:Q", scale=scale))
    )


def svg(chart: Any) -> str:
    """An SVG element that scales to its place and takes its ink from the page."""
    import vl_convert

    config = settings(left=4, right=14, grid=0.1, labelFontSize=11)
    return inked(vl_convert.vegalite_to_svg({**chart.to_dict(), "config": config}))
