"""Measuring the monitors on what was recorded, and keeping the result with the version."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Literal

import msgspec
import numpy as np
import polars as pl

from homeostat.control.model import State, load
from homeostat.control.platform import Platform
from homeostat.control.record import settle
from homeostat.core.errors import BadInput, Refused
from homeostat.core.names import Arm
from homeostat.core.servable import Field
from homeostat.core.version import Version
from homeostat.monitoring.calibration import measure
from homeostat.monitoring.calibration.certificate import Calibrated
from homeostat.monitoring.calibration.history import History, Setting, from_reference
from homeostat.monitoring.calibration.levels import Levels
from homeostat.monitoring.calibration.shifts import standard_shifts
from homeostat.monitoring.profiles.traffic import SCORE
from homeostat.monitoring.window import LABEL, Reference

WINDOWS = 20
"""Windows of traffic without an alarm from which on the log is a history."""
ROWS = 1_000
"""Rows of a replayed window where there was no traffic to tell."""
Where = Literal["auto", "log", "reference"]


def calibrate(
    platform: Platform,
    *,
    months: float = 3.0,
    episodes: int = 20,
    on: Where = "auto",
    rows: int | None = None,
    solve: bool = False,
    seed: int = 0,
    by: str = "",
    progress: Callable[[str], None] = lambda text: None,
) -> Calibrated:
    """Replay the champion's monitors on its stable history, and record what was found.

    months: of quiet traffic to replay. episodes: for each shift. on: `log` (quiet windows of this
    champion), `reference` (its test set, for a version without a history), or whichever there is.
    rows: of a window; those that it had. solve: find the levels that keep to the declared budget,
    and use them from now on. Raises Refused without a champion, BadInput where there is too little.
    """
    if not months > 0:
        raise BadInput("nothing to replay", expected="months above 0", found=f"{months:g}")
    state = load(platform.events.read(platform.stream))
    if state.champion is None:
        raise Refused(
            "there is no champion whose monitors could be measured",
            remedy="homeostat up" if state.candidates else "homeostat run",
        )
    version = platform.registry.get(platform.stream, state.champion)
    table = platform.reference(version)
    project = platform.project
    spec, training = project.monitoring, project.training
    # a drawn stream has no weeks of its own: it is held against the reference
    spec = msgspec.structs.replace(spec, drift=msgspec.structs.replace(spec.drift, weeks=0))
    inputs = platform.inputs(version)
    reference = Reference.build(table, inputs, spec, threshold=training.threshold, k=training.k)
    history, count = _history(platform, state, version, reference.fields, table, on)
    progress(f"{history.rows.height:,} requests of the {history.source}")
    per_window = rows or (round(history.rows.height / count) if count else ROWS)
    # a whole window: shorter blocks cut apart what hangs together, and promise too much
    block = per_window if history.source == "log" else 1
    setting = Setting(
        reference,
        spec,
        version.version,
        per_window,
        project.data.label.matures_after,
        block,
        training.threshold,
        training.k,
    )
    random = np.random.default_rng(seed)
    known = state.monitor.certificate_of(version.version)
    levels = known.levels if known is not None else Levels()
    if solve:
        levels, rates = measure.solve(history, setting, months, seed, progress)
    else:
        rates = measure.rates(history, setting, months, random, levels, progress)
    shifts = standard_shifts(setting)
    delays = measure.delays(history, setting, shifts, episodes, random, levels, progress)
    found = Calibrated(
        version.version,
        history.source,
        history.since,
        history.until,
        per_window,
        spec.drift.false_alarms_per_month,
        rates,
        delays,
        levels,
        solve or (known is not None and known.solved),
        by,
    )
    settle(platform, lambda now: [found])
    return found


def _history(
    platform: Platform,
    state: State,
    version: Version,
    fields: tuple[Field, ...],
    table: pl.DataFrame,
    on: Where,
) -> tuple[History, int]:
    """-> the history, and how many windows it is of (0: not of windows)."""
    quiet = _quiet(state, version.version)
    if on == "reference" or (on == "auto" and len(quiet) < WINDOWS):
        sliced = bool(platform.project.monitoring.drift.by)
        return from_reference(table, fields, version.version, sliced=sliced), 0
    if not quiet:
        raise BadInput(
            f"no quiet window of version {version.version} has been recorded",
            remedy="wait for traffic, or measure `--on reference`",
        )
    since, until = quiet[0][0], quiet[-1][1]
    rows = platform.log.read(platform.stream, since, until)
    inside = pl.any_horizontal(
        pl.col("time").is_between(start, end, closed="left") for start, end in quiet
    )
    fits = pl.col("features").list.len() == sum(field.plain for field in fields)
    rows = rows.filter(inside & fits & (pl.col("arm") != Arm.SHADOW) & pl.col(SCORE).is_not_null())
    rows = rows.filter(pl.col("version") == version.version).unique("id", maintain_order=True)
    labels = platform.labels.as_known(platform.clock.now(), rows["id"]).select("id", LABEL)
    rows = rows.join(labels, on="id", how="left", maintain_order="left")
    return History(rows, "log", since, until), len(quiet)


def _quiet(state: State, version: str) -> list[tuple[datetime, datetime]]:
    """Windows [start, end) with traffic, about this version, in which nothing was found."""
    found = []
    before: datetime | None = None
    for window in state.monitor.windows:
        calm = window.version == version and window.rows and window.quiet
        if before is not None and calm:
            found.append((before, window.end))
        before = window.end
    return found
