"""How many requests of the same callers are worth one independent request.

Where callers are kept on one version, callers are drawn and not requests: a caller of whom every
request fails speaks against the version that it was drawn to, however often it asks. Its requests
are one observation to the degree to which they go wrong together. That degree is the design effect
of a rate (Kish 1965), measured from the callers themselves, and every count is divided by it
(Rao & Scott 1992). It is measured anew at every look, from all that was seen. A caller's requests
go wrong together or independently, never the one instead of the other, so what was seen at two
looks is at least as alike as it is for independent requests, and the bounds are crossed by mistake
no more often (Slepian 1962).

Callers that go wrong can be counted only where some did. A rate's lower bound rests on these. Its
upper one says that few more are to come, so it allows for one more caller, of the usual size, of
whom every request goes wrong: with no request that ever did, callers are counted and not requests.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Effect(NamedTuple):
    """Of one version: how many requests are worth one for its rate's lower bound, and for its
    upper one. callers: how many there are."""

    low: float
    high: float
    callers: int = 0


ONE = Effect(1.0, 1.0)
"""Every request is drawn by itself."""


class Callers:
    """Requests of each caller to one version, and how many of them went wrong."""

    def __init__(self) -> None:
        self._requests = self._wrong = np.empty(0)

    def add(self, caller: NDArray[np.int64], wrong: NDArray[np.bool_]) -> None:
        """caller (n): a number of each, from 0."""
        if len(caller):
            many = max(len(self._requests), int(caller.max()) + 1)
            self._requests = _plus(self._requests, caller, many)
            self._wrong = _plus(self._wrong, caller[wrong], many)

    def effect(self) -> Effect:
        return effect(self._requests, self._wrong)


def effect(requests: Array, wrong: Array) -> Effect:
    """requests, wrong (callers): of each; callers without a request do not count."""
    n = float(requests.sum())
    if n == 0:
        return ONE
    rate = float(wrong.sum()) / n
    clustered = float(((wrong - rate * requests) ** 2).sum())
    low, high = of_clusters(n, rate, clustered, float((requests**2).sum()) / n)
    return Effect(low, high, int((requests > 0).sum()))


def of_clusters(n: float, rate: float, clustered: float, size: float) -> tuple[float, float]:
    """-> low, high of `Effect` for n requests in clusters. clustered: the sum of squares of what
    clusters' events are more than their requests let expect. size: of a request's cluster."""
    independent = n * rate * (1 - rate)
    seen = clustered / independent if independent > 0 else size
    unseen = (clustered + size**2) / (independent + size)
    return max(seen, 1.0), max(unseen, 1.0)


def _plus(counts: Array, caller: NDArray[np.int64], many: int) -> Array:
    more = np.bincount(caller, minlength=many).astype(np.float64)
    more[: len(counts)] += counts
    return more
