"""Who answers a request. Assignment is a pure function of the route and the key: sticky,
and monotone (a key that sees a challenger at 10 % still sees it at 25 %).

Keys lie on a circle of 100 percent. A challenger's share is an arc that begins at a place of its
own and grows forwards, so its keys depend on its own share and on nobody else's: raising it only
moves keys from the champion, who answers the rest of the circle.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from math import ceil
from typing import TypeVar

import msgspec
from xxhash import xxh3_64_intdigest

from homeostat.core.names import Arm

T = TypeVar("T")

BUCKETS = 10_000
_PER_PERCENT = BUCKETS // 100

PAIRING_SALT = "paired"
"""Which requests are paired is a pure function of their id, the same in every backend."""


class Servable(msgspec.Struct, frozen=True):
    """Where a version's files are, and the digest that was registered for them.

    path: folder with `servable.json` and the model file.
    digest: `sha256:...` of the model file; a worker refuses anything else.
    """

    version: str
    path: str
    digest: str


class Challenger(msgspec.Struct, frozen=True, omit_defaults=True):
    """A version that is tried beside the champion.

    percent: of the requests that it answers (0 to 100). At 0 it is launched in the dark: loaded,
        scoring in the shadow, answering nobody.
    paired: the share of the requests (0 to 1) that both it and the champion score, whichever of
        them did not answer doing so off the response path (logged under the same id with arm
        `shadow`).
    at: where on the circle of keys its share begins (percent, 0 up to 100).
    """

    servable: Servable
    percent: float = 0.0
    paired: float = 0.0
    at: float = 0.0

    def covers(self, drawn: int) -> bool:
        """Whether a bucket (0 to BUCKETS-1) lies on its arc."""
        return (drawn - round(self.at * _PER_PERCENT)) % BUCKETS < self.percent * _PER_PERCENT


class Route(msgspec.Struct, frozen=True, omit_defaults=True):
    """The traffic split of one model: a champion, and any number of challengers.

    generation: grows with every change; workers report the one they have applied.
    champion: answers what no challenger does; None: the model is not served.
    canary, percent, paired, at: the first challenger, in four fields because a route with one is
        the common case, and because files and workers of before there were several know no other.
    others: the further challengers. `challengers` has them all.
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
    at: float = 0.0
    others: tuple[Challenger, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.percent <= 100:
            raise ValueError(f"percent must be within 0 and 100, found {self.percent}")
        if self.canary is None and (self.percent > 0 or self.others):
            raise ValueError("a share of the traffic needs a canary to take it")
        if self.others:
            _check(self.challengers)

    @classmethod
    def split(
        cls,
        model: str,
        generation: int,
        champion: Servable | None,
        challengers: Iterable[Challenger],
        *,
        salt: str = "",
        sticky: str | None = None,
    ) -> Route:
        """A route with any number of challengers. Raises ValueError where their shares overlap."""
        several = tuple(challengers)
        if not several:
            return cls(model, generation, champion, salt=salt, sticky=sticky)
        first = several[0]
        return cls(
            model,
            generation,
            champion,
            canary=first.servable,
            percent=first.percent,
            paired=first.paired,
            salt=salt,
            sticky=sticky,
            at=first.at,
            others=several[1:],
        )

    @property
    def challengers(self) -> tuple[Challenger, ...]:
        if self.canary is None:
            return ()
        return (Challenger(self.canary, self.percent, self.paired, self.at), *self.others)

    def servables(self) -> tuple[Servable, ...]:
        """Everything that has to be loaded, those in the dark included."""
        present = (self.champion, self.canary, *(c.servable for c in self.others))
        return tuple(s for s in present if s is not None)

    def weights(self) -> dict[str, float]:
        """Percent of requests per version; sums to 100 while the model is served."""
        if self.champion is None:
            return {}
        challengers = self.challengers
        shares = {self.champion.version: 100.0 - sum(c.percent for c in challengers)}
        for c in challengers:
            shares[c.servable.version] = shares.get(c.servable.version, 0.0) + c.percent
        return shares


class Assignment(msgspec.Struct, frozen=True):
    """version and arm that answer, and the probability with which they were drawn.
    Every challenger's arm is `canary`; the version tells which one."""

    version: str
    arm: Arm
    probability: float


def places(n: int) -> tuple[float, ...]:
    """Where n challengers begin on the circle: as far apart as can be, so that each may grow to
    100 / n percent without meeting the next (whole buckets)."""
    return tuple((i * BUCKETS // n) / _PER_PERCENT for i in range(n))


def bucket(salt: str, key: str) -> int:
    """0 to BUCKETS-1, uniform over keys and independent between salts (xxh3, 64 bit)."""
    return int(xxh3_64_intdigest(f"{salt}\x00{key}".encode())) % BUCKETS


def assign(route: Route, key: str) -> Assignment | None:
    """The version that answers this key (one hash); None when the model is not served."""
    return _drawn(route, bucket(route.salt, key))


def arcs(route: Route) -> tuple[list[int], list[Assignment]]:
    """`assign` as a table: the bucket at which each arc of the circle begins, ascending from 0,
    and who answers it. Arcs with the same answer share one object; none when nobody answers."""
    starts = {0}
    for challenger in route.challengers:
        first = round(challenger.at * _PER_PERCENT)
        starts |= {first % BUCKETS, (first + ceil(challenger.percent * _PER_PERCENT)) % BUCKETS}
    ordered, known = sorted(starts), dict[Assignment, Assignment]()
    found = [_drawn(route, start) for start in ordered]
    return ordered, [known.setdefault(one, one) for one in found if one is not None]


def assigner(route: Route, answer: Callable[[Assignment], T]) -> Callable[[str], T]:
    """`assign` for many keys: what `answer` made, once, of the version that a key is assigned to.
    Only for a model that is served."""
    starts, drawn = arcs(route)
    answers, salt = [answer(one) for one in drawn], f"{route.salt}\x00"
    if len(answers) == 1:
        return lambda key: answers[0]

    def assigned(key: str) -> T:
        drawn = xxh3_64_intdigest((salt + key).encode()) % BUCKETS  # `bucket`, without the call
        return answers[bisect_right(starts, drawn) - 1]

    return assigned


def _drawn(route: Route, drawn: int) -> Assignment | None:
    if route.champion is None:
        return None
    challengers = route.challengers
    for challenger in challengers:
        if challenger.covers(drawn):
            share = challenger.percent / 100.0
            return Assignment(challenger.servable.version, Arm.CANARY, share)
    # in percent: 0.7 beside 0.1 and 0.2, not 0.7000000000000001
    rest = 100.0 - sum(c.percent for c in challengers)
    return Assignment(route.champion.version, Arm.CHAMPION, rest / 100.0)


def shadows(route: Route, answered: str, id: str) -> tuple[Servable, ...]:
    """Who scores a request too, off the response path, after version `answered` has (at most one
    hash): every challenger that the request is paired for, and then the champion as well. With
    equal `paired` shares all are paired on the same requests."""
    if route.champion is None or route.canary is None:
        return ()
    challengers = route.challengers
    drawn = 0 if all(c.paired in (0.0, 1.0) for c in challengers) else bucket(PAIRING_SALT, id)
    paired = [c.servable for c in challengers if drawn < c.paired * BUCKETS]
    if not paired:
        return ()
    return tuple(s for s in (route.champion, *paired) if s.version != answered)


def _check(challengers: tuple[Challenger, ...]) -> None:
    """Several challengers: distinct versions, shares in range, arcs that do not overlap."""
    versions = [c.servable.version for c in challengers]
    if len(set(versions)) < len(versions):
        raise ValueError(f"a version can be one challenger only, found {versions}")
    for c in challengers:
        if not (0 <= c.percent <= 100 and 0 <= c.at < 100):
            raise ValueError(f"percent must be within 0 and 100, found {c.percent} from {c.at}")
    arcs = sorted((c.at, c.percent, c.servable.version) for c in challengers if c.percent > 0)
    for (at, percent, version), (then, _, other) in zip(arcs, arcs[1:] + arcs[:1], strict=True):
        room = (then - at) % 100 or 100.0
        if percent > room + 1e-9:
            raise ValueError(
                f"{percent:g} % for version {version} from {at:g} reach into those of {other}"
            )
