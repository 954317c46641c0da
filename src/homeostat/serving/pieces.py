"""The numbers of a large JSON body, decoded piece by piece so that others get their turn. Pure.

The decoder lets nobody else run until it has read all it was given, in a thread neither. Where a
list of numbers may be cut is found without parsing; the body without the lists is decoded as ever.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator
from itertools import chain
from operator import itemgetter
from typing import NamedTuple

import msgspec

LARGE = 256 * 1024
"""Bytes from which on a body is read in pieces."""
PIECE = 32 * 1024
HERE = os.urandom(8).hex()
"""What stands in a list's place in the body without it: a text that no client can know."""
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_BEGIN = re.compile(rb'"(?:data|instances)"\s*:\s*\[')
_flat = msgspec.json.Decoder(list[float]).decode
_nested = msgspec.json.Decoder(list[list[float]]).decode
_named = msgspec.json.Decoder(list[dict[str, float]]).decode


class Numbers(NamedTuple):
    """A list of a body, row after row. shape: (rows, width), or (values,) when they came flat.
    names: of the columns, where the rows were objects."""

    values: list[float]
    shape: tuple[int, ...]
    names: tuple[str, ...] = ()


class Cut(NamedTuple):
    """rest: the body with only HERE in each of its lists. lists: what was there."""

    rest: bytes
    lists: list[Numbers]


def cut(body: bytes) -> Generator[None, None, Cut | None]:
    """Take the lists of numbers, or of rows of one width, out of a body; None where there is none,
    or one is not plainly so: then all of the body has to be read at once."""
    rest: list[bytes] = []
    lists: list[Numbers] = []
    at = 0
    while begin := _BEGIN.search(body, at, at + 2 * PIECE):  # they are nearly all of the body
        first = begin.end()
        opening = body[first : first + 16].lstrip()[:1]
        close = {b"[": b"]]", b"{": b"}]"}.get(opening, b"]")
        end = body.find(close, first) + len(close) - 1
        if end <= first:
            return None
        read = {b"[": _rows, b"{": _objects}.get(opening, _values)
        try:
            found = yield from read(_pieces(body, first, end, close[:-1] + b","))
        except UNREADABLE:
            return None
        if found is None:
            return None
        lists.append(found)
        rest += (body[at:first], b'"%b"' % HERE.encode())
        at = end
    return Cut(b"".join([*rest, body[at:]]), lists) if lists else None


def _pieces(body: bytes, at: int, end: int, separator: bytes) -> Iterator[bytes]:
    """A list from `at` to `end` in lists of some of its items each."""
    while at <= end:
        stop = body.find(separator, at + PIECE, end) + len(separator) - 1
        stop = stop if stop > at else end
        yield b"[%b]" % body[at:stop]
        at = stop + 1


Reader = Generator[None, None, Numbers | None]


def _values(pieces: Iterator[bytes]) -> Reader:
    values: list[float] = []
    for piece in pieces:
        some = _flat(piece)
        if not some:  # nothing between two commas
            return None
        values += some
        yield
    return Numbers(values, (len(values),))


def _rows(pieces: Iterator[bytes]) -> Reader:
    values: list[float] = []
    width = n = 0
    for piece in pieces:
        rows = _nested(piece)
        width = width or (len(rows[0]) if rows else 0)
        if not width or not all(len(row) == width for row in rows):
            return None
        values.extend(chain.from_iterable(rows))
        n += len(rows)
        yield
    return Numbers(values, (n, width))


def _objects(pieces: Iterator[bytes]) -> Reader:
    values: list[float] = []
    names: tuple[str, ...] = ()
    n = 0
    for piece in pieces:
        rows = _named(piece)
        names = names or (tuple(rows[0]) if rows else ())
        if len(names) < 2 or not rows or not all(len(row) == len(names) for row in rows):
            return None
        try:
            values.extend(chain.from_iterable(map(itemgetter(*names), rows)))
        except KeyError:  # other names: told elsewhere
            return None
        n += len(rows)
        yield
    return Numbers(values, (n, len(names)), names)
