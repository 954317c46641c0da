"""gRPC as it lies in heads and bodies, and tensors in its messages."""

from __future__ import annotations

import gzip
import zlib
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.core.errors import BadInput
from homeostat.serving import heads, oip
from homeostat.serving.grpc_call import (
    Asked,
    NoMessage,
    Refused,
    answer,
    error,
    message,
    read_head,
)
from homeostat.serving.grpc_codec import read_tensors, write_scores, write_tensors
from homeostat.serving.heads import Blocks
from homeostat.serving.heads import read_head as parsed_head
from homeostat.serving.tensors import Packed, Tensor

FIELDS = {
    b":method": b"POST",
    b":scheme": b"http",
    b":path": b"/s.S/Do",
    b"te": b"trailers",
    b"content-type": b"application/grpc",
}


def read(**other: bytes | None) -> Asked | Refused:
    fields = FIELDS | {name.replace("_", "-").encode(): value for name, value in other.items()}
    if (method := fields.pop(b"method", None)) is not None:
        fields[b":method"] = method
    head = parsed_head([(name, value) for name, value in fields.items() if value is not None])
    return read_head(head, "s.S")


def test_what_a_head_asks() -> None:
    asked = read(x_key=b"k", grpc_timeout=b"250m", grpc_encoding=b"gzip")
    assert isinstance(asked, Asked)
    assert (asked.method, asked.timeout, asked.metadata(b"x-key")) == ("Do", 0.25, "k")
    assert asked.window
    for kind in (b"application/grpc+proto", b"Application/gRPC;x=y", b"application/grpc ; x"):
        assert isinstance(read(content_type=kind), Asked)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(b"1H", 3600.0), (b"2M", 120.0), (b"99999999S", 99999999.0), (b"5u", 5e-6), (b"0n", 0.0)],
)
def test_the_time_that_a_caller_gives(given: bytes, seconds: float) -> None:
    asked = read(grpc_timeout=given)
    assert isinstance(asked, Asked)
    assert asked.timeout == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"method": b"GET"}, 405),
        ({"content_type": None}, 415),
        ({"content_type": b"application/json"}, 415),
        ({"content_type": b"application/grpc-web"}, 415),
        ({"content_type": b"application/grpc+json"}, 415),
        ({"te": None}, 400),
        ({"grpc_timeout": b"1"}, 400),
        ({"grpc_timeout": b"-1S"}, 400),
        ({"grpc_timeout": b"123456789S"}, 400),
        ({"grpc_timeout": b"1s"}, 400),
        ({"grpc_encoding": b"snappy"}, 501),
    ],
)
def test_what_is_no_call(given: dict[str, Any], status: int) -> None:
    refused = read(**given)
    assert isinstance(refused, Refused)
    assert refused.status == status
    assert refused.spoken is (status not in (405, 415))


def packed(data: bytes) -> bytes:
    return b"\1" + answer(data)[1:]


GZIP, DEFLATE = zlib.MAX_WBITS | 16, zlib.MAX_WBITS


def test_a_message_may_be_compressed() -> None:
    assert message(answer(b"said"), 0, 10) == b"said"
    assert message(bytearray(answer(b"said")), 0, 10) == b"said"
    assert message(answer(b"said"), GZIP, 10) == b"said"  # the sender did not think it was worth it
    assert message(packed(gzip.compress(b"said", mtime=0)), GZIP, 10) == b"said"
    assert message(packed(zlib.compress(b"said")), DEFLATE, 10) == b"said"
    assert message(packed(gzip.compress(b"", mtime=0)), GZIP, 10) == b""


@pytest.mark.parametrize(
    ("body", "window", "status"),
    [
        (b"", 0, 400),
        (b"\0\0\0\0", 0, 400),
        (answer(b"one") + answer(b"two"), 0, 400),
        (answer(b"one")[:-1], 0, 400),
        (b"\2" + answer(b"one")[1:], GZIP, 500),
        (packed(b"one"), 0, 500),
        (packed(b"one"), GZIP, 400),
        (packed(gzip.compress(b"one", mtime=0)), DEFLATE, 400),
        (packed(gzip.compress(b"one", mtime=0)[:-1]), GZIP, 400),
        (packed(gzip.compress(b"one", mtime=0) + b"x"), GZIP, 400),
        (packed(gzip.compress(bytes(1_000_000), mtime=0)), GZIP, 413),
    ],
)
def test_what_is_no_message(body: bytes, window: int, status: int) -> None:
    with pytest.raises(NoMessage) as caught:
        message(body, window, 1000)
    assert caught.value.status == status


@given(st.text())
def test_the_words_of_an_error_come_through_as_printable_ascii(words: str) -> None:
    words = words.encode(errors="replace").decode()[:500]
    fields = dict(Blocks(lambda _: None).fields(error(3, words)))
    said = fields[b"grpc-message"]
    assert all(0x20 <= byte <= 0x7E for byte in said)
    assert unquote(said.decode()) == words
    assert fields[b"grpc-status"] == b"3"


def test_an_error_fits_into_a_frame() -> None:
    block = error(12, "\U0001f600" * 100_000)
    assert len(block) < 16_384
    assert dict(Blocks(lambda _: None).fields(block))[b"grpc-message"].endswith(b"...")


@given(st.binary(max_size=300), st.integers(0, 70_000))
def test_fields_are_written_as_hpack_reads_them(value: bytes, more: int) -> None:
    value += b"x" * more
    blocks = Blocks(lambda _: None)
    if len(value) > heads.LIST - 40:
        return
    assert blocks.fields(heads.field(b"name", value)) == [(b"name", value)]


# ---------------------------------------------------------------- tensors

Request, Response = oip.message("ModelInferRequest"), oip.message("ModelInferResponse")
floats = st.floats(width=32, allow_nan=False)


@given(
    names=st.tuples(st.text(max_size=200), st.text(max_size=9), st.text(max_size=200)),
    scores=st.lists(floats, min_size=1, max_size=40),
    raw=st.booleans(),
    explore=st.booleans(),
)
def test_scores_written_by_hand_are_what_protobuf_writes(
    names: tuple[str, str, str], scores: list[float], raw: bool, explore: bool
) -> None:
    names = tuple(name.encode(errors="replace").decode() for name in names)  # type: ignore[assignment]
    array = np.array(scores, np.float32)
    by_hand = write_scores(*names, array.tobytes(), raw=raw, explore=explore)
    tensors = [Tensor("score", "FP32", array)]
    assert Response.FromString(by_hand) == Response.FromString(
        write_tensors(*names, tensors, raw=raw, explore=explore)
    )


@pytest.mark.parametrize("raw", [True, False])
def test_one_table_of_floats_is_taken_as_the_bytes_that_it_is(raw: bool) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    asked = Request(model_name="m", id="i")
    tensor = asked.inputs.add(name="input", datatype="FP32", shape=[2, 3])
    if raw:
        asked.raw_input_contents.append(array.tobytes())
    else:
        tensor.contents.fp32_contents.extend(array.ravel().tolist())
    rows, was_raw = read_tensors(asked, 10)
    assert isinstance(rows, Packed)
    assert (rows.id, rows.n, was_raw) == ("i", 2, raw)
    assert rows.matrix(("a", "b", "c"), ("a", "b", "c")) == array.tobytes()


@given(
    shape=st.lists(st.integers(-1, 3), max_size=3),
    datatype=st.sampled_from(["FP32", "FP64", "INT8", "nonsense"]),
    values=st.lists(floats, max_size=6),
    raw=st.sampled_from([None, 0, 4, 8, 16, 24]),
    both=st.booleans(),
)
def test_whatever_is_asked_is_rows_or_an_error_that_says_what_was_expected(
    shape: list[int], datatype: str, values: list[float], raw: int | None, both: bool
) -> None:
    asked = Request()
    tensor = asked.inputs.add(name="x", datatype=datatype, shape=shape)
    if raw is None or both:
        tensor.contents.fp32_contents.extend(values)
    if raw is not None:
        asked.raw_input_contents.append(bytes(raw))
    try:
        rows, was_raw = read_tensors(asked, 2)
    except BadInput:
        return
    assert 0 < rows.n <= 2
    assert rows.n == shape[0]
    assert was_raw is (raw is not None)
