"""The endpoints: which request means what, and which status an error has."""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from collections.abc import Callable
from urllib.parse import unquote

import msgspec

from homeostat.core.errors import BadInput, HomeostatError, NotFound, Unavailable
from homeostat.serving import metadata, repository
from homeostat.serving.counters import Counters
from homeostat.serving.engine import LATE, Engine
from homeostat.serving.exchange import Exchange
from homeostat.serving.explain import MOST, Explainer
from homeostat.serving.intake import Intake, status_of
from homeostat.serving.jobs import Dialect
from homeostat.serving.labels import read_labels
from homeostat.serving.log import SegmentLog
from homeostat.serving.requests import V1, V2
from homeostat.serving.scoring import FAILED
from homeostat.serving.segment import frame

PROMETHEUS = b"text/plain; version=0.0.4; charset=utf-8"
_V1 = re.compile(r"/v1/models/([^/:]+)(?::(predict|explain)|/(labels))?")
_V2 = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?(?:/(ready|infer))?")
_HIDDEN = re.compile(r"%(2f|5c|00)", re.IGNORECASE)
_REPOSITORY = re.compile(r"/v2/repository/models/([^/]+)/(load|unload)")
PATHS = 1000
"""Targets whose endpoint is remembered; the oldest is forgotten first."""
_encode = msgspec.json.Encoder().encode
_logger = logging.getLogger(__name__)

Handler = Callable[[Exchange], None]


class Burst:
    """Requests for predictions by one model (and version) that came in one tick of the event loop:
    they are read and scored together at its end, which is cheaper than one by one."""

    __slots__ = ("_began", "_dialect", "_intake", "_model", "_version", "_waiting")

    def __init__(
        self,
        intake: Intake,
        began: Callable[[int], None],
        dialect: Dialect[Exchange],
        model: str,
        version: str | None,
    ) -> None:
        self._intake, self._began, self._dialect = intake, began, dialect
        self._model, self._version = model, version
        self._waiting: list[Exchange] = []

    def add(self, exchange: Exchange) -> None:
        if not self._waiting:
            self._intake.at_end(self._read)
        self._waiting.append(exchange)

    def _read(self) -> None:
        exchanges, self._waiting = self._waiting, []
        self._began(len(exchanges))
        self._intake.infer(self._dialect, exchanges, self._model, self._version)


class Api:
    """Hands each request to its endpoint."""

    def __init__(
        self,
        intake: Intake,
        engine: Engine,
        log: SegmentLog,
        counters: Counters,
        now_us: Callable[[], int],
        metrics: Callable[[], bytes],
        explainer: Explainer,
    ) -> None:
        self._routes, self._engine = intake.routes, engine
        self._log, self._counters, self._now_us = log, counters, now_us
        self._intake, self._max_rows = intake, intake.spec.max_rows
        self._metrics, self._explainer = metrics, explainer
        self._tasks: set[asyncio.Task[None]] = set()
        self._paths: dict[bytes, dict[bytes, Handler]] = {}

    def find(self, method: bytes, target: bytes) -> Handler:
        """What answers a request, now or at the end of this tick."""
        methods = self._paths.get(target)
        if methods is None:
            methods = self._find(target)
        handler = methods.get(b"GET" if method == b"HEAD" else method)
        return handler or (lambda exchange: self._wrong(exchange, methods))

    def _counted(self, handler: Handler) -> Handler:
        """Requests that are counted, and answered, one by one."""

        def handle(exchange: Exchange) -> None:
            self._counters.began()
            try:
                handler(exchange)
            except Exception as error:
                if exchange.answer is not None:
                    raise
                self._failed(exchange, error)

        return handle

    def _failed(self, exchange: Exchange, error: BaseException) -> None:
        """A mistake of ours, or a disk that fails: the client hears of it, and it is counted."""
        _logger.error("no answer to %s", _path(exchange.target), exc_info=error)
        self._refuse(exchange, HomeostatError(FAILED))

    def _wrong(self, exchange: Exchange, methods: dict[bytes, Handler]) -> None:
        """No such path, or not with this method."""
        self._counters.began()
        if not methods:
            self._refuse(exchange, NotFound(f"no such path: {_path(exchange.target)}"))
            return
        allowed = b", ".join(sorted({*methods, b"HEAD"} if b"GET" in methods else methods))
        message = f"{exchange.method.decode()} is not possible here, {allowed.decode()} is"
        self._counters.series("", "", "").failed(1)
        body = _encode({"error": message})
        exchange.send(405, body, extra=b"allow: %b\r\n" % allowed)

    def refused(self) -> None:
        """A request that was no valid HTTP."""
        self._counters.began()
        self._counters.series("", "", "").failed(1)

    def _find(self, target: bytes) -> dict[bytes, Handler]:
        path = _path(target)
        methods = self._predictions(path) or {
            method: self._counted(handler) for method, handler in self._endpoint(path).items()
        }
        # only what exists is remembered and only so much, so that a client can neither fill the
        # memory nor, by writing a path in many ways, keep the others' from being remembered
        named = _V1.fullmatch(path) or _V2.fullmatch(path)
        known = named is not None and named[1] in self._routes.known
        if known and len(target) < 256 and b"?" not in target:
            if len(self._paths) >= PATHS:
                del self._paths[next(iter(self._paths))]
            self._paths[target] = methods
        return methods

    def _predictions(self, path: str) -> dict[bytes, Handler]:
        dialect: Dialect[Exchange]
        if (found := _V1.fullmatch(path)) and found[2] == "predict":
            dialect, version = V1(self._max_rows), None
        elif (found := _V2.fullmatch(path)) and found[3] == "infer":
            dialect, version = V2(self._max_rows), found[2]
        else:
            return {}
        return {b"POST": Burst(self._intake, self._counters.began, dialect, found[1], version).add}

    def _endpoint(self, path: str) -> dict[bytes, Handler]:
        fixed: dict[str, Handler] = {
            "/": lambda x: x.send(200, b'{"status":"alive"}'),  # V1's health
            "/v1/models": self._list,
            "/v2": self._server,
            "/v2/models": self._list,
            "/v2/health/live": lambda x: x.send(200, b'{"live":true}'),
            "/v2/health/ready": self._server_ready,
            "/metrics": lambda x: x.send(200, self._metrics(), PROMETHEUS),
        }
        if path in fixed:
            return {b"GET": fixed[path]}
        if path == "/v2/repository/index":
            return {b"POST": self._index}
        if found := _REPOSITORY.fullmatch(path):
            model, verb = found[1], found[2]
            return {b"POST": lambda x: self._change(x, model, verb)}
        if found := _V1.fullmatch(path):
            return self._v1(found[1], found[2] or found[3])
        if found := _V2.fullmatch(path):
            return self._v2(found[1], found[2], found[3])
        return {}

    def _v1(self, model: str, verb: str | None) -> dict[bytes, Handler]:
        if verb == "explain":
            return {b"POST": lambda x: self._explain(x, model)}
        if verb == "labels":
            return {b"POST": lambda x: self._labels(x, model)}
        return {b"GET": lambda x: self._ready(x, model, None)}

    def _v2(self, model: str, version: str | None, verb: str | None) -> dict[bytes, Handler]:
        if verb == "ready":
            return {b"GET": lambda x: self._ready(x, model, version)}
        return {b"GET": lambda x: self._metadata(x, model, version)}

    # ------------------------------------------------------------ predictions

    def _explain(self, exchange: Exchange, model: str) -> None:
        def done(said: bytes | BaseException) -> None:
            if isinstance(said, bytes):
                exchange.send(200, said)
            elif isinstance(said, TimeoutError):
                self._counters.add("expired")
                self._turn_away(exchange, 504, LATE)
            elif isinstance(said, HomeostatError):
                self._refuse(exchange, said)
            else:
                self._failed(exchange, said)

        try:
            served = self._intake.served(model, None)
            refused = self._engine.admit(exchange)
            if refused is not None:
                self._turn_away(exchange, refused.status, refused.message)
                return
            dialect = V1(min(self._max_rows, MOST))
            self._explainer.submit(self._intake.job(dialect, exchange, served, None), done)
        except HomeostatError as error:
            self._refuse(exchange, error)

    def _refuse(self, exchange: Exchange, error: HomeostatError) -> None:
        """Answer what is no prediction with an error, counted under no model."""
        self._turn_away(exchange, status_of(error), str(error))

    def _turn_away(self, exchange: Exchange, status: int, why: str) -> None:
        self._engine.refuse("", exchange, status, why, exchange.started, uuid.uuid4().hex)

    # ------------------------------------------------------------ labels

    def _labels(self, exchange: Exchange, model: str) -> None:
        try:
            self._known(model)
            records = read_labels(exchange.body, model, self._now_us(), self._max_rows)
            if not self._log.labels([frame(record) for record in records]):
                raise Unavailable(
                    "no room in the log: the labels cannot be kept", remedy="send them again"
                )
        except HomeostatError as error:
            self._refuse(exchange, error)
            return
        self._counters.add("labels", len(records))
        exchange.send(200, b'{"accepted":%d}' % len(records))

    # ------------------------------------------------------------ about the server

    def _list(self, exchange: Exchange) -> None:
        exchange.send(200, _encode({"models": sorted(self._routes.known)}))

    def _server(self, exchange: Exchange) -> None:
        exchange.send(200, _encode(metadata.server()))

    def _server_ready(self, exchange: Exchange) -> None:
        ready = self._intake.ready
        exchange.send(200 if ready else 503, _encode({"ready": ready}))

    def _ready(self, exchange: Exchange, model: str, version: str | None) -> None:
        ready = True
        try:
            self._intake.served(model, version)
        except Unavailable:
            ready = False
        except NotFound as error:
            self._refuse(exchange, error)
            return
        exchange.send(200 if ready else 503, _encode({"name": model, "ready": ready}))

    def _metadata(self, exchange: Exchange, model: str, version: str | None) -> None:
        try:
            served, loaded = self._intake.loaded(model, version)
        except HomeostatError as error:
            self._refuse(exchange, error)
            return
        exchange.send(200, _encode(metadata.model(model, served, loaded)))

    # ------------------------------------------------------------ the repository

    def _index(self, exchange: Exchange) -> None:
        try:
            ready = repository.read_index(exchange.body)
        except BadInput as error:
            self._refuse(exchange, error)
            return
        exchange.send(200, _encode(repository.index(self._routes, ready=ready)))

    def _change(self, exchange: Exchange, model: str, verb: str) -> None:
        task = asyncio.get_running_loop().create_task(self._changed(exchange, model, verb))
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)

    async def _changed(self, exchange: Exchange, model: str, verb: str) -> None:
        try:
            repository.read_change(exchange.body)
            change = repository.load if verb == "load" else repository.unload
            await change(self._routes, model)
        except HomeostatError as error:
            self._refuse(exchange, error)
            return
        exchange.send(200, _encode({"name": model, verb: True}))

    def _known(self, model: str) -> None:
        """Raises NotFound for a model without a route."""
        if model not in self._routes.known:
            self._intake.served(model, None)


def _path(target: bytes) -> str:
    """The path of a request target, decoded, without query and host."""
    text = target.decode("latin-1").partition("?")[0].partition("#")[0]
    if text.startswith(("http://", "https://")):
        text = "/" + text.split("://", 1)[1].partition("/")[2]
    # what hides a slash or an end of text is no path of ours, and is shown as it came
    path = text if _HIDDEN.search(text) else unquote(text)
    return path.rstrip("/") if len(path) > 1 else path
