"""Servers as processes: pinned to a core, ready or told why not, measured, and surely ended."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.serving.warden import descendants

ROOT = Path(__file__).resolve().parents[2]
_TICKS = os.sysconf("SC_CLK_TCK")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


AHEAD = 0.3
"""Seconds."""


class NotStarted(Exception):
    """The server ended, or was not ready in time; says what it printed last."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pin(cores: Iterable[int]) -> None:
    """Keep this process on some cores; where there is only one, nothing happens."""
    there = set(cores) & set(range(os.cpu_count() or 1))
    if there:
        os.sched_setaffinity(0, there)


class Server:
    """A started server. `started` is the seconds from the start to the first success at
    `ready`, a path on `port`."""

    def __init__(
        self,
        command: list[str],
        port: int,
        ready: str,
        output: Path,
        *,
        cores: frozenset[int] = frozenset(),
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 150.0,
    ) -> None:
        """Raises NotStarted. output: the file that takes what the server prints."""
        self.port, self._output = port, output
        began = time.monotonic()
        with output.open("wb") as file:
            self._warden = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.serving.warden", *command],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=cwd or ROOT,
                env={
                    **os.environ,
                    **dict.fromkeys(_THREADS, "1"),
                    "PYTHONPATH": str(ROOT),
                    "PYTHONUNBUFFERED": "1",
                    **(env or {}),
                },
                preexec_fn=(lambda: pin(cores)) if cores else None,
                start_new_session=True,
            )
        try:
            self._await(ready, began + timeout)
        except BaseException:
            self.stop()
            raise
        self.started = time.monotonic() - began

    def _await(self, path: str, deadline: float) -> None:
        while not _succeeds(self.port, path):
            if self._warden.poll() is not None:
                raise NotStarted(f"it ended: {self.said()}")
            if time.monotonic() > deadline:
                raise NotStarted(f"not ready in time: {self.said()}")
            time.sleep(0.02)

    def said(self) -> str:
        """The last line that it printed."""
        lines = self._output.read_text(errors="replace").split("\n")
        return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "nothing")

    def pids(self) -> list[int]:
        return list(descendants(self._warden.pid))

    def cpu(self) -> float:
        """Seconds of processor time of all its processes so far."""
        return sum(_cpu(pid) for pid in self.pids())

    def memory(self) -> tuple[float, float]:
        """MB (10^6 bytes) of all its processes: resident, and proportional (shared pages are
        shared out)."""
        sizes = [_memory(pid) for pid in self.pids()]
        return sum(rss for rss, _ in sizes), sum(pss for _, pss in sizes)

    def pause(self) -> None:
        """Stop all its processes, so that it takes nothing from those that are measured. Parents
        first, so that none misses its children."""
        for pid in self.pids():
            _send(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on. Children first, and a moment before their parents, which may kill those
        that have not given a sign of life for long."""
        pids = self.pids()
        for pid in reversed(pids):
            if len(pids) > 1 and pid == pids[0]:
                time.sleep(AHEAD)
            _send(pid, signal.SIGCONT)

    def stop(self) -> None:
        """Idempotent; waits until all its processes are gone."""
        if self._warden.stdin is not None and not self._warden.stdin.closed:
            self._warden.stdin.close()
        self._warden.wait()


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended since we looked
        os.kill(pid, number)


def _succeeds(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return 200 <= connection.getresponse().status < 300
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _memory(pid: int) -> tuple[float, float]:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0, 0.0
    found = dict(line.split()[:2] for line in text.splitlines()[1:] if len(line.split()) > 1)
    return int(found["Rss:"]) * 1024 / 1e6, int(found["Pss:"]) * 1024 / 1e6
