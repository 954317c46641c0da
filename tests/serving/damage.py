"""Valid requests, damaged at random: what a parser must not fall over."""

from __future__ import annotations

import random
from collections.abc import Sequence


def damaged(draw: random.Random, seeds: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    """One to three of `seeds` in a row, damaged in one to five places."""
    data = bytearray(b"".join(draw.choices(seeds, k=draw.randint(1, 3))))
    for _ in range(draw.randint(1, 5)):
        at = draw.randrange(len(data) + 1)
        end = min(len(data), at + draw.randint(1, 12))
        match draw.randrange(5):
            case 0:
                data[at:at] = draw.choice(tokens)
            case 1:
                del data[at:end]
            case 2:
                data[at:end] = draw.choice(tokens)
            case 3:
                data[at:at] = data[at:end]
            case _ if at < len(data):
                data[at] = draw.randrange(256)
    return bytes(data)
