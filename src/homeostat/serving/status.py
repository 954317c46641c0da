"""What a worker says about itself: a status file, and a lock that shows it is alive."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import msgspec

from homeostat.core.errors import Unavailable
from homeostat.serving.layout import Layout, write_atomically


class WorkerStatus(msgspec.Struct, frozen=True):
    """generation: model -> the route it applies. failures: model -> version -> why.
    memory: model -> version -> bytes, of what is loaded. started: by the data plane's clock, ISO
    8601."""

    pid: int
    started: str
    generation: dict[str, int] = {}
    failures: dict[str, dict[str, str]] = {}
    memory: dict[str, dict[str, int]] = {}


class Slot:
    """A worker's place; held as long as its process lives."""

    def __init__(self, layout: Layout, number: int) -> None:
        """Raises Unavailable when another process has it."""
        self._path = layout.status(number)
        self._lock = os.open(layout.lock(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(
                f"another server uses worker slot {number}",
                path=str(layout.home),
                remedy="stop it, or serve from another home folder",
            ) from None
        # what a killed worker said of itself is not what this one does
        self._path.unlink(missing_ok=True)

    def write(self, status: WorkerStatus) -> None:
        """Raises OSError."""
        write_atomically(self._path, msgspec.json.encode(status))

    def leave(self) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._lock)


def living(layout: Layout) -> list[WorkerStatus]:
    """The status of every worker whose process is alive; a torn or foreign file is skipped."""
    found = []
    for path in sorted(layout.workers.glob("*.json")):
        if _held(path.with_suffix(".lock")):
            try:
                found.append(msgspec.json.decode(path.read_bytes(), type=WorkerStatus))
            except (FileNotFoundError, msgspec.DecodeError):
                continue
    return found


def _held(lock: Path) -> bool:
    """Whether a live process holds the lock: neither a reused pid nor a zombie deceives it."""
    try:
        fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)
