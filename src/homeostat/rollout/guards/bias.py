"""Bias: how far apart the candidate's rates of alerts in two groups may be."""

from __future__ import annotations

import numpy as np

from homeostat.core.verdict import Outcome, Verdict
from homeostat.rollout import sequences
from homeostat.rollout.guards.blocks import alike, in_order
from homeostat.rollout.guards.common import Alpha, between, judged, nothing
from homeostat.rollout.seen.columns import Array, Flags, Numbers
from homeostat.rollout.seen.evidence import Evidence
from homeostat.rollout.seen.observations import Observations
from homeostat.rollout.sequences import NOTHING, Bounds, Levels
from homeostat.rollout.spec import BiasGuard, RolloutSpec

CLASSES = {
    "demographic_parity_difference": (None,),
    "equal_opportunity_difference": (1.0,),
    "equalized_odds_difference": (0.0, 1.0),
}
"""metric -> the true classes within which rates are compared (None: all requests)."""


def judge(guard: BiasGuard, plan: RolloutSpec, seen: Observations, alpha: Alpha) -> Verdict:
    """The largest difference between groups, on every request that the candidate scored (in the
    shadow, too). Rates of labelled requests where the metric asks for the true class.

    The largest rate's bounds less the smallest rate's are bounds of the difference. To be shown
    harmful wrongly any group's may be wrong, so the k-th to appear has 1/(k(k+1)) of the rollback
    alpha and their number need not be known; to pass wrongly, those of the two groups that are
    truly the farthest apart, so each bound has half of the promotion alpha. Groups with less than
    `min_share` of the requests are not waited for; the two largest always are.
    """
    if guard.by not in seen.groups:
        sentence = f"bias: the prediction log has no column {guard.by} to tell groups apart"
        return Verdict("bias", Outcome.ERROR, sentence, threshold=guard.max)
    classes = CLASSES[guard.metric]
    part = alpha.part(len(classes))
    evidence = seen.alerts if classes == (None,) else seen.scored
    folded = evidence.fold(("bias", guard.by, plan.block), lambda: Groups(guard.by))
    folded.add(evidence, seen, plan)
    found = [_difference(folded.counts(c), guard.min_share, part) for c in classes]
    gap = max(found, key=lambda f: f[0].point if f[0].n else -1.0)
    bounds, names = gap[0], gap[1]
    if any(f[0].n == 0 for f in found):
        return nothing("bias", guard.max, f"there are not two groups of {guard.by} yet")
    harm = Bounds(
        bounds.point,
        max(f[0].low for f in found),
        max(f[0].high for f in found),
        min(f[0].n for f in found),
    )
    sentence = (
        f"bias: the candidate's {guard.metric.replace('_', ' ')} between {names} is "
        f"{harm.point:.4f} ({between(harm)}; at most {guard.max:g})"
    )
    unit = "requests of the smallest group"
    return judged("bias", harm, guard.max, guard.max, sentence, unit, seen)


class Alerts:
    """Requests of a group, and how many of them raised an alert. Requests that are close in time
    may hang together (`Levels`): they count as the independent ones that they are worth."""

    def __init__(self) -> None:
        self.n = self.k = 0
        self._levels, self._like = Levels(), Levels()

    def add(self, alert: Flags, block: Numbers | None, score: Array) -> None:
        self.n, self.k = self.n + len(alert), self.k + int(alert.sum())
        (alerts, like), w = sequences.in_blocks(np.array((alert, alike(score))), None, block)
        self._levels.add(alerts, w)
        self._like.add(like, w)

    def bounds(self, alpha: tuple[float, float]) -> Bounds:
        effect = self._levels.effect(self._like.merges())
        return sequences.rate(self.n, self.k, alpha=alpha, effect=effect)


Counts = dict[str, Alerts]
"""Group -> its alerts; in the order in which they appeared."""


class Groups:
    """Folds what the candidate scored, by group and true class."""

    def __init__(self, by: str) -> None:
        self._by, self._taken = by, 0
        self._counts: dict[float | None, Counts] = {None: {}, 0.0: {}, 1.0: {}}

    def add(self, evidence: Evidence, seen: Observations, plan: RolloutSpec) -> None:
        rows, block = in_order(evidence.rows(self._taken), plan, seen)
        self._taken += len(rows)
        if not len(rows):
            return
        alerts = rows.candidate >= seen.thresholds[1]
        for true_class, counts in self._counts.items():
            those = slice(None) if true_class is None else rows.label == true_class
            groups, alert = rows.groups[self._by][those], alerts[those]
            score = rows.candidate[those]
            near = None if block is None else block[those]
            for group in dict.fromkeys(groups.tolist()):
                if group is not None:
                    mine = groups == group
                    own = None if near is None else near[mine]
                    counts.setdefault(group, Alerts()).add(alert[mine], own, score[mine])

    def counts(self, true_class: float | None) -> Counts:
        return self._counts[true_class]


def _difference(counts: Counts, min_share: float, alpha: Alpha) -> tuple[Bounds, str]:
    """-> bounds of the largest difference of rates, and between which groups it is."""
    if len(counts) < 2:
        return NOTHING, ""
    inner: dict[str, Bounds] = {}
    outer: dict[str, Bounds] = {}
    for i, (value, alerts) in enumerate(counts.items(), start=1):
        own, both = alpha.rollback / (2 * i * (i + 1)), alpha.promotion / 2
        inner[value], outer[value] = alerts.bounds((own, own)), alerts.bounds((both, both))
    total = sum(alerts.n for alerts in counts.values())
    largest = sorted(inner, key=lambda g: -inner[g].n)
    asked = [g for g in largest if inner[g].n >= min_share * total or g in largest[:2]]
    low = max(r.low for r in inner.values()) - min(r.high for r in inner.values())
    high = max(outer[g].high for g in asked) - min(outer[g].low for g in asked)
    if low > high:  # shown in a group that nobody waits for
        asked = largest
        high = max(r.high for r in outer.values()) - min(r.low for r in outer.values())
    top = max(asked, key=lambda g: inner[g].point)
    bottom = min(asked, key=lambda g: inner[g].point)
    point, n = inner[top].point - inner[bottom].point, min(inner[g].n for g in asked)
    return Bounds(point, max(low, 0.0), high, n), " and ".join(sorted((bottom, top)))
