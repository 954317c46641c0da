"""The numbers of a large JSON body, decoded piece by piece so that others get their turn. Pure.

The decoder lets nobody else run until it has read all it was given, in a thread neither. Where a
list of numbers may be cut is found without parsing; the body without the list is decoded as ever.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from itertools import chain
from typing import NamedTuple

import msgspec

LARGE = 256 * 1024
"""Bytes from which on a body is read in pieces."""
PIECE = 32 * 1024
HERE = os.urandom(8).hex()
"""What stands in the list's place in the body without it: a text that no client can know."""
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_BEGIN = re.compile(rb'"(?:data|instances)"\s*:\s*\[')
_flat = msgspec.json.Decoder(list[float]).decode
_nested = msgspec.json.Decoder(list[list[float]]).decode


class Cut(NamedTuple):
    """rest: the body with only HERE in its list. values: what was there, row after row; shape:
    (rows, width), or (values,) when they came flat."""

    rest: bytes
    values: list[float]
    shape: tuple[int, ...]


def cut(body: bytes) -> Generator[None, None, Cut | None]:
    """Take the first list of numbers, or of rows of one width, out of a body; None where there is
    none, or it is not plainly so: then all of the body has to be read at once."""
    begin = _BEGIN.search(body, 0, 2 * PIECE)  # it is nearly all of the body
    if begin is None:
        return None
    at = first = begin.end()
    nested = body[at : at + 16].lstrip()[:1] == b"["
    separator = b"]," if nested else b","
    end = body.rfind(b"]]", at) + 1 if nested else body.find(b"]", at)
    values: list[float] = []
    widths: list[int] = []
    while at <= end:
        stop = body.find(separator, at + PIECE, end) + len(separator) - 1
        piece = b"[%b]" % body[at : stop if stop > at else end]
        try:
            rows = _nested(piece) if nested else [_flat(piece)]
        except UNREADABLE:
            return None
        if not rows or not all(rows):  # nothing between two commas
            return None
        values.extend(chain.from_iterable(rows))
        widths.extend(map(len, rows))
        at = (stop if stop > at else end) + 1
        yield
    if not widths or (nested and len(set(widths)) > 1):
        return None
    rest = b'%b"%b"%b' % (body[:first], HERE.encode(), body[end:])
    return Cut(rest, values, (len(widths), widths[0]) if nested else (len(values),))
