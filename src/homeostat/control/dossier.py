"""Reads from the ports what a dossier is made of."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import polars as pl

from homeostat.control.judge import verdicts
from homeostat.control.model import LoopEvent
from homeostat.control.platform import Platform
from homeostat.core.errors import HomeostatError
from homeostat.core.events import decode
from homeostat.core.names import Arm
from homeostat.core.version import Version
from homeostat.rollout import model
from homeostat.rollout.dossier import Dossier, Happened, Inputs, Look, build
from homeostat.rollout.model import Rollout, RolloutEvent

LOOKS = 24
"""At how many times the guards are computed anew for the plots."""


def explain(platform: Platform, id: str | None = None) -> Dossier:
    """The dossier of a rollout (the latest if None), finished or not. What cannot be read is named
    in it. Raises NotFound for a rollout that never was, Unavailable without the events."""
    events = _events(platform)
    started = [h.event.rollout for h in events if isinstance(h.event, model.Started)]
    chosen = id or (started[-1] if started else "")
    mine = [h for h in events if h.event.rollout == chosen]
    state: Rollout | None = None
    for h in mine:
        state = model.evolve(state, h.event, h.at)
    now, missing = platform.clock.now(), list[str]()
    looks: tuple[Look, ...] = ()
    answered: dict[str, int] | None = None
    versions: dict[str, Version] = {}
    if state is not None:
        end = state.ended or now
        try:
            log = platform.log.read(platform.stream, state.started, end)
            answered = _answered(log, state)
            looks = tuple(_looks(platform, state, log, end))
        except HomeostatError as error:
            missing.append(f"the prediction log and its labels: {error.line()}")
        try:
            known = platform.registry.versions(platform.stream)
            versions = {v.version: v for v in known}
        except HomeostatError as error:
            missing.append(f"the registry: {error.line()}")
    inputs = Inputs(platform.stream, now, tuple(events), looks, answered, versions, tuple(missing))
    return build(chosen, inputs)


def _events(platform: Platform) -> list[Happened]:
    found = []
    for record in platform.events.read(platform.stream):
        if record.type.startswith("rollout."):
            event: RolloutEvent = decode(record, LoopEvent)
            if isinstance(event, model.RolloutEvent):
                found.append(Happened(record.seq, record.at, event))
    return found


def _answered(log: pl.DataFrame, state: Rollout) -> dict[str, int]:
    """Requests per version since the rollout began, those only scored in the shadow left out."""
    counted = dict(
        log.filter(pl.col("arm") != Arm.SHADOW.value).group_by("version").len().iter_rows()
    )
    return {v: int(counted.get(v, 0)) for v in (state.champion, *state.candidates)}


def _looks(platform: Platform, state: Rollout, log: pl.DataFrame, end: datetime) -> Iterator[Look]:
    """The guards at times spread over the rollout, from what was known at each."""
    if log.is_empty():
        return
    step = (end - state.started) / LOOKS
    for i in range(1, LOOKS + 1):
        at = state.started + i * step
        then = log.filter(pl.col("time") < at)
        labels = platform.labels.as_known(at, then["id"])
        for version in state.candidates:
            yield Look(at, version, verdicts(platform, state, version, then, labels, at))
