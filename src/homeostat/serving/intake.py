"""From a request to the engine, the same for every protocol: find the model, draw the version,
queue the job; log and count what is refused."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import chain, count
from typing import TypeVar

from homeostat.core.errors import BadInput, HomeostatError, NotFound, Unavailable
from homeostat.serving.admission import WAITING
from homeostat.serving.batch import Inputs
from homeostat.serving.engine import Engine
from homeostat.serving.jobs import Dialect, Job, Request, inputs_for, output_names
from homeostat.serving.pieces import Cut
from homeostat.serving.routes import Routes, Served
from homeostat.serving.rows import Positional, TooManyRows
from homeostat.serving.runtime import LoadedModel
from homeostat.serving.scoring import FAILED
from homeostat.serving.spec import ServingSpec

READING = 16
"""Large bodies that are read in pieces at a time; what comes beyond them is read at once, so that a
worker takes in no more than it can read."""
_logger = logging.getLogger(__name__)


R = TypeVar("R", bound=Request)


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

    def at_end(self, read: Callable[[], None]) -> None:
        """Call read() at the end of this tick: what it gives to `infer` is answered then."""
        self._engine.at_end(read)

    def infer(
        self, dialect: Dialect[R], requests: Sequence[R], model: str, version: str | None
    ) -> None:
        """Each is answered at the end of this tick, or refused at once; later when it is large."""
        try:
            served = self.served(model, version)
        except HomeostatError as error:
            known = model if model in self.routes.known else ""
            for request in requests:
                self.refuse(known, request, error)
            return
        engine = self._engine
        limited = engine.limited
        jobs: list[Job] = []
        rows = 0
        for request in requests:
            if limited or engine.rows + rows >= WAITING:
                refused = engine.admit(request, len(jobs), rows)
                if refused is not None:
                    self._turn_away(model, request, refused.status, refused.message)
                    continue
            if request.held and len(self._reading) < READING:
                pieces = dialect.pieces(request)
                if pieces is not None:
                    self._read_on(dialect, request, model, version, pieces)
                    continue
            try:
                job = self.job(dialect, request, served, version)
            except Exception as error:  # noqa: BLE001 - mistakes of ours are logged
                self._failed(request, model, error)
            else:
                jobs.append(job)
                rows += job.n
        engine.submit(jobs)

    def job(
        self,
        dialect: Dialect[R],
        request: R,
        served: Served,
        version: str | None,
        cut: Cut | None = None,
    ) -> Job:
        """Read a request, and draw the version that answers. Raises BadInput."""
        rows, outputs = dialect.read(request, served, cut)
        if type(rows) is not Positional:
            rows.check_names(served.names)
        request.id = id = rows.id or _new_id()
        if version is None:
            key = request.key
            if key is None and served.sticky is not None:
                key = rows.value(served.sticky, served.where)
            model, chosen = served.assign(id if key is None else key)
            order = served.order
        else:
            model, chosen = served.named(version)
            order = model.inputs  # as its metadata says
        if outputs is not None:
            outputs.check(output_names(model))
        inputs: Inputs
        if type(rows) is Positional and rows.width == served.widths.get(model):
            inputs = rows.flat  # as nearly always, and as it came
        else:
            inputs = inputs_for(model, rows, order)
        return Job(
            request, dialect, served, model, chosen, rows, order, inputs, outputs, id, rows.n,
            request.started, request.deadline,
        )  # fmt: skip

    def _read_on(
        self,
        dialect: Dialect[R],
        request: R,
        model: str,
        version: str | None,
        pieces: Generator[None, None, Cut | None],
    ) -> None:
        """In several ticks of the event loop: the small requests of others go on meanwhile."""

        async def read() -> None:
            try:
                cut = await _in_turns(pieces)
                job = self.job(dialect, request, self.served(model, version), version, cut)
            except Exception as error:  # noqa: BLE001 - mistakes of ours are logged
                self._failed(request, model, error)
            else:
                self._engine.submit([job])
            finally:
                self._engine.in_flight -= 1

        self._engine.in_flight += 1
        task = asyncio.get_running_loop().create_task(read())
        self._reading.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._reading.discard)

    def _failed(self, request: Request, model: str, error: Exception) -> None:
        """It cannot be read, or by a mistake of ours was not."""
        if not isinstance(error, HomeostatError):
            _logger.error("no answer to a request", exc_info=error)
            error = HomeostatError(FAILED)
        self.refuse(model, request, error)

    def refuse(self, model: str, request: Request, error: HomeostatError) -> None:
        self._turn_away(model, request, status_of(error), str(error))

    def _turn_away(self, model: str, request: Request, status: int, why: str) -> None:
        id = request.id or _new_id()
        self._engine.refuse(model, request, status, why, request.started, id)

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


async def _in_turns(pieces: Generator[None, None, Cut | None]) -> Cut | None:
    """What they make, one in each tick."""
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            made: Cut | None = end.value
            return made
        await asyncio.sleep(0)


def _ids() -> Iterator[str]:
    """32 hexadecimal digits: 64 random bits of this process, and a count from a random start on.
    A twentieth of the price of a UUID, and as unlikely to meet another worker's."""
    own, start = os.urandom(8).hex(), int.from_bytes(os.urandom(4), "little")
    last = [f"{k:03x}" for k in range(16**3)]
    return chain.from_iterable(map(f"{own}{k:013x}".__add__, last) for k in count(start))


_new_id = _ids().__next__
