"""The endpoints: which request means what, and which status an error has."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import msgspec

from homeostat import __version__
from homeostat.core.errors import BadInput
from homeostat.serving.codec import OUTPUT, Rows, TooManyRows, read_v1, read_v2, write_v1, write_v2
from homeostat.serving.counters import Counters
from homeostat.serving.engine import Engine
from homeostat.serving.exchange import Exchange
from homeostat.serving.jobs import Answer, Job, Reply
from homeostat.serving.labels import read_labels
from homeostat.serving.log import SegmentLog
from homeostat.serving.routes import Routes, Served
from homeostat.serving.runtime import LoadedModel
from homeostat.serving.segment import frame
from homeostat.serving.spec import ServingSpec

PROMETHEUS = b"text/plain; version=0.0.4; charset=utf-8"
_V1 = re.compile(r"/v1/models/([^/:]+)(?::(predict|explain)|/(labels))?")
_V2 = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?(?:/(ready|infer))?")
_encode = msgspec.json.Encoder().encode

Handler = Callable[[Exchange], None]


class ReplyV1:
    """Answers in the form of V1."""

    __slots__ = ("_exchange", "fail")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange, self.fail = exchange, exchange.fail

    def answer(self, job: Job, answer: Answer) -> None:
        body = write_v1(job.id, answer.version, answer.scores, answer.explore)
        self._exchange.send(200, body)


class ReplyV2:
    """Answers in the form of V2, as JSON."""

    __slots__ = ("_exchange", "fail")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange, self.fail = exchange, exchange.fail

    def answer(self, job: Job, answer: Answer) -> None:
        prefix = job.served.prefixes[answer.version]
        self._exchange.send(200, write_v2(prefix, job.id, answer.scores, answer.explore))


class Api:
    """Hands each request to its endpoint."""

    def __init__(
        self,
        spec: ServingSpec,
        routes: Routes,
        engine: Engine,
        log: SegmentLog,
        counters: Counters,
        now_us: Callable[[], int],
        metrics: Callable[[], bytes],
    ) -> None:
        self._spec, self._routes, self._engine = spec, routes, engine
        self._log, self._counters, self._now_us = log, counters, now_us
        self._metrics = metrics
        self._paths: dict[bytes, dict[bytes, Handler]] = {}

    def handle(self, exchange: Exchange) -> None:
        """Answer one request, now or at the end of this tick."""
        self._counters.began()
        methods = self._paths.get(exchange.target)
        if methods is None:
            methods = self._find(exchange.target)
        handler = methods.get(b"GET" if exchange.method == b"HEAD" else exchange.method)
        if handler is not None:
            handler(exchange)
        elif methods:
            allowed = b", ".join(sorted(methods))
            message = f"{exchange.method.decode()} is not possible here, {allowed.decode()} is"
            body = _encode({"error": message})
            exchange.send(405, body, extra=b"allow: %b\r\n" % allowed)
        else:
            self._refuse("", exchange, 404, f"no such path: {_path(exchange.target)}")

    def refused(self) -> None:
        """A request that was no valid HTTP."""
        self._counters.began()
        self._counters.series("", "", "").failed(1)

    def _find(self, target: bytes) -> dict[bytes, Handler]:
        path = _path(target)
        methods = self._endpoint(path)
        # only what exists is remembered, so that a client cannot fill the memory
        named = _V1.fullmatch(path) or _V2.fullmatch(path)
        known = named is not None and named[1] in self._routes.known
        if known and len(target) < 256 and len(self._paths) < 1000:
            self._paths[target] = methods
        return methods

    def _endpoint(self, path: str) -> dict[bytes, Handler]:
        fixed: dict[str, Handler] = {
            "/v1/models": self._list_v1,
            "/v2": self._server,
            "/v2/models": self._list_v1,
            "/v2/health/live": lambda x: x.send(200, b'{"live":true}'),
            "/v2/health/ready": self._server_ready,
            "/metrics": lambda x: x.send(200, self._metrics(), PROMETHEUS),
        }
        if path in fixed:
            return {b"GET": fixed[path]}
        if found := _V1.fullmatch(path):
            return self._v1(found[1], found[2] or found[3])
        if found := _V2.fullmatch(path):
            return self._v2(found[1], found[2], found[3])
        return {}

    def _v1(self, model: str, verb: str | None) -> dict[bytes, Handler]:
        if verb == "predict":
            return {b"POST": lambda x: self._infer(x, model, None, v1=True)}
        if verb == "explain":
            return {b"POST": lambda x: self._refuse("", x, 501, "explanations are not built yet")}
        if verb == "labels":
            return {b"POST": lambda x: self._labels(x, model)}
        return {b"GET": lambda x: self._ready(x, model, None)}

    def _v2(self, model: str, version: str | None, verb: str | None) -> dict[bytes, Handler]:
        if verb == "infer":
            return {b"POST": lambda x: self._infer(x, model, version, v1=False)}
        if verb == "ready":
            return {b"GET": lambda x: self._ready(x, model, version)}
        return {b"GET": lambda x: self._metadata(x, model, version)}

    # ------------------------------------------------------------ predictions

    def _infer(self, exchange: Exchange, model: str, version: str | None, *, v1: bool) -> None:
        served = self._served(exchange, model, version)
        if served is None:
            return
        refused = self._engine.admit(exchange.client, exchange.started)
        if refused is not None:
            self._refuse(model, exchange, refused.status, refused.message)
            return
        rows: Rows | None = None
        try:
            rows = (read_v1 if v1 else read_v2)(exchange.body, self._spec.max_rows)
            reply = ReplyV1(exchange) if v1 else ReplyV2(exchange)
            job = self._job(exchange, reply, served, rows, version)
        except BadInput as error:
            status = 413 if isinstance(error, TooManyRows) else 400
            id = rows.id if rows else None
            self._refuse(model, exchange, status, str(error), id)
            return
        self._engine.submit(job)

    def _job(
        self,
        exchange: Exchange,
        reply: Reply,
        served: Served,
        rows: Rows,
        version: str | None,
    ) -> Job:
        rows.check_names(served.names)
        id = rows.id or uuid.uuid4().hex
        if version is None:
            key = exchange.key
            if key is None and served.route.sticky is not None:
                key = rows.value(served.route.sticky, served.order)
            found = served.assign(id if key is None else key)
        else:
            found = served.named(version)
        assert found is not None  # _served saw to it
        model, chosen = found
        return Job(reply, served, model, chosen, rows, id, exchange.started, exchange.deadline)

    def _served(self, exchange: Exchange, model: str, version: str | None) -> Served | None:
        """What is served under a name; answers 404 or 503 and gives None where nothing is."""
        served = self._routes.models.get(model)
        if served is None or served.champion is None:
            if model in self._routes.known:
                self._refuse(model, exchange, 503, f"no version of {model} is ready")
            else:
                self._refuse("", exchange, 404, f"no model {model!r}; {self._names()}")
            return None
        if version is not None and version not in served.versions:
            there = ", ".join(sorted(served.versions))
            message = f"{model} has no version {version!r}; expected one of: {there}"
            self._refuse(model, exchange, 404, message)
            return None
        return served

    def _refuse(
        self, model: str, exchange: Exchange, status: int, message: str, id: str | None = None
    ) -> None:
        self._engine.refuse(
            model, exchange, status, message, exchange.started, id or uuid.uuid4().hex
        )

    def _names(self) -> str:
        names = sorted(self._routes.known)
        return f"expected one of: {', '.join(names)}" if names else "no model is served"

    # ------------------------------------------------------------ labels

    def _labels(self, exchange: Exchange, model: str) -> None:
        if model not in self._routes.known:
            self._refuse("", exchange, 404, f"no model {model!r}; {self._names()}")
            return
        try:
            records = read_labels(exchange.body, model, self._now_us(), self._spec.max_rows)
        except BadInput as error:
            exchange.fail(413 if isinstance(error, TooManyRows) else 400, str(error))
            return
        if not self._log.labels([frame(record) for record in records]):
            exchange.fail(503, "no room in the log: the labels cannot be kept; send them again")
            return
        self._counters.add("labels", len(records))
        exchange.send(200, b'{"accepted":%d}' % len(records))

    # ------------------------------------------------------------ about the server

    def _list_v1(self, exchange: Exchange) -> None:
        exchange.send(200, _encode({"models": sorted(self._routes.known)}))

    def _server(self, exchange: Exchange) -> None:
        about = {"name": "homeostat", "version": __version__, "extensions": []}
        exchange.send(200, _encode(about))

    def _server_ready(self, exchange: Exchange) -> None:
        ready = bool(self._routes.models) and all(
            served.champion is not None for served in self._routes.models.values()
        )
        exchange.send(200 if ready else 503, _encode({"ready": ready}))

    def _ready(self, exchange: Exchange, model: str, version: str | None) -> None:
        served = self._routes.models.get(model)
        if model not in self._routes.known or (
            version is not None and (served is None or version not in served.versions)
        ):
            self._missing(exchange, model, version)
            return
        ready = served is not None and served.champion is not None
        exchange.send(200 if ready else 503, _encode({"name": model, "ready": ready}))

    def _metadata(self, exchange: Exchange, model: str, version: str | None) -> None:
        served = self._routes.models.get(model)
        if served is None or served.champion is None:
            if model in self._routes.known:
                exchange.fail(503, f"no version of {model} is ready")
            else:
                self._missing(exchange, model, version)
            return
        loaded = served.champion if version is None else served.versions.get(version)
        if loaded is None:
            self._missing(exchange, model, version)
            return
        exchange.send(200, _encode(_about(model, served, loaded)))

    def _missing(self, exchange: Exchange, model: str, version: str | None) -> None:
        what = f"model {model!r}" if version is None else f"version {version!r} of {model!r}"
        exchange.fail(404, f"no {what}; {self._names()}")


def _about(model: str, served: Served, loaded: LoadedModel) -> dict[str, Any]:
    return {
        "name": model,
        "versions": sorted(served.versions),
        "platform": "onnx",
        "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, loaded.width]}],
        "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1]}],
        "parameters": {"features": list(loaded.inputs), "version": loaded.version},
    }


def _path(target: bytes) -> str:
    """The path of a request target, decoded, without query and host."""
    text = target.decode("latin-1").partition("?")[0].partition("#")[0]
    if text.startswith(("http://", "https://")):
        text = "/" + text.split("://", 1)[1].partition("/")[2]
    path = unquote(text)
    return path.rstrip("/") if len(path) > 1 else path
