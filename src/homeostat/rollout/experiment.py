"""Several challengers side by side: each is held against the champion, and one wins or none.

A challenger is *better* when every guard passes and the upper bound of its harm in quality is
below zero: not merely no worse. With n challengers each is judged at alpha / n (Bonferroni), so
the chance that any of them is wrongly called better is at most alpha over the whole experiment.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from homeostat.core.verdict import Verdict
from homeostat.rollout import strategy
from homeostat.rollout.decide import (
    SET_BACK,
    baked,
    every_guard_passes,
    overdue,
    same,
    undecided,
    why,
)
from homeostat.rollout.freeze import frozen_until
from homeostat.rollout.model import (
    ApprovalAsked,
    Judged,
    Phase,
    Promoted,
    Retired,
    RolledBack,
    Rollout,
    RolloutEvent,
    Stepped,
)
from homeostat.rollout.spec import RolloutSpec
from homeostat.rollout.sufficiency import Sufficiency, sufficiency

Evidence = Mapping[str, Sequence[Verdict]]
WINNER = 100.0
"""The step that `approve: [100]` asks a person about: the winner takes all."""


def plan_of_one(plan: RolloutSpec, challengers: int) -> RolloutSpec:
    """The plan by which one of the challengers is judged: with its part of alpha and of the
    requests."""
    if plan.strategy != "experiment":
        return plan
    n = max(challengers, 1)
    (share,) = strategy.steps(plan, n)
    return msgspec.structs.replace(plan, alpha=plan.alpha / n, share=share)


def decide(rollout: Rollout | None, evidence: Evidence, now: datetime) -> list[RolloutEvent]:
    """What happens next in an experiment, as events to record; [] to hold.

    evidence: version -> a verdict per declared guard. In this order: those that are shown to be
    worse than the champion, or than one that is shown to be better, are retired; none left ->
    rolled back; paused or frozen -> held; all that are left are better -> the best measured of
    them is promoted; at the deadline the best of those that are better by then, else as
    `insufficient` says: nobody, or on it goes (`ask`: a person is asked about the best measured,
    who wins with a yes).
    """
    if rollout is None or not rollout.live:
        return []
    seen = {t.version: tuple(evidence.get(t.version, ())) for t in rollout.active}
    events, left = _retire(rollout, seen)
    if not left:
        reason = "no winner: every challenger was retired"
        return [*events, _end(rollout, reason)]
    if rollout.phase is Phase.PAUSED or frozen_until(rollout.plan.freeze, now):
        return events or _note(rollout, left, now)
    late = overdue(rollout, now)
    over = late and not _goes_on(rollout, left, now)
    if rollout.phase is Phase.SHADOW and not over:
        return [*events, *_begin(rollout, left, now)]
    better = {v: found for v, found in left.items() if _better(rollout, found)}
    asked = rollout.phase is Phase.WAITING_APPROVAL
    answered = rollout.step >= 0  # nobody wins from the shadow, however late it is
    if (
        answered
        and better
        and not (asked and over)
        and (late or _all_told(rollout, better, left, now))
    ):
        return [*events, *_win(rollout, better)]
    if over:
        first = next(iter(left.values()))
        return [*events, _end(rollout, f"no winner: {undecided(rollout)}: {why(first)}")]
    if late and answered and rollout.plan.insufficient == "ask":
        events += _ask(rollout, left)
    return events or _note(rollout, left, now)


def _goes_on(rollout: Rollout, left: Evidence, now: datetime) -> bool:
    """Whether the plan wants more than `max_duration` for what has not decided by then."""
    match rollout.plan.insufficient:
        case "hold" | "ask":
            return True
        case "extend":
            measured = all(sufficiency(v) is not Sufficiency.NO_DATA for v in left.values())
            return measured and not overdue(rollout, now - rollout.plan.max_duration)
        case _:
            return False


def _ask(rollout: Rollout, left: dict[str, tuple[Verdict, ...]]) -> list[RolloutEvent]:
    """A person's yes makes the best measured the winner, in the place of the evidence."""
    asked = rollout.asked if rollout.asked in left else ""
    if rollout.phase is Phase.WAITING_APPROVAL:
        if asked:
            return []
    elif asked and WINNER in rollout.approved:
        reason = f"approved although {undecided(rollout)}: {why(left[asked])}"
        return [Promoted(rollout.id, asked, rollout.approver, reason, left[asked])]
    best = min(left, key=lambda v: _measured(left[v]))
    if math.isinf(_measured(left[best])):
        return []  # nobody was measured: there is nobody to name
    return [ApprovalAsked(rollout.id, WINNER, left[best], best)]


def _retire(
    rollout: Rollout, seen: dict[str, tuple[Verdict, ...]]
) -> tuple[list[RolloutEvent], dict[str, tuple[Verdict, ...]]]:
    """-> the retirements, and the evidence of those that stay."""
    best = min((_harm(v)[1] for v in seen.values() if _better(rollout, v)), default=-math.inf)
    events: list[RolloutEvent] = []
    left: dict[str, tuple[Verdict, ...]] = {}
    for version, verdicts in seen.items():
        failed = [v for v in verdicts if v.failed]
        if failed:
            events.append(Retired(rollout.id, version, failed[0].sentence, verdicts))
        elif math.isfinite(best) and _harm(verdicts)[0] > best:
            reason = "another challenger is shown to be better than it can be"
            events.append(Retired(rollout.id, version, reason, verdicts))
        else:
            left[version] = verdicts
    return events, left


def _all_told(
    rollout: Rollout, better: Evidence, left: dict[str, tuple[Verdict, ...]], now: datetime
) -> bool:
    """Nobody is left of whom it is still open whether it is better."""
    return len(better) == len(left) and baked(rollout, now)


def _better(rollout: Rollout, verdicts: tuple[Verdict, ...]) -> bool:
    return every_guard_passes(rollout, verdicts) and _harm(verdicts)[1] < 0


def _harm(verdicts: tuple[Verdict, ...]) -> tuple[float, float]:
    """The bounds of a challenger's harm in quality; infinite where nothing is known."""
    for v in verdicts:
        if v.check == "quality":
            low = -math.inf if v.low is None else v.low
            return low, math.inf if v.high is None else v.high
    return -math.inf, math.inf


def _measured(verdicts: tuple[Verdict, ...]) -> float:
    """A challenger's harm in quality; infinite where nothing was measured."""
    found = next((v.figure for v in verdicts if v.check == "quality"), None)
    return math.inf if found is None or math.isnan(found) else found


def _begin(
    rollout: Rollout, left: dict[str, tuple[Verdict, ...]], now: datetime
) -> list[RolloutEvent]:
    percent = rollout.next_percent
    if percent is None or not baked(rollout, now):
        return _note(rollout, left, now)
    return [Stepped(rollout.id, 0, percent, "the shadow phase is over")]


def _win(rollout: Rollout, better: dict[str, tuple[Verdict, ...]]) -> list[RolloutEvent]:
    winner = min(better, key=lambda v: _measured(better[v]))
    if WINNER in rollout.plan.approve and WINNER not in rollout.approved:
        if rollout.phase is Phase.WAITING_APPROVAL:
            return []
        return [ApprovalAsked(rollout.id, WINNER, better[winner], winner)]
    quality = next(v.sentence for v in better[winner] if v.check == "quality")
    reason = f"the winner of {len(rollout.trials)}: {quality}"
    return [Promoted(rollout.id, winner, "policy", reason, better[winner])]


def _note(
    rollout: Rollout, left: dict[str, tuple[Verdict, ...]], now: datetime
) -> list[RolloutEvent]:
    before = {t.version: t.verdicts for t in rollout.active}
    if now < rollout.since:
        version, verdicts = next(iter(left.items()))
        return [Judged(rollout.id, verdicts, SET_BACK, version)]
    return [
        Judged(rollout.id, verdicts, why(verdicts), version)
        for version, verdicts in left.items()
        if not same(before[version], verdicts)
    ]


def _end(rollout: Rollout, reason: str) -> RolloutEvent:
    return RolledBack(rollout.id, rollout.candidate, "policy", reason)
