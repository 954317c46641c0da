"""What is known of each request: what both versions made of it, and its label."""

from __future__ import annotations

from collections import defaultdict
from itertools import count
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

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
    BY_CHAMPION,
    BY_NOBODY,
    CANARY,
    CHAMPION,
    OTHER,
    Told,
)

_UNLABELLED = ("pairs", "alerts")
_SIDES = 2
"""Of a request: 0 what the champion made of it, 1 the candidate."""


class Rows(msgspec.Struct, frozen=True):
    """Scored requests, one per id (all of length n).

    row: which of `Requests.ids`. time: of the champion's record if there is one. champion,
    candidate: scores, NaN where there is none. label: NaN where it does not count. counts: from
    when on it is evidence (NEVER: not yet). propensity: the chance of the label to become known.
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
        kinds: dict[str, tuple[type, object]] = {
            "id": (object, None),
            "label": (np.float64, np.nan),
            "known": (np.int64, NEVER),
        }
        for side in range(_SIDES):
            kinds |= {
                f"time{side}": (np.int64, NEVER),
                f"score{side}": (np.float64, np.nan),
                f"propensity{side}": (np.float64, 1.0),
                f"arm{side}": (np.int8, OTHER),
                **{f"{name}{side}": (object, None) for name in groups},
            }
        self._columns = Columns(**kinds)
        self._records = Columns(time=(np.int64, NEVER))  # three of each request: by whom
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
            self._records.grow(3 * len(self._place))
            new = rows >= n
            self._columns["id"][rows[new]] = ids[new]
        return rows

    def new(self, told: Told, since: int) -> tuple[Index, Numbers] | None:
        """-> the places of the records from `since` on that are looked at and were not given
        before, in the order of time, the first of its version for each id; and their rows. None:
        one should have counted before another that was given."""
        which = np.flatnonzero((told["by"] <= BY_CANDIDATE) & (told["time"] >= since))
        which = which[in_order(told["time"][which], told["id"][which])]
        rows, times = self.rows(told["id"][which]), told["time"][which]
        key, kept = 3 * rows + told["by"][which], self._records["time"]
        known = kept[key]
        if (times < known)[known < NEVER].any():
            return None
        fresh = first(kept, key)
        kept[key[fresh]] = times[fresh]
        return which[fresh], rows[fresh]

    def score(self, rows: Numbers, told: Told) -> None:
        """Records that are new."""
        scored, by = told["scored"] & (told["by"] != BY_NOBODY), told["by"]
        self._touched.append(rows[scored])
        for side, version in enumerate((BY_CHAMPION, BY_CANDIDATE)):
            those = scored & (by == version)
            at = rows[those]
            for name in ("time", "score", "propensity", "arm"):
                self._columns[f"{name}{side}"][at] = told[name][those]
            for name in self.groups:
                self._columns[f"{name}{side}"][at] = told[f"group:{name}"][those]

    def learn(self, facts: pl.DataFrame) -> None:
        """facts: labels (`core.records.LABELS`) in the order in which they arrived, none twice."""
        rows = self.rows(np.array(facts["id"].to_list(), object))
        since, told = facts["known"].cast(pl.Int64).to_numpy(), facts["label"].to_numpy()
        known, label = self._columns["known"], self._columns["label"]
        plain = first(known, rows)
        known[rows[plain]], label[rows[plain]] = since[plain], told[plain]
        self._touched.append(rows)
        again = np.delete(np.arange(len(rows)), plain) if len(plain) < len(rows) else plain[:0]
        for i in again.tolist():  # more than one for a request
            row = int(rows[i])
            before = int(known[row]), float(label[row])
            history = self._corrected.setdefault(row, [before])
            history.append((int(since[i]), float(told[i])))
            if (now := _latest(history)) != before:
                self._changed.append(row)
                known[row], label[row] = now

    def news(self) -> tuple[Numbers, list[int]]:
        """-> rows of which something is new since the last time (any number of times), and those
        whose label was another one."""
        touched = np.concatenate((*self._touched, np.empty(0, np.int64)))
        changed, self._touched, self._changed = self._changed, [], []
        return touched, changed

    # -- what is seen -------------------------------------------------------------------------

    def counts(self, kind: str, rows: Numbers) -> Times:
        """From when on each of the rows is evidence of a kind; NEVER where it is none yet."""
        column = self._columns
        known, first, second = (column[c][rows] for c in ("known", "time0", "time1"))
        if kind in ("paired", "pairs"):
            asked, seen = first, np.maximum(first, second)
        elif kind == "single":
            answered = self._answered(rows)
            asked = np.where(answered == 1, second, first)
            seen = np.where(answered >= 0, asked, NEVER)
        else:
            asked = seen = second
        if kind in _UNLABELLED:  # a record of this very moment is seen in the next
            return np.asarray(np.where(seen < NEVER, seen, NEVER - 1) + 1)
        there = (seen < NEVER) & (known < NEVER)
        settled = np.where(there, asked, 0) + self._matures
        return np.asarray(np.where(there, np.maximum(np.maximum(known, settled), seen), NEVER))

    def _answered(self, rows: Numbers) -> Numbers:
        """Which version's answer was given: 0 the champion's, 1 the candidate's, -1 none."""
        column = self._columns
        mine, theirs = column["arm1"][rows] == CANARY, column["arm0"][rows] == CHAMPION
        later = column["time1"][rows] >= column["time0"][rows]
        return np.asarray(np.where(theirs & (later | ~mine), 0, np.where(mine, 1, -1)))

    def gather(self, kind: str, rows: Numbers) -> Rows:
        column = {name: self._columns[name][rows] for name in self._columns.names}
        n, counts = len(rows), self.counts(kind, rows)
        canary = np.full(n, kind in ("scored", "alerts"))
        if kind == "single":
            canary = self._answered(rows) == 1

        def own(name: str) -> NDArray[Any]:
            return np.where(canary, column[f"{name}1"], column[f"{name}0"])

        propensity = own("propensity")
        if kind in ("paired", "pairs"):
            # a shadow decides nothing: the record of the answer says whether its label can be known
            propensity = np.minimum(column["propensity0"], column["propensity1"])
        return Rows(
            row=rows,
            time=own("time"),
            champion=column["score0"],
            candidate=column["score1"],
            label=np.where(counts <= self.until, column["label"], np.nan),
            counts=np.where(counts <= self.until, counts, NEVER),
            propensity=propensity,
            canary=canary,
            groups={name: own(name) for name in self.groups},
        )


def _latest(history: list[tuple[int, float]]) -> tuple[int, float]:
    """-> since when the present label is known, and the label (as `LabelLedger.as_known`)."""
    told = None
    for fact in sorted(history, key=lambda fact: fact[0]):
        if told is None or fact[1] != told[1]:
            told = fact
    assert told is not None
    return told
