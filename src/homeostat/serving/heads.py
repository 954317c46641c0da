"""Header blocks of HTTP/2: read with `hpack` and checked (RFC 9113, section 8), and written."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hpack import Decoder, HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from homeostat.serving.frames import Broken, Code, Malformed

LIST = 16 * 1024
"""Bytes of all names and values of a head, each field with 32 more (MAX_HEADER_LIST_SIZE)."""
BLOCKS, BLOCK = 16, 512
"""How many blocks a connection remembers, and the bytes that one may have."""

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE = re.compile(rb"[^\x00\r\n]*")
_PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority"})
_OF_ANOTHER_TIME = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)
_ONCE = frozenset({b"host", b"content-length", b"content-type", b"te"})


class Head(NamedTuple):
    """What a request begins with. fields: the first of each name. length: as it was announced.
    meaning: what the application made of it."""

    method: bytes
    path: bytes
    fields: Mapping[bytes, bytes]
    length: int | None
    meaning: Any = None


class _Table(HeaderTable):
    """The table of HPACK that says when it changes."""

    changed = False

    def add(self, name: bytes, value: bytes) -> None:
        self.changed = True
        super().add(name, value)


class Blocks:
    """The heads of one connection. A client sends the same block again and again: one that adds
    nothing to the table, as one that comes after it, means what it meant the last time."""

    __slots__ = ("_decoder", "_known", "_meaning", "_table")

    def __init__(self, meaning: Callable[[Head], Any]) -> None:
        self._meaning = meaning
        self._decoder = Decoder(LIST)
        self._decoder.header_table = self._table = _Table()
        self._known: dict[bytes, Head] = {}

    def read(self, block: bytes) -> Head:
        """Raises Malformed; Broken: the table is not what it was."""
        known = self._known.get(block)
        if known is not None:
            return known
        head = read_head(self.fields(block))
        head = head._replace(meaning=self._meaning(head))
        if not self._table.changed and len(block) <= BLOCK:
            if len(self._known) >= BLOCKS:
                self._known.clear()
            self._known[block] = head
        return head

    def fields(self, block: bytes) -> list[tuple[bytes, bytes]]:
        """Any block, also of what nobody wants to know: it may change what later ones mean.
        Raises Broken."""
        self._table.changed = _resizes(block)
        try:
            return list(self._decoder.decode(block, raw=True))
        except OversizedHeaderListError:
            why = f"the fields of a head are limited to {LIST} bytes"
            raise Broken(Code.ENHANCE_YOUR_CALM, why) from None
        except HPACKError as error:
            raise Broken(Code.COMPRESSION_ERROR, "not a header block") from error
        finally:
            if self._table.changed:
                self._known.clear()


def _resizes(block: bytes) -> bool:
    """Whether a block begins by changing the size of the table. Once down and once up can have a
    meaning (RFC 7541, section 4.2); reading thousands would keep us busy. Raises Broken."""
    at = changes = 0
    while block[at : at + 1] and block[at] & 0xE0 == 0x20:
        changes += 1
        if changes > 2:
            raise Broken(Code.COMPRESSION_ERROR, "the size of the table is changed at most twice")
        if block[at] & 0x1F == 0x1F:
            at += 1
            while block[at : at + 1] and block[at] & 0x80:
                at += 1
        at += 1
    return changes > 0


def read_head(fields: list[tuple[bytes, bytes]]) -> Head:
    """Raises Malformed."""
    pseudo: dict[bytes, bytes] = {}
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        if name[:1] == b":":
            if found or name in pseudo or name not in _PSEUDO:
                raise Malformed
            pseudo[name] = value
        elif name in _ONCE and name in found:
            raise Malformed
        else:
            check_field(name, value)
            found.setdefault(name, value)
    method, path = pseudo.get(b":method"), pseudo.get(b":path")
    if not method or not path or not pseudo.get(b":scheme") or path[:1] not in b"/*":
        raise Malformed
    if not all(map(_VALUE.fullmatch, pseudo.values())):
        raise Malformed
    host = found.get(b"host")
    if host is not None and pseudo.get(b":authority", host) != host:
        raise Malformed
    length = found.get(b"content-length")
    if length is not None and not (length.isdigit() and len(length) < 19):
        raise Malformed
    return Head(method, path, found, None if length is None else int(length))


def check_trailers(fields: list[tuple[bytes, bytes]]) -> None:
    """Raises Malformed."""
    for name, value in fields:
        check_field(name, value)


def check_field(name: bytes, value: bytes) -> None:
    """Raises Malformed."""
    if _NAME.fullmatch(name) is None or name in _OF_ANOTHER_TIME:
        raise Malformed
    if _VALUE.fullmatch(value) is None or value != value.strip(b" \t"):
        raise Malformed
    if name == b"te" and value != b"trailers":
        raise Malformed


# ---------------------------------------------------------------- written


def status(code: int) -> bytes:
    """`:status` of an answer, as no table remembers it (RFC 7541, section 6.2.2)."""
    return b"\x88" if code == 200 else b"\x08\x03%d" % code


def field(name: bytes, value: bytes) -> bytes:
    """A field of an answer; the name has less than 127 bytes."""
    return b"\x00%c%b%b%b" % (len(name), name, _length(len(value)), value)


def _length(n: int) -> bytes:
    if n < 127:
        return bytes([n])
    out, n = b"\x7f", n - 127
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])
