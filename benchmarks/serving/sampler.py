"""Where a process spends its processor time: a sampling profiler of the main thread.

The kernel's signal is handled between two bytecodes, right after the C call that it interrupted,
so time in C counts for the Python line that called it. Costs a percent or two.
"""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

INTERVAL = 0.001
"""Seconds of processor time between samples; the kernel's tick may make it a few times more."""
_AT_ENTRY = 4
"""Bytes of code at the start of a function at which nothing of it has run yet."""
LOOP = ("event loop", "reading, polling, timers", 0)


class Sampler:
    """Counts places (module, function, line) below one package, from one SIGUSR2 to the next.
    outside: functions that only wait for the event loop."""

    def __init__(self, package: Path, outside: frozenset[str]) -> None:
        self._root, self._outside = f"{package}/", outside
        self._places: Counter[tuple[str, str, int]] = Counter()
        self._on = False

    def install(self) -> None:
        """Call it from the main thread."""
        signal.signal(signal.SIGPROF, self._take)
        signal.signal(signal.SIGUSR2, self._toggle)

    def _toggle(self, *_: Any) -> None:
        self._on = not self._on
        interval = INTERVAL if self._on else 0.0
        signal.setitimer(signal.ITIMER_PROF, interval, interval)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps([[*place, n] for place, n in self._places.items()]))

    def _take(self, _: int, frame: FrameType | None) -> Any:
        self._places[self._place(frame)] += 1

    def _place(self, frame: FrameType | None) -> tuple[str, str, int]:
        if frame is not None and frame.f_lasti <= _AT_ENTRY and not self._ours(frame.f_back):
            return LOOP  # a callback that is just being entered: what was interrupted came before
        while frame is not None:
            if self._ours(frame):
                code = frame.f_code
                if code.co_qualname in self._outside:
                    return LOOP
                module = code.co_filename[len(self._root) :].removesuffix(".py")
                return module, code.co_qualname, frame.f_lineno
            frame = frame.f_back
        return LOOP

    def _ours(self, frame: FrameType | None) -> bool:
        return frame is not None and frame.f_code.co_filename.startswith(self._root)
