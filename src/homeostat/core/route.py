"""Who answers a request. Assignment is a pure function of the route and the key: sticky,
and monotone (a key that sees the canary at 10 % still sees it at 25 %)."""

from __future__ import annotations

import msgspec
import xxhash

from homeostat.core.names import Arm

BUCKETS = 10_000


class Servable(msgspec.Struct, frozen=True):
    """Where a version's files are, and the digest that was registered for them.

    path: folder with `servable.json` and the model file.
    digest: `sha256:...` of the model file; a worker refuses anything else.
    """

    version: str
    path: str
    digest: str


class Route(msgspec.Struct, frozen=True, omit_defaults=True):
    """The traffic split of one model.

    generation: grows with every change; workers report the one they have applied.
    champion: answers what the canary does not; None: the model is not served.
    canary, percent: the candidate and its share of the requests (0 to 100).
    paired: the share of requests (0 to 1) that the other version also scores, off the response
        path (its score is logged under the same id with arm `shadow`).
    salt: separates the buckets of one rollout from those of the next.
    sticky: feature whose value keeps a caller on one version, when no key header is sent.
    """

    model: str
    generation: int
    champion: Servable | None
    canary: Servable | None = None
    percent: float = 0.0
    paired: float = 0.0
    salt: str = ""
    sticky: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.percent <= 100:
            raise ValueError(f"percent must be within 0 and 100, found {self.percent}")
        if self.percent > 0 and self.canary is None:
            raise ValueError("a share of the traffic needs a canary to take it")

    def servables(self) -> tuple[Servable, ...]:
        return tuple(s for s in (self.champion, self.canary) if s is not None)

    def weights(self) -> dict[str, float]:
        """Percent of requests per version; sums to 100 while the model is served."""
        if self.champion is None:
            return {}
        shares = {self.champion.version: 100.0 - self.percent}
        if self.canary is not None:
            shares[self.canary.version] = shares.get(self.canary.version, 0.0) + self.percent
        return shares


class Assignment(msgspec.Struct, frozen=True):
    """version and arm that answer, and the probability with which this arm was drawn."""

    version: str
    arm: Arm
    probability: float


def bucket(salt: str, key: str) -> int:
    """0 to BUCKETS-1, uniform over keys and independent between salts (xxh3, 64 bit)."""
    return int(xxhash.xxh3_64_intdigest(f"{salt}\x00{key}".encode()) % BUCKETS)


def assign(route: Route, key: str) -> Assignment | None:
    """The version that answers this key; None when the model is not served."""
    if route.champion is None:
        return None
    share = route.percent / 100.0
    if route.canary is not None and bucket(route.salt, key) < route.percent * (BUCKETS // 100):
        return Assignment(route.canary.version, Arm.CANARY, share)
    return Assignment(route.champion.version, Arm.CHAMPION, 1.0 - share)
