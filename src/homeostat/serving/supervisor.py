"""The processes of the data plane: workers and the keeper, started, watched and stopped."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from homeostat.core.duration import Duration
from homeostat.core.errors import Unavailable
from homeostat.serving.address import Address, Tls
from homeostat.serving.counters import beats, settle
from homeostat.serving.layout import Layout, write_atomically
from homeostat.serving.listener import listen
from homeostat.serving.spec import ServingSpec
from homeostat.serving.status import living

_logger = logging.getLogger(__name__)

WATCH = 0.05
"""Seconds between looks at the processes."""
BLINK = 1.0
"""Seconds between two of them that count at most as time in which a process said nothing."""
STEADY = 5.0
"""Seconds after which a process counts as started well, and its next crash as the first."""
SLOWEST = 5.0
"""Seconds between attempts to start what crashes again and again."""
GRACE = 15.0
"""Seconds to drain before a process is killed."""
PATIENCE = 30.0
"""Seconds without a heartbeat after which a worker is killed and replaced: longer than the first
batch of a slow model may hold up its event loop."""


class _Child:
    """A process that should be running. beats: how often it has said that it goes on; None for
    one that does not say so. patience: seconds without that until it is killed."""

    def __init__(
        self,
        name: str,
        argv: list[str],
        env: Mapping[str, str],
        beats: Callable[[], int] | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self.name, self._argv, self._env = name, argv, env
        self.process: subprocess.Popen[bytes] | None = None
        self._crashes, self._started, self._again = 0, 0.0, 0.0
        self._beats, self._patience = beats, patience
        self._heard, self._looked, self._silent = 0, 0.0, 0.0
        self._trouble = ""

    def start(self, now: float) -> None:
        """Raises OSError."""
        self._started = self._looked = now
        self._silent = 0.0
        self.process = subprocess.Popen(self._argv, env=self._env, start_new_session=True)

    def watch(self, now: float) -> None:
        """Start it again when it has ended: at once, and ever more slowly if it keeps ending."""
        if self.process is not None:
            code = self.process.poll()
            if code is None:
                self._listen(self.process, now)
                return
            self._crashes = 0 if now - self._started >= STEADY else self._crashes + 1
            pause = min(SLOWEST, 0.1 * 2**self._crashes) if self._crashes > 1 else 0.0
            _logger.error("%s ended with %s; starting it again in %.1f s", self.name, code, pause)
            self.process, self._again = None, now + pause
        if now >= self._again:
            try:
                self.start(now)
            except OSError as error:  # no process or memory to be had
                self._again = now + SLOWEST
                if str(error) != self._trouble:
                    _logger.error("%s cannot be started: %s; trying on", self.name, error)
                self._trouble = str(error)
            else:
                self._trouble = ""

    def _listen(self, process: subprocess.Popen[bytes], now: float) -> None:
        """Kill it when it says nothing any more: it hangs, and its clients with it."""
        heard = self._beats() if self._beats is not None else self._heard + 1
        # a machine that stood still (a virtual one that was moved, say) held up both of us
        self._silent += min(now - self._looked, BLINK)
        self._looked = now
        if heard != self._heard:
            self._heard, self._silent = heard, 0.0
        elif self._silent >= self._patience:
            _logger.error("%s has hung for %.0f s: killed", self.name, self._silent)
            process.kill()
            self._silent = 0.0  # it may take a moment to end

    def stop(self, deadline: float) -> None:
        """Wait for it after SIGTERM; kill it at the deadline."""
        if self.process is None:
            return
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _logger.error("%s did not stop in time: killed", self.name)
            self.process.kill()
            self.process.wait()

    def terminate(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()


class Supervisor:
    """Workers on one port, and the processes that go with them.

    port, grpc_port: 0 takes a free one; see `.port` and `.grpc_port` after `start`. grpc_port
    None: no gRPC. tls: for both. clock_text: the text form of a
    ScaledClock, None for real time. companions: command lines by name (the log's keeper, the
    controller); they are kept running as the workers are, and stopped after them.
    """

    def __init__(
        self,
        home: Path,
        spec: ServingSpec,
        host: str = "127.0.0.1",
        port: int = 8080,
        workers: int = 1,
        clock_text: str | None = None,
        companions: Mapping[str, list[str]] | None = None,
        grpc_port: int | None = None,
        tls: Tls | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self._layout, self._patience = Layout(home), patience
        self.grpc_port, self._tls = grpc_port, tls
        self._spec, self.host, self.port, self._workers = spec, host, port, workers
        self._clock, self._companions = clock_text, dict(companions or {})
        self._children: list[_Child] = []
        self._reserved: list[socket.socket] = []
        self._own: int | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, timeout: float = 30.0, before: Callable[[], None] = lambda: None) -> None:
        """Return once every worker accepts requests. Raises Unavailable: a port is in use, the
        home folder is served already, or a worker did not start; BadInput: no such certificate.

        before: called when nothing stands in the way, before the first process is started.
        """
        self._layout.make()
        self._own = self._take_home()
        try:
            self._start(timeout, before)
        except BaseException:
            self.stop()
            raise

    def _start(self, timeout: float, before: Callable[[], None]) -> None:
        self._layout.server.unlink(missing_ok=True)  # a server that was killed left it
        if self._tls is not None:
            self._tls.context()
        self.port = self._reserve(self.port, "--port")
        if self.grpc_port is not None:
            self.grpc_port = self._reserve(self.grpc_port, "--grpc-port")
        self._wait_for_orphans(time.monotonic() + GRACE)
        settle(self._layout.metrics)
        before()
        config = msgspec.json.encode(self._spec, enc_hook=_text)
        write_atomically(self._layout.config, config)
        # gRPC's core tells of every listener that is closed as of an error
        env = {"GRPC_VERBOSITY": "NONE", **os.environ, "HOMEOSTAT_CLOCK": self._clock or ""}
        self._children = [self._worker(k, env) for k in range(self._workers)]
        self._children += [_Child(name, argv, env) for name, argv in self._companions.items()]
        now = time.monotonic()
        for child in self._children:
            child.start(now)
        self._wait_ready(now + timeout)
        about = {
            "host": self.host,
            "port": self.port,
            "grpc_port": self.grpc_port,
            "tls": self._tls is not None,
            "pid": os.getpid(),
        }
        write_atomically(self._layout.server, msgspec.json.encode(about))
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._thread.start()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until `stop` is called; False when the timeout came first."""
        return self._stopping.wait(timeout)

    def stop(self) -> None:
        """Drain: no new connections, requests in flight are answered, everything ends."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        companions = [c for c in self._children if c.name in self._companions]
        workers = [c for c in self._children if c not in companions]
        # the keeper after the workers, so that it can put away what they sealed
        for group in (workers, companions):
            for child in group:
                child.terminate()
            deadline = time.monotonic() + GRACE
            for child in group:
                child.stop(deadline)
        if self._children:
            settle(self._layout.metrics)
        self._children = []
        self._layout.server.unlink(missing_ok=True)
        for held in self._reserved:
            held.close()
        self._reserved = []
        if self._own is not None:
            os.close(self._own)
            self._own = None

    def run_forever(
        self, before: Callable[[], None] = lambda: None, ready: Callable[[], None] = lambda: None
    ) -> None:
        """Start, serve until SIGTERM or SIGINT, drain. Call it from the main thread.

        before: as in `start`. ready: called once every worker accepts requests.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stopping.set())
        self.start(before=before)
        if not self._stopping.is_set():
            ready()
        self.wait()
        self.stop()

    @property
    def address(self) -> Address:
        """Where it listens, once it has started."""
        return Address(self.host, self.port, self.grpc_port, self._tls)

    def pids(self) -> dict[str, int]:
        """Name -> pid of the processes that run."""
        return {c.name: c.process.pid for c in self._children if c.process is not None}

    def _worker(self, slot: int, env: Mapping[str, str]) -> _Child:
        counters = self._layout.metrics / str(slot)
        return _Child(
            f"worker {slot}", self._argv(slot), env, lambda: beats(counters), self._patience
        )

    def _argv(self, slot: int) -> list[str]:
        return [
            *(sys.executable, "-m", "homeostat.serving.worker"),
            *("--home", str(self._layout.home), "--host", self.host, "--port", str(self.port)),
            *(() if self.grpc_port is None else ("--grpc-port", str(self.grpc_port))),
            *self._tls_words(),
            *("--slot", str(slot), "--workers", str(self._workers)),
            *("--config", str(self._layout.config)),
            *("--parent", str(os.getpid())),
        ]

    def _tls_words(self) -> tuple[str, ...]:
        if self._tls is None:
            return ()
        return ("--tls-cert", str(self._tls.certificate), "--tls-key", str(self._tls.key))

    def _reserve(self, port: int, flag: str) -> int:
        """Hold a port for the workers; -> its number. Raises Unavailable."""
        held = _reserve(self.host, port, flag)
        self._reserved.append(held)
        return int(held.getsockname()[1])

    def _take_home(self) -> int:
        """One server for a home folder: a lock that the kernel frees however we end. -> its
        descriptor. Raises Unavailable."""
        path = self._layout.server_lock
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(lock, 32, 0).decode() or "that is just starting"
            os.close(lock)
            raise Unavailable(
                "this home folder is served already",
                path=str(self._layout.home),
                found=f"a server with pid {pid}",
                remedy="stop that server first",
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        return lock

    def _wait_for_orphans(self, deadline: float) -> None:
        """Workers of a server that was killed end by themselves once they have drained."""
        while left := living(self._layout):
            if time.monotonic() > deadline:
                raise Unavailable(
                    "workers of a server that was killed are still answering",
                    path=str(self._layout.home),
                    found=", ".join(f"pid {worker.pid}" for worker in left),
                    remedy="end these processes",
                )
            time.sleep(0.01)

    def _wait_ready(self, deadline: float) -> None:
        """The workers have to be there; a companion that fails is started again and again."""
        workers = self._children[: self._workers]
        while len(living(self._layout)) < self._workers:
            for child in workers:
                if child.process is not None and child.process.poll() is not None:
                    raise Unavailable(f"{child.name} ended with {child.process.returncode}")
            if self._stopping.is_set():
                return
            if time.monotonic() > deadline:
                raise Unavailable("the workers were not ready in time")
            time.sleep(0.01)

    def _watch(self) -> None:
        while not self._stopping.wait(WATCH):
            for child in self._children:
                child.watch(time.monotonic())


def _reserve(host: str, port: int, flag: str) -> socket.socket:
    """Hold the port without listening. Workers share a port with SO_REUSEPORT, which would let
    two servers share one silently: so look first without it. Raises Unavailable."""
    if port:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except (OSError, OverflowError) as error:
                raise Unavailable(
                    f"cannot listen on {host}:{port}",
                    found=str(error),
                    remedy=f"choose another {flag}, or 0 for a free one",
                ) from error
    return listen(host, port)


def _text(value: object) -> str:
    if isinstance(value, Duration):
        return str(value)
    raise NotImplementedError(type(value))
