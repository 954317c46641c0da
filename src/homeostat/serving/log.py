"""The worker's end of the prediction log: append without ever waiting, count what is lost."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from homeostat.serving.segment import HEADER, SIZE, Name, PredictionBlock, Segment, frame

_logger = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds between attempts to make a segment while the disk is full."""


class SegmentLog:
    """Rotating segments of one worker; call it from one thread.

    The next segment is made, and the former one sealed, in a thread of its own. `dropped(n)` is
    called with the number of records that could not be kept. seal: seconds a segment stays open.
    """

    def __init__(
        self,
        live: Path,
        sealed: Path,
        writer: str,
        *,
        seal: float,
        dropped: Callable[[int], None],
        size: int = SIZE,
    ) -> None:
        self._live, self._sealed, self._writer = live, sealed, writer
        self._seal, self._size, self._dropped = seal, size, dropped
        self._seq = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="segments")
        self._current: Segment | None = None
        self._opened = self._failed_at = float("-inf")
        self._next: Future[Segment] | None = None
        self._trouble = ""  # said once
        self._prepare()

    def block(self, block: PredictionBlock) -> None:
        """Keep the predictions of a block; those of a part that cannot be kept are counted as
        dropped."""
        for part in block.parts():
            if not self._append(frame(part), predictions=part.rows):
                self._dropped(part.rows)

    def predictions(self, frames: list[bytes]) -> None:
        """Keep prediction records, or count them as dropped."""
        if not self._append(b"".join(frames), predictions=len(frames)):
            lost = [f for f in frames if not self._append(f, predictions=1)]
            if lost:
                self._dropped(len(lost))

    def labels(self, frames: list[bytes]) -> bool:
        """Keep all of the label records, or none of them and return False."""
        return self._append(b"".join(frames), labels=len(frames))

    def tick(self, now: float) -> None:
        """Call every fraction of a second with the monotonic time: rotates by age, and makes up
        for segments that could not be made."""
        if self._next is not None and self._next.done() and self._next.exception() is not None:
            if self._failed_at == float("-inf"):
                self._failed_at = now
                if (why := str(self._next.exception())) != self._trouble:
                    _logger.error("no new log segment: %s; trying on", why)
                self._trouble = why
            if now - self._failed_at >= RETRY:
                self._failed_at = float("-inf")
                self._prepare()
        if self._current is None:
            self._rotate()
        elif not self._current.empty:
            if self._opened == float("-inf"):
                self._opened = now
            elif now - self._opened >= self._seal:
                self._rotate()

    @property
    def settled(self) -> bool:
        """The first segment has been made, or could not be."""
        return self._current is not None or self._next is None or self._next.done()

    def close(self) -> None:
        """Seal what is open; waits for it."""
        if self._current is not None:
            self._thread.submit(_seal, self._current, self._sealed)
            self._current = None
        if self._next is not None:
            self._next.add_done_callback(self._discard)
            self._next = None
        self._thread.shutdown(wait=True)

    def _append(self, data: bytes, *, predictions: int = 0, labels: int = 0) -> bool:
        if self._current is None:
            self._rotate()
        current = self._current
        if current is None or len(data) > self._size - HEADER:
            return False
        if current.append(data, predictions=predictions, labels=labels):
            return True
        self._rotate()
        return self._current is not current and self._append(
            data, predictions=predictions, labels=labels
        )

    def _rotate(self) -> None:
        """Take the prepared segment if there is one; otherwise everything stays as it is."""
        ready = self._next
        if ready is None or not ready.done() or ready.exception() is not None:
            return
        former, self._current = self._current, ready.result()
        self._trouble = ""
        self._opened = float("-inf")
        self._next = None
        if former is not None:
            self._thread.submit(_seal, former, self._sealed)
        self._prepare()

    def _prepare(self) -> None:
        self._seq += 1
        name = Name(self._writer, self._seq)
        self._next = self._thread.submit(Segment, self._live, name, self._size)

    def _discard(self, made: Future[Segment]) -> None:
        if made.exception() is None:
            _seal(made.result(), self._sealed)


def _seal(segment: Segment, folder: Path) -> None:
    try:
        segment.seal(folder)
    except OSError as error:
        _logger.error("%s stays unsealed: %s", segment.path.name, error)
