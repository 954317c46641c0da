"""What was answered, by whom, and with which probability it was drawn."""

from __future__ import annotations

from collections import defaultdict
from itertools import count
from typing import Any

import msgspec
import numpy as np

from homeostat.rollout.seen.columns import (
    Array,
    Columns,
    Flags,
    Index,
    Numbers,
    Texts,
    Times,
    ascend,
    in_order,
)
from homeostat.rollout.seen.records import CANARY, Told


class Answers(msgspec.Struct, frozen=True):
    """The requests that were answered by either version, in the order of time (all of length n).

    time: microseconds since 1970. canary: answered by the candidate. failed: with an error.
    latency: seconds, NaN where it failed. share: the probability with which the candidate was
    drawn, of the two. first: the first of its entity; only these are independent draws. caller:
    a number of each entity, None where every request is drawn by itself.
    """

    time: Times
    canary: Flags
    failed: Flags
    latency: Array
    share: Array
    first: Flags
    caller: Numbers | None = None


class Arms:
    """The answers, as they come, in the order of time once they are looked at."""

    def __init__(self, several: bool, callers: bool) -> None:
        """several: challengers. callers: are kept on one version, so that entities come again."""
        self.before = -1  # `Observations.no_draws_until`
        self.folds: dict[Any, Any] = {}
        self._several, self._callers = several, callers
        self._number: dict[str, int] = defaultdict(count().__next__)
        self._columns = Columns(
            request=(object, None),
            entity=(object, None),
            time=(np.int64, 0),
            canary=(np.bool_, False),
            failed=(np.bool_, False),
            latency=(np.float64, np.nan),
            own=(np.float64, 0.0),
            share=(np.float64, 0.0),
            first=(np.bool_, False),
            caller=(np.int64, 0),
        )
        self._batches: dict[tuple[str, bool], int] = {}
        self._derived = 0
        self._unordered = False
        # share -> entity -> where it came first
        self._drawn: dict[float, dict[str, int]] = defaultdict(dict)
        self._open: list[float | None] = [None, None]  # the arms' last own shares

    def add(self, told: Told, which: Index) -> bool:
        """which: the places of those that are answers, in the order of time. Of the rows of a
        batch, what is said of the first holds, the longest latency, and any failure. False: that
        first one came late."""
        column, n = self._columns, self._columns.n
        batched, canary = told["batched"][which], told["arm"][which] == CANARY
        fresh, rows = which, None
        if np.count_nonzero(batched):
            opens, rows = self._joined(told["request"][which], canary, batched)
            fresh, canary = which[opens], canary[opens]
        column.grow(n + len(fresh))
        column["canary"][n:] = canary
        for name in _TOLD:
            column[name][n:] = told[name][fresh]
        if self._callers:
            came = map(self._number.__getitem__, column["entity"][n:].tolist())
            column["caller"][n:] = np.fromiter(came, np.int64, column.n - n)
        failed, latency = column["failed"], column["latency"]
        if rows is not None:
            if (told["time"][which] < column["time"][rows]).any():
                return False
            failed[rows[told["failed"][which]]] = True
            np.fmax.at(latency, rows, told["latency"][which])
            latency[rows[failed[rows]]] = np.nan
            if (rows < self._derived).any():
                self.folds.clear()
        latency[n:][failed[n:]] = np.nan
        last = max(n - 1, 0)
        time, id = column["time"][last:], column["request"][last:]
        self._unordered |= not ascend(time, id)
        return True

    def _joined(self, request: Texts, canary: Flags, batched: Flags) -> tuple[Flags, Numbers]:
        """-> which answers open a row, and the row of each."""
        fresh = ~batched
        at = np.flatnonzero(batched)
        keys = list(zip(request[at].tolist(), canary[at].tolist(), strict=True))
        first = dict(zip(reversed(keys), at[::-1].tolist(), strict=True))
        new = {key: place for key, place in first.items() if key not in self._batches}
        fresh[list(new.values())] = True
        rows = self._columns.n - 1 + np.cumsum(fresh)
        self._batches |= {key: int(rows[place]) for key, place in new.items()}
        rows[at] = [self._batches[key] for key in keys]
        return fresh, rows

    def settle(self) -> None:
        """What came in takes its place."""
        if self._derived < self._columns.n:
            if self._unordered:
                self._sort()
                self._derived = 0
            self._derive(self._derived)
            self._derived = self._columns.n

    def seen(self) -> Answers:
        self.settle()
        column = self._columns
        first = column["first"]
        return Answers(
            column["time"],
            column["canary"],
            column["failed"],
            column["latency"],
            column["share"],
            first if self.before < 0 else first & (column["time"] > self.before),
            column["caller"] if self._callers else None,
        )

    def _sort(self) -> None:
        order = in_order(self._columns["time"], self._columns["request"])
        self._columns.sort(order)
        place = np.argsort(order).tolist()
        self._batches = {key: place[row] for key, row in self._batches.items()}
        self._unordered = False

    def _derive(self, start: int) -> None:
        """The shares, and who is drawn for the first time, from a row on."""
        if start and self._begins(self._columns["canary"][start:]):
            start = 0
        if start == 0:
            self._open = [None, None]
            self._drawn.clear()
            self.folds.clear()
        canary, own = self._columns["canary"][start:], self._columns["own"][start:]
        # both arms' records must say the same share to the last bit
        share = self._columns["share"][start:]
        share[:] = self._shares(canary, own).round(9)
        entity, first = self._columns["entity"][start:], self._columns["first"][start:]
        drawn = zip(share.tolist(), entity.tolist(), strict=True)
        first[:] = [
            self._drawn[p].setdefault(who, row) == row for row, (p, who) in enumerate(drawn, start)
        ]

    def _begins(self, canary: Flags) -> bool:
        """Whether an arm's share at the beginning is known only now."""
        return self._several and any(
            own is None and flag.any()
            for own, flag in zip(self._open, (canary, ~canary), strict=True)
        )

    def _shares(self, canary: Flags, own: Array) -> Array:
        """The candidate's probability (n), given that one of the two answers.

        With one candidate the champion's is the rest. With several, each record knows its own
        arm's; the other's is taken from the arm's record before it (or the first one, at the
        beginning).
        """
        if not self._several:
            return np.where(canary, own, 1.0 - own)
        found = []
        for arm, flag in enumerate((canary, ~canary)):
            last = np.maximum.accumulate(np.where(flag, np.arange(len(own)), -1))
            begin = self._open[arm]
            if begin is None:
                begin = float(own[flag][0]) if flag.any() else 0.0
            found.append(np.where(last >= 0, own[last], begin))
            if flag.any():
                self._open[arm] = float(own[flag][-1])
        mine, theirs = found
        both = mine + theirs
        return np.where(both > 0, mine / np.where(both > 0, both, 1.0), 0.0)


_TOLD = ("request", "entity", "time", "failed", "latency", "own")
