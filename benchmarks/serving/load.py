"""The load generator: raw sockets and epoll in one thread, requests made beforehand.

Closed loop: each connection asks again as soon as it is answered. Open loop: requests are due at
a fixed rate whatever the server does, and a latency counts from the instant at which its request
was due, so that a server that stalls cannot hide the requests it kept from being sent (Gil Tene's
coordinated omission). Everything is bounded: by `seconds`, and then by PATIENCE.
"""

from __future__ import annotations

import ctypes
import gc
import os
import select
import socket
import struct
import time
from array import array
from collections import deque
from collections.abc import Callable
from time import perf_counter

import msgspec
from benchmarks.serving.stats import Sample, intended, sample
from benchmarks.serving.wire import ANSWERED, PENDING, Wire

PATIENCE = 2.0
"""Seconds to wait for what is still in flight at the end; what comes later counts as failed."""
POOL = 64
"""Connections of an open loop: requests that are due while all wait for answers queue up."""
FINEST = 100e-6
"""Seconds between looks at the clock in an open loop, at the least."""

MakeWire = Callable[[int], Wire]


class _Connection:
    __slots__ = ("fd", "since", "socket", "waiting", "wire")

    def __init__(self, port: int, wire: Wire) -> None:
        self.wire = wire
        self.since = 0.0  # sent, or due
        self.waiting = False
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.socket.sendall(wire.opening())
        self.socket.setblocking(False)
        self.fd = self.socket.fileno()

    def ask(self, since: float) -> None:
        self.since, self.waiting = since, True
        self.write(self.wire.request())

    def write(self, data: bytes) -> None:
        if data and self.socket.send(data) != len(data):
            raise BufferError("the server does not read: a request of its own size does not fit")

    def answer(self) -> int:
        """Read what is there. -> an outcome of the wire. Raises ConnectionError, OSError."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        outcome = self.wire.feed(data)
        if self.wire.reply:
            self.write(self.wire.reply)
            self.wire.reply = b""
        return outcome


class _Pool:
    """Connections, the epoll that watches them, and what has been measured."""

    def __init__(self, port: int, make: MakeWire, n: int) -> None:
        self._port, self._make = port, make
        self.epoll = select.epoll()
        self.connections: dict[int, _Connection] = {}
        self.latencies, self.lost = array("d"), array("d")
        self.failed = 0
        self._cpu, self._wall = 0.0, 0.0
        try:
            for k in range(n):
                self.connect(k)
        except BaseException:
            self.close()
            raise

    def connect(self, k: int) -> _Connection:
        connection = _Connection(self._port, self._make(k * 7))
        self.connections[connection.fd] = connection
        self.epoll.register(connection.fd, select.EPOLLIN)
        return connection

    def replace(self, connection: _Connection) -> _Connection:
        """A connection that broke: its request has failed, another takes its place."""
        self.failed += 1
        del self.connections[connection.fd]
        self.epoll.unregister(connection.fd)
        connection.socket.close()
        deadline = perf_counter() + PATIENCE
        while True:
            try:
                return self.connect(self.failed)
            except ConnectionResetError:  # it waited for a worker that was killed; nothing was sent
                if perf_counter() > deadline:
                    raise

    def begin(self) -> None:
        gc.collect()
        gc.disable()
        self._cpu, self._wall = time.process_time(), perf_counter()

    def end(self) -> float:
        """-> the share of the core that was used since `begin`."""
        gc.enable()
        return (time.process_time() - self._cpu) / (perf_counter() - self._wall)

    def drain(self, settle: Callable[[_Connection], None], left: Callable[[], bool]) -> None:
        """Take late answers for a while; what is missing then has failed."""
        deadline = perf_counter() + PATIENCE
        while left() and perf_counter() < deadline:
            for fd, _ in self.epoll.poll(0.05):
                if (connection := self.connections.get(fd)) is not None:
                    settle(connection)
        now = perf_counter()
        for connection in self.connections.values():
            if connection.waiting:
                self.failed += 1
                self.lost.append(now - connection.since)

    def close(self) -> None:
        gc.enable()
        for connection in self.connections.values():
            connection.socket.close()
        self.epoll.close()


def closed(port: int, make: MakeWire, connections: int, seconds: float) -> Sample:
    """make(k): the wire of connection k. Raises OSError when nobody listens."""
    pool = _Pool(port, make, connections)
    latencies, by_fd, poll = pool.latencies, pool.connections, pool.epoll.poll

    def take(connection: _Connection) -> bool:
        """-> whether the connection may ask again."""
        try:
            outcome = connection.answer()
        except OSError:
            pool.replace(connection).ask(perf_counter())
            return False
        if outcome == PENDING:
            return False
        connection.waiting = False
        if outcome == ANSWERED:
            latencies.append(perf_counter() - connection.since)
        else:
            pool.failed += 1
        return True

    try:
        pool.begin()
        start = now = perf_counter()
        for connection in list(by_fd.values()):
            connection.ask(now)
        while now < start + seconds:
            for fd, _ in poll(0.05):
                connection = by_fd[fd]
                if take(connection):
                    connection.ask(perf_counter())
            now = perf_counter()
        client, answered = pool.end(), len(latencies)
        pool.drain(take, lambda: any(c.waiting for c in by_fd.values()))
        # late answers are no part of the rate, nor are they failures
        late = len(latencies) - answered
        del latencies[answered:]
        made = sample(latencies, pool.failed, now - start, client, pool.lost)
        return msgspec.structs.replace(made, late=late)
    finally:
        pool.close()


def opened(port: int, make: MakeWire, rate: float, seconds: float, pool_size: int = POOL) -> Sample:
    """Requests at a fixed rate for `seconds`. Raises OSError when nobody listens."""
    pool = _Pool(port, make, pool_size)
    latencies, by_fd, poll = pool.latencies, pool.connections, pool.epoll.poll
    free = list(by_fd.values())
    queue: deque[float] = deque()  # due, and no connection for it yet
    last = 0.0

    def settle(connection: _Connection) -> None:
        nonlocal last
        try:
            outcome = connection.answer()
        except OSError:
            if connection.waiting:
                pool.lost.append(perf_counter() - connection.since)
            elif connection in free:
                free.remove(connection)
            connection, outcome = pool.replace(connection), ANSWERED
        else:
            if outcome == PENDING:
                return
            last = perf_counter()
            if outcome == ANSWERED:
                latencies.append(last - connection.since)
            else:
                pool.failed += 1
        connection.waiting = False
        if queue:
            connection.ask(queue.popleft())
        else:
            free.append(connection)

    timer = _Timer(max(FINEST, 1 / rate))
    try:
        pool.epoll.register(timer.fd, select.EPOLLIN)
        total, k = int(rate * seconds), 0
        pool.begin()
        start = last = perf_counter()
        while k < total:
            for fd, _ in poll(0.05):
                if fd == timer.fd:
                    timer.read()
                else:
                    settle(by_fd[fd])
            now = perf_counter()
            while k < total and (due := start + intended(k, rate)) <= now:
                k += 1
                if free:
                    free.pop().ask(due)
                else:
                    queue.append(due)
        client = pool.end()
        pool.epoll.unregister(timer.fd)
        pool.drain(settle, lambda: bool(queue) or any(c.waiting for c in by_fd.values()))
        now = perf_counter()
        pool.failed += len(queue)
        pool.lost.extend(now - due for due in queue)
        return sample(latencies, pool.failed, max(last - start, seconds), client, pool.lost)
    finally:
        timer.close()
        pool.close()


class _Timer:
    """A descriptor that is readable every `period` seconds (timerfd, which Python has from 3.13):
    epoll's own timeout knows only whole milliseconds."""

    def __init__(self, period: float) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        second, rest = divmod(int(period * 1e9), 1_000_000_000)
        when = struct.pack("@4l", second, rest, second, rest)
        if libc.timerfd_settime(self.fd, 0, when, None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def read(self) -> None:
        os.read(self.fd, 8)

    def close(self) -> None:
        os.close(self.fd)
