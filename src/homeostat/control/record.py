"""Writing to the model's stream beside others who write: read, decide, append, or read again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from homeostat.control.model import LoopEvent, State, evolve, load
from homeostat.control.platform import Platform
from homeostat.core.errors import Conflict, Unavailable

TRIES = 50


def settle(
    platform: Platform,
    decide: Callable[[State], Sequence[LoopEvent]],
    state: State | None = None,
) -> State:
    """Append what `decide` makes of the state as it is; -> the state as that leaves it.

    Whoever writes meanwhile only makes it decide again, on the newer state. state: one that was
    read before, from which on to read. Raises what `decide` raises, Unavailable after many
    conflicts in a row or when the store does not answer.
    """
    state = state or State()
    for _ in range(TRIES):
        state = load(platform.events.read(platform.stream, state.seq), state)
        events, now = decide(state), platform.clock.now()
        if not events:
            return state
        try:
            platform.events.append(platform.stream, events, after=state.seq, at=now)
        except Conflict:
            continue
        for seq, event in enumerate(events, state.seq + 1):
            state = evolve(state, event, now, seq)
        return state
    raise _contended(platform)


def record(platform: Platform, events: Sequence[LoopEvent], *, seen: int = 0) -> int:
    """Append facts, as against decisions: they hold whoever else writes meanwhile. -> the new
    last seq.

    seen: a seq that is known to exist, from which on to look for the end. Raises as `settle`.
    """
    for _ in range(TRIES):
        later = platform.events.read(platform.stream, seen)
        seen = later[-1].seq if later else seen
        try:
            now = platform.clock.now()
            return platform.events.append(platform.stream, events, after=seen, at=now)
        except Conflict:
            continue
    raise _contended(platform)


def _contended(platform: Platform) -> Unavailable:
    return Unavailable(
        f"could not append to the events of {platform.stream} in {TRIES} tries",
        remedy="see whether several controllers of this project are running",
    )
