"""What the decisions are given: reads the ports, decides nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import polars as pl

from homeostat.control.model import LoopEvent, State
from homeostat.control.platform import Platform
from homeostat.core.ports import Gauge
from homeostat.core.version import Version
from homeostat.definition import Project
from homeostat.monitoring.model import MonitorState, WindowObserved
from homeostat.monitoring.window import Reference, quality_since, windows_due
from homeostat.monitoring.window import observe as look
from homeostat.rollout.decide import decide
from homeostat.rollout.evidence import measure
from homeostat.rollout.model import RolledBack, Rollout
from homeostat.rollout.observations import observe


def judge(platform: Platform, rollout: Rollout, now: datetime) -> list[LoopEvent]:
    """The rollout's next events, on everything that happened since it started."""
    model, matures = platform.stream, platform.project.data.label.matures_after
    failure = platform.plane.observed(model).failures.get(rollout.candidate)
    if failure is not None:
        reason = f"version {rollout.candidate} cannot be served: {failure}"
        return [RolledBack(rollout.id, rollout.candidate, "policy", reason)]
    log = platform.log.read(model, rollout.started, now)
    labels = platform.labels.as_known(now, log["id"])
    threshold = platform.project.training.threshold
    seen = observe(
        log,
        labels,
        champion=rollout.champion,
        candidate=rollout.candidate,
        since=rollout.started,
        settled=now - matures,
        matures_after=matures,
        thresholds=(threshold, threshold),
    )
    return [*decide(rollout, measure(rollout.plan, seen), now)]


def monitor(
    platform: Platform,
    state: MonitorState,
    champion: Version,
    reference: Reference,
    first: datetime,
    now: datetime,
) -> Iterator[WindowObserved]:
    """What the monitors see in every window that has closed since the last one, oldest first."""
    project = platform.project
    spec = project.monitoring
    for start, end in windows_due(state.last_end, now, spec.window, first):
        yield look(
            platform.log.read(platform.stream, start, end),
            reference,
            spec,
            start=start,
            end=end,
            version=champion.version,
            matured=matured_rows(platform, champion.version, end) if spec.quality else None,
            threshold=project.training.threshold,
            k=project.training.k,
        )


def matured_rows(platform: Platform, version: str, end: datetime) -> pl.DataFrame:
    """The requests that a version scored in the quality window (as champion or canary, or in the
    shadow: they are the same requests) and whose labels had matured by `end`, as known then."""
    spec, matures = platform.project.monitoring, platform.project.data.label.matures_after
    until = end - matures
    rows = platform.log.read(platform.stream, quality_since(spec, until), until)
    rows = rows.filter((pl.col("version") == version) & pl.col("score").is_not_null())
    rows = rows.unique("id", keep="first", maintain_order=True)
    labels = platform.labels.as_known(end, rows["id"]).select("id", "label")
    return rows.join(labels, on="id").drop_nulls("label")


def gauges(state: State, project: Project) -> list[Gauge]:
    """The monitors' figures for /metrics."""
    monitor = state.monitor
    found = [
        Gauge("model_drift_score", m.effect, {"feature": m.feature})
        for m in monitor.moved
        if m.effect is not None
    ]
    declared = project.monitoring.quality
    if declared and monitor.quality is not None and monitor.quality.figure is not None:
        labels = {"metric": declared.metric, "version": monitor.version or ""}
        found.append(Gauge("model_accuracy", monitor.quality.figure, labels))
    alerts = [Gauge("model_alert_open", 1.0, {"kind": a.kind}) for a in monitor.open_alerts]
    drifts = Gauge("model_drift_alert_total", float(state.drift_alerts), kind="counter")
    return [*found, *alerts, drifts] if monitor.last_end else []
