"""What happened in a rollout, a sentence per event."""

from __future__ import annotations

from homeostat.rollout import model
from homeostat.rollout.model import RolloutEvent


def sentence(event: RolloutEvent) -> str:
    """For a person, with the rollout's name before it."""
    match event:
        case model.Started():
            tried = ", ".join(event.candidates) or event.candidate
            doubt = event.preflight
            told = "" if doubt is None or doubt.passed or not doubt.n else f" ({doubt.sentence})"
            versions = "versions" if len(event.candidates) > 1 else "version"
            return (
                f"{event.rollout}: {versions} {tried} against champion {event.champion}, "
                f"by {event.by}{told}"
            )
        case model.Retired():
            return f"{event.rollout}: version {event.candidate} is out: {event.reason}"
        case model.Stepped():
            return f"{event.rollout}: candidate at {event.percent:.4g} % ({event.reason})"
        case model.Judged():
            who = f" (version {event.candidate})" if event.candidate else ""
            return f"{event.rollout} holds{who}: {event.reason}"
        case model.Paused():
            why = f": {event.reason}" if event.reason else ""
            return f"{event.rollout} paused by {event.by}{why}"
        case model.Resumed():
            return f"{event.rollout} resumed by {event.by}"
        case model.ApprovalAsked():
            whom = f"version {event.candidate} at " if event.candidate else ""
            return f"{event.rollout} waits for a person's yes to {whom}{event.percent:.4g} %"
        case model.Approved():
            return f"{event.rollout}: {event.percent:.4g} % approved by {event.by}"
        case model.Promoted():
            return f"{event.rollout}: version {event.candidate} promoted ({event.reason})"
        case model.RolledBack():
            return f"{event.rollout}: version {event.candidate} rolled back: {event.reason}"
