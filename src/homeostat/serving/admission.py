"""Who is let in: bounded queues and bodies, rates of requests in all and per client. Pure."""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from homeostat.serving.spec import ServingSpec

WAITING = 100_000
"""Rows of one worker that may wait for their scores, whatever is declared."""
CLIENTS = 10_000
"""Clients whose rate is remembered; the one that was silent for longest is forgotten first."""
BURST = 1.0
"""Seconds' worth of requests that may come at once."""


class Refused(msgspec.Struct, frozen=True):
    status: int
    message: str


class Bodies:
    """Bytes of bodies that a worker holds, from their first byte until their requests have ended,
    whatever protocol they came over; `most` at a time."""

    __slots__ = ("held", "most")

    def __init__(self, most: int) -> None:
        self.held, self.most = 0, most

    def take(self, n: int) -> bool:
        """Hold n more bytes; False when there is no room."""
        if self.held + n > self.most:
            return False
        self.held += n
        return True

    def give(self, n: int) -> None:
        self.held -= n

    @property
    def full(self) -> str:
        """What is said to those who find no room."""
        return f"the bodies of all requests are limited to {self.most} bytes; try again in a moment"


class Bucket:
    """Tokens that come back at `rate` per second, at most BURST seconds' worth (at least one)."""

    __slots__ = ("_at", "_rate", "_tokens", "_top")

    def __init__(self, rate: float, now: float) -> None:
        self._rate, self._top = rate, max(1.0, rate * BURST)
        self._tokens, self._at = self._top, now

    def take(self, now: float) -> bool:
        self._tokens = min(self._top, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Admission:
    """workers: on how many the requests are spread; each lets in its part of `limit.per_second`.
    A client's connection stays with one worker, so `limit.per_client` holds in each."""

    def __init__(self, spec: ServingSpec, workers: int = 1) -> None:
        self._concurrency, self._limit = spec.concurrency, spec.limit
        self._rate = spec.limit.per_second / workers
        self._all = Bucket(self._rate, 0.0)
        self.limited = bool(spec.concurrency or spec.limit.per_second or spec.limit.per_client)
        self._clients: OrderedDict[str, Bucket] = OrderedDict()

    def refused(self, client: str, in_flight: int, rows: int, now: float) -> Refused | None:
        """Why a request is not let in; None when it is. in_flight: requests; rows: that wait for
        scores; now: monotonic seconds."""
        if self._concurrency and in_flight >= self._concurrency:
            what = f"more than {self._concurrency} requests are in flight; try again in a moment"
            return Refused(503, what)
        if rows >= WAITING:
            return Refused(503, f"more than {WAITING} rows are waiting; try again in a moment")
        if self._limit.per_client and not self._bucket(client, now).take(now):
            what = f"more than {self._limit.per_client:g} requests a second from one client"
            return Refused(429, what)
        if self._rate and not self._all.take(now):
            return Refused(429, f"more than {self._limit.per_second:g} requests a second in all")
        return None

    def _bucket(self, client: str, now: float) -> Bucket:
        found = self._clients.get(client)
        if found is None:
            if len(self._clients) >= CLIENTS:
                self._clients.popitem(last=False)
            found = self._clients[client] = Bucket(self._limit.per_client, now)
        else:
            self._clients.move_to_end(client)
        return found
