"""Threads for what would hold up the event loop, a lane for each model."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

THREADS = 8
"""Lanes that run at once; a thread is made when it is first needed."""

R = TypeVar("R")
_Task = tuple[Callable[..., Any], tuple[Any, ...], Callable[[asyncio.Future[Any]], None]]


class Lanes:
    """What shares a lane runs one after the other, in the order in which it came; it holds up no
    other lane, as long as there are no more than `threads` of them. Called from the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, threads: int = THREADS) -> None:
        self._loop = loop
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="lane")
        self._waiting: dict[Hashable, deque[_Task]] = {}  # behind the one that runs

    def run(
        self,
        lane: Hashable,
        done: Callable[[asyncio.Future[R]], None],
        work: Callable[..., R],
        *given: Any,
    ) -> None:
        """work(*given) in a thread, then `done` with its outcome in the event loop."""
        waiting = self._waiting.get(lane)
        if waiting is None:
            self._waiting[lane] = deque()
            self._start(lane, (work, given, done))
        else:
            waiting.append((work, given, done))

    def _start(self, lane: Hashable, task: _Task) -> None:
        work, given, done = task

        def ended(outcome: asyncio.Future[Any]) -> None:
            waiting = self._waiting[lane]
            if waiting:
                self._start(lane, waiting.popleft())
            else:
                del self._waiting[lane]
            done(outcome)

        self._loop.run_in_executor(self._pool, work, *given).add_done_callback(ended)

    def close(self) -> None:
        """Call it when nothing runs."""
        self._pool.shutdown(wait=True)
