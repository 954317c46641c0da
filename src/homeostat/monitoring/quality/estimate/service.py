"""All estimators on one window's rows, held against each other and against the last labels.

The figure that is shown is that of the conditional calibration (`calibrate.Conditional`). CBPE,
the density-ratio weighted one and the label-shift corrected one are told beside it: where they
differ, the assumption that each of them makes matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from homeostat.core.metrics import Estimate, measure
from homeostat.core.verdict import Outcome, Verdict
from homeostat.monitoring.quality.estimate.calibrate import Conditional, isotonic
from homeostat.monitoring.quality.estimate.labelshift import adjusted, bbse, saerens
from homeostat.monitoring.quality.estimate.masses import SUPPORTED, Masses, metric_of
from homeostat.monitoring.quality.estimate.model import Estimated, Standing, standing
from homeostat.monitoring.quality.estimate.ratio import Support, density_ratio

Floats = NDArray[np.float64]

LEAST = 100
"""Rows that an estimate is made from, and labels that it is checked on, at least."""
DRAWS = 200
MOST_ROWS = 20_000
CALIBRATED = 0.05
"""Calibration error on the last labels that is borne."""
TOLD_APART = 0.8
"""AUC of the domain classifier from which on the traffic counts as another population."""
OUTSIDE, FAR_OUTSIDE = 0.05, 0.2
APART = 0.05
"""Difference between estimators, or to the last measured figure, that is borne."""


class Rows(NamedTuple):
    """features: (n, d). score: (n,). label: (n,), or None where it is not known."""

    features: Floats
    score: Floats
    label: Floats | None = None

    def some(self, most: int) -> Rows:
        """At most so many of them, evenly drawn."""
        if len(self.score) <= most:
            return self
        at = np.linspace(0, len(self.score) - 1, most).astype(np.int64)
        label = None if self.label is None else self.label[at]
        return Rows(self.features[at], self.score[at], label)


class Estimator:
    """Learnt once from a version's test rows; then each window costs a few hundred milliseconds,
    most of it for the domain classifier."""

    def __init__(
        self, reference: Rows, metric: str, *, threshold: float = 0.5, k: int = 100, seed: int = 0
    ) -> None:
        """reference: rows that the model was not fitted on, with labels of both classes."""
        assert reference.label is not None
        self.metric, self.threshold, self.k, self.seed = metric, threshold, k, seed
        self.reference = reference.some(MOST_ROWS)
        assert self.reference.label is not None
        self.prior = float(self.reference.label.mean())
        self.plain = isotonic(self.reference.score, self.reference.label)
        self.conditional = Conditional.fit(
            self.reference.features, self.reference.score, self.reference.label
        )
        self.support = Support.build(self.reference.features, seed=seed)

    def cbpe(self, score: Floats) -> float | None:
        """Confidence-based performance estimation (NannyML): isotonic calibration, then the
        expected metric. score: (n,)."""
        return self._expected(score, self.plain(score))

    def conditional_value(self, now: Rows) -> float | None:
        """The figure of `estimate`, whatever its standing: for comparing methods only."""
        return self._expected(now.score, self.conditional.probability(now.features, now.score))

    def estimate(self, now: Rows, matured: Rows | None = None) -> Estimated:
        """now: rows without labels (any they have are not looked at). matured: the last rows
        whose labels are final, to check the assumptions on. `withdrawn` where one has failed."""
        if len(now.score) < LEAST or self.metric not in SUPPORTED:
            return self._none(now)
        now = now.some(MOST_ROWS)
        found = self.interval(now)
        if found.value is None:
            return self._none(now)
        others, apart = self._others(now)
        checks = (
            self._calibration(matured),
            *self._record(matured),
            self._population(apart),
            self._support(now),
            self._agreement(found.value, others),
        )
        how = standing(checks)
        kept = found if how is not Standing.WITHDRAWN else Estimate(None, None, None, found.n)
        return Estimated(self.metric, how, found.n, kept.value, kept.low, kept.high, checks, others)

    # -- figures -------------------------------------------------------------------------------

    def _expected(self, score: Floats, p: Floats) -> float | None:
        found = metric_of(self.metric, Masses(score, p, 1 - p), threshold=self.threshold, k=self.k)
        return None if found is None else found.value

    def interval(self, now: Rows, confidence: float = 0.95) -> Estimate:
        """The expected metric, and between which values the figure on these very rows will be
        with that confidence: labels are drawn from probabilities that are drawn themselves."""
        value = self.conditional_value(now)
        random = np.random.default_rng(self.seed)
        drawn = self.conditional.draws(now.features, now.score, DRAWS, random)
        figures = []
        for p in drawn:
            y = (random.random(p.size) < p).astype(np.float64)
            seen = self._expected(now.score, y)
            if seen is not None:
                figures.append(seen)
        if value is None or len(figures) < DRAWS // 2:
            return Estimate(None, None, None, len(now.score))
        tail = (1 - confidence) / 2
        low, high = np.quantile(figures, [tail, 1 - tail])
        return Estimate(value, min(float(low), value), max(float(high), value), len(now.score))

    def _others(self, now: Rows) -> tuple[dict[str, float], float]:
        """What the other methods say, and the AUC of the domain classifier."""
        reference, label = self.reference, self.reference.label
        assert label is not None
        ratio = density_ratio(_table(reference), _table(now), seed=self.seed)
        weighted = isotonic(reference.score, label, ratio.weight)
        p = self.plain(now.score)
        mix = saerens(p, self.prior)
        alerts = [(s >= self.threshold).astype(np.float64) for s in (reference.score, now.score)]
        black_box = bbse(alerts[0], label, alerts[1])
        found = {
            "cbpe": self.cbpe(now.score),
            "weighted": self._expected(now.score, weighted(now.score)),
            "label_shift": self._expected(now.score, adjusted(p, self.prior, mix)),
        }
        if black_box is not None:
            shifted = adjusted(p, self.prior, black_box)
            found["label_shift_bbse"] = self._expected(now.score, shifted)
        return {name: value for name, value in found.items() if value is not None}, ratio.auc

    # -- assumptions ---------------------------------------------------------------------------

    def _calibration(self, matured: Rows | None) -> Verdict:
        if matured is None or matured.label is None or len(matured.label) < LEAST:
            n = 0 if matured is None or matured.label is None else len(matured.label)
            text = f"{n:,} final labels are too few to check the calibration on"
            return Verdict("calibration", Outcome.INCONCLUSIVE, text, n=n)
        p = self.conditional.probability(matured.features, matured.score)
        error = measure(matured.label, p, only=("calibration_error",))["calibration_error"]
        assert error.value is not None
        assert error.low is not None
        outcome, how = Outcome.PASS, "borne"
        if error.low > CALIBRATED:
            outcome, how = Outcome.FAIL, "too much"
        elif error.value > CALIBRATED:
            outcome, how = Outcome.INCONCLUSIVE, "may be too much"
        text = (
            f"on the last {error.n:,} final labels the probabilities are off by {error.value:.3f}"
        )
        return Verdict(
            "calibration", outcome, f"{text}, which is {how}", figure=error.value,
            threshold=CALIBRATED, low=error.low, high=error.high, n=error.n,
        )  # fmt: skip

    def _record(self, matured: Rows | None) -> Sequence[Verdict]:
        """What it would have said of the last labelled rows, against what was measured there."""
        if matured is None or matured.label is None or len(matured.label) < LEAST:
            return ()
        said = self.interval(matured.some(MOST_ROWS))
        was = measure(
            matured.label, matured.score, threshold=self.threshold, k=self.k, only=(self.metric,)
        )[self.metric]
        if said.value is None or was.value is None or was.low is None or was.high is None:
            return ()
        off = abs(said.value - was.value)
        beyond = not was.low - APART <= said.value <= was.high + APART
        outcome = Outcome.FAIL if beyond else Outcome.PASS
        if not beyond and off > APART:
            outcome = Outcome.INCONCLUSIVE
        text = f"of the last {was.n:,} final labels it said {said.value:.3f} and {was.value:.3f} "
        return (
            Verdict("record", outcome, f"{text}was measured", figure=off, threshold=APART, n=was.n),
        )

    def _population(self, auc: float) -> Verdict:
        outcome = Outcome.PASS if auc <= TOLD_APART else Outcome.INCONCLUSIVE
        text = f"a classifier tells this traffic from the reference with AUC {auc:.2f}"
        n = len(self.reference.score)
        return Verdict("population", outcome, text, figure=auc, threshold=TOLD_APART, n=n)

    def _support(self, now: Rows) -> Verdict:
        share = self.support.outside(now.features)
        outcome = Outcome.PASS
        if share > OUTSIDE:
            outcome = Outcome.FAIL if share > FAR_OUTSIDE else Outcome.INCONCLUSIVE
        text = f"{share:.0%} of the rows lie where the reference has none"
        n = len(now.score)
        return Verdict("support", outcome, text, figure=share, threshold=OUTSIDE, n=n)

    def _agreement(self, value: float, others: dict[str, float]) -> Verdict:
        """A moved population and a moved mix of the classes ask for different corrections."""
        other = others.get("label_shift")
        if other is None:
            text = "there is no label-shift estimate to compare with"
            return Verdict("agreement", Outcome.INCONCLUSIVE, text)
        apart = abs(value - other)
        outcome = Outcome.PASS if apart <= APART else Outcome.INCONCLUSIVE
        text = f"if only the mix of the classes has moved it would be {other:.3f}"
        return Verdict("agreement", outcome, text, figure=apart, threshold=APART)

    def _none(self, now: Rows) -> Estimated:
        n = len(now.score)
        text = f"{n:,} rows are too few to estimate {self.metric} from (at least {LEAST})"
        if self.metric not in SUPPORTED:
            text = (
                f"{self.metric} cannot be estimated from probabilities that are taken to be right"
            )
        check = Verdict("rows", Outcome.FAIL, text, figure=float(n), threshold=float(LEAST), n=n)
        return Estimated(self.metric, Standing.WITHDRAWN, n, checks=(check,))


def _table(rows: Rows) -> Floats:
    return np.column_stack([rows.features, rows.score])
