"""Whether the evidence suffices is a state of its own, whatever the evidence says."""

from __future__ import annotations

import enum
from collections.abc import Iterable

from homeostat.core.verdict import Verdict

ROUTER = "router"
"""The check that nobody declares: it always runs, after the declared guards."""


class Sufficiency(enum.StrEnum):
    """Whether the evidence suffices, whatever it says."""

    NO_DATA = "no_data"
    NOT_ENOUGH = "not_enough"
    ENOUGH = "enough"


def sufficiency(verdicts: Iterable[Verdict]) -> Sufficiency:
    """The least of all guards': each must have decided. The router's verdict waits for nothing."""
    guards = [v for v in verdicts if v.check != ROUTER]
    if any(v.failed for v in guards):
        return Sufficiency.ENOUGH
    if not guards or any(not v.n for v in guards):
        return Sufficiency.NO_DATA
    enough = all(v.passed for v in guards)
    return Sufficiency.ENOUGH if enough else Sufficiency.NOT_ENOUGH
