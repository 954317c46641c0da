"""The requests whose label counts, in an order that only grows at its end."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from homeostat.rollout.seen.columns import (
    NEVER,
    Columns,
    Flags,
    Numbers,
    T,
    Times,
    in_order,
    kept_by,
)
from homeostat.rollout.seen.requests import Requests, Rows

Told = tuple[Numbers, Times, Times, Numbers]
"""Requests, when each counts, when it was asked, whose record is looked at: `Requests.counts`."""


class Evidence:
    """The requests of one kind whose label counts, in the order in which they came to count.

    Guards fold it: `fold` gives them what they kept, made anew whenever the order is another one.
    """

    def __init__(self, requests: Requests, kind: str) -> None:
        self._requests, self._kind = requests, kind
        self._folds: dict[Any, Any] = {}
        number = (np.int64, 0)
        self._rows = Columns(row=number, counts=number, asked=number, whose=number)
        self._places = Columns(at=(np.int64, -1))  # of each request among them; -1: it is not there
        self._waiting: Numbers = np.empty(0, np.int64)
        self._due: Times = np.empty(0, np.int64)  # when each of them counts
        self._until = self._last = -1  # up to when what counts is there; when the last came to

    def __len__(self) -> int:
        return self._rows.n

    def rows(self, start: int = 0) -> Rows:
        """From the `start`-th on."""
        return self._requests.gather(
            self._kind, *(self._rows[name][start:] for name in self._rows.names)
        )

    def fold(self, key: object, make: Callable[[], T]) -> T:
        return kept_by(self._folds, key, make)

    def next_at(self, block: int) -> int:
        """When what counts is another than now, if nothing comes in (microseconds since 1970):
        the next request to count, or the end of the block of the last one."""
        due = int(self._due.min()) if len(self._due) else NEVER
        if block and self._rows.n:
            end = (self._last // block + 1) * block
            due = min(due, end) if end > self._until else due
        return due

    def advance(self, touched: Numbers, changed: Collection[int], until: int) -> None:
        """Called by `Observations.settle`. touched: rows of which something is new; changed: those
        whose label was another one. until: what counts by then is evidence."""
        self._places.grow(self._requests.height)
        places = self._places["at"]
        if until < self._until or (changed and (places[list(changed)] >= 0).any()):
            return self.anew(until)
        rows = self._waiting
        if len(touched):
            rows = np.unique(np.concatenate((rows, touched)))
        there = places[rows] >= 0
        if self._kind == "single" and self._differ(rows[there]):
            return self.anew(until)
        told = self._told(rows[~there])
        rows, counts, _, _ = told
        if np.count_nonzero(counts <= self._until):
            return self.anew(until)
        now, later = counts <= until, (counts > until) & (counts < NEVER)
        self._waiting, self._due, self._until = rows[later], counts[later], until
        self._append(_those(told, now))
        return None

    def _told(self, rows: Numbers) -> Told:
        return (rows, *self._requests.counts(self._kind, rows))

    def _differ(self, rows: Numbers) -> bool:
        """Whether any of those that are there is told otherwise now: an earlier answer to a request
        that both versions answered came after the later one."""
        places = self._places["at"][rows]
        kept = (self._rows[name][places] for name in self._rows.names)
        return any(np.count_nonzero(a != b) for a, b in zip(kept, self._told(rows), strict=True))

    def anew(self, until: int) -> None:
        self._folds.clear()
        self._rows.grow(0)
        self._places["at"][:] = -1
        self._waiting, self._until = np.arange(self._requests.height), -1
        self.advance(np.empty(0, np.int64), (), until)

    def _append(self, told: Told) -> None:
        rows, counts, _, _ = told
        if not len(rows):
            return
        n, self._last = self._rows.n, int(counts.max())
        self._rows.grow(n + len(rows))
        order = in_order(counts, self._requests.ids[rows])
        for name, values in zip(self._rows.names, told, strict=True):
            self._rows[name][n:] = values[order]
        self._places["at"][rows[order]] = np.arange(n, self._rows.n)


def _those(told: Told, which: Flags) -> Told:
    rows, counts, asked, whose = told
    return rows[which], counts[which], asked[which], whose[which]
