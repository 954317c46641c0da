"""How every chart of ours is drawn, so that pages of different stages look alike.

Colours that must follow the page (text, axes) are drawn in `INK` and replaced by `currentColor`.
"""

from __future__ import annotations

from typing import Any

INK = "#010203"
FONT = "system-ui, sans-serif"


def settings(*, left: int, right: int, grid: float, **axis: Any) -> dict[str, Any]:
    """Vega-Lite's `config`. left, right: room beside the chart in pixels. grid: opacity of its
    lines. axis: more of Vega-Lite's settings of axes."""
    return {
        "background": "transparent",
        "padding": {"left": left, "right": right, "top": 6, "bottom": 4},
        "view": {"stroke": None},
        "axis": {
            **{f"{part}Color": INK for part in ("label", "title", "domain", "tick", "grid")},
            "gridOpacity": grid,
            **axis,
        },
        "font": FONT,
    }


def inked(svg: str) -> str:
    """An SVG element that takes its ink from the page."""
    return svg.replace(INK, "currentColor")
