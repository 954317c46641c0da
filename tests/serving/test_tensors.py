from __future__ import annotations

import contextlib
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.core.errors import BadInput
from homeostat.core.servable import DTYPES, Datatype, Field
from homeostat.serving.batch import stack
from homeostat.serving.codec import (
    Outputs,
    read_raw,
    read_v2,
    read_v2_binary,
    v2_prefix,
    write_v2_tensors,
)
from homeostat.serving.rows import TooManyRows
from homeostat.serving.tensors import Array, Tensor, Tensors, from_bytes, from_json, to_bytes

datatypes: st.SearchStrategy[Datatype] = st.sampled_from(sorted(DTYPES))
AB = ("a", "b")
shapes = st.lists(st.integers(1, 4), min_size=1, max_size=3)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """A tensor of any datatype and shape, its values drawn from all that the type can hold."""
    datatype, shape = draw(datatypes), draw(shapes)
    dtype = DTYPES[datatype]
    values: st.SearchStrategy[Any]
    if datatype == "BYTES":
        values = st.text(max_size=4)
    elif dtype.kind == "b":
        values = st.booleans()
    elif dtype.kind == "f":
        width = 8 * dtype.itemsize
        values = st.floats(allow_nan=False, allow_infinity=False, width=width)  # type: ignore[arg-type]
    else:
        values = st.integers(int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    size = int(np.prod(shape))
    array = np.empty(size, dtype)
    array[:] = draw(st.lists(values, min_size=size, max_size=size))
    return Tensor("x", datatype, array.reshape(shape))


def same(a: Array, b: Array) -> bool:
    return a.shape == b.shape and a.tolist() == b.tolist()


@given(tensor=tensors(), nested=st.booleans())
def test_every_datatype_and_shape_survives_json(tensor: Tensor, nested: bool) -> None:
    shape = list(tensor.array.shape)
    data = tensor.array.tolist() if nested else tensor.array.ravel().tolist()
    read = from_json("x", tensor.datatype, shape, json.loads(json.dumps(data)), "$")
    assert same(read.array, tensor.array)


@given(tensor=tensors())
def test_every_datatype_and_shape_survives_bytes(tensor: Tensor) -> None:
    raw = to_bytes(tensor.array, tensor.datatype)
    read = from_bytes("x", tensor.datatype, list(tensor.array.shape), raw, "$")
    assert same(read.array, tensor.array)


@given(
    raw=st.binary(max_size=40),
    datatype=datatypes | st.just("BF16"),
    shape=st.lists(st.integers(-1, 5), max_size=3),
)
def test_any_bytes_are_read_or_refused_with_a_sentence(
    raw: bytes, datatype: str, shape: list[int]
) -> None:
    with contextlib.suppress(BadInput):  # and nothing else
        from_bytes("x", datatype, shape, raw, "$")


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "said"),
    [
        ("FP32", [2], b"\0" * 7, "expected 8 bytes for shape"),
        ("BOOL", [2], b"\1\2", "expected bytes of 0 or 1"),
        ("BYTES", [1], b"\2\0\0\0a", "cut short"),
        ("BYTES", [1], b"\2\0", "cut short"),
        ("BYTES", [2], b"\1\0\0\0a", "expected 2 texts, found 1"),
        ("BYTES", [1], b"\1\0\0\0\xff", "not text in UTF-8"),
        ("FP32", [], b"", "wrong shape"),
        ("FP99", [1], b"\0", "unsupported datatype"),
    ],
)
def test_bytes_that_are_no_tensor_are_refused(
    datatype: str, shape: list[int], raw: bytes, said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        from_bytes("x", datatype, shape, raw, "$")


@pytest.mark.parametrize(
    "shape", [[1, 2**70, 0], [1, 2**62, 2**62, 0], [1] * 70, [2**40, 0], [0, -1], []]
)
@pytest.mark.parametrize("datatype", ["INT64", "BYTES"])
def test_shapes_that_cannot_be_are_refused(shape: list[int], datatype: Datatype) -> None:
    with pytest.raises(BadInput, match="wrong shape"):
        from_json("x", datatype, shape, [], "$.inputs[0]")
    with pytest.raises(BadInput, match="wrong shape"):
        from_bytes("x", datatype, shape, b"", "$.inputs[0]")


def rows(*given: tuple[str, Datatype, Any]) -> Tensors:
    made = [Tensor(n, t, np.array(values, DTYPES[t])) for n, t, values in given]
    return Tensors(None, made, 100)


def test_numbers_of_any_type_become_the_float32_that_a_matrix_model_takes() -> None:
    for datatype in ("INT8", "UINT16", "INT64", "FP16", "FP64", "BOOL"):
        made = rows(("x", datatype, [[0, 1], [1, 0]])).matrix(("a", "b"), ("a", "b"))  # type: ignore[arg-type]
        assert made.dtype == np.float32
        assert made.tolist() == [[0, 1], [1, 0]]
    assert np.isinf(rows(("x", "FP64", [[1e300]])).matrix(("a",), ("a",))).all()
    by_name = rows(("b", "INT8", [[3], [4]]), ("a", "FP64", [1, 2]))
    assert by_name.matrix(("a", "b"), ("a", "b")).tolist() == [[1, 3], [2, 4]]
    assert rows(("x", "FP32", [[1, 2]])).matrix(("b",), ("a", "b")).tolist() == [[2]]


def test_raw_float32_becomes_a_matrix_without_a_copy() -> None:
    raw = np.arange(6, dtype=np.float32).tobytes()
    read = Tensors(None, [from_bytes("x", "FP32", [3, 2], raw, "$")], 100)
    matrix = read.matrix(("a", "b"), ("a", "b"))
    assert not matrix.flags.owndata
    assert matrix.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_a_typed_model_gets_what_its_fields_say() -> None:
    fields = (Field("who", "BYTES"), Field("n", "INT64"), Field("v", "FP32", (2,)))
    given_ = rows(("v", "FP64", [[1, 2]]), ("n", "INT8", [[5]]), ("who", "BYTES", ["é"]))
    made = given_.typed(fields, ("who", "n", "v"))
    assert {name: (a.dtype, a.tolist()) for name, a in made.items()} == {
        "who": (np.dtype(object), ["é"]),
        "n": (np.dtype(np.int64), [5]),
        "v": (np.dtype(np.float32), [[1, 2]]),
    }
    two = (Field("a", "INT32"), Field("b", "FP64"))
    by_position = rows(("x", "INT64", [[1, 2], [3, 4]])).typed(two, ("a", "b"))
    assert [by_position[name].tolist() for name in ("a", "b")] == [[1, 3], [2, 4]]


@pytest.mark.parametrize(
    ("field", "sent", "said"),
    [
        (Field("a", "INT8"), ("INT64", [200]), "out of range; expected INT8"),
        (Field("a", "UINT64"), ("INT64", [-1]), "out of range; expected UINT64"),
        (Field("a", "INT64"), ("UINT64", [2**63]), "out of range; expected INT64"),
        (Field("a", "FP16"), ("FP32", [1e6]), "out of range; expected FP16"),
        (Field("a", "INT64"), ("FP32", [1.5]), "wrong datatype; expected INT64, found FP32"),
        (Field("a", "BOOL"), ("INT8", [1]), "wrong datatype"),
        (Field("a", "BYTES"), ("FP32", [1.0]), "wrong datatype"),
        (Field("a", "FP32"), ("BYTES", ["1"]), "wrong datatype"),
        (Field("a", "FP32", (2,)), ("FP32", [[1.0]]), "wrong shape"),
        (Field("b"), ("FP32", [1.0]), "missing; expected b"),
    ],
)
def test_a_typed_model_is_not_given_what_has_no_place_in_it(
    field: Field, sent: tuple[Datatype, Any], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        rows(("a", *sent)).typed((field,), (field.name,))


def test_a_sticky_value_is_the_same_whatever_its_type() -> None:
    for datatype in ("INT64", "FP64", "FP32", "UINT32"):
        assert rows(("x", datatype, [[1, 7]])).value("b", {"a": 0, "b": 1}) == "7.0"  # type: ignore[arg-type]
        assert rows(("b", datatype, [7])).value("b", {"a": 0, "b": 1}) == "7.0"  # type: ignore[arg-type]
    assert rows(("b", "BYTES", ["c7"])).value("b", {"a": 0}) == "c7"
    assert rows(("x", "FP32", [[1, 2]])).value("c", {"a": 0, "b": 1}) is None


def test_rows_are_counted_and_named_once() -> None:
    with pytest.raises(TooManyRows, match="at most 100"):
        rows(("x", "FP32", [[1]] * 101))
    with pytest.raises(BadInput, match="twice"):
        rows(("x", "FP32", [1]), ("x", "FP32", [1]))
    with pytest.raises(BadInput, match="unknown features; expected a, found x$"):
        rows(("x", "FP32", [1]), ("a", "FP32", [1])).check_names(frozenset("a"))


def test_rows_by_position_that_come_flat_are_told_their_shape() -> None:
    tensor = {"name": "input", "shape": [2], "datatype": "FP32", "data": [1, 2]}
    floats, _ = read_v2(json.dumps({"inputs": [tensor]}).encode(), 10)
    for one in (rows(("input", "INT64", [1, 2])), floats):
        with pytest.raises(BadInput, match="found input.*rows by position have two dimensions"):
            one.check_names(frozenset("ab"))


def request(*inputs: Any, raw: bytes = b"", **other: Any) -> tuple[bytes, bytes]:
    head = json.dumps({"inputs": inputs, **other}).encode()
    return head + raw, str(len(head)).encode()


def binary(name: str, shape: list[int], size: Any, datatype: str = "FP32") -> dict[str, Any]:
    about = {"name": name, "shape": shape, "datatype": datatype}
    return {**about, "parameters": {"binary_data_size": size}}


def test_json_and_raw_tensors_come_in_one_body() -> None:
    raw = struct.pack("<2f", 1, 2) + b"\1\0\0\0c"
    plain = {"name": "n", "shape": [2], "datatype": "INT8", "data": [3, 4]}
    body, header = request(
        binary("a", [2], 8), plain, binary("who", [2], 5, "BYTES"), raw=raw, id="7"
    )
    with pytest.raises(BadInput, match="expected 2 texts"):
        read_v2_binary(body, header, 10)
    body, header = request(binary("a", [2], 8), plain, raw=raw[:8], id="7")
    read, wanted = read_v2_binary(body, header, 10)
    assert (read.id, read.n, wanted) == ("7", 2, None)
    assert read.matrix(("n", "a"), ("a", "n")).tolist() == [[3, 1], [4, 2]]


def test_raw_rows_by_position_are_what_the_same_numbers_are_as_tensors() -> None:
    x = np.arange(6, dtype="<f4").reshape(3, 2)
    body, header = request(binary("x", [3, 2], 24), raw=x.tobytes(), id="7")
    read, _ = read_v2_binary(body, header, 10)
    assert (read.id, read.n) == ("7", 3)
    assert stack([read.matrix(AB, AB)], 2).tolist() == x.tolist()
    assert stack([read.matrix(("b",), AB)], 1).tolist() == x[:, 1:].tolist()
    typed = read.typed((Field("b", "FP64"),), AB)["b"]
    assert (typed.dtype, typed.tolist()) == (np.float64, [1, 3, 5])
    assert read.value("b", {"a": 0, "b": 1}) == "1.0"
    assert read.value("c", {"a": 0, "b": 1}) is None
    with pytest.raises(BadInput, match="wrong number of features"):
        read.matrix(("a",), ("a",))
    with pytest.raises(TooManyRows):
        read_v2_binary(body, header, 2)


@pytest.mark.parametrize("size", [-1, 9, 8.0, "8", True])
@pytest.mark.parametrize("shape", [[2], [1, 2]])  # the common shape has a way of its own
def test_a_size_that_cannot_be_is_refused(shape: list[int], size: Any) -> None:
    body, header = request(binary("a", shape, size), raw=b"\0" * 8)
    with pytest.raises(BadInput, match="binary_data_size|after the last|not as expected"):
        read_v2_binary(body, header, 10)


@pytest.mark.parametrize("header", [b"", b"-1", b"x", b"1e3", b"99999", b"9" * 30])
def test_a_header_length_that_cannot_be_is_refused(header: bytes) -> None:
    with pytest.raises(BadInput, match="Inference-Header-Content-Length"):
        read_v2_binary(request(binary("a", [1], 4), raw=b"\0" * 4)[0], header, 10)


def test_bytes_left_over_are_refused() -> None:
    body, header = request(binary("a", [1], 4), raw=b"\0" * 5)
    with pytest.raises(BadInput, match="bytes after the last tensor; found 1"):
        read_v2_binary(body, header, 10)


def test_a_body_may_be_nothing_but_one_row() -> None:
    read = read_raw(struct.pack("<2f", 1, 2), "input", "FP32", [1, 2])
    assert read.matrix(("a", "b"), ("a", "b")).tolist() == [[1, 2]]
    with pytest.raises(BadInput, match="expected 8 bytes"):
        read_raw(b"\0" * 9, "input", "FP32", [1, 2])


@given(tensor=tensors(), all_binary=st.booleans())
def test_answers_are_json_with_raw_tensors_after_it(tensor: Tensor, all_binary: bool) -> None:
    score = Tensor("score", "FP32", np.array([0.5], np.float32))
    outputs = Outputs(None, frozenset({"x"}), all_binary)
    body, length = write_v2_tensors(v2_prefix("m", "7"), "i", [score, tensor], outputs, False)
    assert length is not None
    said = json.loads(body[:length])
    assert (said["model_name"], said["model_version"], said["id"]) == ("m", "7", "i")
    first, second = said["outputs"]
    assert first.get("data") == (None if all_binary else [0.5])
    raw = body[length + 4 * all_binary :]
    assert second["parameters"]["binary_data_size"] == len(raw)
    read = from_bytes("x", second["datatype"], second["shape"], raw, "$")
    assert same(read.array, tensor.array)
