"""Counters in shared memory, one file per worker slot, summed when somebody asks.

Adding is a store into the worker's own file: no lock, and nothing is lost or reset when a worker
is killed and started again. What it had taken in and not ended is then counted as failed, so that
requests = answered + shed + failed holds exactly whenever none is under way. The file also has the
worker's heartbeat: a store that no full disk can refuse.
"""

from __future__ import annotations

import logging
import mmap
import os
from bisect import bisect_left
from operator import mul
from pathlib import Path

import msgspec

BOUNDS = (
    0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.5, 10.0
)  # fmt: skip
"""Upper bounds of the latency histogram, seconds."""

GLOBALS = (
    "log_dropped", "shadow_skipped", "labels", "requests", "answered", "shed", "failed", "lost",
    "expired"
)  # fmt: skip
SHED = frozenset({429, 503, 504})
"""Statuses of requests that were not computed because there was too much to do."""

_logger = logging.getLogger(__name__)

_MAGIC = 0x31435453_48000002
_HEAD = 64  # words: magic, number of series, then the globals; the last is the heartbeat
_BEAT = _HEAD - 1
_KEY = 64  # words: length in bytes, then the key
_VALUES = 3 + len(BOUNDS) + 1  # predictions, errors, sum (a double), histogram
_SERIES = _KEY + _VALUES
_CAPACITY = 1000
_WORDS = _HEAD + _CAPACITY * _SERIES

_REQUESTS, _ANSWERED, _SHED, _FAILED, _LOST = (
    2 + GLOBALS.index(name) for name in ("requests", "answered", "shed", "failed", "lost")
)

Key = tuple[str, str, str]
_REST: Key = ("", "", "")
"""What has no series of its own; the last place is kept for it."""


class Series:
    """The counters of one (model, version, arm) of one worker."""

    __slots__ = ("_at", "_double", "_word")

    def __init__(self, word: memoryview[int], double: memoryview[float], at: int) -> None:
        self._word, self._double, self._at = word, double, at

    def answered(self, rows: int, seconds: float) -> None:
        """`rows` predictions, each `seconds` after its request came in."""
        at, word = self._at, self._word
        word[at] += rows
        self._double[at + 2] += seconds * rows
        word[at + 3 + bisect_left(BOUNDS, seconds)] += rows

    def answered_all(self, rows: list[int], seconds: list[float]) -> None:
        """Several requests at once: `rows[k]` predictions, each `seconds[k]` after request k."""
        at, word = self._at, self._word
        n = sum(rows)
        word[at] += n
        self._double[at + 2] += sum(map(mul, rows, seconds))
        place = bisect_left(BOUNDS, max(seconds))
        if place == bisect_left(BOUNDS, min(seconds)):  # as nearly always in one batch
            word[at + 3 + place] += n
            return
        buckets: dict[int, int] = {}
        for n, taken in zip(rows, seconds, strict=True):
            place = bisect_left(BOUNDS, taken)
            buckets[place] = buckets.get(place, 0) + n
        for place, n in buckets.items():
            word[at + 3 + place] += n

    def failed(self, rows: int) -> None:
        self._word[self._at + 1] += rows


class Counters:
    """The counter file of one slot; made when missing, continued when there."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if os.fstat(fd).st_size != _WORDS * 8:
                os.ftruncate(fd, 0)
                os.posix_fallocate(fd, 0, _WORDS * 8)
            self._map = mmap.mmap(fd, _WORDS * 8)
        finally:
            os.close(fd)
        view = memoryview(self._map)
        self._word, self._double = view.cast("Q"), view.cast("d")
        try:
            keys = _keys(self._map) if self._word[0] == _MAGIC else None
        except ValueError as error:  # a crash of the machine kept some of its pages only
            _logger.error("%s is damaged and begun anew: %s", path, error)
            keys = None
        if keys is None:
            self._map[:] = bytes(_WORDS * 8)
            self._word[0], keys = _MAGIC, []
        self._settle()
        self._series: dict[Key, Series] = {
            key: Series(self._word, self._double, at) for key, at in keys
        }

    def add(self, name: str, n: int = 1) -> None:
        """Add to one of GLOBALS."""
        self._word[2 + GLOBALS.index(name)] += n

    def began(self, n: int = 1) -> None:
        """So many requests of whatever kind have been taken in."""
        self._word[_REQUESTS] += n

    def ended(self, status: int) -> None:
        """How it ends is decided; call it once, before its answer is written."""
        at = _ANSWERED if status < 400 else _SHED if status in SHED else _FAILED
        self._word[at] += 1

    def beat(self) -> None:
        """Say that the worker goes on."""
        self._word[_BEAT] += 1

    def answered(self, n: int) -> None:
        """`ended(200)` for so many requests."""
        self._word[_ANSWERED] += n

    def _settle(self) -> None:
        """What the former worker of this slot had under way when it was killed has failed."""
        word = self._word
        under_way = word[_REQUESTS] - word[_ANSWERED] - word[_SHED] - word[_FAILED]
        if under_way > 0:
            word[_LOST] += under_way
            word[_FAILED] += under_way

    def series(self, model: str, version: str, arm: str) -> Series:
        key = (model, version, arm)
        found = self._series.get(key)
        return found if found is not None else self._new(key)

    def _new(self, key: Key) -> Series:
        text = msgspec.json.encode(key)
        n = self._word[1]
        room = _CAPACITY if key == _REST else _CAPACITY - 1
        if n >= room or len(text) > (_KEY - 1) * 8:
            # out of room: what cannot be told apart is still counted
            return self.series(*_REST)
        at = _HEAD + n * _SERIES
        self._word[at] = len(text)
        self._map[(at + 1) * 8 : (at + 1) * 8 + len(text)] = text
        self._word[1] = n + 1
        made = self._series[key] = Series(self._word, self._double, at + _KEY)
        return made


class Totals(msgspec.Struct):
    """Sums over files. series: key -> [predictions, errors, seconds, histogram ...]."""

    globals: dict[str, int]
    series: dict[Key, list[float]]


def settle(folder: Path) -> None:
    """Count what workers that are gone, and that nobody replaces, had under way as failed. Call it
    when no worker runs. Raises OSError."""
    for path in folder.iterdir():
        if path.is_file():
            Counters(path)


def beats(path: Path) -> int:
    """How often the worker with this counter file has said that it goes on; 0: not yet."""
    try:
        with path.open("rb") as file:
            return int.from_bytes(file.read(_HEAD * 8)[_BEAT * 8 :], "little")
    except OSError:
        return 0


def total(folder: Path) -> Totals:
    """Sum the counter files of all slots."""
    sums = Totals(dict.fromkeys(GLOBALS, 0), {})
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        data = path.read_bytes()
        if len(data) != _WORDS * 8:
            continue  # being made right now
        word, double = memoryview(data).cast("Q"), memoryview(data).cast("d")
        try:
            keys = _keys(data) if word[0] == _MAGIC else None
        except ValueError:  # damaged: whoever has the slot next begins it anew
            keys = None
        if keys is None:
            continue
        for i, name in enumerate(GLOBALS):
            sums.globals[name] += word[2 + i]
        for key, at in keys:
            values = sums.series.setdefault(key, [0] * _VALUES)
            for i in range(_VALUES):
                values[i] += double[at + i] if i == 2 else word[at + i]
    return sums


def _keys(data: bytes | mmap.mmap) -> list[tuple[Key, int]]:
    """Keys in a counter file and the word at which their values start. Raises ValueError."""
    head = memoryview(data[: _HEAD * 8]).cast("Q")
    found = []
    for i in range(min(head[1], _CAPACITY)):
        at = _HEAD + i * _SERIES
        length = int.from_bytes(data[at * 8 : at * 8 + 8], "little")
        text = data[(at + 1) * 8 : (at + 1) * 8 + length]
        found.append((msgspec.json.decode(text, type=Key), at + _KEY))
    return found
