"""Segments of the prediction log: the bytes that survive a killed worker.

A segment is a preallocated file mapped into memory. A batch of frames is copied in first and the
header's end mark moved after it with one store, so neither a reader nor a crash of the process
ever sees half a record; a checksum per frame guards against a crash of the machine.

    0   magic            8 bytes
    8   end              u64, offset of the first free byte
    16  labels           u64, how many label records there are
    24  predictions      u64
    64  frames           u32 length (top bit: a label; next bit: a block of predictions),
                         u32 crc32 of the payload, payload (msgpack)

Segments of before there were blocks have another magic, and are read.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import msgspec

_logger = logging.getLogger(__name__)

MAGIC = b"HSTSEG02"
_MAGICS = (MAGIC, b"HSTSEG01")
HEADER = 64
SIZE = 16 * 1024 * 1024
_LABEL = 0x8000_0000
_BLOCK = 0x4000_0000
_LENGTH = _BLOCK - 1
LARGEST = 4 * 1024 * 1024
"""Bytes of inputs that one block holds at most, unless they are of one row."""
_FRAME = struct.Struct("<II")
_HEAD = struct.Struct("<8sQQQ")


class PredictionRecord(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One row of `core.records.PREDICTIONS`. time: microseconds since the epoch, by the data
    plane's clock; features: float32, little endian."""

    id: str
    time: int
    model: str
    version: str
    arm: str
    probability: float
    latency: float
    features: bytes
    score: float | None = None
    error: str | None = None
    inputs: str | None = None
    propensity: float = 1.0


class LabelRecord(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One row of `core.records.LABELS`; times in microseconds since the epoch."""

    id: str
    label: float
    time: int
    known: int
    model: str


class PredictionBlock(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What one run of a version answered: one frame instead of one per row.

    ids, counts, latencies: per request; counts is empty when each has one row. first: number of
    the first row within its request, for a request that takes several blocks (None: it has one
    row, or all of its rows are here). features, scores: float32, row after row. inputs, and
    propensities: per row, empty when there are none, and when all are 1.
    """

    time: int
    model: str
    version: str
    arm: str
    probability: float
    ids: list[str]
    counts: list[int]
    latencies: list[float]
    features: bytes
    scores: bytes
    inputs: list[str]
    propensities: list[float]
    first: int | None = None

    @property
    def rows(self) -> int:
        return len(self.scores) // 4

    def parts(self) -> Iterator[PredictionBlock]:
        """The block, or the same in several of at most LARGEST bytes of inputs."""
        texts = sum(map(_size, self.inputs)) if self.inputs else 0
        if len(self.features) + texts <= LARGEST:
            yield self
            return
        at, width = 0, len(self.features) // self.rows
        sizes = [width + _size(text) for text in self.inputs] or [width] * self.rows
        for k, id in enumerate(self.ids):
            n = self.counts[k] if self.counts else 1
            for start, end in _cuts(sizes[at : at + n]):
                i, j = at + start, at + end
                yield msgspec.structs.replace(
                    self,
                    ids=[id],
                    counts=[end - start],
                    latencies=[self.latencies[k]],
                    features=self.features[i * width : j * width],
                    scores=self.scores[i * 4 : j * 4],
                    inputs=self.inputs[i:j],
                    propensities=self.propensities[i:j],
                    first=start if n > 1 else None,
                )
            at += n

    def records(self) -> Iterator[PredictionRecord]:
        scores = memoryview(self.scores).cast("f").tolist()
        width = len(self.features) // len(scores)
        row = 0
        for k, id in enumerate(self.ids):
            n = self.counts[k] if self.counts else 1
            alone = n == 1 and self.first is None
            for i in range(n):
                yield PredictionRecord(
                    id if alone else f"{id}/{(self.first or 0) + i}",
                    self.time,
                    self.model,
                    self.version,
                    self.arm,
                    self.probability,
                    self.latencies[k],
                    self.features[row * width : (row + 1) * width],
                    scores[row],
                    None,
                    self.inputs[row] if self.inputs else None,
                    self.propensities[row] if self.propensities else 1.0,
                )
                row += 1


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _cuts(sizes: list[int]) -> Iterator[tuple[int, int]]:
    """Ranges of rows that have LARGEST bytes together, or a single one that has more."""
    start = total = 0
    for row, size in enumerate(sizes):
        if row > start and total + size > LARGEST:
            yield start, row
            start, total = row, 0
        total += size
    yield start, len(sizes)


Record = PredictionRecord | LabelRecord

_encode = msgspec.msgpack.Encoder().encode
_prediction = msgspec.msgpack.Decoder(PredictionRecord).decode
_label = msgspec.msgpack.Decoder(LabelRecord).decode
_block = msgspec.msgpack.Decoder(PredictionBlock).decode


def frame(record: Record | PredictionBlock) -> bytes:
    """The bytes of one record, or of a block of them."""
    payload = _encode(record)
    kind = type(record)
    mark = _BLOCK if kind is PredictionBlock else _LABEL if kind is LabelRecord else 0
    return _FRAME.pack(len(payload) | mark, zlib.crc32(payload)) + payload


class Name(NamedTuple):
    """slot-incarnation-seq: seq counts up within one life of a worker (`writer`)."""

    writer: str
    seq: int

    def __str__(self) -> str:
        return f"{self.writer}-{self.seq:08d}"

    @classmethod
    def of(cls, path: Path) -> Name:
        """Raises ValueError for a file that is no segment."""
        writer, _, seq = path.stem.rpartition("-")
        name = cls(writer, int(seq))
        if str(name) != path.stem:
            raise ValueError(f"no name of a segment: {path.name}")
        return name


def listed(folder: Path, state: str) -> list[tuple[Name, Path]]:
    """The segments in a folder; state: `live` or `sealed`. What bears no name of ours is somebody
    else's: it is left alone, and told once."""
    found = []
    for path in folder.glob(f"*.{state}"):
        try:
            found.append((Name.of(path), path))
        except ValueError:
            _tell(path)
    return found


@cache
def _tell(path: Path) -> None:
    _logger.warning("%s is no segment of the log, and is left alone", path)


class Segment:
    """A segment being written, by one thread of one process.

    An exclusive lock is held while it is open: whoever gets the lock knows the writer is dead.
    """

    def __init__(self, folder: Path, name: Name, size: int = SIZE) -> None:
        """Raises OSError, on a full disk too: all of `size` bytes are taken now."""
        self.name, self.path, self.size = name, folder / f"{name}.live", size
        draft = folder / f"{name}.new"
        self._file = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(self._file, 0, size)
            os.pwrite(self._file, _HEAD.pack(MAGIC, HEADER, 0, 0), 0)
            self._map = mmap.mmap(self._file, size)
            draft.rename(self.path)
        except BaseException:
            os.close(self._file)
            draft.unlink(missing_ok=True)
            raise
        self._head = memoryview(self._map).cast("Q")
        self.end = HEADER

    def append(self, frames: bytes, *, labels: int = 0, predictions: int = 0) -> bool:
        """False when there is no room: then nothing was written."""
        end = self.end + len(frames)
        if end > self.size:
            return False
        self._map[self.end : end] = frames
        head = self._head
        head[1] = self.end = end
        if labels:
            head[2] += labels
        if predictions:
            head[3] += predictions
        return True

    @property
    def empty(self) -> bool:
        return self.end == HEADER

    def seal(self, folder: Path) -> None:
        """Close, cut to its length and move to `folder`; an empty one is removed.
        On OSError it stays where it is, unlocked, and whoever tidies up seals it."""
        try:
            self._head.release()
            self._map.close()
            seal_file(self.path, self._file, folder)
        finally:
            os.close(self._file)


def seal_file(path: Path, fd: int, folder: Path) -> bool:
    """Cut a segment file to its length and move it to `folder`. False: it was empty, and is gone.
    Raises OSError."""
    end = _end(os.pread(fd, HEADER, 0), os.fstat(fd).st_size)
    if end <= HEADER:
        path.unlink(missing_ok=True)
        return False
    os.ftruncate(fd, end)
    path.rename(folder / f"{path.stem}.sealed")
    return True


def seal_if_abandoned(path: Path, folder: Path) -> bool:
    """Seal a live segment whose writer is dead. True when that was so. Raises OSError."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.exists():
            seal_file(path, fd, folder)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(fd)


class Counts(NamedTuple):
    """What a segment's header says. end: bytes in use."""

    end: int
    labels: int
    predictions: int


def read_counts(path: Path) -> Counts:
    """Cheap look at a segment. Raises OSError; a damaged header counts as empty."""
    with path.open("rb") as file:
        head = file.read(HEADER)
        end = _end(head, os.fstat(file.fileno()).st_size)
    if end <= HEADER:
        return Counts(HEADER, 0, 0)
    _, _, labels, predictions = _HEAD.unpack_from(head)
    return Counts(end, labels, predictions)


def read_bytes(path: Path) -> bytes:
    """All committed bytes of a segment, the header included. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(HEADER)
        end = _end(head, os.fstat(file.fileno()).st_size)
        return head + file.read(max(0, end - len(head)))


def read_from(path: Path, offset: int) -> tuple[bytes, int]:
    """-> the committed bytes from `offset` on, and where they end. Raises OSError."""
    with path.open("rb") as file:
        end = _end(file.read(HEADER), os.fstat(file.fileno()).st_size)
        file.seek(offset)
        return file.read(max(0, end - offset)), end


def _end(head: bytes, size: int) -> int:
    if len(head) < HEADER or not head.startswith(_MAGICS):
        return min(len(head), HEADER)
    end: int = _HEAD.unpack_from(head)[1]
    return min(max(end, HEADER), size)


def predictions(data: bytes, start: int = HEADER) -> Iterator[PredictionRecord]:
    """The prediction records in a segment's bytes from `start` on; stops at the first damaged
    frame."""
    for mark, payload, _ in _frames(data, start):
        if mark == _BLOCK:
            yield from _block(payload).records()
        elif not mark:
            yield _prediction(payload)


def labels(data: bytes, start: int = HEADER) -> tuple[list[LabelRecord], int]:
    """Label records from offset `start` on, and the offset to go on from."""
    found, end = [], start
    for mark, payload, after in _frames(data, start):
        end = after
        if mark == _LABEL:
            found.append(_label(payload))
    return found, end


def _frames(data: bytes, at: int) -> Iterator[tuple[int, bytes, int]]:
    total = len(data)
    while at + _FRAME.size <= total:
        length, check = _FRAME.unpack_from(data, at)
        start = at + _FRAME.size
        at = start + (length & _LENGTH)
        if at > total:
            return
        payload = data[start:at]
        if zlib.crc32(payload) != check or not payload:
            return
        yield length & ~_LENGTH, payload, at
