"""Whether predictions are answered, and where they are not, what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from homeostat.control.books import Books
from homeostat.control.model import State, load
from homeostat.core.errors import HomeostatError
from homeostat.core.ports import Observed


class Readiness(msgspec.Struct, frozen=True):
    """version: the champion that every worker answers with; None while it is none. missing: what
    keeps it from being one, and next: the command that helps; both empty while all that is
    decided is on its way."""

    version: str | None
    missing: str = ""
    next: str = ""


def readiness(state: State, seen: Observed, *, loop: bool) -> Readiness:
    """loop: whether a controller rolls out what is registered."""
    champion = state.live_rollout.champion if state.live_rollout else state.champion
    if champion is None:
        waiting = state.registered if loop else (*state.registered, *state.candidates)
        if waiting:
            missing = f"version {waiting[-1]} is registered and not rolled out"
            return Readiness(None, missing, f"homeostat rollout start {waiting[-1]}")
        if state.candidates:
            return Readiness(None)
        after = "" if loop else ", then homeostat rollout start VERSION"
        return Readiness(None, "no version is registered", f"homeostat run{after}")
    if champion in seen.failures:
        missing = f"version {champion} cannot be loaded: {seen.failures[champion]}"
        return Readiness(None, missing, way_back(state, seen.failures))
    return Readiness(champion if seen.generation == state.generation else None)


def way_back(state: State, failures: Collection[str]) -> str:
    """The command that gives the traffic of a champion that cannot be loaded to another version:
    the latest of the earlier champions, or a candidate, or one that is yet to be made."""
    earlier = dict.fromkeys(version for _, version in reversed(state.lives))
    for version in earlier:
        if version != state.champion and version not in failures:
            return f"homeostat rollout abort --to {version}"
    rollout = state.live_rollout
    if rollout is not None and rollout.candidate not in failures:
        which = f" {rollout.candidate}" if rollout.trials else ""
        return f"homeostat rollout promote{which}"
    for version in reversed((*state.candidates, *state.registered)):
        if version not in failures:
            start = f"homeostat rollout start {version} --force"
            return f"{start}   (then: homeostat rollout promote)"
    return "homeostat run   (without `gates.against_champion`; then: homeostat rollout promote)"


class Watch:
    """Tells how it stands, at first and when that changes; of what is on its way, nothing.
    loop: as in `readiness`."""

    def __init__(self, books: Books, *, loop: bool, tell: Callable[[Readiness], None]) -> None:
        self._books, self._loop, self._tell = books, loop, tell
        self._state = State()
        self._told: Readiness | None = None

    def look(self) -> None:
        books = self._books
        try:
            self._state = load(books.events.read(books.stream, self._state.seq), self._state)
        except HomeostatError:
            return  # told at the start, and by the loop; who answers is as it was
        found = readiness(self._state, books.plane.observed(books.stream), loop=self._loop)
        if found != self._told and found != Readiness(None):
            self._told = found
            self._tell(found)
