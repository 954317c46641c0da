"""Reads from the ports what a dossier is made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import polars as pl

from homeostat.control.evidence import verdicts
from homeostat.control.model import CandidateDropped, ChampionChanged, LoopEvent
from homeostat.control.platform import Platform
from homeostat.core.errors import HomeostatError
from homeostat.core.events import decode
from homeostat.core.names import Arm
from homeostat.core.version import Version
from homeostat.rollout import model
from homeostat.rollout.dossier import Dossier, Happened, Inputs, Look, Refusal, build, refused
from homeostat.rollout.dossier.refused import SUPERSEDED
from homeostat.rollout.model import Rollout

LOOKS = 24
"""At how many times the guards are computed anew for the plots."""


def explain(platform: Platform, id: str | None = None) -> Dossier:
    """The dossier of a rollout, finished or not, or of a version that was refused one. id: of the
    rollout, or a version: then what happened to it last (the latest of all if None). What cannot
    be read is named in it. Raises NotFound for what never was, Unavailable without the events."""
    events, refusals = _recorded(platform)
    chosen = _chosen(id, events, refusals)
    now, missing = platform.clock.now(), list[str]()
    versions: dict[str, Version] = {}
    try:
        versions = {v.version: v for v in platform.registry.versions(platform.stream)}
    except HomeostatError as error:
        missing.append(f"the registry: {error.line()}")
    if isinstance(chosen, Refusal):
        inputs = Inputs(platform.stream, now, (), versions=versions, missing=tuple(missing))
        return refused(chosen, inputs)
    state: Rollout | None = None
    for h in events:
        if h.event.rollout == chosen:
            state = model.evolve(state, h.event, h.at)
    looks: tuple[Look, ...] = ()
    answered: dict[str, int] | None = None
    if state is not None:
        end = state.ended or now
        try:
            log = platform.log.read(platform.stream, state.started, end)
            answered = _answered(log, state)
            looks = tuple(_looks(platform, state, log, end))
        except HomeostatError as error:
            missing.append(f"the prediction log and its labels: {error.line()}")
    inputs = Inputs(platform.stream, now, tuple(events), looks, answered, versions, tuple(missing))
    return build(chosen, inputs)


def _recorded(platform: Platform) -> tuple[list[Happened], list[Refusal]]:
    """What happened in rollouts, and the versions that were refused one, both oldest first."""
    events: list[Happened] = []
    refusals: list[Refusal] = []
    champion = ""
    for record in platform.events.read(platform.stream):
        if not record.type.startswith(("rollout.", "candidate.", "champion.")):
            continue
        event: LoopEvent = decode(record, LoopEvent)
        if isinstance(event, ChampionChanged):
            champion = event.version
        elif isinstance(event, CandidateDropped):
            told = (event.version, event.reason, champion, event.preflight, event.plan)
            refusals.append(Refusal(record.seq, record.at, *told, event.by))
        elif isinstance(event, model.RolloutEvent):
            events.append(Happened(record.seq, record.at, event))
    return events, refusals


def _chosen(
    id: str | None, events: Sequence[Happened], refusals: Sequence[Refusal]
) -> str | Refusal:
    """The rollout or refusal that is meant. Of all, one that was only superseded is not the
    latest: what took its place is."""
    started: list[tuple[int, model.Started]] = [
        (h.seq, h.event) for h in events if isinstance(h.event, model.Started)
    ]
    if any(s.rollout == id for _, s in started):
        return str(id)
    found: list[tuple[int, str | Refusal]] = [
        (seq, s.rollout) for seq, s in started if id in (None, s.candidate, *s.candidates)
    ]
    found += [
        (r.seq, r)
        for r in refusals
        if (id is None and not r.reason.startswith(SUPERSEDED)) or r.version == id
    ]
    return max(found, key=lambda pair: pair[0])[1] if found else id or ""


def _answered(log: pl.DataFrame, state: Rollout) -> dict[str, int]:
    """Requests per version since the rollout began, those only scored in the shadow left out."""
    counted = dict(
        log.filter(pl.col("arm") != Arm.SHADOW.value).group_by("version").len().iter_rows()
    )
    return {v: int(counted.get(v, 0)) for v in (state.champion, *state.candidates)}


def moments(began: datetime, end: datetime, count: int) -> list[datetime]:
    """So many evenly spread times after `began`, the last of them exactly `end`: what was recorded
    then is told instead of what is found anew."""
    return [began + (end - began) * i / count for i in range(1, count + 1)]


def _looks(platform: Platform, state: Rollout, log: pl.DataFrame, end: datetime) -> Iterator[Look]:
    """The guards at times spread over the rollout, from what was known at each."""
    if log.is_empty():
        return
    for at in moments(state.started, end, LOOKS):
        then = log.filter(pl.col("time") < at)
        labels = platform.labels.as_known(at, then["id"])
        for version in state.candidates:
            yield Look(at, version, verdicts(platform, state, version, then, labels, at))
