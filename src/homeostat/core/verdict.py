"""One verdict for data checks, gates, canaries and monitors.

Nothing measured is never a PASS: `all_of` of no verdicts is INCONCLUSIVE.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable

import msgspec


class Outcome(enum.StrEnum):
    """Ordered from best to worst: PASS < INCONCLUSIVE < ERROR < FAIL."""

    PASS = "pass"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"
    FAIL = "fail"

    @property
    def rank(self) -> int:
        return _RANK[self]


_RANK = {o: i for i, o in enumerate(Outcome)}


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was checked, how it came out, and the sentence a person will read.

    figure: the measured value, in the check's own unit; None where nothing was measured.
    threshold: what the figure was held against.
    low, high: the interval of the figure, where one was computed.
    n: how many observations the figure rests on.
    parts: the verdicts this one sums up.
    """

    check: str
    outcome: Outcome
    sentence: str
    figure: float | None = None
    threshold: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    parts: tuple[Verdict, ...] = ()

    def __post_init__(self) -> None:
        # JSON has no NaN: a figure that is not a number was not measured
        for field in ("figure", "threshold", "low", "high"):
            value = getattr(self, field)
            if value is not None and not math.isfinite(value):
                msgspec.structs.force_setattr(self, field, None)
        if self.outcome is Outcome.PASS and self.n == 0:
            raise ValueError(f"{self.check}: a verdict on no observations cannot pass")

    @property
    def passed(self) -> bool:
        return self.outcome is Outcome.PASS

    @property
    def failed(self) -> bool:
        return self.outcome is Outcome.FAIL

    def failures(self) -> tuple[Verdict, ...]:
        """The leaves that did not pass, worst first."""
        if not self.parts:
            return () if self.passed else (self,)
        found = [leaf for part in self.parts for leaf in part.failures()]
        return tuple(sorted(found, key=lambda v: -v.outcome.rank))


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The worst of some outcomes; INCONCLUSIVE of none."""
    return max(outcomes, key=lambda o: o.rank, default=Outcome.INCONCLUSIVE)


def all_of(check: str, parts: Iterable[Verdict]) -> Verdict:
    """Sum up verdicts: the worst of them, with a sentence that names what did not pass."""
    parts = tuple(parts)
    outcome = worst(p.outcome for p in parts)
    if not parts:
        return Verdict(check, outcome, f"{check}: nothing was checked")
    if outcome is Outcome.PASS:
        which = f"all {len(parts)} checks" if len(parts) > 1 else "the one check"
        return Verdict(check, outcome, f"{check}: {which} passed", parts=parts)
    bad = [p for p in parts if p.outcome is outcome]
    more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
    return Verdict(check, outcome, bad[0].sentence + more, parts=parts)
