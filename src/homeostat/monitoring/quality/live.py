"""Live quality on matured labels: is the model still as good as it has to be, and what was lost."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from homeostat.core.metrics import Estimate, measure
from homeostat.core.names import METRICS, Metric
from homeostat.core.verdict import Outcome, Verdict
from homeostat.monitoring.quality.corrected import UNREACHED, Corrected, corrected, needs_correction
from homeostat.monitoring.quality.estimate.masses import SUPPORTED
from homeostat.monitoring.quality.model import Harm
from homeostat.monitoring.spec import Quality

MIN_LABELS = 30
MIN_PER_CLASS = 5
RELATIVE_TOLERANCE = 0.05
"""A shown loss above this share of the baseline's value is harm where no tolerance is declared."""


def judge(
    label: ArrayLike,
    score: ArrayLike,
    spec: Quality,
    *,
    threshold: float,
    k: int = 100,
    baseline: Estimate | float | None = None,
    alpha: float = 0.05,
    propensity: ArrayLike | None = None,
    design: float = 1.0,
) -> tuple[Verdict, Harm | None]:
    """label: final ones, 0/1, or NaN where the outcome is not known, shape (n,). score: (n,).
    threshold: a score from it on is an alert. alpha: one minus the confidence of the interval.
    propensity: with which probability the outcome could become known, (n,); 1 if unset.

    FAIL only when the whole interval is beyond `min` or `max`, or shows a loss above the declared
    tolerance; PASS when the figure itself is on the right side; INCONCLUSIVE between, and with
    too few labels. Where outcomes are not known the figure is doubly robust (`corrected`), and
    INCONCLUSIVE where it cannot be. design: so many rows are worth
    one independent row (`drift.dependence.of_metric`). -> the verdict, and what was lost
    against the baseline (None where it was not measured)."""
    labels, scores = np.asarray(label, dtype=np.float64), np.asarray(score, dtype=np.float64)
    chance = np.ones(labels.size) if propensity is None else np.asarray(propensity, np.float64)
    known = ~np.isnan(labels)
    n = int(known.sum())
    few = _too_few(labels[known], spec.metric)
    if few is not None:
        return Verdict("quality", Outcome.INCONCLUSIVE, few, n=n), None
    fixed: Corrected | None = None
    if spec.metric in SUPPORTED and needs_correction(labels, chance):
        fixed = corrected(
            spec.metric,
            labels,
            scores,
            chance,
            threshold=threshold,
            k=k,
            confidence=1 - alpha,
            design=design,
        )
        found = fixed.robust
    else:
        found = measure(
            labels[known],
            scores[known],
            threshold=threshold,
            k=k,
            confidence=1 - alpha,
            only=(spec.metric,),
            design=design,
        )[spec.metric]
    if fixed is not None and fixed.unreached > UNREACHED:
        text = f"no outcome is known of rows like {fixed.unreached:.0%} of the traffic, so that "
        text += f"{spec.metric} cannot be told: let some of them through (exploration)"
        return Verdict("quality", Outcome.INCONCLUSIVE, text, n=n), None
    if found.value is None or found.low is None or found.high is None:
        text = f"{spec.metric} is not defined on these {n:,} labels"
        return Verdict("quality", Outcome.INCONCLUSIVE, text, n=n), None
    lost = harm(found, baseline, spec)
    verdict = _verdict(found, lost, spec)
    if fixed is not None:
        sentence = f"{verdict.sentence}; {fixed.sentence}"
        verdict = msgspec.structs.replace(verdict, sentence=sentence)
    return verdict, lost


def harm(live: Estimate, baseline: Estimate | float | None, spec: Quality) -> Harm | None:
    """The loss against the baseline and its lower bound; None where either is not known."""
    if isinstance(baseline, int | float):
        baseline = Estimate(float(baseline), float(baseline), float(baseline), 0)
    if baseline is None or baseline.value is None or live.value is None:
        return None
    low, high = _ends(live)
    base_low, base_high = _ends(baseline)
    better = METRICS[spec.metric].higher_is_better
    loss = baseline.value - live.value if better else live.value - baseline.value
    least = base_low - high if better else low - base_high
    tolerance = spec.tolerance or RELATIVE_TOLERANCE * abs(baseline.value)
    return Harm(
        spec.metric,
        live.value,
        baseline.value,
        loss,
        least,
        tolerance,
        least > tolerance,
        live.n,
    )


def _ends(estimate: Estimate) -> tuple[float, float]:
    low = -np.inf if estimate.low is None else estimate.low
    high = np.inf if estimate.high is None else estimate.high
    return float(low), float(high)


def _too_few(labels: np.ndarray, name: str) -> str | None:
    metric: Metric = METRICS[name]
    positives = int(labels.sum())
    if labels.size < MIN_LABELS:
        return f"{labels.size:,} final labels are too few to judge {name} (at least {MIN_LABELS})"
    smaller = min(positives, labels.size - positives)
    if metric.name in _NEEDS_BOTH and smaller < MIN_PER_CLASS:
        return (
            f"{positives:,} of {labels.size:,} final labels are positive: too few of one class to "
            f"judge {name} (at least {MIN_PER_CLASS} of each)"
        )
    return None


_NEEDS_BOTH = ("auc", "average_precision", "recall", "precision_at_k")


def _verdict(found: Estimate, lost: Harm | None, spec: Quality) -> Verdict:
    value, (low, high) = found.value, _ends(found)
    assert value is not None
    figure = f"{spec.metric} {value:.3f} (between {low:.3f} and {high:.3f}, {found.n:,} labels)"
    outcome, threshold, text = Outcome.PASS, spec.min, f"{figure} is as it should be"
    if spec.min is not None and high < spec.min:
        outcome, text = Outcome.FAIL, f"{figure} is below the floor of {spec.min:g}"
    elif spec.max is not None and low > spec.max:
        outcome, threshold = Outcome.FAIL, spec.max
        text = f"{figure} is above the ceiling of {spec.max:g}"
    elif spec.tolerance is not None and lost is not None and lost.shown:
        outcome, threshold = Outcome.FAIL, lost.baseline
        text = f"{lost.sentence}, more than the tolerated {lost.tolerance:g} ({found.n:,} labels)"
    elif spec.min is not None and value < spec.min:
        outcome, text = Outcome.INCONCLUSIVE, f"{figure} may be below the floor of {spec.min:g}"
    elif spec.max is not None and value > spec.max:
        outcome, threshold = Outcome.INCONCLUSIVE, spec.max
        text = f"{figure} may be above the ceiling of {spec.max:g}"
    elif spec.tolerance is not None and lost is not None and lost.loss > lost.tolerance:
        outcome, threshold = Outcome.INCONCLUSIVE, lost.baseline
        text = f"{figure} may have lost more than {lost.tolerance:g} against {lost.baseline:.3f}"
    elif spec.min is None and spec.max is None and (spec.tolerance is None or lost is None):
        outcome = Outcome.INCONCLUSIVE
        text = f"{figure}; there is nothing to hold it against: declare min, max or tolerance"
    return Verdict(
        "quality", outcome, text, figure=value, threshold=threshold, low=low, high=high, n=found.n
    )
