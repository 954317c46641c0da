"""`python -m benchmarks.serving.warden COMMAND...`: run a server that cannot outlive us.

The server and all that it starts, daemons too, become our descendants (Linux's child subreaper);
they are killed when standard input ends, which it does however the benchmark ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL."""


def descendants(pid: int) -> Iterator[int]:
    """Children first seen first, without `pid` itself."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        for task in Path(f"/proc/{pid}/task").iterdir():
            if task.name != str(pid):
                text += " " + (task / "children").read_text()
    except OSError:
        return
    for child in map(int, text.split()):
        yield child
        yield from descendants(child)


def main(command: list[str]) -> int:
    """-> the server's exit code, or 0 when it was stopped."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # who stops us closes our input
    # what is ignored stays ignored across exec, and the server must hear its SIGTERM
    signals = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: [signal.signal(n, signal.SIG_DFL) for n in signals] and None,
    )
    while server.poll() is None:
        if select.select([0], [], [], 0.1)[0] and not os.read(0, 1):
            break
    code = server.poll()
    _end(server)
    return code or 0


def _end(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        server.terminate()
    for pid in descendants(os.getpid()):  # who is paused hears of it too
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    deadline = time.monotonic() + GRACE
    while left := list(descendants(os.getpid())):
        number = signal.SIGKILL if time.monotonic() > deadline else 0
        for pid in left:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        server.poll()
        _reap()
        if server.returncode is not None and not number:
            # the server is gone: what it left behind goes too
            deadline = min(deadline, time.monotonic() + 0.5)
        time.sleep(0.02)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
