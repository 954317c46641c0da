"""What a dossier holds: the decision, what it rests on, and what would have changed it."""

from __future__ import annotations

from datetime import datetime

import msgspec

from homeostat.core.verdict import Outcome, Verdict
from homeostat.core.version import Version
from homeostat.rollout.model import RolloutEvent
from homeostat.rollout.spec import RolloutSpec


class Happened(msgspec.Struct, frozen=True):
    """An event of the rollout as it was recorded."""

    seq: int
    at: datetime
    event: RolloutEvent


class Look(msgspec.Struct, frozen=True):
    """What the guards said of a version at a time. recorded: it was written down then; else it
    is computed anew, from what was known then."""

    at: datetime
    version: str
    verdicts: tuple[Verdict, ...]
    recorded: bool = False


class Refusal(msgspec.Struct, frozen=True):
    """A version that was not rolled out, as it was recorded. champion: that of the time, which it
    would have been held against. preflight, plan: None where it was superseded."""

    seq: int
    at: datetime
    version: str
    reason: str
    champion: str
    preflight: Verdict | None = None
    plan: RolloutSpec | None = None
    by: str = "policy"


class Inputs(msgspec.Struct, frozen=True):
    """Everything a dossier is made of. at: when it is made. answered: requests per version since
    the rollout began, None where the log cannot be read. missing: what could not be had, and
    why."""

    model: str
    at: datetime
    events: tuple[Happened, ...]
    looks: tuple[Look, ...] = ()
    answered: dict[str, int] | None = None
    versions: dict[str, Version] = {}
    missing: tuple[str, ...] = ()


class Point(msgspec.Struct, frozen=True):
    """A guard's figure at a time. low, high: its bounds, None while nothing is known of them."""

    at: datetime
    outcome: Outcome
    n: int
    figure: float | None
    low: float | None
    high: float | None


class Guard(msgspec.Struct, frozen=True):
    """One guard of one version, or one slice of it, from the first look to the last.

    figure: harm, in the guard's unit. threshold: what is tolerated. alpha_promote, alpha_roll_back:
    the chance that was given to its upper, and to its lower bound, over all looks together.
    would_change: what would have let it come out otherwise.
    """

    version: str
    name: str
    slice: str | None
    outcome: Outcome
    sentence: str
    n: int
    figure: float | None
    low: float | None
    high: float | None
    threshold: float | None
    alpha_promote: float
    alpha_roll_back: float
    would_change: str
    path: tuple[Point, ...] = ()


class Moment(msgspec.Struct, frozen=True):
    """A line of the timeline. percent: the share of (each) candidate from then on."""

    seq: int
    at: datetime
    kind: str
    sentence: str
    percent: float
    by: str


class Origin(msgspec.Struct, frozen=True):
    """What a version was made of. parts: name -> digest, period or commit; empty where the
    registry does not know it any more."""

    version: str
    role: str
    created: datetime | None
    run: str | None
    parts: dict[str, str]


class Dossier(msgspec.Struct, frozen=True):
    """The whole case. outcome: promoted | rolled_back | holds, or of a version that was not rolled
    out: refused | superseded. decision: it in one sentence. preflight: what was expected before
    the start. plan: None where none was recorded. people: who had a part in it, and which.
    missing: what could not be looked at."""

    id: str
    model: str
    at: datetime
    outcome: str
    decision: str
    would_change: tuple[str, ...]
    champion: str
    candidates: tuple[str, ...]
    began: datetime
    ended: datetime | None
    largest_percent: float
    answered: dict[str, int] | None
    plan: RolloutSpec | None
    preflight: Verdict | None
    guards: tuple[Guard, ...]
    timeline: tuple[Moment, ...]
    people: tuple[str, ...]
    origins: tuple[Origin, ...]
    missing: tuple[str, ...]

    @property
    def tried(self) -> bool:
        """Whether there was a rollout at all."""
        return self.outcome not in ("refused", "superseded")

    def of(self, version: str) -> tuple[Guard, ...]:
        """The guards of one candidate."""
        return tuple(g for g in self.guards if g.version == version)
