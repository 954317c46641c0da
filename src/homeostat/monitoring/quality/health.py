"""Data quality of what arrives: errors, missing values, values far outside of the reference,
categories that it does not have.

Each share is held against the reference's own share plus an allowance, and fails only when its
exact lower bound (Clopper & Pearson 1934) is beyond it. Values that hang together count as the
independent ones that they are worth (`drift.dependence`; Rao & Scott 1992). Errors do not: how they
come in a service that works, the reference does not tell.
"""

from __future__ import annotations

from collections.abc import Sequence

from scipy import special

from homeostat.core.verdict import Outcome, Verdict
from homeostat.monitoring.drift.column import ColumnDrift
from homeostat.monitoring.model import FAILED_REQUESTS

ERRORS = 0.01
NULLS = 0.05
UNSEEN = 0.05
OUTSIDE = 0.5
"""Allowances. Values beyond the reference's range are what drift looks like; when most of a
column is there, its unit or its source was changed. A model was told nothing of a category that
was never seen: the allowance is for those that come one by one."""


def at_least(count: float, n: float, alpha: float) -> float:
    """Lower Clopper-Pearson bound of a share, at level alpha (one-sided); of fractions too."""
    return 0.0 if count == 0 else float(special.betaincinv(count, n - count + 1, alpha))


def data_quality(
    columns: Sequence[ColumnDrift], *, rows: int, errors: int, alpha: float
) -> Verdict:
    """columns: as compared with the reference, over the requests that were answered. rows: all
    requests. alpha: the chance of any wrong FAIL. No requests at all: INCONCLUSIVE."""
    if rows == 0:
        return Verdict("data", Outcome.INCONCLUSIVE, "no traffic: nothing arrived", n=0)
    level = alpha / (1 + 2 * len(columns))
    parts = [_share(FAILED_REQUESTS, "requests failed", errors, rows, ERRORS, level)]
    for c in columns:
        n, nulls = c.rows_current, c.rows_current - c.n_current
        outside = round(c.out_of_range * c.n_current)
        if nulls:
            text = f"rows have no {c.column}"
            limit = min(1.0, c.nulls_reference + NULLS)
            parts.append(_share(f"nulls:{c.column}", text, nulls, n, limit, level, c.design_nulls))
        if outside and c.kind == "categorical":
            text = f"values of {c.column} are in categories that were never seen before"
            limit = min(1.0, c.rare + UNSEEN)
            check = f"unseen:{c.column}"
            parts.append(_share(check, text, outside, c.n_current, limit, level, c.design))
        elif outside:
            text = f"values of {c.column} are outside of what the model was tested on"
            check = f"range:{c.column}"
            parts.append(_share(check, text, outside, c.n_current, OUTSIDE, level, c.design))
    failed = [p for p in parts if p.failed]
    if not failed:
        text = f"{rows:,} requests, {errors:,} errors, values as they should be"
        return Verdict("data", Outcome.PASS, text, n=rows)
    failed.sort(key=lambda p: -(p.figure or 0.0))
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    return Verdict(
        "data",
        Outcome.FAIL,
        failed[0].sentence + more,
        figure=failed[0].figure,
        threshold=failed[0].threshold,
        n=rows,
        parts=tuple(failed[:10]),
    )


def _share(
    check: str, text: str, count: int, n: int, limit: float, alpha: float, design: float = 1.0
) -> Verdict:
    low = at_least(count / design, n / design, alpha)
    outcome = Outcome.FAIL if low > limit else Outcome.PASS
    sentence = f"{count / n:.1%} of {text} ({count:,} of {n:,}; allowed {limit:.1%})"
    if check == FAILED_REQUESTS:
        sentence = f"{count / n:.1%} of the {text} ({count:,} of {n:,}; allowed {limit:.1%})"
    return Verdict(check, outcome, sentence, figure=count / n, threshold=limit, low=low, n=n)
