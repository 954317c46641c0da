"""The listening sockets of a worker: opened beside those of the others, closed without a loss."""

from __future__ import annotations

import asyncio
import socket
import sys
from time import monotonic

from homeostat.core.errors import Unavailable

LONGEST = 1.0
"""Seconds; only a machine that is flooded with connections needs them."""
_UNACKED = slice(24, 28)
"""Bytes of `tcpi_unacked` in Linux's TCP_INFO: of a listening socket, the length of its queue."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that shares its port with the other workers. Raises Unavailable."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind((host, port))
    except (OSError, OverflowError) as error:
        sock.close()
        raise Unavailable(f"cannot listen on {host}:{port}", found=str(error)) from error
    sock.setblocking(False)
    return sock


async def emptied(listener: socket.socket) -> None:
    """Return at an instant at which no connection waits to be accepted (or after LONGEST): closing
    resets those that do. The kernel goes on choosing this socket until it is closed, so that few
    may queue: one at a time."""
    deadline = monotonic() + LONGEST
    listener.listen(0)
    while _queued(listener) and monotonic() < deadline:
        await asyncio.sleep(0)


def _queued(listener: socket.socket) -> int:
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _UNACKED.stop)
    return int.from_bytes(info[_UNACKED], sys.byteorder)
