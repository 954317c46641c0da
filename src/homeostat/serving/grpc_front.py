"""gRPC: `inference.GRPCInferenceService` on the event loop of the worker, through the same
intake, log and counters as HTTP. Imported only when a port is asked for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic, perf_counter
from typing import Any

from google.protobuf.message import DecodeError

from homeostat.core.errors import BadInput, HomeostatError, Unavailable
from homeostat.serving import grpc_call, metadata, oip, repository
from homeostat.serving.codec import Outputs
from homeostat.serving.counters import Counters
from homeostat.serving.engine import LATE
from homeostat.serving.grpc_call import Asked, NoMessage, Refused
from homeostat.serving.grpc_codec import read_tensors, write_scores, write_tensors
from homeostat.serving.heads import Head
from homeostat.serving.http import large
from homeostat.serving.intake import Intake, status_of
from homeostat.serving.jobs import Answers, Job, Rows
from homeostat.serving.pieces import Cut
from homeostat.serving.requests import outputs_of
from homeostat.serving.routes import Served
from homeostat.serving.rows import some
from homeostat.serving.scoring import FAILED
from homeostat.serving.streams import Stream

GONE = 499
"""For the accounts: a caller that took its call back."""
HEAD_ROOM = 64 * 1024
"""Bytes that a message may have beside a body of `serving.max_body`."""
MESSAGE = HEAD_ROOM + grpc_call.PREFIX
"""The same for a body with a message."""

_Infer = oip.message("ModelInferRequest")
_logger = logging.getLogger(__name__)
Fields = dict[str, Any]


class Call:
    """A ModelInfer under way, as `jobs.Request` has it. raw: whether its contents are."""

    __slots__ = ("_front", "_stream", "deadline", "id", "key", "message", "raw", "started")

    held = 0
    """Its body has become the message."""

    def __init__(self, front: GrpcFront, stream: Stream, message: Any, started: float) -> None:
        self._front, self._stream = front, stream
        self.message, self.started, self.id, self.raw = message, started, "", False
        self.key: str | None = stream.head.meaning.metadata(b"x-homeostat-key")
        self.deadline = front.deadline(stream)

    @property
    def trace(self) -> str | None:
        found: str | None = self._stream.head.meaning.metadata(b"traceparent")
        return found

    @property
    def client(self) -> str:
        return self._stream.client

    def write(self, answer: bytes) -> None:
        self._stream.send(grpc_call.HEAD, answer, grpc_call.TRAILERS)

    def fail(self, status: int, message: str) -> None:
        self._front.end(self._stream, status, message)


class Messages:
    """The dialect of gRPC: ModelInferRequest and ModelInferResponse."""

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows

    def pieces(self, call: Call) -> None:
        """Numbers in protobuf are read fast enough."""

    def read(
        self, call: Call, served: Served, cut: Cut | None = None
    ) -> tuple[Rows, Outputs | None]:
        message = call.message
        rows, call.raw = read_tensors(message, self._max_rows)
        if not message.outputs:
            return rows, None
        return rows, Outputs(tuple([output.name for output in message.outputs]), frozenset())

    def encode(self, job: Job, answers: Answers, at: int, explore: bool) -> bytes:
        call: Call = job.request
        said, raw = (job.served.model, answers.version, job.id), call.raw
        if job.outputs is None and not answers.results:
            scores = answers.array[at : at + job.n].tobytes()
            return grpc_call.answer(write_scores(*said, scores, raw=raw, explore=explore))
        tensors = outputs_of(job.model, answers, at, job.n, job.outputs)
        return grpc_call.answer(write_tensors(*said, tensors, raw=raw, explore=explore))


class GrpcFront:
    """The service, as what HTTP/2 carries. Every call counts as a request from its head on, and
    ends once, as over HTTP: what is turned away before it is a call too."""

    def __init__(self, intake: Intake, counters: Counters) -> None:
        self._intake, self._counters = intake, counters
        self._dialect = Messages(intake.spec.max_rows)
        self._most = intake.spec.max_body + HEAD_ROOM
        self._tasks: set[asyncio.Task[None]] = set()
        self._arriving: dict[tuple[str, str], list[Call]] = {}
        self._methods: dict[str, Callable[[Stream, bytes], None]] = {
            "ModelInfer": self._infer,
            "ServerLive": self._simple("ServerLive", lambda asked: {"live": True}),
            "ServerReady": self._simple("ServerReady", lambda _: {"ready": self._intake.ready}),
            "ModelReady": self._simple("ModelReady", self._model_ready),
            "ServerMetadata": self._simple("ServerMetadata", lambda _: metadata.server()),
            "ModelMetadata": self._simple("ModelMetadata", self._model_metadata),
            "RepositoryIndex": self._simple("RepositoryIndex", self._index),
            "RepositoryModelLoad": self._slow("RepositoryModelLoad", self._load),
            "RepositoryModelUnload": self._slow("RepositoryModelUnload", self._unload),
        }

    # ------------------------------------------------------------ what HTTP/2 tells

    def meaning(self, head: Head) -> Asked | Refused:
        asked = grpc_call.read_head(head, oip.SERVICE)
        if isinstance(asked, Asked) and asked.method not in self._methods:
            return Refused(501, f"no such method; expected {some(sorted(self._methods))}")
        return asked

    def opened(self, stream: Stream) -> None:
        self._counters.began()
        asked = stream.head.meaning
        if isinstance(asked, Refused):
            self._turn_away(stream, asked.status, asked.message)

    def grown(self, stream: Stream) -> None:
        if grpc_call.announced(stream.body) > self._most:
            self._turn_away(stream, 413, large(self._most))

    def handle(self, stream: Stream) -> None:
        try:
            self._handle(stream)
        except Exception as error:
            if stream.answered:
                raise
            self._failed(stream, error)

    def fail(self, stream: Stream, status: int, message: str) -> None:
        self._turn_away(stream, status, message)

    def gone(self, stream: Stream) -> None:
        self._counters.series("", "", "").failed(1)
        self._counters.ended(GONE)

    def refused(self, status: int) -> None:
        self._counters.began()
        self._counters.series("", "", "").failed(1)
        self._counters.ended(status)

    # ------------------------------------------------------------ how calls end

    def end(self, stream: Stream, status: int, message: str) -> None:
        """End and count a call that has no answer."""
        self._counters.ended(status)
        asked = stream.head.meaning
        if isinstance(asked, Refused) and not asked.spoken:
            stream.send(grpc_call.no_grpc(status))
        else:
            stream.send(grpc_call.error(grpc_call.CODES[status], message))

    def _turn_away(self, stream: Stream, status: int, message: str) -> None:
        """The same for what is no prediction, counted under no model."""
        self._counters.series("", "", "").failed(1)
        self.end(stream, status, message)

    def _failed(self, stream: Stream, error: BaseException) -> None:
        """A mistake of ours: the caller hears of it, and it is counted."""
        _logger.error("no answer to %s", stream.head.meaning.method, exc_info=error)
        self._turn_away(stream, 500, FAILED)

    def _answer(self, stream: Stream, said: Any) -> None:
        self._counters.ended(200)
        body = grpc_call.answer(said.SerializeToString())
        stream.send(grpc_call.HEAD, body, grpc_call.TRAILERS)

    def deadline(self, stream: Stream) -> float | None:
        """By `perf_counter`: as much after its head came as the caller gave it."""
        timeout = stream.head.meaning.timeout
        return None if timeout is None else perf_counter() - monotonic() + stream.began + timeout

    # ------------------------------------------------------------ calls

    def _handle(self, stream: Stream) -> None:
        asked: Asked = stream.head.meaning
        try:
            data = grpc_call.message(stream.body, asked.window, self._most)
        except NoMessage as error:
            self._turn_away(stream, error.status, str(error))
            return
        bodies = stream.connection.server.bodies
        if asked.window and len(data) > stream.held:
            if not bodies.take(len(data) - stream.held):
                self._turn_away(stream, 503, bodies.full)
                return
            stream.held = len(data)
        stream.body = b""
        try:
            self._methods[asked.method](stream, data)
        except DecodeError as error:
            why = BadInput("not a message of this service", found=str(error))
            self._turn_away(stream, 400, str(why))
        except HomeostatError as error:
            self._turn_away(stream, status_of(error), str(error))

    def _infer(self, stream: Stream, data: bytes) -> None:
        started = perf_counter()
        message = _Infer.FromString(data)
        whom = message.model_name, message.model_version
        if not self._arriving:
            self._intake.at_end(self._read)
        self._arriving.setdefault(whom, []).append(Call(self, stream, message, started))

    def _read(self) -> None:
        """What came in one tick of the event loop."""
        arriving, self._arriving = self._arriving, {}
        for (model, version), calls in arriving.items():
            self._intake.infer(self._dialect, calls, model, version or None)

    def _simple(
        self, name: str, answer: Callable[[Any], Fields]
    ) -> Callable[[Stream, bytes], None]:
        """A call about the server. answer(request) -> the fields of the response."""
        asked, said = oip.message(f"{name}Request"), oip.message(f"{name}Response")

        def call(stream: Stream, data: bytes) -> None:
            self._answer(stream, said(**answer(asked.FromString(data))))

        return call

    def _slow(
        self, name: str, answer: Callable[[Any], Awaitable[Fields]]
    ) -> Callable[[Stream, bytes], None]:
        """The same for what takes a while. It is given up when the caller leaves."""
        asked, said = oip.message(f"{name}Request"), oip.message(f"{name}Response")

        def call(stream: Stream, data: bytes) -> None:
            coroutine = self._waited(stream, answer, asked.FromString(data), said)
            task = asyncio.get_running_loop().create_task(coroutine)
            self._tasks.add(task)  # the loop itself holds tasks weakly
            task.add_done_callback(lambda done: self._waited_for(stream, done))
            stream.left = task.cancel

        return call

    async def _waited(
        self, stream: Stream, answer: Callable[[Any], Awaitable[Fields]], asked: Any, said: Any
    ) -> None:
        until = self.deadline(stream)
        loop = asyncio.get_running_loop()
        when = None if until is None else loop.time() + until - perf_counter()
        try:
            async with asyncio.timeout_at(when):
                fields = await answer(asked)
        except TimeoutError:
            self._counters.add("expired")
            self._turn_away(stream, 504, LATE)
        except HomeostatError as error:
            self._turn_away(stream, status_of(error), str(error))
        else:
            self._answer(stream, said(**fields))

    def _waited_for(self, stream: Stream, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():  # it may never have begun
            self._turn_away(stream, GONE, "the caller has left")
        elif error := task.exception():
            self._failed(stream, error)

    def _model_ready(self, asked: Any) -> Fields:
        try:
            self._intake.served(asked.name, asked.version or None)
        except Unavailable:
            return {"ready": False}
        return {"ready": True}

    def _model_metadata(self, asked: Any) -> Fields:
        served, loaded = self._intake.loaded(asked.name, asked.version or None)
        about = metadata.model(asked.name, served, loaded)
        about["properties"] = {
            "features": ",".join(loaded.inputs),
            "version": loaded.version,
        }
        del about["parameters"]
        return about

    def _index(self, asked: Any) -> Fields:
        return {"models": repository.index(self._intake.routes, ready=asked.ready)}

    async def _load(self, asked: Any) -> Fields:
        model = _repository_model(asked)
        await repository.load(self._intake.routes, model)
        return {"model_name": model, "isLoaded": True}

    async def _unload(self, asked: Any) -> Fields:
        model = _repository_model(asked)
        await repository.unload(self._intake.routes, model)
        return {"model_name": model, "isUnloaded": True}


def _repository_model(asked: Any) -> str:
    """KServe's client has the name where Triton's has that of a repository."""
    repository.check_parameters(set(asked.parameters))
    return str(asked.model_name or asked.repository_name)
