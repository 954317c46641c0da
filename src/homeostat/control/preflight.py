"""Whether a rollout can decide in time: today's traffic and both test sets, put before the pure
computation."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from homeostat.control.platform import Platform
from homeostat.core.errors import HomeostatError
from homeostat.core.verdict import Outcome, Verdict
from homeostat.core.version import Version
from homeostat.rollout import preflight
from homeostat.rollout.experiment import plan_of_one

LOOK = (timedelta(hours=1), timedelta(days=1))
"""How far back traffic is looked at: the last hour, and a day where that says too little."""
LEAST = 100


def preflight_of(
    platform: Platform,
    champion: Version,
    candidate: Version,
    now: datetime,
    challengers: int = 1,
) -> Verdict | None:
    """The verdict on a rollout that would start now; None where the plan wants none, and in the
    dark, where a person decides. challengers: how many would share alpha and the requests.

    What cannot be read leaves it open: a rollout is not refused because of that.
    """
    project = platform.project
    if project.rollout.preflight == "off" or project.rollout.strategy == "dark":
        return None
    plan = plan_of_one(project.rollout, challengers)
    try:
        log, over = _recent(platform, now)
        seen = preflight.traffic(
            plan,
            log,
            over,
            champion=platform.reference(champion),
            candidate=platform.reference(candidate),
            label_delay=project.data.label.matures_after,
            threshold=project.training.threshold,
        )
    except HomeostatError as error:
        why = f"preflight: what it rests on cannot be read: {error.line()}"
        return Verdict("preflight", Outcome.INCONCLUSIVE, why, n=0)
    return preflight.preflight(plan, seen)


def refused(platform: Platform, verdict: Verdict | None) -> bool:
    """Whether the plan wants this verdict to keep a rollout from starting."""
    refuses = platform.project.rollout.preflight == "refuse"
    return verdict is not None and verdict.failed and refuses


def _recent(platform: Platform, now: datetime) -> tuple[pl.DataFrame, timedelta]:
    """-> the log of the last while, and how long traffic was seen in it."""
    log = pl.DataFrame()
    for back in LOOK:
        log = platform.log.read(platform.stream, now - back, now)
        if log.height >= LEAST:
            break
    if not log.height:
        return log, timedelta(0)
    return log, now - log["time"][0]
