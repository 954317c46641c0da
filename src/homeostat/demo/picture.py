"""The loop recovering, in one picture: detection, drift and the traffic split over time."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

INK = "#1f2933"
CAUGHT, DRIFT = "#0b7285", "#d9480f"
SPLIT = ["#74a9cf", "#31a354", "#e6550d", "#756bb1", "#bdbdbd"]
WIDTH = 860
LATE = 0.85
"""From this share of the time on, words stand left of their line."""


class Mark(NamedTuple):
    """Something that happened, drawn as a line across the panels."""

    at: datetime
    text: str


def draw(
    path: Path,
    *,
    title: str,
    subtitle: str,
    detection: pl.DataFrame,
    drift: pl.DataFrame,
    traffic: pl.DataFrame,
    marks: list[Mark],
    floor: float,
    measure: str = "fraud caught",
) -> None:
    """Write an SVG or PNG (by the suffix of `path`).

    detection: time, detection (0 to 1). drift: time, effect (0 to 1). traffic: time, version,
    percent. marks: in order of time. floor: the declared least detection. measure: what
    `detection` is called.
    """
    import altair as alt

    times = pl.concat([detection["time"], traffic["time"]])
    start, end = times.min(), times.max()
    assert isinstance(start, datetime)
    assert isinstance(end, datetime)
    x = alt.X("time:T", title=None, scale=alt.Scale(domain=[_ms(start), _ms(end)], type="utc"))
    quiet = x.axis(labels=False, ticks=False, grid=False)
    late = (pl.col("time") - start) / (end - start) > LATE
    lines = pl.DataFrame(
        {"time": [m.at for m in marks], "text": [m.text for m in marks]},
        schema={"time": detection.schema["time"], "text": pl.String()},
    ).with_columns(row=pl.int_range(pl.len()) % 3, late=late)
    rules = (
        alt.Chart(lines)
        .mark_rule(color=INK, strokeDash=[3, 3], opacity=0.55)
        .encode(x=alt.X("time:T"))
    )
    level = alt.Y("row:O", axis=None, scale=alt.Scale(domain=[0, 1, 2]))
    words = alt.layer(
        *(
            alt.Chart(lines.filter(pl.col("late") == right))
            .mark_text(align="right" if right else "left", dx=-4 if right else 4, color=INK)
            .encode(x=quiet, text="text:N", y=level)
            for right in (False, True)
        )
    ).properties(width=WIDTH, height=44, view=alt.ViewBackground(stroke=None))
    caught = alt.layer(
        rules,
        alt.Chart(pl.DataFrame({"floor": [floor]}))
        .mark_rule(color=CAUGHT, opacity=0.4)
        .encode(y="floor:Q"),
        alt.Chart(detection.drop_nulls())
        .mark_line(color=CAUGHT, strokeWidth=2.5, interpolate="monotone")
        .encode(
            x=quiet,
            y=alt.Y(
                "detection:Q",
                title=measure,
                axis=alt.Axis(format="%", tickCount=5),
                scale=alt.Scale(domain=[0, 1]),
            ),
        ),
    ).properties(width=WIDTH, height=190)
    moved = alt.layer(
        rules,
        alt.Chart(drift)
        .mark_area(color=DRIFT, opacity=0.25, line={"color": DRIFT}, interpolate="step-after")
        .encode(
            x=quiet, y=alt.Y("effect:Q", title="largest drift", scale=alt.Scale(domain=[0, 1]))
        ),
    ).properties(width=WIDTH, height=80)
    split = alt.layer(
        alt.Chart(traffic)
        .mark_area(interpolate="step-after", opacity=0.85)
        .encode(
            x=x.axis(format="%d %b %H:%M", tickCount=8, grid=False),
            y=alt.Y("percent:Q", title="traffic, %", stack=True),
            color=alt.Color(
                "version:N",
                title="version",
                scale=alt.Scale(range=SPLIT),
                legend=alt.Legend(orient="bottom", direction="horizontal"),
            ),
            order=alt.Order("version:N"),
        ),
        rules,
    ).properties(width=WIDTH, height=110)
    chart: Any = (
        alt.vconcat(words, caught, moved, split, spacing=6)
        .properties(
            title=alt.TitleParams(title, subtitle=subtitle, anchor="start", fontSize=17, color=INK),
            background="white",
            padding=14,
        )
        .configure_view(stroke="#d5dbe1")
        .configure_axis(labelColor=INK, titleColor=INK, gridColor="#eceff2", titleFontWeight=500)
    )
    chart.save(str(path), **({"scale_factor": 2} if path.suffix == ".png" else {}))


def _ms(at: datetime) -> float:
    return at.timestamp() * 1000
