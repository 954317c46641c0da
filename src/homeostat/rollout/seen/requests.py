"""What is known of each request: what both versions made of it, and its label."""

from __future__ import annotations

from collections import defaultdict
from itertools import count
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.records import microseconds
from homeostat.rollout.seen.columns import (
    NEVER,
    Array,
    Columns,
    Flags,
    Index,
    Numbers,
    Texts,
    Times,
    first,
    in_order,
)
from homeostat.rollout.seen.records import (
    BY_CANDIDATE,
    BY_NOBODY,
    CANARY,
    CHAMPION,
    OTHER,
    Told,
)

_UNLABELLED = ("pairs", "alerts")
_BOTH = ("paired", "pairs")
"""Kinds of evidence: without labels; of both versions."""


class Rows(msgspec.Struct, frozen=True):
    """Scored requests, one per id (all of length n).

    row: which of `Requests.ids`. time: of the champion's record if there is one. champion,
    candidate: scores, NaN where there is none. label: NaN where there is none. counts: from when
    on it is evidence. propensity: the chance of the label to become known.
    canary: what is looked at is the candidate's. groups: column -> text, or None, that a guard
    may be broken down by.
    """

    row: Numbers
    time: Times
    champion: Array
    candidate: Array
    label: Array
    counts: Times
    propensity: Array
    canary: Flags
    groups: dict[str, Texts]

    def __len__(self) -> int:
        return len(self.row)

    def take(self, which: Index | Flags | slice) -> Rows:
        return Rows(
            self.row[which],
            self.time[which],
            self.champion[which],
            self.candidate[which],
            self.label[which],
            self.counts[which],
            self.propensity[which],
            self.canary[which],
            {name: group[which] for name, group in self.groups.items()},
        )


class Requests:
    """A row per id, in the order in which they were first heard of.

    groups: names of the columns that guards are broken down by. matures: microseconds that a label
    takes. until: what counts by then is evidence.
    """

    def __init__(self, groups: tuple[str, ...], matures: int) -> None:
        self.groups, self.until = groups, NEVER - 1
        self._matures = matures
        self._place: dict[str, int] = defaultdict(count().__next__)
        self._sides: dict[str, tuple[type, object, int]] = {  # of two: by which version
            "time": (np.int64, NEVER, 2),
            "score": (np.float64, np.nan, 2),
            "propensity": (np.float64, 1.0, 2),
            "arm": (np.int8, OTHER, 2),
            **{f"group:{name}": (object, None, 2) for name in groups},
        }
        self._columns = Columns(
            id=(object, None),
            label=(np.float64, np.nan),
            known=(np.int64, NEVER),
            heard=(np.int64, NEVER, 3),  # of three: by whom
            **self._sides,
        )
        self._corrected: dict[int, list[tuple[int, float]]] = {}  # all that was told of a row
        self._touched: list[Numbers] = []
        self._changed: list[int] = []

    @property
    def ids(self) -> Texts:
        return self._columns["id"]

    @property
    def height(self) -> int:
        return self._columns.n

    # -- what comes in ------------------------------------------------------------------------

    def rows(self, ids: Texts) -> Numbers:
        """Of these requests; who has none yet gets one."""
        n = self._columns.n
        rows = np.fromiter(map(self._place.__getitem__, ids.tolist()), np.int64, len(ids))
        if len(self._place) > n:
            self._columns.grow(len(self._place))
            new = rows >= n
            self._columns["id"][rows[new]] = ids[new]
        return rows

    def new(self, told: Told, since: int) -> tuple[Index, Numbers] | None:
        """-> the places of the records from `since` on that are looked at and were not given
        before, in the order of time, the first of its version for each id; and their rows. None:
        one should have counted before another that was given."""
        which = ((told["by"] <= BY_CANDIDATE) & (told["time"] >= since)).nonzero()[0]
        times, ids = told["time"][which], told["id"][which]
        order = in_order(times, ids)
        which, times, rows = which[order], times[order], self.rows(ids[order])
        key, kept = 3 * rows + told["by"][which], self._columns["heard"].reshape(-1)
        known = kept[key]
        if np.count_nonzero((times < known) & (known < NEVER)):
            return None
        fresh = first(kept, key)
        kept[key[fresh]] = times[fresh]
        return which[fresh], rows[fresh]

    def score(self, rows: Numbers, told: Told, which: Index) -> None:
        """Records that are new: their places, and their rows."""
        scored = told["scored"][which] & (told["by"][which] != BY_NOBODY)
        rows, which = rows[scored], which[scored]
        self._touched.append(rows)
        at = 2 * rows + (told["by"][which] == BY_CANDIDATE)
        for name in self._sides:
            self._columns[name].reshape(-1)[at] = told[name][which]

    def learn(self, facts: pl.DataFrame) -> None:
        """facts: labels (`core.records.LABELS`) in the order in which they arrived, none twice."""
        rows = self.rows(np.array(facts["id"].to_list(), object))
        since, told = microseconds(facts["known"]), facts["label"].to_numpy()
        known, label = self._columns["known"], self._columns["label"]
        plain = first(known, rows)
        known[rows[plain]], label[rows[plain]] = since[plain], told[plain]
        self._touched.append(rows)
        if len(plain) == len(rows):
            return
        for i in np.delete(np.arange(len(rows)), plain).tolist():  # more than one for a request
            row = int(rows[i])
            before = int(known[row]), float(label[row])
            history = self._corrected.setdefault(row, [before])
            history.append((int(since[i]), float(told[i])))
            if (now := _latest(history)) != before:
                self._changed.append(row)
                known[row], label[row] = now

    def news(self) -> tuple[Numbers, list[int]]:
        """-> rows of which something is new since the last time, and those whose label was another
        one."""
        touched = np.concatenate((*self._touched, np.empty(0, np.int64)))
        changed, self._touched, self._changed = self._changed, [], []
        return touched, changed

    # -- what is seen -------------------------------------------------------------------------

    def counts(self, kind: str, rows: Numbers) -> tuple[Times, Times, Numbers]:
        """-> from when on each of the rows is evidence of a kind (NEVER where it is none yet), when
        it was asked, and whose record is looked at: 0 the champion's, 1 the candidate's, -1 none.
        """
        first, second = self._both("time", rows)
        asked, seen, whose = second, second, np.ones(len(rows), np.int64)
        if kind in _BOTH:
            asked, seen, whose = first, np.maximum(first, second), np.zeros(len(rows), np.int64)
        elif kind == "single":
            whose = self._answered(rows)
            asked = np.where(whose == 1, second, first)
            seen = np.where(whose >= 0, asked, NEVER)
        if kind in _UNLABELLED:  # a record of this very moment is seen in the next
            return np.minimum(seen, NEVER - 1) + 1, asked, whose
        settled = np.minimum(asked, NEVER - self._matures) + self._matures
        known = self._columns["known"][rows]
        return np.maximum(np.maximum(known, settled), seen), asked, whose

    def _both(self, name: str, rows: Numbers) -> tuple[NDArray[Any], NDArray[Any]]:
        """-> of the champion's records, and of the candidate's."""
        both = self._columns[name][rows]
        return both[:, 0], both[:, 1]

    def _answered(self, rows: Numbers) -> Numbers:
        """Which version's answer was given: 0 the champion's, 1 the candidate's, -1 none."""
        (theirs, mine), (first, second) = self._both("arm", rows), self._both("time", rows)
        given, canary = theirs == CHAMPION, mine == CANARY
        return np.where(given & ((second >= first) | ~canary), 0, np.where(canary, 1, -1))

    def gather(self, kind: str, rows: Numbers, counts: Times, asked: Times, whose: Numbers) -> Rows:
        """counts, asked, whose: of the rows, as `counts` tells them; all of them are evidence."""
        canary = whose == 1

        def own(name: str) -> NDArray[Any]:
            champion, candidate = self._both(name, rows)
            return np.where(canary, candidate, champion)

        # a shadow decides nothing: the record of the answer says whether its label can be known
        least = np.minimum(*self._both("propensity", rows)) if kind in _BOTH else None
        champion, candidate = self._both("score", rows)
        return Rows(
            row=rows,
            time=asked,
            champion=champion,
            candidate=candidate,
            label=self._columns["label"][rows],
            counts=counts,
            propensity=own("propensity") if least is None else least,
            canary=canary,
            groups={name: own(f"group:{name}") for name in self.groups},
        )


def _latest(history: list[tuple[int, float]]) -> tuple[int, float]:
    """-> since when the present label is known, and the label (as `LabelLedger.as_known`)."""
    told = None
    for fact in sorted(history, key=lambda fact: fact[0]):
        if told is None or fact[1] != told[1]:
            told = fact
    assert told is not None
    return told
