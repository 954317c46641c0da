"""Bias: how far apart the candidate's rates of alerts in two groups may be."""

from __future__ import annotations

import polars as pl

from homeostat.core.verdict import Outcome, Verdict
from homeostat.rollout import sequences
from homeostat.rollout.guards.common import Alpha, between, judged, nothing
from homeostat.rollout.observations import GROUP, Observations, labelled
from homeostat.rollout.sequences import NOTHING, Bounds
from homeostat.rollout.spec import BiasGuard

CLASSES = {
    "demographic_parity_difference": (None,),
    "equal_opportunity_difference": (1.0,),
    "equalized_odds_difference": (0.0, 1.0),
}
"""metric -> the true classes within which rates are compared (None: all requests)."""


def judge(guard: BiasGuard, seen: Observations, alpha: Alpha) -> Verdict:
    """The largest difference between groups, on every request that the candidate scored (in the
    shadow, too). Rates of labelled requests where the metric asks for the true class.

    The largest rate's bounds less the smallest rate's are bounds of the difference. To be shown
    harmful wrongly any group's may be wrong, so the k-th to appear has 1/(k(k+1)) of the rollback
    alpha and their number need not be known; to pass wrongly, those of the two groups that are
    truly the farthest apart, so each bound has half of the promotion alpha. Groups with less than
    `min_share` of the requests are not waited for; the two largest always are.
    """
    column = f"{GROUP}{guard.by}"
    if column not in seen.scored.columns:
        sentence = f"bias: the prediction log has no column {guard.by} to tell groups apart"
        return Verdict("bias", Outcome.ERROR, sentence, threshold=guard.max)
    rows = seen.scored.filter(pl.col("version") == seen.versions[1]).drop_nulls(column)
    rows = rows.with_columns(alert=pl.col("score") >= seen.thresholds[1])
    classes = CLASSES[guard.metric]
    part = alpha.part(len(classes))
    found = [_difference(_of(rows, c), column, guard.min_share, part) for c in classes]
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


def _of(rows: pl.DataFrame, true_class: float | None) -> pl.DataFrame:
    """In the order in which they came to tell something."""
    return rows if true_class is None else labelled(rows).filter(pl.col("label") == true_class)


def _difference(
    rows: pl.DataFrame, column: str, min_share: float, alpha: Alpha
) -> tuple[Bounds, str]:
    """-> bounds of the largest difference of rates, and between which groups it is."""
    groups = rows.group_by(column, maintain_order=True).agg(n=pl.len(), k=pl.col("alert").sum())
    if groups.height < 2:
        return NOTHING, ""
    inner: dict[str, Bounds] = {}
    outer: dict[str, Bounds] = {}
    for i, (value, n, k) in enumerate(groups.select(column, "n", "k").rows(), start=1):
        own, both = alpha.rollback / (2 * i * (i + 1)), alpha.promotion / 2
        inner[str(value)] = sequences.rate(int(n), int(k), alpha=(own, own))
        outer[str(value)] = sequences.rate(int(n), int(k), alpha=(both, both))
    largest = sorted(inner, key=lambda g: -inner[g].n)
    asked = [g for g in largest if inner[g].n >= min_share * rows.height or g in largest[:2]]
    low = max(r.low for r in inner.values()) - min(r.high for r in inner.values())
    high = max(outer[g].high for g in asked) - min(outer[g].low for g in asked)
    if low > high:  # shown in a group that nobody waits for
        asked = largest
        high = max(r.high for r in outer.values()) - min(r.low for r in outer.values())
    top = max(asked, key=lambda g: inner[g].point)
    bottom = min(asked, key=lambda g: inner[g].point)
    point, n = inner[top].point - inner[bottom].point, min(inner[g].n for g in asked)
    return Bounds(point, max(low, 0.0), high, n), " and ".join(sorted((bottom, top)))
