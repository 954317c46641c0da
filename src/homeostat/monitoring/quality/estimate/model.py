"""What is said of quality without labels. Not a Verdict, on purpose."""

from __future__ import annotations

import enum

import msgspec

from homeostat.core.verdict import Outcome, Verdict, worst


class Standing(enum.StrEnum):
    """HOLDS: every assumption was checked and held. DOUBTFUL: one could not be checked, or only
    just held. WITHDRAWN: one has failed, and there is no figure."""

    HOLDS = "holds"
    DOUBTFUL = "doubtful"
    WITHDRAWN = "withdrawn"


class Estimated(msgspec.Struct, frozen=True):
    """metric: which figure is guessed at. value, low, high: what would probably be measured if
    the labels were known, with the interval for that; None when withdrawn. n: rows it is about.
    checks: of the assumptions. others: what other methods say; without a standing of their own."""

    metric: str
    standing: Standing
    n: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    checks: tuple[Verdict, ...] = ()
    others: dict[str, float] = {}

    @property
    def sentence(self) -> str:
        """Never reads as a measurement."""
        broken = [c.sentence for c in self.checks if c.outcome is not Outcome.PASS]
        why = f": {'; '.join(broken)}" if broken else ""
        if self.value is None or self.low is None or self.high is None:
            return f"no estimate of {self.metric} without labels, it is withdrawn{why}"
        figure = f"{self.metric} is guessed at {self.value:.3f} ({self.low:.3f} to {self.high:.3f})"
        if self.standing is Standing.HOLDS:
            return f"{figure} without labels, on {self.n:,} rows; its assumptions hold so far"
        return f"{figure} without labels, on {self.n:,} rows; doubtful{why}"


def standing(checks: tuple[Verdict, ...]) -> Standing:
    """The worst of the checks decides; nothing checked is doubtful."""
    found = worst(c.outcome for c in checks)
    if found is Outcome.PASS:
        return Standing.HOLDS
    return Standing.WITHDRAWN if found is Outcome.FAIL else Standing.DOUBTFUL
