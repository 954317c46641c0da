"""What final labels said of one window, as it is remembered."""

from __future__ import annotations

import msgspec

OFF = 0.2
"""Scores mean something else when a calibration error is shown (its lower bound is above zero) and
is more than this share of the rarer class: 0.1 where half are positive, 0.002 where one in a
hundred is."""
RATE_MOVED = 0.1
"""The mix of the classes has moved when the share of positives is shown to differ by more than
this share of the rarer class."""


class Harm(msgspec.Struct, frozen=True):
    """What was lost against the champion's own test figure, in the metric's unit, positive when
    worse. low: the loss is at least this much (both intervals taken at their ends). tolerance:
    what it is held against. shown: low > tolerance."""

    metric: str
    live: float
    baseline: float
    loss: float
    low: float
    tolerance: float
    shown: bool
    n: int

    @property
    def sentence(self) -> str:
        text = f"{self.metric} is {self.live:.3f}, was {self.baseline:.3f} when it was tested"
        least = f", at least {self.low:.3f}" if self.low > 0 else ""
        return text + f": a loss of {self.loss:.3f}{least}"


class Outcomes(msgspec.Struct, frozen=True):
    """Of the labelled rows of one quality window.

    n: how many. coverage: labels that are there over those that may be there by now. rate, low,
    high: share of positives with its interval, expected: on the test set. residual: mean of label
    minus what the score meant on the test set. error: calibration error against that over GROUPS
    groups, error_low its lower bound; mixed, mixed_low the same once the new mix of the classes is
    allowed for (Bayes).
    """

    n: int
    coverage: float
    rate: float
    low: float
    high: float
    expected: float
    residual: float
    error: float
    error_low: float
    mixed: float
    mixed_low: float

    @property
    def rarer(self) -> float:
        return min(self.expected, 1 - self.expected)

    @property
    def rate_moved(self) -> bool:
        margin = RATE_MOVED * self.rarer
        return self.low > self.expected + margin or self.high < self.expected - margin

    @property
    def off(self) -> bool:
        """Scores do not mean what they meant."""
        return self.error_low > 0 and self.error > OFF * self.rarer

    @property
    def off_beyond_mix(self) -> bool:
        """Nor do they once another mix of the classes is allowed for."""
        return self.mixed_low > 0 and self.mixed > OFF * self.rarer
