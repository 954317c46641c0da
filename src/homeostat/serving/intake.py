"""From a request to the engine, the same for every protocol: find the model, draw the version,
queue the job; log and count what is refused."""

from __future__ import annotations

import itertools
import os
from typing import Protocol

from homeostat.core.errors import BadInput, HomeostatError, NotFound, Unavailable
from homeostat.serving.engine import Engine
from homeostat.serving.jobs import Job, Reply, Rows
from homeostat.serving.routes import Routes, Served
from homeostat.serving.rows import TooManyRows
from homeostat.serving.runtime import LoadedModel
from homeostat.serving.spec import ServingSpec


class Unsupported(HomeostatError):
    """Something that the protocol knows and this server does not do."""


def status_of(error: HomeostatError) -> int:
    """The HTTP status that an error has at the edge."""
    match error:
        case TooManyRows():
            return 413
        case NotFound():
            return 404
        case BadInput():
            return 400
        case Unavailable():
            return 503
        case Unsupported():
            return 501
        case _:
            return 500


class Body(Rows, Protocol):
    """What a protocol read from the body of a request. id: the caller's, or None."""

    @property
    def id(self) -> str | None: ...

    def value(self, name: str, order: tuple[str, ...]) -> str | None:
        """A feature of the first row as text; None when it is not there."""

    def check_names(self, known: frozenset[str]) -> None:
        """Raises BadInput for names that are no feature of any served version."""


class Request(Reply, Protocol):
    """A request for predictions, and the way its answer goes.

    key: what keeps a caller on one version; client: its address; started: when the request had
    arrived, by `perf_counter`, and deadline: until when an answer is of use (raises BadInput when
    it cannot be read); trace: the caller's W3C `traceparent`.
    """

    @property
    def key(self) -> str | None: ...

    @property
    def client(self) -> str: ...

    @property
    def started(self) -> float: ...

    @property
    def deadline(self) -> float | None: ...

    @property
    def trace(self) -> str | None: ...

    def read(self, served: Served) -> Body:
        """Raises BadInput."""

    def check(self, model: LoadedModel) -> None:
        """Raises BadInput when the request wants what this version does not give."""


class Intake:
    """Where all protocols come together."""

    def __init__(self, spec: ServingSpec, routes: Routes, engine: Engine) -> None:
        self.spec, self.routes = spec, routes
        self._engine = engine

    def infer(self, request: Request, model: str, version: str | None) -> None:
        """Answered at the end of this tick, or refused at once."""
        id: str | None = None
        try:
            served = self.served(model, version)
            refused = self._engine.admit(request.client, request.started)
            if refused is not None:
                self._engine.refuse(
                    model, request, refused.status, refused.message, request.started, _new_id()
                )
                return
            rows = request.read(served)
            id = rows.id
            job = self._job(request, served, rows, version)
        except HomeostatError as error:
            known = model if model in self.routes.known else ""
            self.refuse(known, request, error, id)
            return
        self._engine.submit(job)

    def refuse(
        self, model: str, request: Request, error: HomeostatError, id: str | None = None
    ) -> None:
        self._engine.refuse(
            model, request, status_of(error), str(error), request.started, id or _new_id()
        )

    def served(self, model: str, version: str | None) -> Served:
        """What is served under a name. Raises NotFound or Unavailable."""
        served = self.routes.find(model)
        if served is None or served.champion is None:
            if self.routes.is_unloaded(model):
                raise Unavailable(f"{model} has been unloaded", remedy="load it first")
            if model in self.routes.known:
                raise Unavailable(f"no version of {model} is ready")
            names = sorted(self.routes.known)
            known = f"one of: {', '.join(names)}" if names else None
            raise NotFound(f"no model {model!r}", expected=known)
        if version is not None and version not in served.versions:
            there = ", ".join(sorted(served.versions))
            raise NotFound(f"{model} has no version {version!r}", expected=f"one of: {there}")
        return served

    def loaded(self, model: str, version: str | None) -> tuple[Served, LoadedModel]:
        """A version by name, or the champion. Raises NotFound or Unavailable."""
        served = self.served(model, version)
        found = served.champion if version is None else served.versions[version]
        assert found is not None  # `served` saw to it
        return served, found

    @property
    def ready(self) -> bool:
        """Every model in memory can be answered for; one that is parked is, after a moment."""
        models = self.routes.models.values()
        return bool(models or self.routes.parked) and all(m.champion is not None for m in models)

    def _job(self, request: Request, served: Served, rows: Body, version: str | None) -> Job:
        rows.check_names(served.names)
        id = rows.id or _new_id()
        if version is None:
            key = request.key
            if key is None and served.route.sticky is not None:
                key = rows.value(served.route.sticky, served.order)
            found = served.assign(id if key is None else key)
        else:
            found = served.named(version)
        assert found is not None  # `served` saw to it
        model, chosen = found
        request.check(model)
        return Job(
            request,
            served,
            model,
            chosen,
            rows,
            id,
            request.started,
            request.deadline,
            request.trace,
        )


_own = os.urandom(8).hex()
_count = itertools.count(int.from_bytes(os.urandom(4), "little"))


def _new_id() -> str:
    """32 hexadecimal digits: 64 random bits of this process, and a count from a random start on.
    A tenth of the price of a UUID, and as unlikely to meet another worker's."""
    return f"{_own}{next(_count):016x}"
