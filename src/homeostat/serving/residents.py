"""Which models stay in memory: the least recently used goes first. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

State = Literal["READY", "LOADING", "UNAVAILABLE"]


class Entry(msgspec.Struct, frozen=True):
    """A version in the index of what a worker serves. memory: bytes, about; 0 when not loaded."""

    name: str
    version: str
    state: State
    reason: str = ""
    memory: int = 0


class Usage(msgspec.Struct, frozen=True):
    """memory: bytes of all of a model's versions. used: when it was last asked for."""

    memory: int
    used: float


def surplus(usage: Mapping[str, Usage], budget: int) -> list[str]:
    """The models to unload so that the others fit into `budget` bytes (0: all fit), those first
    that were asked for least recently. The last one used stays, even if it alone is too large."""
    total = sum(one.memory for one in usage.values())
    if budget <= 0 or total <= budget:
        return []
    gone = []
    for model, one in sorted(usage.items(), key=lambda item: item[1].used)[:-1]:
        if total <= budget:
            break
        gone.append(model)
        total -= one.memory
    return gone
