"""Training runs as processes of their own, which outlive the controller that started them.

A run is alive while its lock is held. The process inherits the lock's descriptor and so holds it
exactly as long as it lives, however it ends; and whoever cannot take the lock does not start the
run a second time. Each run has a folder:

    lock         held while the run is alive
    process      its /proc/PID/stat at the start: the pid, and the start time that tells it from
                 a later process with the same pid; written by the process itself
    output.log   what it wrote, over all attempts
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from homeostat.core.errors import BadInput, Unavailable

_LOCK_FD = 3
# write the record before becoming the run, so that no crash can come between
_LAUNCH = 'cat /proc/$$/stat > "$0.new" && mv "$0.new" "$0" && exec "$@"'
_POLL_S = 0.02


class LocalJobs:
    """Jobs in `home/runs/RUN`. argv: the command line that carries out a run.

    grace: seconds that `stop` waits after asking (SIGTERM) before it kills.
    """

    def __init__(
        self, home: Path, argv: Callable[[str], Sequence[str]], *, grace: float = 5.0
    ) -> None:
        self._runs = home / "runs"
        self._argv = argv
        self._grace = grace
        self._children: set[int] = set()

    def folder(self, run: str) -> Path:
        """Where a run keeps what it leaves. Raises BadInput for what is no name of a run."""
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*", run):
            raise BadInput(
                "not the name of a run", expected="letters, digits, and _ . : -", found=repr(run)
            )
        return self._runs / run

    def start(self, run: str) -> None:
        """Raises Unavailable when the run's folder cannot be written."""
        self._reap()
        with _unavailable(self.folder(run)):
            self.folder(run).mkdir(parents=True, exist_ok=True)
            with _opened(self.folder(run) / "lock") as lock:
                if not _take(lock) and not (self._clear(run) and _take(lock)):
                    return
                (self.folder(run) / "process").unlink(missing_ok=True)
                self._children.add(self._spawn(run, lock))

    def alive(self, run: str) -> bool:
        self._reap()
        if not self._held(run):
            return False
        # no record: it is being started
        return (recorded := _recorded(self.folder(run))) is None or _is_running(*recorded)

    def stop(self, run: str) -> None:
        """Ask, then kill; with everything it has started. Raises Unavailable when it will not end
        (a process stuck in the kernel)."""
        for request in (signal.SIGTERM, signal.SIGKILL):
            asked, deadline = False, time.monotonic() + self._grace
            while self._held(run):
                recorded = _recorded(self.folder(run))
                if recorded is not None and not asked:
                    asked = _signal_group(*recorded, request)
                if time.monotonic() > deadline:
                    break
                time.sleep(_POLL_S)
                self._reap()
            else:
                return
        raise Unavailable("a run cannot be stopped", path=str(self.folder(run)))

    def _spawn(self, run: str, lock: int) -> int:
        folder = self.folder(run)
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        # not subprocess: the run must outlive us, and Popen warns of those
        return os.posix_spawn(
            "/bin/sh",
            ["sh", "-c", _LAUNCH, str(folder / "process"), *self._argv(run)],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, lock, _LOCK_FD),
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(folder / "output.log"), append, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,  # neither our terminal nor our end is its end
            setsigmask=[],
            setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE],
        )

    def _held(self, run: str) -> bool:
        path = self.folder(run) / "lock"
        if not path.exists():
            return False
        with _unavailable(path), _opened(path) as lock:
            return not _locked(lock, fcntl.LOCK_SH)

    def _clear(self, run: str) -> bool:
        """The run itself is dead but something it started still holds its lock: end that."""
        recorded = _recorded(self.folder(run))
        if recorded is None or _is_running(*recorded):
            return False
        _signal_group(*recorded, signal.SIGKILL)
        deadline = time.monotonic() + self._grace
        while (held := self._held(run)) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return not held

    def _reap(self) -> None:
        """Collect our children that have ended, so that none stays as a zombie."""
        for pid in tuple(self._children):
            with contextlib.suppress(ChildProcessError):  # collected by somebody else
                if os.waitpid(pid, os.WNOHANG)[0] == 0:
                    continue
            self._children.discard(pid)


@contextlib.contextmanager
def _unavailable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(
            "the folder of a run cannot be used",
            path=str(path),
            found=error.strerror or str(error),
            remedy="check the free space and the permissions",
        ) from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _take(descriptor: int) -> bool:
    """The lock for ourselves; those who only look share it for a moment, and are waited for."""
    while not _locked(descriptor, fcntl.LOCK_EX):
        if not _locked(descriptor, fcntl.LOCK_SH):
            return False
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    return True


def _recorded(folder: Path) -> tuple[int, str] | None:
    """(pid, start time in clock ticks since the boot) of the run's process."""
    try:
        return _parse_stat((folder / "process").read_text())
    except FileNotFoundError:
        return None


def _parse_stat(text: str) -> tuple[int, str]:
    # the name in parentheses may hold anything, a parenthesis included
    head, _, tail = text.rpartition(")")
    return int(head.split("(", 1)[0]), tail.split()[19]


def _is_running(pid: int, started: str) -> bool:
    """Whether that very process exists and is more than a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return _parse_stat(text)[1] == started and text.rpartition(")")[2].split()[0] not in "ZX"


def _signal_group(pid: int, started: str, number: signal.Signals) -> bool:
    """Signal the process group that the run leads, unless its pid now belongs to another."""
    try:
        now = _parse_stat(Path(f"/proc/{pid}/stat").read_text())[1]
    except (FileNotFoundError, ProcessLookupError):
        now = started  # the leader is gone; the kernel keeps its pid for what is left of the group
    if now == started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, number)
    return True
