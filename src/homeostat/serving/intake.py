"""From a request to the engine, the same for every protocol: find the model, draw the version,
queue the job; log and count what is refused."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import Iterator

from homeostat.core.errors import BadInput, HomeostatError, NotFound, Unavailable
from homeostat.serving.engine import Engine
from homeostat.serving.jobs import Job, Rows
from homeostat.serving.routes import Routes, Served
from homeostat.serving.rows import TooManyRows
from homeostat.serving.runtime import LoadedModel
from homeostat.serving.scoring import FAILED
from homeostat.serving.spec import ServingSpec

READING = 16
"""Large bodies that are read in pieces at a time; what comes beyond them is read at once, so that a
worker takes in no more than it can read."""
_logger = logging.getLogger(__name__)


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


class Intake:
    """Where all protocols come together."""

    def __init__(self, spec: ServingSpec, routes: Routes, engine: Engine) -> None:
        self.spec, self.routes = spec, routes
        self._engine = engine
        self._reading: set[asyncio.Task[None]] = set()

    def infer(self, job: Job, model: str, version: str | None, *, admitted: bool = False) -> None:
        """Answered at the end of this tick, or refused at once; later when it is large."""
        id: str | None = None
        try:
            served = self.routes.models.get(model)
            if served is None or served.champion is None or version is not None:
                served = self.served(model, version)
            refused = None if admitted else self._engine.admit(job)
            if refused is not None:
                message = refused.message
                self._engine.refuse(model, job, refused.status, message, job.started, _new_id())
                return
            pieces = None if admitted else job.pieces()
            if pieces is not None and len(self._reading) < READING:
                self._engine.in_flight += 1
                loop = asyncio.get_running_loop()
                task = loop.create_task(self._read_on(job, model, version, pieces))
                self._reading.add(task)  # the loop itself holds tasks weakly
                task.add_done_callback(self._reading.discard)
                return
            rows = job.read(served)
            id = rows.id
            self.assign(job, served, rows, version)
        except HomeostatError as error:
            known = model if model in self.routes.known else ""
            self.refuse(known, job, error, id)
            return
        self._engine.submit(job)

    async def _read_on(
        self, job: Job, model: str, version: str | None, pieces: Iterator[None]
    ) -> None:
        """A piece in each tick of the event loop: the small requests of others go on meanwhile."""
        for _ in pieces:
            await asyncio.sleep(0)
        self._engine.in_flight -= 1
        try:
            self.infer(job, model, version, admitted=True)
        except Exception as error:
            _logger.error("no answer to a large request", exc_info=error)
            self.refuse(model, job, HomeostatError(FAILED))

    def refuse(self, model: str, job: Job, error: HomeostatError, id: str | None = None) -> None:
        self._engine.refuse(model, job, status_of(error), str(error), job.started, id or _new_id())

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

    def assign(self, job: Job, served: Served, rows: Rows, version: str | None) -> None:
        """Draw the version that answers. Raises BadInput."""
        rows.check_names(served.names)
        id = rows.id or _new_id()
        if version is None:
            key = job.key
            if key is None and served.sticky is not None:
                key = rows.value(served.sticky, served.where)
            found = served.assign(id if key is None else key)
        else:
            found = served.named(version)
        job.check(found[0])
        job.give(served, rows, id, found)


_own = os.urandom(8).hex()
_count = itertools.count(int.from_bytes(os.urandom(4), "little"))


def _new_id() -> str:
    """32 hexadecimal digits: 64 random bits of this process, and a count from a random start on.
    A tenth of the price of a UUID, and as unlikely to meet another worker's."""
    return f"{_own}{next(_count):016x}"
