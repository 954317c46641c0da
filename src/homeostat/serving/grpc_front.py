"""gRPC: `inference.GRPCInferenceService` on the event loop of the worker, through the same
intake, log and counters as HTTP. Imported only when a port is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from homeostat.core.errors import BadInput, HomeostatError, Unavailable
from homeostat.serving import metadata, oip, repository
from homeostat.serving.address import Tls
from homeostat.serving.codec import Outputs
from homeostat.serving.counters import Counters
from homeostat.serving.grpc_codec import read_tensors, write_tensors
from homeostat.serving.intake import Body, Intake, status_of
from homeostat.serving.jobs import Answer, Job
from homeostat.serving.requests import output_names, outputs_of
from homeostat.serving.routes import Served
from homeostat.serving.runtime import LoadedModel

CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""What an HTTP status is here."""
GONE = 499
"""For the accounts: a caller that took its call back."""
HEAD_ROOM = 64 * 1024
"""Bytes that a message may have beside a body of `serving.max_body`."""

_Infer = oip.message("ModelInferRequest")


class _Failed(Exception):
    """The end of a call that is no answer."""

    def __init__(self, status: int, message: str) -> None:
        self.code, self.message = CODES[status], message
        super().__init__(message)


class Call:
    """A ModelInfer under way: where its answer goes."""

    def __init__(self, message: Any, context: Any, ended: Callable[[int], None], rows: int) -> None:
        self._message, self._context, self._ended, self._max_rows = message, context, ended, rows
        self.started = perf_counter()
        self.answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        wanted = tuple(output.name for output in message.outputs)
        self._outputs = Outputs(wanted, frozenset()) if wanted else None

    @property
    def key(self) -> str | None:
        return self._metadata("x-homeostat-key")

    @property
    def trace(self) -> str | None:
        return self._metadata("traceparent")

    @property
    def client(self) -> str:
        # ipv4:127.0.0.1:5000, ipv6:%5B::1%5D:5000
        return str(self._context.peer().partition(":")[2].rpartition(":")[0])

    @property
    def deadline(self) -> float | None:
        left = self._context.time_remaining()
        return None if left is None else self.started + left

    def _metadata(self, name: str) -> str | None:
        for key, value in self._context.invocation_metadata() or ():
            if key == name:
                return str(value)
        return None

    def read(self, served: Served) -> Body:
        return read_tensors(self._message, self._max_rows)

    def check(self, model: LoadedModel) -> None:
        if self._outputs is not None:
            self._outputs.check(output_names(model))

    def answer(self, job: Job, answer: Answer) -> None:
        self._ended(200)
        if self.answered.done():  # the caller has gone
            return
        body = write_tensors(
            job.served.model,
            answer.version,
            job.id,
            outputs_of(job.model, answer, self._outputs),
            raw=bool(self._message.raw_input_contents),
            explore=answer.explore,
        )
        self.answered.set_result(body)

    def fail(self, status: int, message: str) -> None:
        self._ended(status)
        if not self.answered.done():
            self.answered.set_exception(_Failed(status, message))


class GrpcFront:
    """The service. Every call counts as a request and ends once, as over HTTP; what gRPC itself
    turns away (a message that is too large, an unknown method) never comes here."""

    def __init__(self, intake: Intake, counters: Counters) -> None:
        self._intake, self._counters = intake, counters
        self._server: Any = None

    async def start(self, host: str, port: int, tls: Tls | None) -> None:
        """Accept calls. Raises Unavailable when the port cannot be had."""
        size = self._intake.spec.max_body + HEAD_ROOM
        options = [
            ("grpc.so_reuseport", 1),
            ("grpc.max_receive_message_length", size),
            ("grpc.max_send_message_length", -1),
        ]
        server = grpc.aio.server(options=options)
        handlers = {name: _handler(call) for name, call in self._calls().items()}
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(oip.SERVICE, handlers),)
        )
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if tls is None:
                server.add_insecure_port(address)
            else:
                pair = (tls.key.read_bytes(), tls.certificate.read_bytes())
                server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
        except RuntimeError as error:
            raise Unavailable(f"cannot listen on {address} for gRPC", found=str(error)) from error
        await server.start()
        self._server = server

    async def stop(self, seconds: float) -> None:
        """No new calls; those under way have so many seconds to end."""
        if self._server is not None:
            await self._server.stop(seconds)

    def _calls(self) -> dict[str, Callable[[bytes, Any], Awaitable[bytes]]]:
        return {
            "ModelInfer": self._infer,
            "ServerLive": self._simple("ServerLive", lambda asked: {"live": True}),
            "ServerReady": self._simple("ServerReady", lambda _: {"ready": self._intake.ready}),
            "ModelReady": self._simple("ModelReady", self._model_ready),
            "ServerMetadata": self._simple("ServerMetadata", lambda _: metadata.server()),
            "ModelMetadata": self._simple("ModelMetadata", self._model_metadata),
            "RepositoryIndex": self._simple("RepositoryIndex", self._index),
            "RepositoryModelLoad": self._simple("RepositoryModelLoad", self._load),
            "RepositoryModelUnload": self._simple("RepositoryModelUnload", self._unload),
        }

    async def _infer(self, data: bytes, context: Any) -> bytes:
        self._counters.began()
        try:
            message = _Infer.FromString(data)
        except DecodeError as error:
            await self._abort(context, _no_message(error))
        call = Call(message, context, self._counters.ended, self._intake.spec.max_rows)
        self._intake.infer(call, message.model_name, message.model_version or None)
        try:
            return await call.answered
        except _Failed as failed:
            await context.abort(failed.code, failed.message)
            raise

    def _simple(
        self, name: str, answer: Callable[[Any], dict[str, Any] | Awaitable[dict[str, Any]]]
    ) -> Callable[[bytes, Any], Awaitable[bytes]]:
        """A call about the server. answer(request) -> the fields of the response."""
        asked, said = oip.message(f"{name}Request"), oip.message(f"{name}Response")

        async def call(data: bytes, context: Any) -> bytes:
            self._counters.began()
            try:
                fields = answer(asked.FromString(data))
                if not isinstance(fields, dict):
                    fields = await fields
            except DecodeError as error:
                await self._abort(context, _no_message(error))
            except HomeostatError as error:
                await self._abort(context, error)
            except asyncio.CancelledError:  # the caller did not wait for a load to end
                self._counters.ended(GONE)
                raise
            self._counters.ended(200)
            body: bytes = said(**fields).SerializeToString()
            return body

        return call

    async def _abort(self, context: Any, error: HomeostatError) -> NoReturn:
        """End a call with an error."""
        status = status_of(error)
        self._counters.series("", "", "").failed(1)
        self._counters.ended(status)
        await context.abort(CODES[status], str(error))
        raise error  # never reached: abort raises

    def _model_ready(self, asked: Any) -> dict[str, Any]:
        try:
            self._intake.served(asked.name, asked.version or None)
        except Unavailable:
            return {"ready": False}
        return {"ready": True}

    def _model_metadata(self, asked: Any) -> dict[str, Any]:
        served, loaded = self._intake.loaded(asked.name, asked.version or None)
        about = metadata.model(asked.name, served, loaded)
        about["properties"] = {
            "features": ",".join(loaded.inputs),
            "version": loaded.version,
        }
        del about["parameters"]
        return about

    def _index(self, asked: Any) -> dict[str, Any]:
        return {"models": repository.index(self._intake.routes, ready=asked.ready)}

    async def _load(self, asked: Any) -> dict[str, Any]:
        model = _repository_model(asked)
        await repository.load(self._intake.routes, model)
        return {"model_name": model, "isLoaded": True}

    async def _unload(self, asked: Any) -> dict[str, Any]:
        model = _repository_model(asked)
        await repository.unload(self._intake.routes, model)
        return {"model_name": model, "isUnloaded": True}


def _handler(call: Callable[[bytes, Any], Awaitable[bytes]]) -> Any:
    """Bytes in, bytes out: what is no message is refused by us, with a sentence."""
    return grpc.unary_unary_rpc_method_handler(call)


def _repository_model(asked: Any) -> str:
    """KServe's client has the name where Triton's has that of a repository."""
    repository.check_parameters(set(asked.parameters))
    return str(asked.model_name or asked.repository_name)


def _no_message(error: DecodeError) -> BadInput:
    return BadInput("not a message of this service", found=str(error))
