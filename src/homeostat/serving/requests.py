"""The dialects of HTTP: how V1 and V2 have requests for predictions, and their answers."""

from __future__ import annotations

from collections.abc import Generator

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


class V1:
    """`{"instances": ...}`, `{"predictions": ...}`."""

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows

    def pieces(self, exchange: Exchange) -> Generator[None, None, Cut | None] | None:
        return cut(exchange.body) if len(exchange.body) >= LARGE else None

    def read(
        self, exchange: Exchange, served: Served, cut: Cut | None = None
    ) -> tuple[Rows, Outputs | None]:
        if exchange.headers:
            exchange.read_headers()
        return read_v1(exchange.body, self._max_rows, cut), None

    def encode(self, job: Job, answers: Answers, at: int, explore: bool) -> bytes:
        end = at + job.n
        said = (job.id, answers.version, answers.scores[at:end])
        if answers.results:
            body = write_v1_results(*said, part(answers.results, at, end), explore)
        else:
            body = write_v1(*said, explore)
        exchange: Exchange = job.request
        return exchange.framed(200, body)


class V2:
    """As JSON, or JSON and raw tensors (`Inference-Header-Content-Length`), in both directions."""

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows

    def pieces(self, exchange: Exchange) -> Generator[None, None, Cut | None] | None:
        if len(exchange.body) < LARGE or HEADER_LENGTH in exchange.headers:
            return None
        return cut(exchange.body)

    def read(
        self, exchange: Exchange, served: Served, cut: Cut | None = None
    ) -> tuple[Rows, Outputs | None]:
        if not exchange.headers:
            return read_v2(exchange.body, self._max_rows, cut)
        exchange.read_headers()
        header = exchange.headers.get(HEADER_LENGTH)
        if header is None:
            return read_v2(exchange.body, self._max_rows, cut)
        if header == b"0":
            field = only_input(served)
            raw = read_raw(exchange.body, field.name, field.datatype, [1, *field.shape])
            return raw, Outputs(None, frozenset(), True)
        return read_v2_binary(exchange.body, header, self._max_rows)

    def encode(self, job: Job, answers: Answers, at: int, explore: bool) -> bytes:
        exchange: Exchange = job.request
        outputs = job.outputs
        if outputs is None and not answers.results:
            scores = answers.scores[at : at + job.n]
            return exchange.framed(200, write_v2(answers.prefix, job.id, scores, explore))
        outputs = outputs or _EVERYTHING
        length: int | None
        if outputs.all_binary and outputs.names is None and not answers.results:
            raw = answers.array[at : at + job.n].tobytes()
            body, length = write_v2_raw(answers.prefix, job.id, raw, explore)
        else:
            tensors = outputs_of(job.model, answers, at, job.n, outputs)
            body, length = write_v2_tensors(answers.prefix, job.id, tensors, outputs, explore)
        if length is None:
            return exchange.framed(200, body)
        extra = b"inference-header-content-length: %d\r\n" % length
        return exchange.framed(200, body, BINARY, extra)


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
