"""What the decisions are given: reads the ports, decides nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.control.gauges import Labels
from homeostat.control.platform import Platform
from homeostat.control.profiles import Profiles
from homeostat.core.records import equal, microseconds, there
from homeostat.core.version import Version
from homeostat.monitoring.model import CONTROLLER, WORKERS, MonitorState, WindowObserved
from homeostat.monitoring.window import Reference, quality_since, windows_due
from homeostat.monitoring.window import observe as look

QUANTILES = (0.5, 0.9)
"""Of the delay of labels."""


def monitor(
    platform: Platform,
    state: MonitorState,
    champion: Version,
    reference: Reference,
    profiles: Profiles,
    first: datetime,
    now: datetime,
    since: datetime,
) -> Iterator[WindowObserved]:
    """What the monitors see in every window that has closed since the last one, oldest first. A
    window is looked at once, so not before all of its requests are in the log. since: when this
    controller began to look; it knows nothing of who was running before."""
    settled = now - platform.settles
    project, version, watched = platform.project, champion.version, reference.watched
    spec, last_end = project.monitoring, state.last_end
    certificate = state.certificate_of(version)
    evidence = state.evidence if state.version == version else ()
    for start, end in windows_due(last_end, settled, spec.window, first):
        weeks = spec.drift.weeks
        window = look(
            # the rows themselves are read for the estimate alone
            platform.log.read(platform.stream, start, end) if reference.estimator else None,
            reference,
            spec,
            start=start,
            end=end,
            version=version,
            matured=matured_rows(platform, version, end) if spec.quality else None,
            matured_until=end - project.data.label.matures_after,
            threshold=project.training.threshold,
            k=project.training.k,
            traffic=profiles.window(watched, version, start, end),
            past=profiles.past(watched, version, start, end, weeks) if weeks else None,
            before=evidence,
            levels=None if certificate is None else certificate.levels,
            down=_down(platform, end, since),
        )
        evidence, last_end = window.evidence, end
        yield window
    start = last_end or first
    profiles.advance(watched, version, start, start + spec.window, settled)


def _down(platform: Platform, end: datetime, since: datetime) -> str:
    """What was not running in a window, should nobody have been answered in it."""
    if end <= since:
        return CONTROLLER
    return WORKERS if platform.plane.observed(platform.stream).workers == 0 else ""


def matured_rows(platform: Platform, version: str, end: datetime) -> pl.DataFrame:
    """The requests that a version scored in the quality window (as champion or canary, or in the
    shadow: they are the same requests) and whose labels had time to mature by `end`, as known
    then; null where the outcome is not known."""
    spec, matures = platform.project.monitoring, platform.project.data.label.matures_after
    until = end - matures
    rows = platform.log.read(platform.stream, quality_since(spec, until), until)
    rows = _first(rows, equal(rows["version"], version) & there(rows["score"]))
    labels = platform.labels.as_known(end, rows["id"])[["id", "label"]]
    return rows.join(labels, on="id", how="left", maintain_order="left")


def labels(platform: Platform, end: datetime) -> Labels:
    """How the labels came that should have become final in the monitoring window to `end`."""
    spec, matures = platform.project.monitoring, platform.project.data.label.matures_after
    until = end - matures
    asked = platform.log.read(platform.stream, until - spec.window, until)
    asked = _first(asked[["id", "time", "score"]], there(asked["score"]))
    known = platform.labels.as_known(end, asked["id"])[["id", "known"]]
    both = asked.join(known, on="id")
    seconds = pl.Series((microseconds(both["known"]) - microseconds(both["time"])) / 1e6)
    quantiles = {q: seconds.quantile(q) for q in QUANTILES} if len(seconds) else {}
    return Labels(asked.height, len(seconds), {q: s for q, s in quantiles.items() if s is not None})


def _first(rows: pl.DataFrame, which: NDArray[np.bool_]) -> pl.DataFrame:
    """Of those rows the first of each request."""
    rows = rows if which.all() else rows.filter(pl.Series(which))
    alone = rows["id"].n_unique() == rows.height
    return rows if alone else rows.unique("id", keep="first", maintain_order=True)
