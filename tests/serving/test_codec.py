from __future__ import annotations

import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.core.errors import BadInput
from homeostat.core.servable import Field
from homeostat.serving.codec import (
    Outputs,
    read_v1,
    read_v2,
    v2_prefix,
    write_v1,
    write_v2,
)
from homeostat.serving.labels import read_labels
from homeostat.serving.rows import ByName, Named, Positional, TooManyRows
from homeostat.serving.tensors import Tensors

AB = ("a", "b")
PLACES = {"a": 0, "b": 1}
numbers = st.floats(-1e30, 1e30, allow_nan=False) | st.integers(-(10**9), 10**9)
tables = st.integers(1, 4).flatmap(
    lambda d: st.lists(st.lists(numbers, min_size=d, max_size=d), min_size=1, max_size=5)
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["instances", "inputs", "name", "shape", "datatype", "data", "id"])
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def v1(body: Any) -> Positional | Named | ByName:
    return read_v1(json.dumps(body).encode(), 100)


def v2(*tensors: Any, **other: Any) -> Positional | Named | Tensors:
    return read_v2(json.dumps({"inputs": tensors, **other}).encode(), 100)[0]


def as_list(matrix: Any) -> list[float]:
    """Rows one after the other, as the model sees them."""
    return np.asarray(matrix, np.float32).ravel().tolist()


def tensor(name: str, shape: list[int], data: list[Any], datatype: str = "FP64") -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


@given(table=tables, nested=st.booleans())
def test_every_way_to_send_rows_gives_the_same_numbers(
    table: list[list[float]], nested: bool
) -> None:
    n, d = len(table), len(table[0])
    names = tuple(f"f{i}" for i in range(d))
    flat = [value for row in table for value in row]
    ways = [
        v1({"instances": table}),
        v1({"instances": [dict(zip(names, row, strict=True)) for row in table]}),
        v2(tensor("input", [n, d], table if nested else flat)),
        v2(*(tensor(f, [n], [row[i] for row in table]) for i, f in enumerate(names))),
        v2(*(tensor(f, [n, 1], [[row[i]] for row in table]) for i, f in enumerate(names)))
        if d > 1
        else v1({"instances": table}),
    ]
    for rows in ways:
        assert rows.n == n
        assert as_list(rows.matrix(names, names)) == as_list(flat)


@given(table=tables, data=st.data())
def test_rows_by_name_are_put_in_the_models_order_whatever_theirs_is(
    table: list[list[float]], data: st.DataObject
) -> None:
    sent = [f"f{i}" for i in range(len(table[0]))]
    wanted = tuple(data.draw(st.permutations(sent)))[: data.draw(st.integers(1, len(sent)))]
    orders = [data.draw(st.permutations(sent)) for _ in table]
    objects = [dict(zip(sent, row, strict=True)) for row in table]
    columns = [
        tensor(f, [len(table)], [row[f] for row in objects])
        for f in data.draw(st.permutations(sent))
    ]
    expected = [row[name] for row in objects for name in wanted]
    shuffled = [{f: row[f] for f in order} for row, order in zip(objects, orders, strict=True)]
    for rows in (v1({"instances": shuffled}), v2(*columns)):
        assert as_list(rows.matrix(wanted, ("not", "asked"))) == as_list(expected)
        typed = rows.typed(tuple(Field(name, "FP64") for name in wanted), ())
        assert [value for row in zip(*typed.values(), strict=True) for value in row] == expected
        assert rows.value(wanted[0], {}) == repr(float(objects[0][wanted[0]]))
        assert rows.value("none", {}) is None
        rows.check_names(frozenset(sent))
        with pytest.raises(BadInput, match="unknown features"):
            rows.check_names(frozenset(sent[1:]))
        with pytest.raises(BadInput, match="features are missing; expected none"):
            rows.matrix((*wanted, "none"), ())


@given(body=st.binary(max_size=200) | json_values.map(lambda v: json.dumps(v).encode()))
def test_any_body_is_read_or_refused_with_a_sentence(body: bytes) -> None:
    for read in (
        lambda: read_v1(body, 10).matrix(AB, AB),
        lambda: read_v2(body, 10)[0].matrix(AB, AB),
        lambda: read_labels(body, "m", 0, 10),
    ):
        with contextlib.suppress(BadInput):  # and nothing else
            read()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{", "not JSON"),
        ("[1]", "expected an object"),
        ('{"instances": []}', "at least one row"),
        ('{"instances": [[1, 2], [3]]}', r"\$.instances\[1\]: rows of different lengths"),
        ('{"instances": [[1, null]]}', r"\$.instances\[0\]\[1\]: not a number.*found null"),
        ('{"instances": [[1, "2"]]}', "found '2'"),
        ('{"instances": [[1, true]]}', "found True"),
        ('{"instances": [[1, NaN]]}', "not JSON"),
        ('{"instances": [[1, 1e999]]}', "out of range"),
        ('{"instances": [[1], {"a": 1}]}', "found"),
        ('{"instances": [{"a": 1, "b": 2}, {"a": 1}]}', "rows with different features"),
        ('{"instances": [[1, 2, 3]]}', r"expected 2 \(a, b\), found 3"),
        ('{"instances": [{"a": 1}]}', "features are missing; expected b"),
        ('{"instances": [[1, 2]], "id": ""}', "unusable id"),
        ('{"instances": [[1, 2]], "id": 7}', "id"),
        ("[" * 100_000, "expected an object"),
    ],
)
def test_a_bad_v1_body_is_told_what_was_expected(body: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        read_v1(body.encode(), 100).matrix(AB, AB)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ([], "at least one tensor"),
        ([tensor("x", [1, 2], [1])], "expected 2 values for shape"),
        ([tensor("x", [1, 2], [1, "2"])], r"\$.inputs\[0\].data\[1\]: not a value of type FP64"),
        ([tensor("x", [2, 2], [[1, 2], [3]])], "ragged"),
        ([tensor("x", [2, 2], [[1, 2], 3])], "ragged"),
        ([tensor("x", [2, 2], [1, 2, 3, [4]])], r"data\[3\]: not a value"),
        ([tensor("x", [2], [[1, 2]])], "ragged"),
        ([tensor("a", [1, 1, 2], [1, 2]), tensor("b", [1], [1])], "wrong shape"),
        ([tensor("x", [-1, 2], [])], "wrong shape"),
        ([tensor("x", [0, 2], [])], "at least one row"),
        ([tensor("x", [1, 2], [1, 2], "BF16")], "unsupported datatype"),
        ([tensor("x", [1, 2], [1, 2], "BYTES")], "not a value of type BYTES"),
        ([tensor("x", [1, 2], ["1", "2"], "BYTES")], "not numbers"),
        ([tensor("x", [1, 2], [1, 2], "BOOL")], "not a value of type BOOL"),
        ([tensor("x", [1, 2], [1, True], "INT8")], "not a value of type INT8"),
        ([tensor("x", [1, 2], [1, 128], "INT8")], "out of range for INT8; expected -128 to 127"),
        ([tensor("x", [1, 2], [1, -1], "UINT64")], "out of range for UINT64"),
        ([tensor("x", [1, 2], [1, 10**400], "FP64")], "out of range|found"),
        ([tensor("x", [1, 2], [1, 2.5], "INT32")], "not a value of type INT32"),
        ([tensor("a", [1], [1]), tensor("a", [1], [1])], "twice"),
        ([tensor("a", [1], [1]), tensor("b", [2], [1, 2])], "different numbers of rows"),
        ([tensor("a", [1], [1])], "missing; expected b"),
        ([{"name": "a"}], "missing required field"),
    ],
)
def test_a_bad_v2_body_is_told_what_was_expected(tensors: list[Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        v2(*tensors).matrix(AB, AB)


def test_what_is_wanted_back_is_read_and_checked() -> None:
    one = tensor("x", [1, 2], [1, 2])

    def wanted(**other: Any) -> Outputs | None:
        return read_v2(json.dumps({"inputs": [one], **other}).encode(), 100)[1]

    assert wanted() is None
    assert wanted(parameters={"sequence_id": 1}) is None
    everything = wanted(parameters={"binary_data_output": True})
    assert everything is not None
    assert (everything.names, everything.is_binary("score")) == (None, True)
    outputs = [{"name": "score", "parameters": {"binary_data": False}}, {"name": "other"}]
    some = wanted(outputs=outputs, parameters={"binary_data_output": True})
    assert some is not None
    assert some.names == ("score", "other")
    assert [some.is_binary(name) for name in ("score", "other")] == [False, True]
    some.check(("score", "other"))
    with pytest.raises(BadInput, match="no such output; expected score, found 'other'"):
        some.check(("score",))
    # as Triton has it, and as those serialisers write it that leave nothing out
    assert wanted(outputs=[], parameters=None) is None
    null = wanted(outputs=[{"name": "score", "parameters": None}])
    assert null is not None
    assert (null.names, null.is_binary("score")) == (("score",), False)
    one["parameters"] = None
    nested = {**one, "data": [[1, 2]]}
    assert wanted(inputs=[nested]) is wanted(inputs=[{**one, "datatype": "INT8"}]) is None
    for parameters in ({"a": [1]}, {"a": None}, [1]):
        with pytest.raises(BadInput, match="not as expected"):
            wanted(parameters=parameters)
    with pytest.raises(BadInput, match="classifications"):
        wanted(outputs=[{"name": "score", "parameters": {"classification": 1}}])


def test_too_many_rows_are_another_kind_of_error() -> None:
    with pytest.raises(TooManyRows, match="at most 2"):
        read_v1(b'{"instances": [[1], [2], [3]]}', 2)


def test_rows_by_position_mean_the_champions_order() -> None:
    rows = v1({"instances": [[1, 2], [3, 4]]})
    assert as_list(rows.matrix(("b", "a"), AB)) == [2, 1, 4, 3]
    assert as_list(rows.matrix(("b",), AB)) == [2, 4]
    with pytest.raises(BadInput, match="expected c"):
        rows.matrix(("a", "c"), AB)


def test_unknown_features_are_refused_and_the_sticky_one_is_not() -> None:
    rows = v1({"instances": [{"a": 1, "b": 2, "customer": "c7"}]})
    rows.check_names(frozenset(("a", "b", "customer")))
    assert rows.value("customer", PLACES) == "c7"
    with pytest.raises(BadInput, match="unknown features.*found customer"):
        rows.check_names(frozenset(AB))


def test_a_number_too_large_for_its_column_is_refused() -> None:
    rows = read_v1(b'{"instances": [{"a": 1e300, "b": "x"}, {"a": 1, "b": "y"}]}', 10)
    assert rows.typed((Field("a", "FP64"),), AB)["a"].tolist() == [1e300, 1.0]
    with pytest.raises(BadInput, match="feature 'a': out of range for FP32"):
        rows.typed((Field("a"), Field("b", "BYTES")), AB)


def test_a_sticky_value_beyond_all_floats_is_refused() -> None:
    rows = read_v1(b'{"instances": [{"a": 1%s}]}' % (b"0" * 400), 10)
    with pytest.raises(BadInput, match="not a finite number"):
        rows.value("a", PLACES)


def test_a_sticky_value_is_the_same_however_it_was_sent() -> None:
    assert v1({"instances": [[1, 12345678]]}).value("b", PLACES) == "12345678.0"
    assert v1({"instances": [{"a": 1, "b": 12345678.0}]}).value("b", PLACES) == "12345678.0"
    assert v1({"instances": [[1, 2]]}).value("customer", PLACES) is None


@given(
    id=st.text(min_size=1, max_size=30), scores=st.lists(st.floats(0, 1), min_size=1, max_size=4)
)
def test_answers_are_json_with_the_exact_scores(id: str, scores: list[float]) -> None:
    first = json.loads(write_v1(id, "7", scores))
    assert first == {"predictions": scores, "model_version": "7", "id": id}
    second = json.loads(write_v2(v2_prefix("m", "7"), id, scores))
    assert second["id"] == id
    assert (second["model_name"], second["model_version"]) == ("m", "7")
    assert second["outputs"] == [
        {"name": "score", "shape": [len(scores)], "datatype": "FP32", "data": scores}
    ]


def test_labels_are_read_with_their_times() -> None:
    body = {"labels": [{"id": "a", "label": 1}, {"id": "b", "label": False, "time": "1970-01-02"}]}
    a, b = read_labels(json.dumps(body).encode(), "m", 42, 10)
    assert (a.id, a.label, a.time, a.known, a.model) == ("a", 1.0, 42, 42, "m")
    assert (b.label, b.time, b.known) == (0.0, 86_400_000_000, 42)


def test_all_mistakes_in_labels_are_told_at_once() -> None:
    wrong = [{"id": 1, "label": 1}, {"id": "b", "label": 0.5}, 3, {"id": "c", "label": 1, "x": 1}]
    wrong.append({"id": "d", "label": 1, "time": "soon"})
    with pytest.raises(BadInput) as caught:
        read_labels(
            json.dumps({"labels": [{"id": "fine", "label": 0}, *wrong]}).encode(), "m", 0, 9
        )
    for i, what in enumerate(("id", "0 or 1", "an object", "unknown field 'x'", "ISO 8601"), 1):
        assert f"$.labels[{i}]" in str(caught.value)
        assert what in str(caught.value)


def test_many_mistakes_in_labels_are_summed_up() -> None:
    with pytest.raises(BadInput, match="and 30 more"):
        read_labels(json.dumps({"labels": [{"id": "a"}] * 50}).encode(), "m", 0, 100)
    with pytest.raises(TooManyRows):
        read_labels(b'{"labels": [1, 2, 3]}', "m", 0, 2)
