"""A rollout's evidence, put before the pure decisions."""

from __future__ import annotations

from datetime import datetime

from homeostat.control.evidence import Evidence, tried
from homeostat.control.model import LoopEvent
from homeostat.control.platform import Platform
from homeostat.core.errors import HomeostatError, NotFound
from homeostat.core.verdict import Outcome, Verdict
from homeostat.rollout.decide import decide
from homeostat.rollout.experiment import decide as decide_experiment
from homeostat.rollout.model import Promoted, Retired, RolledBack, Rollout, Stepped


def unservable(platform: Platform, rollout: Rollout) -> list[LoopEvent]:
    """What follows from candidates that the data plane cannot load; [] when nothing does.

    A champion that cannot be loaded leaves nothing to return to: workers go on with what they
    have, and the evidence decides as always.
    """
    failures = platform.plane.observed(platform.stream).failures
    reasons = {
        c: f"version {c} cannot be served: {failures[c]}" for c in tried(rollout) if c in failures
    }
    return _out(rollout, reasons)


def judge(platform: Platform, rollout: Rollout, found: Evidence, now: datetime) -> list[LoopEvent]:
    """The rollout's next events, on its `evidence`."""
    events = decide_on(rollout, found, now)
    gone = _withdrawn(platform, rollout, events)
    return _out(rollout, gone) or events


def blind(rollout: Rollout, error: HomeostatError, now: datetime) -> list[LoopEvent]:
    """The rollout's next events while its evidence cannot be read: nothing advances, and the
    deadline holds all the same."""
    guards = rollout.plan.guards.names()
    nothing = tuple(
        Verdict(g, Outcome.ERROR, f"{g}: cannot be judged: {error.line()}") for g in guards
    )
    return decide_on(rollout, dict.fromkeys(tried(rollout), nothing), now)


def decide_on(rollout: Rollout, found: Evidence, now: datetime) -> list[LoopEvent]:
    """found: the verdicts of every version that is tried."""
    if rollout.trials:
        return [*decide_experiment(rollout, found, now)]
    return [*decide(rollout, found[rollout.candidate], now)]


def _out(rollout: Rollout, reasons: dict[str, str]) -> list[LoopEvent]:
    """Take out the candidates that there are reasons for: of an experiment these alone while
    others are left, else the rollout ends."""
    if not reasons:
        return []
    if len(reasons) < len(rollout.active):
        return [Retired(rollout.id, c, why) for c, why in reasons.items()]
    why = next(iter(reasons.values()))
    return [RolledBack(rollout.id, rollout.candidate, "policy", why)]


def _withdrawn(platform: Platform, rollout: Rollout, events: list[LoopEvent]) -> dict[str, str]:
    """The versions that are about to get more traffic and are no longer registered, and why they
    must not. Looked up anew before each advance: a version can be deleted mid-way."""
    advancing: tuple[str, ...] = ()
    for event in events:
        if isinstance(event, Promoted):
            advancing = (event.candidate,)
        elif isinstance(event, Stepped):
            advancing = tried(rollout)
    gone = {}
    for version in advancing:
        try:
            platform.registry.get(platform.stream, version)
        except NotFound:
            gone[version] = f"version {version} was withdrawn: the registry does not have it now"
    return gone
