"""gRPC: `inference.GRPCInferenceService` on the event loop of the worker, through the same
intake, log and counters as HTTP. Imported only when a port is asked for."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from time import monotonic, perf_counter
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from homeostat.core.errors import BadInput, HomeostatError, Unavailable
from homeostat.serving import metadata, oip, repository
from homeostat.serving.address import Tls
from homeostat.serving.admission import Bodies
from homeostat.serving.codec import Outputs
from homeostat.serving.counters import Counters
from homeostat.serving.grpc_codec import read_tensors, write_tensors
from homeostat.serving.intake import Intake, Unsupported, status_of
from homeostat.serving.jobs import Answers, Job, Rows
from homeostat.serving.listener import emptied
from homeostat.serving.requests import outputs_of
from homeostat.serving.routes import Served
from homeostat.serving.rows import some

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
AGE = 3.0
"""Seconds (give or take a tenth) after which a connection is asked to be made anew, between two
calls. A server that stops can ask nobody without failing the calls that are just coming in
(gRPC refuses them at once), so it waits until all have gone by themselves."""
CALLS = 1000
"""Calls of one connection at a time; the others wait at the client."""
LOOK, QUIET = 0.02, 50
"""Seconds between looks at a server that drains, and after how many of them without a call those
who stay connected are not waited for. (Looks, not seconds: after a time in which this process did
not run, calls may be waiting that have not been seen.)"""

_Infer = oip.message("ModelInferRequest")


class _Failed(Exception):
    """The end of a call that is no answer."""

    def __init__(self, status: int, message: str) -> None:
        self.code, self.message = CODES[status], message
        super().__init__(message)


class Call(Job):
    """A ModelInfer under way: where its answer goes."""

    def __init__(self, message: Any, context: Any, ended: Callable[[int], None], rows: int) -> None:
        self._context = context
        super().__init__(perf_counter(), self._metadata("x-homeostat-key"))
        self._message, self._ended, self._max_rows = message, ended, rows
        self.answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        wanted = tuple(output.name for output in message.outputs)
        self.outputs = Outputs(wanted, frozenset()) if wanted else None

    @property
    def trace(self) -> str | None:
        return self._metadata("traceparent")

    @property
    def client(self) -> str:
        # ipv4:127.0.0.1:5000, ipv6:%5B::1%5D:5000
        return str(self._context.peer().partition(":")[2].rpartition(":")[0])

    def _metadata(self, name: str) -> str | None:
        for key, value in self._context.invocation_metadata() or ():
            if key == name:
                return str(value)
        return None

    def read(self, served: Served) -> Rows:
        left = self._context.time_remaining()
        self.deadline = None if left is None else self.started + left
        return read_tensors(self._message, self._max_rows)

    def encode(self, answers: Answers, at: int, explore: bool) -> bytes:
        return write_tensors(
            self.served.model,
            answers.version,
            self.id,
            outputs_of(self.model, answers, at, self.n, self.outputs),
            raw=bool(self._message.raw_input_contents),
            explore=explore,
        )

    def send(self, answer: bytes) -> None:
        if not self.answered.done():  # else the caller has gone
            self.answered.set_result(answer)

    def fail(self, status: int, message: str) -> None:
        self._ended(status)
        if not self.answered.done():
            self.answered.set_exception(_Failed(status, message))


class GrpcFront(grpc.GenericRpcHandler):  # type: ignore[misc]
    """The service. Every call counts as a request and ends once, as over HTTP: what gRPC turns
    away too (a message that is too large, an unknown method). What is no call (broken HTTP/2)
    never comes here."""

    def __init__(self, intake: Intake, counters: Counters, bodies: Bodies) -> None:
        self._intake, self._counters, self._bodies = intake, counters, bodies
        self._server: Any = None
        self._port = 0
        self._under_way = self._calls_seen = 0
        self._handlers = {
            f"/{oip.SERVICE}/{name}": _handler(self._counted(call))
            for name, call in self._calls().items()
        }
        self._unknown = _handler(self._counted(self._no_method))

    def service(self, handler_call_details: Any) -> Any:
        """gRPC asks for what answers a method."""
        return self._handlers.get(handler_call_details.method, self._unknown)

    async def start(self, host: str, port: int, tls: Tls | None) -> None:
        """Accept calls. Raises Unavailable when the port cannot be had."""
        size = self._intake.spec.max_body + HEAD_ROOM
        options = [
            ("grpc.so_reuseport", 1),
            ("grpc.max_receive_message_length", size),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_connection_age_ms", int(AGE * 1000)),
            ("grpc.max_concurrent_streams", CALLS),
        ]
        server = grpc.aio.server(options=options)
        server.add_generic_rpc_handlers((self,))
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if tls is None:
                self._port = server.add_insecure_port(address)
            else:
                pair = (tls.key.read_bytes(), tls.certificate.read_bytes())
                credentials = grpc.ssl_server_credentials([pair])
                self._port = server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise Unavailable(f"cannot listen on {address} for gRPC", found=str(error)) from error
        await server.start()
        self._server = server

    async def drain(self, seconds: float) -> None:
        """No new connections; those that are there end between two calls, by their age or because
        nobody calls; after so many seconds whatever happens."""
        deadline = monotonic() + seconds
        await _stop_listening(self._port)
        quiet, seen = 0, self._calls_seen
        while _connected(self._port) and quiet < QUIET and monotonic() < deadline:
            await asyncio.sleep(LOOK)
            idle = not self._under_way and self._calls_seen == seen
            quiet, seen = quiet + 1 if idle else 0, self._calls_seen
        await self._server.stop(max(0.0, deadline - monotonic()))

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

    def _counted(
        self, call: Callable[[bytes, Any], Awaitable[bytes]]
    ) -> Callable[[Any, Any], Awaitable[bytes]]:
        """As gRPC calls it: the message is read here, since of one that it refuses itself
        (too large, not decompressed) it tells nobody else."""

        async def take(_: Any, context: Any) -> bytes:
            self._under_way += 1
            self._calls_seen += 1
            self._counters.began()
            try:
                data = await context.read()
                if data is grpc.aio.EOF:
                    await self._abort(context, BadInput("no message that could be read"))
                # only now is its length known: gRPC has read what it will refuse, but keeps no
                # more than this of what waits
                if not self._bodies.take(len(data)):
                    await self._abort(context, Unavailable(self._bodies.full))
                try:
                    return await call(data, context)
                finally:
                    self._bodies.give(len(data))
            finally:
                self._under_way -= 1

        return take

    async def _no_method(self, data: bytes, context: Any) -> bytes:
        await self._abort(
            context, Unsupported("no such method", expected=some(sorted(self._calls())))
        )

    async def _infer(self, data: bytes, context: Any) -> bytes:
        try:
            message = _Infer.FromString(data)
        except DecodeError as error:
            await self._abort(context, _no_message(error))
        call = Call(message, context, self._counters.ended, self._intake.spec.max_rows)
        self._intake.infer([call], message.model_name, message.model_version or None)
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


def _handler(call: Callable[[Any, Any], Awaitable[bytes]]) -> Any:
    """Bytes in, bytes out: what is no message is refused by us, with a sentence. To gRPC the one
    message is a stream, so that it calls us before it has read it; the caller sees no difference.
    """
    return grpc.stream_unary_rpc_method_handler(call)


def _sockets(port: int) -> Iterator[socket.socket]:
    """The sockets of this process at a port, which gRPC does not show; one at a time."""
    for name in os.listdir("/proc/self/fd"):
        try:
            held = socket.socket(fileno=os.dup(int(name)))
        except OSError:  # no socket, or the folder that is being read
            continue
        with held:
            about = held.getsockname()
            if isinstance(about, tuple) and about[1] == port:
                yield held


async def _stop_listening(port: int) -> None:
    """Let new connections go to the other workers, which gRPC itself does only together with
    refusing the calls of those that are there."""
    for held in _sockets(port):
        if held.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            await emptied(held)
            held.shutdown(socket.SHUT_RDWR)


def _connected(port: int) -> bool:
    return any(_peer(held) for held in _sockets(port))


def _peer(held: socket.socket) -> bool:
    try:
        held.getpeername()
    except OSError:
        return False
    return True


def _repository_model(asked: Any) -> str:
    """KServe's client has the name where Triton's has that of a repository."""
    repository.check_parameters(set(asked.parameters))
    return str(asked.model_name or asked.repository_name)


def _no_message(error: DecodeError) -> BadInput:
    return BadInput("not a message of this service", found=str(error))
