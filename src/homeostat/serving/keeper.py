"""Tidies the log: segments into the table, labels into the ledger."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from homeostat.core.errors import HomeostatError, Unavailable
from homeostat.core.ports import LabelLedger
from homeostat.serving.layout import Layout
from homeostat.serving.segment import (
    HEADER,
    LabelRecord,
    Name,
    labels,
    listed,
    read_bytes,
    read_counts,
    seal_if_abandoned,
)

if TYPE_CHECKING:
    import polars as pl

_logger = logging.getLogger(__name__)

PAUSE = 0.1
"""Seconds between steps."""
COMPACT = 600.0
"""Seconds between compactions."""
PATIENCE = 10.0
"""Seconds to wait for another keeper to end."""
TOGETHER = 64 * 1024 * 1024
"""Bytes of segments delivered in one commit."""


class LogSink(Protocol):
    """Where finished segments go (`backends.local.prediction_log`).

    Laws: `write` delivers each segment exactly once, however often it is called with it, and all
    of a call or nothing; it raises Unavailable when it cannot.
    """

    def write(self, segments: Sequence[tuple[Name, bytes]]) -> None: ...

    def compact(self) -> None: ...


class Keeper:
    """One per home folder; `step()` may be killed anywhere and repeated."""

    def __init__(self, home: Path, sink: LogSink, ledger: LabelLedger) -> None:
        """Raises Unavailable when another keeper runs here."""
        self._layout = Layout(home).make()
        self._sink, self._ledger = sink, ledger
        self._seen: dict[Name, tuple[int, int]] = {}  # labels read, offset
        self._lock = os.open(self._layout.keeper_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise Unavailable("another keeper tidies this log", path=str(home)) from None

    def close(self) -> None:
        os.close(self._lock)

    def step(self) -> None:
        """Adopt what dead workers left, pass on new labels, deliver finished segments.
        Raises Unavailable; nothing is lost, the next step tries again."""
        for name, path in listed(self._layout.live, "live"):
            self._labels(name, path)
        for _, path in listed(self._layout.live, "live"):
            seal_if_abandoned(path, self._layout.sealed)
        self._deliver()

    def _labels(self, name: Name, path: Path) -> None:
        """Pass on the label records that a segment has got since the last look."""
        count, offset = self._seen.get(name, (0, HEADER))
        try:
            there = read_counts(path).labels
            if there == count:
                return
            data = read_bytes(path)
        except FileNotFoundError:
            return  # sealed just now: it is read there
        found, offset = labels(data, offset)
        if found:
            self._ledger.append(_to_frame(found))
        self._seen[name] = (count + len(found), offset)

    def _deliver(self) -> None:
        unfinished: dict[str, int] = {}
        for name, _ in listed(self._layout.live, "live"):
            unfinished[name.writer] = min(name.seq, unfinished.get(name.writer, name.seq))
        batch: list[tuple[Name, bytes]] = []
        for name, path in sorted(listed(self._layout.sealed, "sealed")):
            if name.seq > unfinished.get(name.writer, name.seq):
                continue  # a writer's segments are delivered in their order
            self._labels(name, path)
            batch.append((name, read_bytes(path)))
            if sum(len(data) for _, data in batch) >= TOGETHER:
                self._write(batch)
                batch = []
        if batch:
            self._write(batch)

    def _write(self, batch: list[tuple[Name, bytes]]) -> None:
        self._sink.write(batch)
        for name, _ in batch:
            (self._layout.sealed / f"{name}.sealed").unlink(missing_ok=True)
            self._seen.pop(name, None)

    def compact(self) -> None:
        self._sink.compact()


def run(home: Path, sink: LogSink, ledger: LabelLedger, stop: threading.Event) -> None:
    """Keep the log tidy until `stop` is set, then once more. Raises Unavailable when another
    keeper runs here and does not end; what fails later is logged and tried again."""
    keeper = _next_keeper(home, sink, ledger, stop)
    compacted = time.monotonic()
    complained = ""
    try:
        while not stop.wait(PAUSE):
            complained = _attempt(keeper.step, complained)
            if time.monotonic() - compacted >= COMPACT:
                compacted = time.monotonic()
                complained = _attempt(keeper.compact, complained)
        _attempt(keeper.step, "")
    finally:
        keeper.close()


def _next_keeper(home: Path, sink: LogSink, ledger: LabelLedger, stop: threading.Event) -> Keeper:
    """The keeper of a server that was killed ends after its step: wait for that."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return Keeper(home, sink, ledger)
        except Unavailable:
            if time.monotonic() > deadline or stop.wait(PAUSE):
                raise


def _attempt(do: Callable[[], None], complained: str) -> str:
    """-> what went wrong, said once; "" when nothing did."""
    try:
        do()
    except (HomeostatError, OSError) as error:
        if str(error) != complained:
            _logger.error("the log waits: %s", error)
        return str(error)
    return ""


def _to_frame(records: Sequence[LabelRecord]) -> pl.DataFrame:
    import polars as pl

    from homeostat.core.records import LABELS

    return pl.DataFrame(
        {
            "id": [r.id for r in records],
            "label": [r.label for r in records],
            "time": pl.Series([r.time for r in records], dtype=pl.Int64).cast(LABELS["time"]),
            "known": pl.Series([r.known for r in records], dtype=pl.Int64).cast(LABELS["known"]),
        }
    )
