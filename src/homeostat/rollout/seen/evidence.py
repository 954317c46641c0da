"""The requests whose label counts, in an order that only grows at its end."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from homeostat.rollout.seen.columns import NEVER, Columns, Numbers, T, Times, in_order, kept_by
from homeostat.rollout.seen.requests import Requests, Rows


class Evidence:
    """The requests of one kind whose label counts, in the order in which they came to count.

    Guards fold it: `fold` gives them what they kept, made anew whenever the order is another one.
    """

    def __init__(self, requests: Requests, kind: str) -> None:
        self._requests, self._kind = requests, kind
        self._folds: dict[Any, Any] = {}
        self._rows = Columns(row=(np.int64, 0), counts=(np.int64, 0), asked=(np.int64, 0))
        self._inside = Columns(yes=(np.bool_, False))
        self._waiting: Numbers = np.empty(0, np.int64)
        self._due: Times = np.empty(0, np.int64)  # when each of them counts
        self._until = self._last = -1  # up to when what counts is there; when the last came to

    def __len__(self) -> int:
        return self._rows.n

    def rows(self, start: int = 0) -> Rows:
        """From the `start`-th on."""
        row, counts, asked = (self._rows[name][start:] for name in self._rows.names)
        return self._requests.gather(self._kind, row, counts, asked)

    def fold(self, key: object, make: Callable[[], T]) -> T:
        return kept_by(self._folds, key, make)

    def next_at(self, block: int) -> int:
        """When what counts is another than now, if nothing comes in (microseconds since 1970):
        the next request to count, or the end of the block of the last one."""
        due = int(self._due.min(initial=NEVER))
        if block and self._rows.n:
            end = (self._last // block + 1) * block
            due = min(due, end) if end > self._until else due
        return due

    def advance(self, touched: Numbers, changed: Collection[int], until: int) -> None:
        """Called by `Observations.settle`. touched: rows of which something is new; changed: those
        whose label was another one. until: what counts by then is evidence."""
        total = self._requests.height
        self._inside.grow(total)
        inside = self._inside["yes"]
        if until < self._until or (changed and inside[list(changed)].any()):
            return self.anew(until)
        rows = self._waiting
        if len(touched):
            rows = np.unique(np.concatenate((rows, touched)))
        rows = rows[~inside[rows]]
        counts, asked = self._requests.counts(self._kind, rows)
        if np.count_nonzero(counts <= self._until):
            return self.anew(until)
        now, later = counts <= until, (counts > until) & (counts < NEVER)
        self._waiting, self._due, self._until = rows[later], counts[later], until
        self._append(rows[now], counts[now], asked[now])
        return None

    def anew(self, until: int) -> None:
        self._folds.clear()
        self._rows.grow(0)
        self._inside["yes"][:] = False
        self._waiting, self._until = np.arange(self._requests.height), -1
        self.advance(np.empty(0, np.int64), (), until)

    def _append(self, rows: Numbers, counts: Times, asked: Times) -> None:
        if not len(rows):
            return
        n, self._last = self._rows.n, int(counts.max())
        self._rows.grow(n + len(rows))
        order = in_order(counts, self._requests.ids[rows])
        for name, values in (("row", rows), ("counts", counts), ("asked", asked)):
            self._rows[name][n:] = values[order]
        self._inside["yes"][rows] = True
