"""Bias: how far apart the candidate's rates of alerts in two groups may be."""

from __future__ import annotations

import polars as pl

from homeostat.core.verdict import Outcome, Verdict
from homeostat.rollout import sequences
from homeostat.rollout.guards.common import Alpha, between, judged, nothing
from homeostat.rollout.observations import GROUP, Observations
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

    Each group's rate has an equal part of alpha; the largest rate's bounds less the smallest
    rate's are bounds of the difference (Bonferroni), so groups are those seen so far.
    """
    column = f"{GROUP}{guard.by}"
    if column not in seen.scored.columns:
        sentence = f"bias: the prediction log has no column {guard.by} to tell groups apart"
        return Verdict("bias", Outcome.ERROR, sentence, threshold=guard.max)
    rows = seen.scored.filter(pl.col("version") == seen.versions[1]).drop_nulls(column)
    rows = rows.with_columns(alert=pl.col("score") >= seen.thresholds[1])
    classes = CLASSES[guard.metric]
    part = alpha.part(len(classes))
    found = [_difference(_of(rows, c), column, part) for c in classes]
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
    return rows if true_class is None else rows.filter(pl.col("label") == true_class)


def _difference(rows: pl.DataFrame, column: str, alpha: Alpha) -> tuple[Bounds, str]:
    """-> bounds of the largest difference of rates, and between which groups it is."""
    groups = rows.group_by(column).agg(n=pl.len(), k=pl.col("alert").sum()).sort(column)
    if groups.height < 2:
        return NOTHING, ""
    part = alpha.part(2 * groups.height)
    rates = {
        str(value): sequences.rate(int(n), int(k), alpha=(part.rollback, part.rollback))
        for value, n, k in groups.select(column, "n", "k").rows()
    }
    outer = {
        str(value): sequences.rate(int(n), int(k), alpha=(part.promotion, part.promotion))
        for value, n, k in groups.select(column, "n", "k").rows()
    }
    top = max(rates, key=lambda g: rates[g].point)
    bottom = min(rates, key=lambda g: rates[g].point)
    low = max(r.low for r in rates.values()) - min(r.high for r in rates.values())
    high = max(r.high for r in outer.values()) - min(r.low for r in outer.values())
    point, n = rates[top].point - rates[bottom].point, min(r.n for r in rates.values())
    return Bounds(point, max(low, 0.0), high, n), " and ".join(sorted((bottom, top)))
