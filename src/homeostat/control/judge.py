"""A rollout's evidence, read from the ports and put before the pure decisions."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from homeostat.control.model import LoopEvent
from homeostat.control.platform import Platform
from homeostat.core.errors import HomeostatError, NotFound
from homeostat.core.verdict import Outcome, Verdict
from homeostat.monitoring.profiles.traffic import SCORE
from homeostat.monitoring.window import LABEL
from homeostat.rollout.decide import decide
from homeostat.rollout.evidence import measure
from homeostat.rollout.experiment import decide as decide_experiment
from homeostat.rollout.experiment import plan_of_one
from homeostat.rollout.model import Promoted, Retired, RolledBack, Rollout, Stepped
from homeostat.rollout.observations import logged, observe

Evidence = dict[str, tuple[Verdict, ...]]
"""Version -> a verdict per guard."""


def unservable(platform: Platform, rollout: Rollout) -> list[LoopEvent]:
    """What follows from candidates that the data plane cannot load; [] when nothing does.

    A champion that cannot be loaded leaves nothing to return to: workers go on with what they
    have, and the evidence decides as always.
    """
    failures = platform.plane.observed(platform.stream).failures
    reasons = {
        c: f"version {c} cannot be served: {failures[c]}" for c in _tried(rollout) if c in failures
    }
    return _out(rollout, reasons)


def evidence(platform: Platform, rollout: Rollout, now: datetime) -> Evidence:
    """What everything that happened since the rollout started says of each version tried."""
    log, labels = _records(platform, rollout, now)
    return {c: verdicts(platform, rollout, c, log, labels, now) for c in _tried(rollout)}


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
    return decide_on(rollout, dict.fromkeys(_tried(rollout), nothing), now)


def decide_on(rollout: Rollout, found: Evidence, now: datetime) -> list[LoopEvent]:
    """found: the verdicts of every version that is tried."""
    if rollout.trials:
        return [*decide_experiment(rollout, found, now)]
    return [*decide(rollout, found[rollout.candidate], now)]


def _tried(rollout: Rollout) -> tuple[str, ...]:
    return tuple(t.version for t in rollout.active) or (rollout.candidate,)


def _out(rollout: Rollout, reasons: dict[str, str]) -> list[LoopEvent]:
    """Take out the candidates that there are reasons for: of an experiment these alone while
    others are left, else the rollout ends."""
    if not reasons:
        return []
    if len(reasons) < len(rollout.active):
        return [Retired(rollout.id, c, why) for c, why in reasons.items()]
    why = next(iter(reasons.values()))
    return [RolledBack(rollout.id, rollout.candidate, "policy", why)]


def _records(
    platform: Platform, rollout: Rollout, now: datetime
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What was predicted since the rollout started, and what is known of it."""
    log = platform.log.read(platform.stream, rollout.started, now)
    return log, platform.labels.as_known(now, log["id"])


def verdicts(
    platform: Platform,
    rollout: Rollout,
    candidate: str,
    log: pl.DataFrame,
    labels: pl.DataFrame,
    now: datetime,
) -> tuple[Verdict, ...]:
    """How one candidate compares with the champion, a verdict per guard."""
    matures = platform.project.data.label.matures_after
    threshold = platform.project.training.threshold
    by, sticky = _columns(rollout), platform.project.serving.sticky
    features = _features(platform, rollout) if by or sticky else ()
    seen = observe(
        log,
        labels,
        champion=rollout.champion,
        candidate=candidate,
        since=rollout.started,
        settled=now - matures,
        matures_after=matures,
        thresholds=(threshold, threshold),
        now=now,
        rivals=[t.version for t in rollout.trials if t.version != candidate],
        groups={name: logged(name, features) for name in by},
        entity=logged(sticky, features) if sticky else None,
    )
    return tuple(measure(plan_of_one(rollout.plan, len(rollout.trials)), seen))


def _columns(rollout: Rollout) -> tuple[str, ...]:
    """What the plan's guards are broken down by."""
    guards = rollout.plan.guards
    asked = (g.by for g in (guards.quality, guards.bias) if g is not None)
    return tuple(dict.fromkeys(name for name in asked if name is not None))


def _features(platform: Platform, rollout: Rollout) -> tuple[str, ...]:
    """The names of the log's features, in their order."""
    declared = platform.project.data.features
    if declared is not None:
        return declared
    champion = platform.registry.get(platform.stream, rollout.champion)
    return tuple(c for c in platform.reference(champion).columns if c not in (SCORE, LABEL))


def _withdrawn(platform: Platform, rollout: Rollout, events: list[LoopEvent]) -> dict[str, str]:
    """The versions that are about to get more traffic and are no longer registered, and why they
    must not. Looked up anew before each advance: a version can be deleted mid-way."""
    advancing: tuple[str, ...] = ()
    for event in events:
        if isinstance(event, Promoted):
            advancing = (event.candidate,)
        elif isinstance(event, Stepped):
            advancing = _tried(rollout)
    gone = {}
    for version in advancing:
        try:
            platform.registry.get(platform.stream, version)
        except NotFound:
            gone[version] = f"version {version} was withdrawn: the registry does not have it now"
    return gone
