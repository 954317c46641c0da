"""Whether a rollout may start: what its promotion would do to rows by position, and whether it can
decide in time (today's traffic and both test sets, put before the pure computation)."""

from __future__ import annotations

from datetime import datetime, timedelta

from homeostat.control.evidence import caller
from homeostat.control.platform import Platform
from homeostat.core.errors import HomeostatError
from homeostat.core.verdict import Outcome, Verdict
from homeostat.core.version import Version
from homeostat.rollout import preflight
from homeostat.rollout.experiment import plan_of_one
from homeostat.rollout.spec import RolloutSpec

LOOK = (timedelta(hours=1), timedelta(days=1))
"""How far back traffic is looked at: the last hour, and a day where that says no or too little."""
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
        return _misread(platform, champion, candidate) or _look(
            platform, plan, champion, candidate, now
        )
    except HomeostatError as error:
        why = f"preflight: what it rests on cannot be read: {error.line()}"
        return Verdict("preflight", Outcome.INCONCLUSIVE, why, n=0)


def _misread(platform: Platform, champion: Version, candidate: Version) -> Verdict | None:
    """Positions mean what they are in the champion. After a promotion the rows of clients that
    send no names would be taken for something else, and no guard sees it before: a candidate's
    inputs are found by name until then. Rows of another length are refused, and so are loud."""
    before = [field.name for field in platform.inputs(champion)]
    after = [field.name for field in platform.inputs(candidate)]
    if len(before) != len(after) or before == after:
        return None
    k, was, becomes = next(
        (k, a, b) for k, (a, b) in enumerate(zip(before, after, strict=True), 1) if a != b
    )
    why = (
        f"preflight: rows by position would be read wrongly once it is promoted: value {k} is "
        f"{was!r} for version {champion.version}, {becomes!r} for it -> keep the order of the "
        "features; or, if all clients send names, --force"
    )
    return Verdict("preflight", Outcome.FAIL, why)


def _look(
    platform: Platform, plan: RolloutSpec, champion: Version, candidate: Version, now: datetime
) -> Verdict:
    """At the last hour; it may be a quiet one, so that only the day may say no."""
    project, tested = platform.project, platform.reference(champion)
    offered = platform.reference(candidate)
    for back in LOOK:
        log = platform.log.read(platform.stream, now - back, now)
        if log.height < LEAST and back is not LOOK[-1]:
            continue
        seen = preflight.traffic(
            plan,
            log,
            now - log["time"][0] if log.height else timedelta(0),
            champion=tested,
            candidate=offered,
            label_delay=project.data.label.matures_after,
            threshold=project.training.threshold,
            caller=caller(platform, champion.version),
        )
        verdict = preflight.preflight(plan, seen)
        if not verdict.failed:
            break
    return verdict


def refused(platform: Platform, verdict: Verdict | None) -> bool:
    """Whether the plan wants this verdict to keep a rollout from starting."""
    refuses = platform.project.rollout.preflight == "refuse"
    return verdict is not None and verdict.failed and refuses
