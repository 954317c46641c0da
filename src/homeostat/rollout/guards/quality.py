"""Quality: the mean excess of the candidate's loss, on all requests and in the worst slice."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from homeostat.core.verdict import Outcome, Verdict
from homeostat.rollout.guards.blocks import alike, in_order
from homeostat.rollout.guards.common import Alpha, between, judged, nothing, subtract
from homeostat.rollout.guards.estimate import SPENT, narrowed
from homeostat.rollout.guards.losses import harm_support, largest, losses
from homeostat.rollout.seen.evidence import Evidence
from homeostat.rollout.seen.observations import Observations
from homeostat.rollout.seen.requests import Rows
from homeostat.rollout.sequences import Bounds, Mean
from homeostat.rollout.spec import QualityGuard, RolloutSpec

Array = NDArray[np.float64]
NO_VALUE = "(none)"


def judge(guard: QualityGuard, plan: RolloutSpec, seen: Observations, alpha: Alpha) -> Verdict:
    """The verdict on all requests; with `by`, made worse by the slices, which are its parts.

    With slices, the whole and they have half of the rollback alpha each; the k-th slice to appear
    gets 1/(k(k+1)) of it, so that their number need not be known. Promotion needs all of them.
    """
    evidence = seen.paired if guard.paired else seen.single
    folded = evidence.fold((guard, plan.block, alpha), lambda: Folded(guard, alpha))
    folded.add(evidence, seen, plan)
    harm, how = folded.whole.bounds(), ""
    unit = "paired labelled requests" if guard.paired else "labelled requests of the candidate"
    if harm.n == 0:
        return nothing("quality", guard.margin, f"no {unit} yet")
    if _narrows(guard):
        rest = folded.own.times(SPENT)
        harm, how = narrowed(guard.metric, seen, plan.block, harm, rest)
    name = guard.metric.replace("_", " ")
    sentence = (
        f"quality: the candidate's {name} is {harm.point:+.4f} against the champion's "
        f"({between(harm)}; margin {guard.margin:g}) on {harm.n:,} {unit}{how}"
    )
    whole = judged("quality", harm, guard.margin, 0.0, sentence, "labelled requests", seen)
    return whole if guard.by is None else _with_slices(whole, guard, seen, folded)


# -- the harm of some requests -----------------------------------------------------------------


class Harm:
    """What the candidate costs more than the champion: of the same requests, or of each one's."""

    def __init__(self, guard: QualityGuard, alpha: Alpha) -> None:
        if guard.paired:
            self._means = [Mean(harm_support(guard.metric), alpha)]
        else:
            support, (low, high) = (0.0, largest(guard.metric)), alpha.part(2)
            # the champion's low bound belongs to promotion, its high to rollback
            self._means = [Mean(support, (high, low)), Mean(support, (low, high))]
        self._guard = guard
        self.rows = 0

    def add(self, rows: Rows, block: NDArray[np.int64] | None, seen: Observations) -> None:
        self.rows += len(rows)
        if self._guard.paired:
            one, two = (_losses(self._guard.metric, seen, rows, side) for side in range(2))
            self._add(0, two - one, rows, block, rows.champion)
            return
        for side in range(2):
            mine = np.flatnonzero(rows.canary == bool(side))
            part = rows.take(mine)
            loss = _losses(self._guard.metric, seen, part, side)
            score = part.candidate if side else part.champion
            self._add(side, loss, part, None if block is None else block[mine], score)

    def _add(
        self, k: int, x: Array, rows: Rows, block: NDArray[np.int64] | None, score: Array
    ) -> None:
        like = alike(score)
        self._means[k].add(x, label=rows.label, weight=weight(rows), block=block, like=like)

    def bounds(self) -> Bounds:
        found = [mean.bounds() for mean in self._means]
        return found[0] if self._guard.paired else subtract(*found)


class Folded:
    """The harm of all requests, and of each slice as it appears."""

    def __init__(self, guard: QualityGuard, alpha: Alpha) -> None:
        self.own = alpha if guard.by is None else of_whole(alpha)
        self.whole = Harm(guard, self.own.times(1 - SPENT) if _narrows(guard) else self.own)
        self.slices: dict[str, Harm] = {}
        self._guard, self._alpha, self._taken = guard, alpha, 0

    def add(self, evidence: Evidence, seen: Observations, plan: RolloutSpec) -> None:
        """What has come to count since."""
        rows, block = in_order(evidence.rows(self._taken), plan, seen)
        self._taken += len(rows)
        if not len(rows):
            return
        self.whole.add(rows, block, seen)
        if self._guard.by is None or self._guard.by not in rows.groups:
            return
        values = np.array(
            [NO_VALUE if v is None else v for v in rows.groups[self._guard.by]], object
        )
        for value in dict.fromkeys(values.tolist()):
            if value not in self.slices:
                mine = of_slice(self._alpha, len(self.slices) + 1)
                self.slices[value] = Harm(self._guard, mine)
            part = np.flatnonzero(values == value)
            self.slices[value].add(rows.take(part), None if block is None else block[part], seen)


def _narrows(guard: QualityGuard) -> bool:
    return guard.paired and guard.estimate


def _losses(metric: str, seen: Observations, rows: Rows, side: int) -> Array:
    return losses(
        metric, rows.label, rows.candidate if side else rows.champion, seen.thresholds[side]
    )


def weight(rows: Rows) -> Array:
    """How many requests each labelled one stands for: one over the chance of its label to become
    known (inverse propensity; Horvitz & Thompson 1952)."""
    return 1.0 / np.maximum(rows.propensity, 1e-6)


# -- slices ------------------------------------------------------------------------------------


def of_whole(alpha: Alpha) -> Alpha:
    """Of a guard's alpha, what all requests have where slices have the rest."""
    return Alpha(alpha.rollback / 2, alpha.promotion)


def of_slice(alpha: Alpha, k: int) -> Alpha:
    """Of a guard's alpha, what the k-th slice to appear (from 1) has."""
    return Alpha(alpha.rollback / 2 / (k * (k + 1)), alpha.promotion)


def _with_slices(
    whole: Verdict, guard: QualityGuard, seen: Observations, folded: Folded
) -> Verdict:
    margin = guard.slice_margin or 3 * guard.margin
    if not folded.slices:
        sentence = f"quality: the prediction log has no column {guard.by} to tell slices apart"
        return msgspec.structs.replace(whole, outcome=Outcome.ERROR, sentence=sentence)
    parts, waiting = [], []
    for value, harm in folded.slices.items():
        part = _slice(f"quality[{guard.by}={value}]", guard, seen, harm.bounds(), margin)
        parts.append(part)
        if not part.passed and harm.rows >= guard.min_share * folded.whole.rows:
            waiting.append(part)
    failed = [p for p in parts if p.failed]
    worst = failed or ([] if whole.failed else waiting)
    if not worst or worst[0].outcome.rank <= whole.outcome.rank:
        return msgspec.structs.replace(whole, parts=tuple(parts))
    found = max(worst, key=lambda p: p.figure or 0.0)
    return msgspec.structs.replace(
        whole, outcome=found.outcome, sentence=found.sentence, parts=tuple(parts)
    )


def _slice(
    check: str, guard: QualityGuard, seen: Observations, harm: Bounds, margin: float
) -> Verdict:
    if harm.n == 0:
        return nothing(check, margin, "no labelled requests yet")
    sentence = (
        f"{check}: {guard.metric.replace('_', ' ')} {harm.point:+.4f} against the champion's "
        f"({between(harm)}; margin {margin:g}) on {harm.n:,} labelled requests"
    )
    return judged(check, harm, margin, 0.0, sentence, "labelled requests of this slice", seen)
