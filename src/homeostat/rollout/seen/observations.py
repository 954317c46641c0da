"""From the prediction log and the labels to what a rollout is judged on.

What is seen is kept as columns that grow at their end, in an order in which a later look only
ever adds to what an earlier one saw, so that guards may go on from where they were (`Evidence`).
What comes too late for that (a record, a label, a correction) is put where it belongs, and the
guards begin anew: the same records and labels lead to the same evidence, however they came in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from homeostat.core.clock import from_us, to_us
from homeostat.rollout.seen.answers import Answers, Arms
from homeostat.rollout.seen.columns import NEVER, T, Texts, kept_by
from homeostat.rollout.seen.evidence import Evidence
from homeostat.rollout.seen.records import BY_OTHERS, CANARY, Reader
from homeostat.rollout.seen.requests import Requests

_ANSWERS = np.array(
    # other, champion, canary: the arms, of
    [
        [False, True, False],  # the champion's records
        [False, True, True],  # nobody's
        [False, False, True],  # the candidate's
        [False, False, False],
        [False, False, False],
    ]
)
"""Whose records of which arm are answers."""


class Observations:
    """What was predicted from `since` on, joined with what is known of it.

    champion, candidate: versions; thresholds: theirs, alerts start there. matures_after: a request
    counts once it has settled and its label is known, whichever is later (a pair: once both have
    scored it). groups: column name -> expression over the log's columns that guards are broken
    down by. entity: expression of what keeps a caller on one version, where that is not the
    request's id. rivals: the other challengers of an experiment.
    Each request counts once: of repeated ids, the first record of a version. Of the rows of a
    batch, answered as one, the arms count one request, failed if any row failed.
    """

    def __init__(
        self,
        champion: str,
        candidate: str,
        since: datetime,
        *,
        matures_after: timedelta = timedelta(0),
        thresholds: tuple[float, float] = (0.5, 0.5),
        groups: Mapping[str, pl.Expr] | None = None,
        entity: pl.Expr | None = None,
        rivals: Collection[str] = (),
    ) -> None:
        self.versions, self.thresholds = (champion, candidate), thresholds
        self.since: datetime | None = since
        self.now: datetime | None = None
        self._since, self._matures = to_us(since), matures_after // timedelta(microseconds=1)
        self._reader = Reader(champion, candidate, groups or {}, entity, rivals)
        self._requests = Requests(self._reader.groups, self._matures)
        self._arms = Arms(bool(rivals), entity is not None)
        self._evidence: dict[str, Evidence] = {}

    # -- what comes in ------------------------------------------------------------------------

    def add(self, log: pl.DataFrame) -> bool:
        """log: records (`core.records.PREDICTIONS`), in any order and any number of times. False
        when a record came after a later one of its id and version, or of its batch: it should have
        counted, so all of them have to be given anew, at once."""
        told = self._reader.read(log)
        others = (told["by"] == BY_OTHERS) & (told["arm"] == CANARY)
        if np.count_nonzero(others):
            foreign = told["time"][others & (told["time"] >= self._since)]
            self._arms.before = int(foreign.max(initial=self._arms.before))
        if (new := self._requests.new(told, self._since)) is None:
            return False
        which, rows = new
        self._requests.score(rows, told, which)
        return self._arms.add(told, which[_ANSWERS[told["by"][which], told["arm"][which]]])

    def learn(self, facts: pl.DataFrame) -> None:
        """facts: labels (`core.records.LABELS`) in the order in which they arrived, none twice."""
        self._requests.learn(facts)

    def settle(self, now: datetime | None = None, settled: datetime | None = None) -> None:
        """Look at what came in. now: over which time it was looked at, None where nobody said.
        settled: requests after it do not count for quality yet. Give it as `now - matures_after`:
        when frauds are reported sooner than honest payments are cleared, the labels known so far
        are not a fair sample of the requests, and only those that had their full time are."""
        self.now = now
        until = NEVER - 1 if settled is None else to_us(settled) + self._matures
        self._requests.until = until
        touched, changed = self._requests.news()
        for evidence in self._evidence.values():
            evidence.advance(touched, changed, until)

    def next_at(self, block: timedelta) -> datetime | None:
        """When something is seen that is not now, if nothing comes in; None: never."""
        size = block // timedelta(microseconds=1)
        due = min((e.next_at(size) for e in self._evidence.values()), default=NEVER)
        return None if due == NEVER else from_us(due)

    # -- what is seen -------------------------------------------------------------------------

    @property
    def answers(self) -> Answers:
        return self._arms.seen()

    def fold(self, key: object, make: Callable[[], T]) -> T:
        """What a guard kept of the answers, made anew whenever their order is another one."""
        self._arms.settle()
        return kept_by(self._arms.folds, key, make)

    @property
    def paired(self) -> Evidence:
        """Requests that both have scored, and whose label counts."""
        return self._of("paired")

    @property
    def single(self) -> Evidence:
        """Requests that either version answered, and whose label counts."""
        return self._of("single")

    @property
    def scored(self) -> Evidence:
        """Requests that the candidate scored, in the shadow too, and whose label counts."""
        return self._of("scored")

    @property
    def alerts(self) -> Evidence:
        """Requests that the candidate scored, labelled or not."""
        return self._of("alerts")

    @property
    def pairs(self) -> Evidence:
        """Requests that both have scored, labelled or not."""
        return self._of("pairs")

    @property
    def groups(self) -> Collection[str]:
        """The columns that there are to break guards down by."""
        return self._requests.groups

    @property
    def no_draws_until(self) -> int:
        """When a candidate of an earlier rollout answered last, on a route that was not replaced
        yet: up to then the champion's are no independent draws. -1: none did."""
        return self._arms.before

    def _of(self, kind: str) -> Evidence:
        if kind not in self._evidence:
            self._evidence[kind] = Evidence(self._requests, kind)
            self._evidence[kind].anew(self._requests.until)
        return self._evidence[kind]

    @property
    def heard(self) -> int:
        """Of how many requests there was anything."""
        return self._requests.height

    @property
    def ids(self) -> Texts:
        return self._requests.ids


def observe(
    log: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    champion: str,
    candidate: str,
    since: datetime,
    settled: datetime | None = None,
    matures_after: timedelta = timedelta(0),
    thresholds: tuple[float, float] = (0.5, 0.5),
    now: datetime | None = None,
    groups: Mapping[str, pl.Expr] | None = None,
    entity: pl.Expr | None = None,
    rivals: Collection[str] = (),
) -> Observations:
    """`Observations` of all records (columns of `core.records.PREDICTIONS`) and all labels
    (`LABELS`, one row per id) at once. settled, now: as in `Observations.settle`."""
    seen = Observations(
        champion,
        candidate,
        since,
        matures_after=matures_after,
        thresholds=thresholds,
        groups=groups,
        entity=entity,
        rivals=rivals,
    )
    seen.add(log)
    seen.learn(labels)
    seen.settle(now, settled)
    return seen
