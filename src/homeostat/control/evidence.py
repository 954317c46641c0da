"""What is known of a live rollout's versions: read from the ports once, and carried on.

Nothing is kept here that cannot be read again: a controller without a memory comes to the same
verdicts from the whole log and ledger (docs/decisions/0029).
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import reduce
from typing import Any

import numpy as np
import polars as pl

from homeostat.control.platform import Platform
from homeostat.core.clock import to_us
from homeostat.core.records import instant, microseconds
from homeostat.core.verdict import Verdict
from homeostat.rollout.evidence import measure
from homeostat.rollout.experiment import plan_of_one
from homeostat.rollout.model import Rollout
from homeostat.rollout.seen.observations import Observations
from homeostat.rollout.seen.records import logged

Evidence = dict[str, tuple[Verdict, ...]]
"""Version -> a verdict per guard."""
STALE = 20
"""Sentences tell how long more evidence takes to come. With nothing new to judge they are written
anew when the rollout's age has grown by one part of so many."""


class Following:
    """The evidence of one rollout from tick to tick.

    Only what came into the log and the ledger since the last look is read. A request counts when
    it is `platform.settles` old, and a label likewise, so that what takes its time into the log is
    in its place; what takes longer is put there when it comes.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._begin(None)

    def _begin(self, rollout: Rollout | None) -> None:
        """Nothing is read yet."""
        self._of = None if rollout is None else (rollout.id, rollout.started)
        self._seen: dict[str, Observations] = {}
        self._marks: tuple[object, int] = (None, 0)
        self._waiting: list[pl.DataFrame] = []
        self._facts: list[pl.DataFrame] = []
        self._verdicts: Evidence = {}
        self._news = True
        self._until = self._judged = datetime.min.replace(tzinfo=UTC)
        self._due: datetime | None = None

    def evidence(self, rollout: Rollout, now: datetime) -> Evidence:
        """What everything that happened since the rollout started says of each version tried."""
        until = now - self._platform.settles
        if (rollout.id, rollout.started) != self._of or until < self._until:
            self._begin(rollout)
        for version in tried(rollout):
            if version not in self._seen:
                self._begin(rollout)  # a newcomer has to be given everything
                self._seen |= {v: observations(self._platform, rollout, v) for v in tried(rollout)}
                break
        self._read(rollout)
        if not self._take(until):
            self._begin(rollout)
            return self.evidence(rollout, now)
        if self._fresh(rollout, until):
            return self._verdicts
        for version in tried(rollout):
            self._verdicts[version] = judged(self._platform, rollout, self._seen[version], until)
        self._verdicts = {v: self._verdicts[v] for v in tried(rollout)}
        self._news, self._judged = False, until
        block = rollout.plan.block
        due = [at for v in self._verdicts if (at := self._seen[v].next_at(block)) is not None]
        self._due = min(due, default=None)
        return self._verdicts

    def _read(self, rollout: Rollout) -> None:
        platform, (log, labels) = self._platform, self._marks
        news, log = platform.log.news(platform.stream, rollout.started, log)
        self._marks = log, labels
        if news.height:
            self._waiting.append(news)
        facts, labels = platform.labels.news(labels)
        self._marks = log, labels
        if facts.height:
            first: Any = facts["known"].min()
            if first < rollout.started:  # a label that was known before is of a request before
                facts = facts.filter(pl.col("known") >= instant(rollout.started))
            self._facts.append(facts)

    def _take(self, until: datetime) -> bool:
        """Of what was read, what is old enough. False: it came in an order that does not do."""
        facts, self._facts = _cut(self._facts, "known", until, inclusive=True)
        records, self._waiting = _cut(self._waiting, "time", until, inclusive=False)
        self._until = until
        self._news |= facts is not None or records is not None
        for seen in self._seen.values():
            if records is not None and not seen.add(records):
                return False
            if facts is not None:
                seen.learn(facts)
        return True

    def _fresh(self, rollout: Rollout, until: datetime) -> bool:
        """Whether the verdicts are what they would be."""
        old = until - self._judged > (self._judged - rollout.started) / STALE
        due = self._due is not None and until >= self._due
        return not (self._news or due or old) and self._verdicts.keys() == set(tried(rollout))


def _cut(
    frames: list[pl.DataFrame], column: str, until: datetime, *, inclusive: bool
) -> tuple[pl.DataFrame | None, list[pl.DataFrame]]:
    """-> the rows up to a time, and those that are left."""
    if not frames:
        return None, frames
    rows = reduce(pl.DataFrame.vstack, frames)
    last: Any = rows[column].max()
    if last is None or last < until or (inclusive and last == until):
        return rows, []
    old = microseconds(rows[column]) < to_us(until) + inclusive
    many = int(np.count_nonzero(old))
    if not many:
        return None, [rows]
    if not old[:many].all():  # they are not in the order of time
        first = pl.Series(old)
        rows = pl.concat([rows.filter(first), rows.filter(~first)])
    return rows.head(many), [rows.slice(many)]


def verdicts(
    platform: Platform,
    rollout: Rollout,
    candidate: str,
    log: pl.DataFrame,
    labels: pl.DataFrame,
    now: datetime,
) -> tuple[Verdict, ...]:
    """How one candidate compares with the champion on these records and labels: a verdict per
    guard."""
    seen = observations(platform, rollout, candidate)
    seen.add(log)
    seen.learn(labels)
    return judged(platform, rollout, seen, now)


def observations(platform: Platform, rollout: Rollout, candidate: str) -> Observations:
    """Nothing yet, of one candidate beside the champion."""
    threshold = platform.project.training.threshold
    by, champion = _columns(rollout), rollout.champion
    features = _features(platform, champion) if by else ()
    return Observations(
        rollout.champion,
        candidate,
        rollout.started,
        matures_after=platform.project.data.label.matures_after,
        thresholds=(threshold, threshold),
        rivals=[t.version for t in rollout.trials if t.version != candidate],
        groups={name: logged(name, features) for name in by},
        entity=caller(platform, champion),
    )


def caller(platform: Platform, champion: str) -> pl.Expr | None:
    """What keeps a caller on one version, in the log's columns; None where requests do not."""
    sticky = platform.project.serving.sticky
    return logged(sticky, _features(platform, champion)) if sticky else None


def judged(
    platform: Platform, rollout: Rollout, seen: Observations, now: datetime
) -> tuple[Verdict, ...]:
    seen.settle(now, now - platform.project.data.label.matures_after)
    return tuple(measure(plan_of_one(rollout.plan, len(rollout.trials)), seen))


def tried(rollout: Rollout) -> tuple[str, ...]:
    """The versions that are judged: the candidate, or those that are left in an experiment."""
    return tuple(t.version for t in rollout.active) or (rollout.candidate,)


def _columns(rollout: Rollout) -> tuple[str, ...]:
    """What the plan's guards are broken down by."""
    guards = rollout.plan.guards
    asked = (g.by for g in (guards.quality, guards.bias) if g is not None)
    return tuple(dict.fromkeys(name for name in asked if name is not None))


def _features(platform: Platform, version: str) -> tuple[str, ...]:
    """The names of the log's features, in their order."""
    champion = platform.registry.get(platform.stream, version)
    return tuple(field.name for field in platform.inputs(champion) if field.plain)
