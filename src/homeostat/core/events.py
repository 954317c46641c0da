"""The append-only log that all state is folded from.

The core knows the envelope only. What can happen in a stage is declared in that stage's
`model.py` as msgspec structs with a tag; `control/model.py` joins them into one union.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any

import msgspec


class Event(msgspec.Struct, frozen=True, tag_field="type"):
    """Base of everything that can be recorded. Subclasses are frozen and tagged."""


class Recorded(msgspec.Struct, frozen=True):
    """An event as the store keeps it.

    stream: whose history it belongs to (the model's name).
    seq: 1, 2, 3, ... without gaps within the stream.
    at: the clock's time when it was decided (aware UTC).
    type: the event's tag. body: the event as JSON bytes (with its tag).
    """

    stream: str
    seq: int
    at: datetime
    type: str
    body: bytes


_encoder = msgspec.json.Encoder(enc_hook=lambda value: str(value))


def encode(event: Event) -> tuple[str, bytes]:
    """-> (tag, JSON bytes). Types without a JSON form of their own are written as text."""
    tag = event.__struct_config__.tag
    if not isinstance(tag, str):
        raise TypeError(f"{type(event).__name__} has no tag: declare it with tag='...'")
    return tag, _encoder.encode(event)


def decode(recorded: Recorded, union: Any) -> Any:
    """Decode one recorded event as a member of `union`; raises msgspec.ValidationError."""
    return _decoder(union).decode(recorded.body)


@cache
def _decoder(union: Any) -> msgspec.json.Decoder[Any]:
    """A union of so many types takes ten times as long to understand as an event to read."""
    return msgspec.json.Decoder(union, dec_hook=_dec_hook)


def _dec_hook(kind: type[Any], value: Any) -> Any:
    parse = getattr(kind, "parse", None)
    if parse is None:
        raise NotImplementedError(kind)
    return parse(value)
