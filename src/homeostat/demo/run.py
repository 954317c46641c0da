"""The demo: a model fails because the world changed, and the loop repairs it.

Everything is real but the payments: `homeostat run` trains the first version, `homeostat up`
serves it with workers, keeper and controller as processes of their own, and the payments come in
over HTTP. Time is compressed by the clock that all of them are given; no part is skipped.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from homeostat.demo.picture import draw
from homeostat.demo.stage import PER_HOUR, SMOOTH, Stage
from homeostat.demo.story import Act, Facts, Story
from homeostat.demo.view import View
from homeostat.demo.world import World

PATIENCE = 420.0
"""Seconds after which the demo gives up."""
FLOOR = 0.7
"""The least detection that the demo's project declares."""


def run(
    folder: Path,
    *,
    act: Act = Act.BOTH,
    seed: int = 7,
    console: Console | None = None,
    picture: Path | None = None,
) -> Facts:
    """Play in `folder` (made anew, kept for looking around); -> what was measured.

    Raises Unavailable when a part does not come up or the story does not go on.
    """
    console = console or Console()
    began, story = time.monotonic(), Story(act)
    world = World(seed, per_hour=PER_HOUR, shift_at=story.shift)
    with View(console, "homeostat demo: card payments, two virtual hours a second") as view:
        stage = Stage(folder, world, view, patience=PATIENCE)
        stage.prepare()
        view.line("the first model is trained on 14 days of payments")
        stage.complete(stage.command("run"), "run")
        with stage.up() as port:
            asyncio.run(stage.play(story.script, port))
    facts = Facts(
        story.recovery,
        story.bad_candidate,
        requests=stage.tally.sent,
        failed=stage.tally.failed.total(),
        seconds=time.monotonic() - began,
    )
    path = picture or folder / "demo.svg"
    draw(
        path,
        title=headline(facts),
        subtitle="real HTTP traffic, two virtual hours a second; labels come 6 hours late",
        detection=stage.tally.detection_table(SMOOTH),
        drift=stage.drift_table(),
        traffic=stage.tally.traffic_table(),
        marks=stage.marks,
        floor=FLOOR,
    )
    console.print(table(facts, dict(stage.tally.failed)))
    console.print(f"picture: {path}", markup=False, highlight=False, soft_wrap=True)
    if facts.bad_candidate is not None:
        page = f"dossier of the rollback: {facts.bad_candidate.dossier}"
        console.print(page, markup=False, highlight=False, soft_wrap=True)
    return facts


def headline(facts: Facts) -> str:
    found = facts.recovery
    if found is None:
        return "A worse candidate is canaried and rolled back, with nobody touching it"
    return (
        f"Fraud caught: {found.before:.0%}, then {found.during:.0%} when the world changed, "
        f"{found.after:.0%} again, with nobody touching it"
    )


def table(facts: Facts, failures: dict[str, int]) -> Table:
    """The summary at the end."""
    rows = Table(title="the loop closed" if facts.closed else "the loop did NOT close", box=None)
    rows.add_column("", style="bold")
    rows.add_column("")
    if (act := facts.recovery) is not None:
        rows.add_row("fraud caught before", f"{act.before:.1%}")
        rows.add_row("fraud caught after the change", f"{act.during:.1%}")
        rows.add_row("fraud caught after promotion", f"{act.after:.1%}")
        rows.add_row(
            "detected after", f"{act.alarm_hours:.0f} h of the world, {act.alarm_seconds:.0f} s"
        )
        rows.add_row("retrained in", f"{act.training_seconds:.0f} s")
        rows.add_row("in canary after", f"{act.canary_seconds:.0f} s")
        rows.add_row(
            "promoted after",
            f"{act.promoted_hours:.0f} h of the world, {act.promoted_seconds:.0f} s",
        )
    if (bad := facts.bad_candidate) is not None:
        rows.add_row(
            "bad candidate",
            f"version {bad.version}, at most {bad.largest_percent:.0f} % of the traffic, rolled "
            f"back after {bad.rolled_back_hours:.0f} h of the world",
        )
        rows.add_row("", f"it answered {bad.answered:,} of {facts.requests:,} requests")
        rows.add_row("", bad.decision)
    rows.add_row("requests failed", f"{facts.failed} of {facts.requests:,}")
    for why, count in failures.items():
        rows.add_row("", f"{count} x {why}")
    rows.add_row("the whole demo", f"{facts.seconds:.0f} s")
    return rows
