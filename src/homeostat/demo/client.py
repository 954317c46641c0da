"""What stands for the payment gateways: an HTTP client that keeps many connections busy.

One request per payment, pipelined on a few keep-alive connections; responses are parsed by
httptools. A general client would spend more time than the server that is being shown.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, NamedTuple

import httptools
import msgspec

Headers = dict[str, str]


class Answer(NamedTuple):
    """status 0: the connection was lost before the answer came."""

    status: int
    body: bytes


class _Connection(asyncio.Protocol):
    """Requests in order, answers in order."""

    def __init__(self) -> None:
        self.waiting: deque[asyncio.Future[Answer]] = deque()
        self.transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        while self.waiting:
            self.waiting.popleft().set_result(Answer(0, str(exc or "closed").encode()))

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        answer = Answer(self._parser.get_status_code(), b"".join(self._body))
        self._body.clear()
        self.waiting.popleft().set_result(answer)

    def send(self, request: bytes) -> asyncio.Future[Answer]:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        if self.transport is None:
            future.set_result(Answer(0, b"not connected"))
        else:
            self.waiting.append(future)
            self.transport.write(request)
        return future


class Client:
    """connections: how many are kept open to host:port."""

    def __init__(self, host: str, port: int, connections: int = 8) -> None:
        self._host, self._port, self._n = host, port, connections
        self._open: list[_Connection] = []
        self._next = 0

    async def connect(self) -> None:
        """Raises OSError when nobody listens."""
        loop = asyncio.get_running_loop()
        for _ in range(self._n):
            _, protocol = await loop.create_connection(_Connection, self._host, self._port)
            self._open.append(protocol)

    def post(self, path: str, body: Any) -> asyncio.Future[Answer]:
        """Send JSON; the answer comes as a future, so that many can be under way."""
        data = msgspec.json.encode(body)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        self._next = (self._next + 1) % len(self._open)
        return self._open[self._next].send(head.encode() + data)

    def close(self) -> None:
        for connection in self._open:
            if connection.transport is not None:
                connection.transport.close()
        self._open.clear()
