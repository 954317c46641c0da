"""A large body says the same, and is told the same mistakes, read in pieces or at once."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from homeostat.backends.local.plane import LocalDataPlane
from homeostat.core.errors import BadInput
from homeostat.core.route import Route
from homeostat.serving import pieces
from homeostat.serving.codec import read_v1, read_v2
from homeostat.serving.counters import Counters, total
from homeostat.serving.engine import Engine
from homeostat.serving.exchange import Exchange, Front
from homeostat.serving.intake import READING, Intake
from homeostat.serving.layout import Layout
from homeostat.serving.log import SegmentLog
from homeostat.serving.pieces import Cut, cut
from homeostat.serving.requests import V1, V2
from homeostat.serving.routes import Routes
from homeostat.serving.rows import ByName, Named, Positional
from homeostat.serving.spec import ServingSpec
from homeostat.testing.models import tiny_servable

notations = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(2**70), 2**70).map(str),
    st.sampled_from(["-0", "-0.0", "1E+3", "1.5e-7", "0.1000", "12345678901234567890.5"]),
)
oddities = st.sampled_from(
    [
        "1e999",
        "01",
        "+1",
        ".5",
        "1.",
        "-",
        "NaN",
        "null",
        "true",
        '"]"',
        '"1,2"',
        "[1]",
        "{}",
        "",
        " ",
    ]
)
commas = st.sampled_from([",", ", ", " ,\n"])


@st.composite
def lists(draw: st.DrawFn) -> tuple[str, list[int], bool]:
    """The text of a list of numbers, flat or in rows, its shape, and whether it is flat."""
    comma, width = draw(commas), draw(st.integers(1, 3))
    rows = draw(st.lists(st.lists(notations, min_size=width, max_size=width), min_size=1))
    if draw(st.integers(0, 3)) == 0:
        where = draw(st.integers(0, len(rows) - 1))
        rows[where] = [*rows[where][: draw(st.integers(0, width))], draw(oddities)]
    if flat := draw(st.booleans()):
        text = comma.join(value for row in rows for value in row)
    else:
        text = comma.join(f"[{comma.join(row)}]" for row in rows)
    return f"[{text}]", [len(rows), width], flat


@st.composite
def objects(draw: st.DrawFn) -> str:
    """The text of a list of rows by name."""
    comma, names = draw(commas), draw(st.sampled_from([["a"], ["a", "b"], ["b", "a", "c"]]))
    rows = draw(st.lists(st.lists(notations, min_size=3, max_size=3), min_size=1))
    if draw(st.integers(0, 3)) == 0:
        more = st.sampled_from(['"},"', '"}]"', '{"a": 1}', '1, "a": 2', '1, "d": 2'])
        rows[draw(st.integers(0, len(rows) - 1))][0] = draw(oddities | more)
    texts = []
    for row in rows:
        if draw(st.integers(0, 3)) == 0:
            names = draw(st.permutations(names))
        fields = [f'"{name}": {value}' for name, value in zip(names, row, strict=False)]
        texts.append("{" + comma.join(fields) + "}")
    return f"[{comma.join(texts)}]"


@st.composite
def damaged(draw: st.DrawFn, text: str) -> bytes:
    """Mostly as it is; else with a few bytes put in or left out."""
    body = text.encode()
    if draw(st.integers(0, 2)) == 0:
        at, token = draw(st.integers(0, len(body))), draw(st.sampled_from(b'[],"\\ 1x\x0b\xff\x00'))
        body = body[:at] + bytes([token]) + body[at + draw(st.integers(0, 2)) :]
    return body


@st.composite
def v1_bodies(draw: st.DrawFn) -> bytes:
    text = draw(lists())[0] if draw(st.booleans()) else draw(objects())
    before = draw(st.sampled_from(['"x\\"instances": [[7]], ', '"id": "a]]", ', '"id": 5, ', ""]))
    after = draw(
        st.sampled_from(["", ', "id": "[[1]]"', ', "instances": [[1, 2]]', ', "x": [[8]]'])
    )
    return draw(damaged(f'{{{before}"instances": {text}{after}}}'))


@st.composite
def v2_bodies(draw: st.DrawFn) -> bytes:
    text, shape, _ = draw(lists())
    kind = draw(st.sampled_from(["FP32", "FP64", "INT64", "FP33"]))
    about = f'"name": "x", "shape": {shape}, "datatype": "{kind}"'
    data = f'"data": {text}'
    tensor = draw(st.sampled_from([f"{{{about}, {data}}}", f"{{{data}, {about}}}"]))
    other, length, _ = draw(lists())
    others = f'{{"name": "y", "shape": {length}, "datatype": "FP32", "data": {other}}}'
    tensors = draw(
        st.sampled_from(
            [
                tensor,
                f"{tensor}, {tensor}",
                f"{tensor}, {others}",
                f'{{"data": [1.5], {about}}}',
            ]
        )
    )
    before = draw(st.sampled_from(["", '"id": "\\"data\\": [1]", ', f'"x\\"data": {text}, ']))
    after = draw(
        st.sampled_from(["", ', "outputs": [{"name": "score"}]', ', "id": ""', f', "x": {text}'])
    )
    return draw(damaged(f'{{{before}"inputs": [{tensors}]{after}}}'))


def at_the_end(steps: Generator[None, None, Cut | None]) -> Cut | None:
    while True:
        try:
            next(steps)
        except StopIteration as done:
            found: Cut | None = done.value
            return found


def said(read: Callable[[], Any]) -> tuple[Any, ...]:
    try:
        found = read()
    except BadInput as error:
        return type(error), str(error)
    rows, outputs = found if isinstance(found, tuple) else (found, None)
    wanted = outputs and (outputs.names, outputs.binary, outputs.all_binary)
    if isinstance(rows, Positional):
        return "rows", rows.id, rows.n, rows.width, repr(rows.flat), wanted
    if isinstance(rows, Named):
        return "named", rows.id, rows.n, rows.names, repr(rows.flat), wanted
    if isinstance(rows, ByName):
        return "by name", rows.id, rows.n, repr(rows.columns), wanted
    return "tensors", rows.id, rows.n, repr(rows._by_name), wanted


@given(v1_bodies(), st.integers(0, 20))
@example(b'{"instances": [[1, 2], [3, 4],]}', 0)
@example(b'{"instances": [[1], , [3]]}', 0)
@example(b'{"instances": [[1, 2], [3]]}', 0)
@example(b'{"instances": [[], [3]]}', 9)
@example(b'{"x": {"instances": [[1, 2]]}, "instances": "no rows"}', 0)
def test_v1_is_read_the_same(body: bytes, size: int) -> None:
    with patch.object(pieces, "PIECE", size):
        in_pieces = said(lambda: read_v1(body, 8, at_the_end(cut(body))))
    assert in_pieces == said(lambda: read_v1(body, 8))


@given(v2_bodies(), st.integers(0, 20))
@example(b'{"inputs": [{"name": "x", "shape": [2, 1], "datatype": "FP32", "data": [1, 2,]}]}', 0)
@example(b'{"inputs": [{"name": "x", "shape": [2, 1], "datatype": "FP32", "data": [1, ,2]}]}', 0)
@example(
    b'{"x": {"data": [5]}, "inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", '
    b'"data": "none"}]}',
    0,
)
def test_v2_is_read_the_same(body: bytes, size: int) -> None:
    with patch.object(pieces, "PIECE", size):
        in_pieces = said(lambda: read_v2(body, 8, at_the_end(cut(body))))
    assert in_pieces == said(lambda: read_v2(body, 8))


ROWS = [[k + 0.123456789012345, -k] for k in range(10_000)]
FLAT = [value for row in ROWS for value in row]


def v2(data: Any) -> bytes:
    tensor = {"name": "input", "shape": [len(ROWS), 2], "datatype": "FP32", "data": data}
    return json.dumps({"inputs": [tensor], "id": "large"}).encode()


def by_name(data: Callable[[float], Any]) -> bytes:
    tensors = [
        {
            "name": name,
            "shape": [len(ROWS), 1],
            "datatype": "FP64",
            "data": [data(row[k]) for row in ROWS],
        }
        for k, name in enumerate("ab")
    ]
    return json.dumps({"inputs": tensors, "id": "large"}).encode()


NAMED = [{"a": a, "b": b} for a, b in ROWS]

Request = tuple[type[V1] | type[V2], bytes]
LARGE: dict[str, Request] = {
    "flat": (V2, v2(FLAT)),
    "nested": (V2, v2(ROWS)),
    "v1": (V1, json.dumps({"instances": ROWS, "id": "large"}).encode()),
    "v1 by name": (V1, json.dumps({"instances": NAMED, "id": "large"}).encode()),
    "a tensor per feature": (V2, by_name(lambda value: value)),
    "a column per feature": (V2, by_name(lambda value: [value])),
}


@pytest.mark.parametrize("how", LARGE)
def test_what_clients_usually_send_is_read_in_pieces(how: str) -> None:
    body = LARGE[how][1]
    steps = cut(body)
    assert sum(1 for _ in steps) >= len(body) // pieces.PIECE - 1


SMALL = (V1, b'{"instances": [[1, 2]], "id": "small"}')


class Asked:
    """What became of requests that came in one tick: (place, answer) in the order of the answers,
    and the counters."""

    def __init__(self, home: Path, *requests: tuple[type[V1] | type[V2], bytes]) -> None:
        self.ended: list[tuple[int, bytes]] = []
        self._exchanges: list[Exchange] = []
        self._layout, self._requests = Layout(home).make(), requests
        servable = tiny_servable(
            home / "1", version="1", inputs=("a", "b"), weights=(1, -2), name="m"
        )
        LocalDataPlane(home).publish(Route("m", 1, servable))
        asyncio.run(asyncio.wait_for(self._ask(), 60))
        self.sums = total(self._layout.metrics).globals

    def _hear(self, place: int) -> None:
        self.ended.append((place, self._exchanges[place].answer or b""))

    async def _ask(self) -> None:
        loop, layout, spec = asyncio.get_running_loop(), self._layout, ServingSpec()
        log = SegmentLog(layout.live, layout.sealed, "0-w", seal=60.0, dropped=lambda n: None)
        counters, routes = Counters(layout.metrics / "0"), Routes(layout, lambda: None)
        engine = Engine(loop, log, counters, lambda: 0, spec)
        intake, front = Intake(spec, routes, engine), Front(counters.ended)
        front.dated("today")
        while not (log.settled and routes.models):
            routes.poll(loop.time())
            await asyncio.sleep(0.001)
        for place, (kind, body) in enumerate(self._requests):
            exchange = Exchange(front, partial(self._hear, place))
            self._exchanges.append(exchange)
            exchange.body, exchange.held = body, len(body)
            front.bodies.take(exchange.held)
            intake.infer(kind(spec.max_rows), [exchange], "m", None)
        assert engine.in_flight == len(self._requests)
        while engine.busy:
            await asyncio.sleep(0.001)
        engine.close()
        routes.close()
        log.close()


@pytest.mark.parametrize("how", LARGE)
def test_a_small_request_is_answered_while_large_ones_before_it_are_read(
    tmp_path: Path, how: str
) -> None:
    request, body = LARGE[how]
    broken = re.sub(rb"-9999(?=[\]}])", b"-9999x", body, count=1)
    asked = Asked(tmp_path, (request, body), (request, broken), SMALL)
    assert asked.ended[0][0] == 2
    answers = dict(asked.ended)
    assert b'"large"' in answers[0]
    assert answers[0].startswith(b"HTTP/1.1 200")
    assert answers[0].count(b",") > len(ROWS) - 1
    assert answers[1].startswith(b"HTTP/1.1 400")
    assert b"the body is not JSON" in answers[1]
    assert (asked.sums["answered"], asked.sums["failed"]) == (2, 1)


def test_more_large_requests_than_may_wait_are_answered_all_the_same(tmp_path: Path) -> None:
    asked = Asked(tmp_path, *[LARGE["v1"]] * (READING + 1))
    assert len({answer for _, answer in asked.ended}) == 1
    assert asked.sums["answered"] == len(asked.ended) == READING + 1


def test_a_mistake_of_the_servers_own_in_reading_is_told_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def mistaken(*given: Any) -> Any:
        raise KeyError("not foreseen")

    monkeypatch.setattr("homeostat.serving.requests.read_v2", mistaken)
    asked = Asked(tmp_path, LARGE["flat"], SMALL)
    answers = dict(asked.ended)
    assert answers[0].startswith(b"HTTP/1.1 500")
    assert b"the server failed, and has logged why" in answers[0]
    assert answers[1].startswith(b"HTTP/1.1 200")
    assert "not foreseen" in caplog.text
    assert (asked.sums["answered"], asked.sums["failed"]) == (1, 1)
