"""Every decision as a sentence, with the evidence it rests on."""

from __future__ import annotations

from datetime import datetime

import msgspec

from homeostat.control.books import Books
from homeostat.control.model import (
    BY_HAND,
    CandidateDropped,
    ChampionChanged,
    LoopEvent,
    RetrainingRefused,
    RunCrashed,
    RunFinished,
    RunStarted,
    StageDone,
    VersionRegistered,
)
from homeostat.core.events import decode
from homeostat.core.verdict import Verdict
from homeostat.monitoring import model as monitoring
from homeostat.rollout import model as rollout
from homeostat.rollout import tell


class HistoryLine(msgspec.Struct, frozen=True):
    """seq: the event's number. verdicts: the evidence, where it was recorded."""

    seq: int
    at: datetime
    type: str
    sentence: str
    verdicts: tuple[Verdict, ...] = ()


def history(
    books: Books, limit: int | None = None, *, after: int = 0, everything: bool = False
) -> list[HistoryLine]:
    """Oldest first; the last `limit` lines of what came after a seq. Monitoring windows are in it
    only with `everything`: what they led to is an alert, and that is told."""
    lines = []
    for record in books.events.read(books.stream, after):
        event = decode(record, LoopEvent)
        if quiet(event) and not everything:
            continue
        lines.append(
            HistoryLine(record.seq, record.at, record.type, sentence(event), evidence(event))
        )
    return lines if limit is None else lines[-limit:]


def champions(books: Books) -> list[tuple[datetime, str]]:
    """When the champion changed, and to which version, in order."""
    events = [(r.at, decode(r, LoopEvent)) for r in books.events.read(books.stream)]
    return [(at, event.version) for at, event in events if isinstance(event, ChampionChanged)]


def quiet(event: LoopEvent) -> bool:
    """Recorded, but not told: one more window."""
    return isinstance(event, monitoring.WindowObserved)


def evidence(event: LoopEvent) -> tuple[Verdict, ...]:
    match event:
        case StageDone():
            return (event.verdict,)
        case (
            rollout.Stepped()
            | rollout.Judged()
            | rollout.Retired()
            | rollout.ApprovalAsked()
            | rollout.Promoted()
            | rollout.RolledBack()
        ):
            return event.verdicts
        case monitoring.WindowObserved():
            return event.verdicts
        case _:
            return ()


def sentence(event: LoopEvent) -> str:
    """What happened, for a person."""
    match event:
        case RunStarted() if event.trigger == BY_HAND:
            return f"{event.run} started by hand"
        case RunStarted():
            cause = f"; likely {event.cause}" if event.cause else ""
            return f"{event.run} started ({event.trigger}): {event.reason}{cause}"
        case StageDone():
            return f"{event.run} {event.stage}: {event.verdict.sentence}"
        case RunCrashed():
            return f"{event.run}: its process died (attempt {event.attempt}); started again"
        case RunFinished() if event.version is not None:
            return f"{event.run} is done: version {event.version} is registered"
        case RunFinished():
            return f"{event.run} {event.outcome}: {event.sentence}"
        case RetrainingRefused():
            return f"retraining ({event.trigger}) not admitted: {event.reason}"
        case ChampionChanged():
            former = f", was version {event.previous}" if event.previous else ""
            return f"champion is version {event.version}{former}: {event.reason}"
        case CandidateDropped():
            return f"version {event.version} is not rolled out: {event.reason}"
        case VersionRegistered():
            return f"version {event.version} registered by {event.by}, from {event.file}"
        case _ if isinstance(event, rollout.RolloutEvent):
            return tell.sentence(event)
        case _:
            return event.sentence
