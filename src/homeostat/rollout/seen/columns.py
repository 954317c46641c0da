"""Arrays that grow at their end, and the order that what they hold is in."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Numbers = NDArray[np.int64]
Times = NDArray[np.int64]
"""Microseconds since 1970."""
Index = NDArray[np.intp]
Texts = NDArray[np.object_]
T = TypeVar("T")
NEVER = np.iinfo(np.int64).max


class Columns:
    """Arrays of one length that grow at their end in amortised constant time."""

    def __init__(self, **kinds: tuple[type, object] | tuple[type, object, int]) -> None:
        """kinds: name -> (type, what a new row has); and how many of them, where it is not one."""
        self._fill = {name: fill for name, (_, fill, *_many) in kinds.items()}
        self._room = 16
        self._kept: dict[str, NDArray[Any]] = {
            name: np.full((self._room, *many), fill, kind)
            for name, (kind, fill, *many) in kinds.items()
        }
        self.grow(0)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._there[name]

    @property
    def names(self) -> Collection[str]:
        return self._kept.keys()

    def grow(self, n: int) -> None:
        """To n rows. Arrays that were taken before do not grow."""
        if n > self._room:
            more = max(n - self._room, self._room)
            for name, kept in self._kept.items():
                new = np.full((more, *kept.shape[1:]), self._fill[name], kept.dtype)
                self._kept[name] = np.concatenate((kept, new))
            self._room += more
        self.n = n
        self._there = {name: kept[:n] for name, kept in self._kept.items()}

    def sort(self, order: Index) -> None:
        for kept in self._kept.values():
            kept[: self.n] = kept[: self.n][order]


def in_order(times: Times, ids: Texts, many: int = 1000) -> Index:
    """The places by time and id, and those that have the same of both as they are. many: from so
    many on Polars sorts texts, which is sooner done than by Python; the order is the same."""
    if ascend(times, ids):
        return np.arange(len(times))
    order = np.argsort(times, kind="stable")
    if not _ties_ascend(times[order], ids[order]):
        later = times[order]
        same = np.diff(later) == 0
        tied = np.append(same, False) | np.insert(same, 0, False)
        those = order[tied]
        order[tied] = those[np.lexsort((_rank(ids[those].tolist(), many), times[those]))]
    return order


def first(kept: Times, at: Numbers) -> Numbers:
    """Of what is to be kept at these places: the first for each that has NEVER. Their places are
    marked, and have to be written."""
    unknown = (kept[at] == NEVER).nonzero()[0]
    np.minimum.at(kept, at[unknown], unknown)
    return np.asarray(unknown[kept[at[unknown]] == unknown])


def ascend(times: Times, ids: Texts) -> bool:
    """Whether they are in the order of time, and ids of the same time in theirs."""
    return not np.count_nonzero(times[1:] < times[:-1]) and _ties_ascend(times, ids)


def _ties_ascend(times: Times, ids: Texts) -> bool:
    same = (times[1:] == times[:-1]).nonzero()[0]
    return not np.count_nonzero(ids[same] > ids[same + 1])


def _rank(ids: list[str], many: int) -> NDArray[Any]:
    if len(ids) < many:
        place = {id: k for k, id in enumerate(sorted(ids))}
        return np.array([place[id] for id in ids])
    return pl.Series(ids).rank("dense").to_numpy()


def kept_by(folds: dict[Any, Any], key: object, make: Callable[[], T]) -> T:
    """What is kept of that name, made where it is not."""
    if key not in folds:
        folds[key] = make()
    found: T = folds[key]
    return found
