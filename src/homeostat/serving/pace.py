"""How many rows one run may take, so that no answer waits long for its batch. Pure."""

from __future__ import annotations

BUDGET = 0.005
"""Seconds of processor that one run should take at most."""
LEAST, MOST = 8, 256
"""Rows. Below LEAST, what a run costs whatever its size would be all that is paid."""


class Pace:
    """Halves when a run was too long, grows again while runs are short (as TCP does with its
    window: it needs no model of the cost per row, and follows it when it changes).

    slow: the last run was too long although it could hardly have been smaller. doubted: by the
    clock it took long; how much of the processor's time that was must be asked for.
    """

    __slots__ = ("doubted", "limit", "slow")

    def __init__(self) -> None:
        self.limit, self.slow, self.doubted = MOST, False, True

    def ran(self, rows: int, seconds: float) -> None:
        if seconds > BUDGET and rows <= LEAST:
            self.slow = True
        elif seconds < BUDGET / 2:
            self.slow = False
        if seconds > BUDGET:
            self.limit = max(LEAST, min(self.limit, rows) // 2)
        elif rows >= self.limit and self.limit < MOST:
            self.limit = min(MOST, self.limit + LEAST)
