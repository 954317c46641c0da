from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.serving import segment
from homeostat.serving.log import SegmentLog
from homeostat.serving.segment import (
    HEADER,
    LabelRecord,
    Name,
    PredictionBlock,
    PredictionRecord,
    Record,
    Segment,
    frame,
    labels,
    predictions,
    read_bytes,
    read_counts,
    seal_if_abandoned,
)

text = st.text(max_size=20)
prediction = st.builds(
    PredictionRecord,
    id=text,
    time=st.integers(0, 2**62),
    model=text,
    version=text,
    arm=text,
    probability=st.floats(0, 1),
    latency=st.floats(0, 10),
    features=st.binary(max_size=40),
    score=st.none() | st.floats(0, 1),
    error=st.none() | text,
    inputs=st.none() | text,
    propensity=st.floats(0, 1),
)
label = st.builds(
    LabelRecord, id=text, label=st.floats(0, 1), time=st.integers(), known=st.integers(), model=text
).filter(lambda r: abs(r.time) < 2**63 and abs(r.known) < 2**63)
records = st.lists(prediction | label, max_size=8)


@st.composite
def blocks(draw: st.DrawFn) -> PredictionBlock:
    counts = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    n, k = sum(counts), len(counts)
    width = draw(st.integers(0, 3))
    singles = n == k
    first = draw(st.integers(0, 9)) if k == 1 and not singles else None
    per_row = st.lists(text, min_size=n, max_size=n)
    return PredictionBlock(
        draw(st.integers(0, 2**62)), "m", "1", "champion", 0.9,
        draw(st.lists(text, min_size=k, max_size=k)),
        [] if singles else counts,
        draw(st.lists(st.floats(0, 9), min_size=k, max_size=k)),
        np.arange(n * width, dtype="<f4").tobytes(),
        np.linspace(0, 1, n, dtype="<f4").tobytes(),
        draw(st.just([]) | per_row),
        draw(st.just([]) | st.lists(st.floats(0, 1), min_size=n, max_size=n)),
        first,
    )  # fmt: skip


def fill(folder: Path, rows: list[Record], name: str = "0-w") -> Segment:
    segment = Segment(folder, Name(name, 1), 32 * 1024)
    for row in rows:
        is_label = isinstance(row, LabelRecord)
        assert segment.append(frame(row), labels=is_label, predictions=not is_label)
    return segment


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("segments")


@given(rows=records)
def test_what_is_appended_is_read_back_from_live_and_sealed(
    folder: Path, rows: list[Record]
) -> None:
    segment = fill(folder, rows)
    kept = [r for r in rows if isinstance(r, PredictionRecord)]
    told = [r for r in rows if isinstance(r, LabelRecord)]
    live = read_bytes(segment.path)
    assert list(predictions(live)) == kept
    assert labels(live)[0] == told
    assert read_counts(segment.path)[1:] == (len(told), len(kept))
    segment.seal(folder)
    sealed = folder / "0-w-00000001.sealed"
    assert sealed.exists() == bool(rows)
    if rows:
        assert read_bytes(sealed) == live
        sealed.unlink()


@given(rows=records, data=st.data())
def test_a_torn_or_damaged_segment_reads_as_a_prefix(
    folder: Path, rows: list[Record], data: st.DataObject
) -> None:
    segment = fill(folder, rows)
    whole = read_bytes(segment.path)
    segment.seal(folder)
    (folder / "0-w-00000001.sealed").unlink(missing_ok=True)
    kept = [r for r in rows if isinstance(r, PredictionRecord)]
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    read = list(predictions(cut))
    assert read == kept[: len(read)]
    if len(whole) > HEADER:
        at = data.draw(st.integers(HEADER, len(whole) - 1))
        flipped = whole[:at] + bytes([whole[at] ^ 0x5A]) + whole[at + 1 :]
        read = list(predictions(flipped))
        assert read == kept[: len(read)]


@given(junk=st.binary(max_size=300))
def test_a_file_of_junk_is_an_empty_segment_or_stops_early(folder: Path, junk: bytes) -> None:
    path = folder / "junk-1.live"
    path.write_bytes(junk)
    counts = read_counts(path)
    assert counts.end <= max(len(junk), HEADER)
    assert list(predictions(read_bytes(path))) == []
    assert labels(read_bytes(path))[0] == []


@given(rows=records.filter(len), steps=st.integers(1, 4))
def test_labels_can_be_read_on_from_where_one_stopped(
    folder: Path, rows: list[Record], steps: int
) -> None:
    segment = Segment(folder, Name("0-w", 1), 32 * 1024)
    found: list[LabelRecord] = []
    offset = HEADER
    for start in range(0, len(rows), steps):
        for row in rows[start : start + steps]:
            segment.append(frame(row), labels=isinstance(row, LabelRecord))
        fresh, offset = labels(read_bytes(segment.path), offset)
        found += fresh
    segment.seal(folder)
    (folder / "0-w-00000001.sealed").unlink()
    assert found == [r for r in rows if isinstance(r, LabelRecord)]


def test_a_full_segment_takes_nothing_more_and_stays_readable(tmp_path: Path) -> None:
    segment = Segment(tmp_path, Name("0-w", 1), 4096)
    row = frame(a_prediction(1))
    while segment.append(row, predictions=1):
        pass
    assert len(list(predictions(read_bytes(segment.path)))) == (4096 - HEADER) // len(row)
    segment.seal(tmp_path)


def test_all_of_a_segments_space_is_taken_when_it_is_made(tmp_path: Path) -> None:
    segment = Segment(tmp_path, Name("0-w", 1), 1024 * 1024)
    assert os.stat(segment.path).st_blocks * 512 >= 1024 * 1024
    segment.seal(tmp_path)


def test_a_living_writers_segment_is_left_alone(tmp_path: Path) -> None:
    segment = fill(tmp_path, [a_prediction(1)])
    assert not seal_if_abandoned(segment.path, tmp_path)
    segment.seal(tmp_path)
    assert not seal_if_abandoned(segment.path, tmp_path)  # gone meanwhile


def a_prediction(i: int) -> PredictionRecord:
    return PredictionRecord(f"id{i}", i, "m", "1", "champion", 1.0, 0.001, b"\0" * 8, 0.5)


class Dropped:
    n = 0

    def __call__(self, n: int) -> None:
        self.n += n


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    live, sealed = tmp_path / "live", tmp_path / "sealed"
    live.mkdir()
    sealed.mkdir()
    yield live, sealed
    os.chmod(live, 0o755)


def everything(*folders: Path) -> list[str]:
    paths = [path for folder in folders for path in folder.iterdir()]
    ordered = sorted(paths, key=Name.of)
    return [record.id for path in ordered for record in predictions(read_bytes(path))]


def test_rotating_by_size_keeps_every_record_or_counts_it(folders: tuple[Path, Path]) -> None:
    dropped = Dropped()
    log = SegmentLog(*folders, "0-w", seal=60, dropped=dropped, size=4096)
    log._next and log._next.result()
    for i in range(500):
        log.predictions([frame(a_prediction(i))])
    log.close()
    kept = everything(*folders)
    assert len(kept) + dropped.n == 500
    assert len(set(kept)) == len(kept) > 0
    assert list(folders[0].iterdir()) == []  # all sealed


def test_rotating_by_age_happens_without_traffic(folders: tuple[Path, Path]) -> None:
    log = SegmentLog(*folders, "0-w", seal=60, dropped=Dropped())
    log._next and log._next.result()
    log.predictions([frame(a_prediction(1))])
    log.tick(100.0)
    log._next and log._next.result()
    log.tick(159.0)
    assert list(folders[1].iterdir()) == []
    log.tick(160.0)
    log.close()
    assert len(list(folders[1].iterdir())) == 1
    assert everything(folders[1]) == ["id1"]


def test_a_record_larger_than_a_segment_is_counted_and_the_others_are_kept(
    folders: tuple[Path, Path],
) -> None:
    dropped = Dropped()
    log = SegmentLog(*folders, "0-w", seal=60, dropped=dropped, size=4096)
    log._next and log._next.result()
    huge = PredictionRecord("huge", 1, "m", "1", "champion", 1.0, 0.1, b"\0" * 5000, 0.5)
    log.predictions([frame(a_prediction(1)), frame(huge), frame(a_prediction(2))])
    log.close()
    assert dropped.n == 1
    assert everything(*folders) == ["id1", "id2"]


def test_with_no_room_on_the_disk_records_are_counted_and_labels_refused(
    folders: tuple[Path, Path],
) -> None:
    dropped = Dropped()
    too_much = 1 << 60  # what posix_fallocate refuses on any disk
    log = SegmentLog(*folders, "0-w", seal=60, dropped=dropped, size=too_much)
    assert log._next is not None
    assert isinstance(log._next.exception(), OSError)
    log.predictions([frame(a_prediction(1)), frame(a_prediction(2))])
    assert not log.labels([frame(LabelRecord("a", 1.0, 0, 0, "m"))])
    assert dropped.n == 2
    assert list(folders[0].iterdir()) == []
    log._size = 4096  # room again: the next attempt succeeds
    log.tick(0.0)
    log.tick(2.0)
    log._next.result()
    log.tick(2.1)
    assert log.labels([frame(LabelRecord("a", 1.0, 0, 0, "m"))])
    log.predictions([frame(a_prediction(3))])
    log.close()
    assert dropped.n == 2
    assert everything(*folders) == ["id3"]


@given(block=blocks(), rows=records)
def test_a_block_reads_as_one_record_per_row(
    folder: Path, block: PredictionBlock, rows: list[Record]
) -> None:
    segment = fill(folder, rows)
    assert segment.append(frame(block), predictions=block.rows)
    kept = [r for r in rows if isinstance(r, PredictionRecord)]
    data = read_bytes(segment.path)
    read = list(predictions(data))
    assert read[: len(kept)] == kept
    assert labels(data)[0] == [r for r in rows if isinstance(r, LabelRecord)]
    assert read_counts(segment.path).predictions == len(read)
    mine = read[len(kept) :]
    assert len(mine) == block.rows
    assert b"".join(r.features for r in mine) == block.features
    assert [r.score for r in mine] == np.frombuffer(block.scores, "<f4").tolist()
    assert [r.inputs for r in mine] == (block.inputs or [None] * block.rows)
    assert [r.propensity for r in mine] == (block.propensities or [1.0] * block.rows)
    ids = []
    for k, id in enumerate(block.ids):
        n, first = block.counts[k] if block.counts else 1, block.first or 0
        alone = n == 1 and block.first is None
        ids += [id] if alone else [f"{id}/{first + i}" for i in range(n)]
    assert [r.id for r in mine] == ids
    segment.seal(folder)
    (folder / "0-w-00000001.sealed").unlink()


def test_a_segment_of_before_there_were_blocks_is_read(tmp_path: Path) -> None:
    segment = fill(tmp_path, [a_prediction(1)])
    old = b"HSTSEG01" + read_bytes(segment.path)[8:]
    segment.seal(tmp_path)
    assert list(predictions(old)) == [a_prediction(1)]


def test_records_of_before_there_were_inputs_and_propensities_are_read(tmp_path: Path) -> None:
    payload = msgspec.msgpack.encode(["a", 1, "m", "1", "champion", 1.0, 0.001, b"", 0.5, None])
    old = struct.pack("<II", len(payload), zlib.crc32(payload)) + payload
    segment = Segment(tmp_path, Name("0-w", 1), 4096)
    assert segment.append(old, predictions=1)
    (record,) = predictions(read_bytes(segment.path))
    assert (record.id, record.score, record.inputs, record.propensity) == ("a", 0.5, None, 1.0)
    segment.seal(tmp_path)


@pytest.mark.parametrize("largest", [1, 9, 30, 1000])
@pytest.mark.parametrize("texts", [[], ["a", "", "é" * 4, "b" * 30, "", "c", "d"]])
def test_a_block_in_parts_says_the_same(
    monkeypatch: pytest.MonkeyPatch, largest: int, texts: list[str]
) -> None:
    monkeypatch.setattr(segment, "LARGEST", largest)
    numbers = np.arange(7, dtype="<f4").tobytes()
    ids, counts, seconds = ["x", "y", "z"], [4, 1, 2], [0.1, 0.2, 0.3]
    some = [0.5] * 7 if texts else []
    block = PredictionBlock(
        7, "m", "1", "champion", 1.0, ids, counts, seconds, numbers, numbers, texts, some
    )
    parts = list(block.parts())
    assert [r for part in parts for r in part.records()] == list(block.records())
    for part in parts:
        size = len(part.features) + sum(len(text.encode()) for text in part.inputs)
        assert size <= largest or part.rows == 1
