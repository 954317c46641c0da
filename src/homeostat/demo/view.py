"""What a person sees while the demo runs: a live screen on a terminal, plain lines elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

BLOCKS = " ▁▂▃▄▅▆▇█"
KEPT_LINES = 9


@dataclass
class Scene:
    """What is going on now. spark: detection per period, oldest first; None: no frauds."""

    title: str
    at: datetime | None = None
    phase: str = "getting ready"
    sent: int = 0
    failed: int = 0
    detection: float | None = None
    drift: float = 0.0
    traffic: dict[str, float] = field(default_factory=dict)
    spark: list[float | None] = field(default_factory=list)


class View:
    """`line` tells something that happened; `show` updates the figures."""

    def __init__(self, console: Console, title: str) -> None:
        self.console, self.scene = console, Scene(title)
        self._lines: list[str] = []
        self._live: Live | None = None

    def __enter__(self) -> View:
        if self.console.is_terminal:
            self._live = Live(
                self._draw(), console=self.console, refresh_per_second=5, transient=True
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
            for text in self._lines:
                self.console.print(text, markup=False, highlight=False)

    def line(self, text: str, at: datetime | None = None) -> None:
        stamp = f"{at:%d %b %H:%M}  " if at else "              "
        self._lines.append(stamp + text)
        if self._live is None:
            self.console.print(stamp + text, markup=False, highlight=False, soft_wrap=True)
        else:
            self._live.update(self._draw())

    def show(self, scene: Scene) -> None:
        self.scene = scene
        if self._live is not None:
            self._live.update(self._draw())

    def _draw(self) -> Group:
        scene = self.scene
        figures = Table.grid(padding=(0, 2))
        figures.add_column(justify="right", style="bold", width=16)
        figures.add_column()
        clock = f"{scene.at:%a %d %b %H:%M}" if scene.at else "-"
        figures.add_row("virtual time", f"{clock}   {scene.phase}")
        figures.add_row("payments", f"{scene.sent:,} sent, {scene.failed} failed")
        value = "-" if scene.detection is None else f"{scene.detection:.0%}"
        figures.add_row("fraud caught", Text(f"{value:>5}  ") + _spark(scene.spark))
        figures.add_row("largest drift", f"{scene.drift:.2f}")
        for version, percent in sorted(scene.traffic.items()):
            bar = ProgressBar(total=100, completed=percent, width=40)
            cell = Table.grid(padding=(0, 1))
            cell.add_row(bar, f"{percent:.0f} %")
            figures.add_row(f"version {version}", cell)
        told = Text("\n".join(self._lines[-KEPT_LINES:]), overflow="ellipsis", no_wrap=True)
        return Group(Panel(figures, title=scene.title, title_align="left"), told)


def _spark(values: list[float | None]) -> Text:
    text = Text()
    for value in values[-60:]:
        if value is None:
            text.append(" ")
            continue
        colour = "green" if value >= 0.7 else "yellow" if value >= 0.5 else "red"
        text.append(BLOCKS[round(value * (len(BLOCKS) - 1))], style=colour)
    return text
