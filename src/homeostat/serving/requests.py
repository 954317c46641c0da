"""Requests for predictions over HTTP: how V1 and V2 read them and write their answers."""

from __future__ import annotations

from collections.abc import Iterator

from homeostat.serving.batch import part
from homeostat.serving.codec import (
    OUTPUT,
    Outputs,
    read_raw,
    read_v1,
    read_v2,
    read_v2_binary,
    write_v1,
    write_v1_results,
    write_v2,
    write_v2_raw,
    write_v2_tensors,
)
from homeostat.serving.exchange import BINARY, Exchange
from homeostat.serving.jobs import Answers, Job, Rows
from homeostat.serving.metadata import only_input
from homeostat.serving.pieces import LARGE, Cut, cut
from homeostat.serving.routes import Served
from homeostat.serving.runtime import LoadedModel
from homeostat.serving.tensors import Tensor

HEADER_LENGTH = b"inference-header-content-length"
_EVERYTHING = Outputs(None, frozenset())


class _Request(Job):
    """What V1 and V2 have in common: that they came over HTTP."""

    __slots__ = ("_cut", "_exchange", "_max_rows")

    def __init__(self, exchange: Exchange, max_rows: int) -> None:
        self._exchange, self._max_rows = exchange, max_rows
        self.started = exchange.started
        self._cut: Cut | None = None
        self.id = ""
        self.deadline = self.key = self.outputs = self.pieces = None
        if exchange.headers:
            self.key = exchange.key
        if len(exchange.body) >= LARGE and HEADER_LENGTH not in exchange.headers:
            self.pieces = self._pieces()

    @property
    def client(self) -> str:
        return self._exchange.client

    @property
    def trace(self) -> str | None:
        value = self._exchange.headers.get(b"traceparent")
        return None if value is None else value.decode("latin-1")

    def _pieces(self) -> Iterator[None]:
        self._cut = yield from cut(self._exchange.body)

    def send(self, answer: bytes) -> None:
        self._exchange.write(answer)

    def fail(self, status: int, message: str) -> None:
        self._exchange.fail(status, message)


class RequestV1(_Request):
    __slots__ = ()

    def read(self, served: Served) -> Rows:
        self.deadline = self._exchange.deadline
        return read_v1(self._exchange.body, self._max_rows, self._cut)

    def encode(self, answers: Answers, at: int, explore: bool) -> bytes:
        end = at + self.n
        said = (self.id, answers.version, answers.scores[at:end])
        if answers.results:
            body = write_v1_results(*said, part(answers.results, at, end), explore)
        else:
            body = write_v1(*said, explore)
        return self._exchange.framed(200, body)


class RequestV2(_Request):
    """As JSON, or JSON and raw tensors (`Inference-Header-Content-Length`), in both directions."""

    __slots__ = ()

    def read(self, served: Served) -> Rows:
        exchange = self._exchange
        rows: Rows
        if not exchange.headers:
            rows, self.outputs = read_v2(exchange.body, self._max_rows, self._cut)
            return rows
        self.deadline = exchange.deadline
        header = exchange.headers.get(HEADER_LENGTH)
        if header is None:
            rows, self.outputs = read_v2(exchange.body, self._max_rows, self._cut)
        elif header == b"0":
            field = only_input(served)
            rows = read_raw(exchange.body, field.name, field.datatype, [1, *field.shape])
            self.outputs = Outputs(None, frozenset(), True)
        else:
            rows, self.outputs = read_v2_binary(exchange.body, header, self._max_rows)
        return rows

    def encode(self, answers: Answers, at: int, explore: bool) -> bytes:
        outputs = self.outputs
        if outputs is None and not answers.results:
            scores = answers.scores[at : at + self.n]
            body = write_v2(answers.prefix, self.id, scores, explore)
            return self._exchange.framed(200, body)
        outputs = outputs or _EVERYTHING
        length: int | None
        if outputs.all_binary and outputs.names is None and not answers.results:
            raw = answers.array[at : at + self.n].tobytes()
            body, length = write_v2_raw(answers.prefix, self.id, raw, explore)
        else:
            tensors = outputs_of(self.model, answers, at, self.n, outputs)
            body, length = write_v2_tensors(answers.prefix, self.id, tensors, outputs, explore)
        if length is None:
            return self._exchange.framed(200, body)
        extra = b"inference-header-content-length: %d\r\n" % length
        return self._exchange.framed(200, body, BINARY, extra)


def outputs_of(
    model: LoadedModel, answers: Answers, at: int, n: int, wanted: Outputs | None
) -> list[Tensor]:
    """The output tensors that are wanted of the n rows from `at` on, in the order they were asked
    for."""
    there = {OUTPUT: Tensor(OUTPUT, "FP32", answers.array[at : at + n])}
    for field in model.results:
        array = answers.results[field.name][at : at + n]
        there[field.name] = Tensor(field.name, field.datatype, array)
    if wanted is None or wanted.names is None:
        return list(there.values())
    return [there[name] for name in wanted.names]
