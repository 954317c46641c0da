"""Requests for predictions over HTTP: how V1 and V2 read them and write their answers."""

from __future__ import annotations

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
    write_v2_tensors,
)
from homeostat.serving.exchange import BINARY, Exchange
from homeostat.serving.intake import Body
from homeostat.serving.jobs import Answer, Job
from homeostat.serving.metadata import only_input
from homeostat.serving.routes import Served
from homeostat.serving.runtime import LoadedModel
from homeostat.serving.tensors import Tensor

HEADER_LENGTH = b"inference-header-content-length"
_EVERYTHING = Outputs(None, frozenset())


class _Request:
    """What V1 and V2 have in common: that they came over HTTP."""

    __slots__ = ("_exchange", "_max_rows", "client", "fail", "key", "started")

    def __init__(self, exchange: Exchange, max_rows: int) -> None:
        self._exchange, self._max_rows = exchange, max_rows
        self.fail, self.key = exchange.fail, exchange.key
        self.client, self.started = exchange.client, exchange.started

    @property
    def deadline(self) -> float | None:
        return self._exchange.deadline

    @property
    def trace(self) -> str | None:
        value = self._exchange.headers.get(b"traceparent")
        return None if value is None else value.decode("latin-1")


class RequestV1(_Request):
    __slots__ = ()

    def read(self, served: Served) -> Body:
        return read_v1(self._exchange.body, self._max_rows)

    def check(self, model: LoadedModel) -> None:
        """V1 has no way to want anything."""

    def answer(self, job: Job, answer: Answer) -> None:
        said = (job.id, answer.version, answer.scores)
        if answer.results:
            body = write_v1_results(*said, answer.results, answer.explore)
        else:
            body = write_v1(*said, answer.explore)
        self._exchange.send(200, body)


class RequestV2(_Request):
    """As JSON, or JSON and raw tensors (`Inference-Header-Content-Length`), in both directions."""

    __slots__ = ("_outputs",)

    def __init__(self, exchange: Exchange, max_rows: int) -> None:
        super().__init__(exchange, max_rows)
        self._outputs: Outputs | None = None

    def read(self, served: Served) -> Body:
        exchange = self._exchange
        header = exchange.headers.get(HEADER_LENGTH)
        if header is None:
            rows: Body
            rows, self._outputs = read_v2(exchange.body, self._max_rows)
        elif header == b"0":
            field = only_input(served)
            rows = read_raw(exchange.body, field.name, field.datatype, [1, *field.shape])
            self._outputs = Outputs(None, frozenset(), True)
        else:
            rows, self._outputs = read_v2_binary(exchange.body, header, self._max_rows)
        return rows

    def check(self, model: LoadedModel) -> None:
        if self._outputs is not None:
            self._outputs.check(output_names(model))

    def answer(self, job: Job, answer: Answer) -> None:
        prefix = job.served.prefixes[answer.version]
        if self._outputs is None and not answer.results:
            self._exchange.send(200, write_v2(prefix, job.id, answer.scores, answer.explore))
            return
        outputs = self._outputs or _EVERYTHING
        tensors = outputs_of(job.model, answer, outputs)
        body, length = write_v2_tensors(prefix, job.id, tensors, outputs, answer.explore)
        if length is None:
            self._exchange.send(200, body)
        else:
            extra = b"inference-header-content-length: %d\r\n" % length
            self._exchange.send(200, body, BINARY, extra)


def output_names(model: LoadedModel) -> tuple[str, ...]:
    """The outputs that a version gives: the score, and what it has beside it."""
    return (OUTPUT, *(field.name for field in model.results))


def outputs_of(model: LoadedModel, answer: Answer, wanted: Outputs | None) -> list[Tensor]:
    """The output tensors that are wanted, in the order they were asked for."""
    there = {OUTPUT: Tensor(OUTPUT, "FP32", answer.array)}
    for field in model.results:
        there[field.name] = Tensor(field.name, field.datatype, answer.results[field.name])
    if wanted is None or wanted.names is None:
        return list(there.values())
    return [there[name] for name in wanted.names]
