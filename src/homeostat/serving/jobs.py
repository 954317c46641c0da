"""One request between the protocol that read it and the engine that answers it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from homeostat.core.route import Assignment
from homeostat.core.servable import Field
from homeostat.serving.batch import Inputs
from homeostat.serving.routes import Served
from homeostat.serving.runtime import Columns, LoadedModel


class Refusal(Protocol):
    """Where the refusal of a request goes."""

    def fail(self, status: int, message: str) -> None: ...


class Reply(Refusal, Protocol):
    """Where the answer to a request goes, once."""

    def answer(self, job: Job, answer: Answer) -> None:
        """Encode the answer and send it; called after it is in the log and counted."""


class Rows(Protocol):
    """The rows of a request as they were sent. Both methods raise BadInput; `order` is what
    positions mean (the champion's inputs)."""

    @property
    def n(self) -> int: ...

    def matrix(
        self, inputs: tuple[str, ...], order: tuple[str, ...]
    ) -> list[float] | NDArray[np.float32]:
        """Flat values (n x d), or a matrix (n, d), in the order of `inputs`."""

    def typed(self, fields: tuple[Field, ...], order: tuple[str, ...]) -> Columns:
        """An array per field, (n, *shape) of its dtype."""


class Answer:
    """What a version said to one request.

    scores (n) as Python numbers, and `array` the same as float32; results: further outputs,
    (n, *shape) each. explore: this request is let through although a score is at or above the
    threshold, so that its true outcome becomes known.
    """

    __slots__ = ("_all", "_start", "explore", "results", "scores", "version")

    def __init__(
        self,
        version: str,
        scores: list[float],
        explore: bool,
        results: Columns,
        all: NDArray[np.float32],
        start: int,
    ) -> None:
        """all: the scores of the whole batch, of which this answer's begin at `start`."""
        self.version, self.scores, self.explore = version, scores, explore
        self.results, self._all, self._start = results, all, start

    @property
    def array(self) -> NDArray[np.float32]:
        return self._all[self._start : self._start + len(self.scores)]


class Job:
    """One request, parsed and assigned, waiting for its scores.

    started, deadline: by `perf_counter`; once the deadline has passed it is not computed.
    trace: the caller's W3C `traceparent`, when spans are kept.
    """

    __slots__ = (
        "chosen", "deadline", "id", "inputs", "model", "n", "reply", "rows", "served", "started",
        "trace",
    )  # fmt: skip

    def __init__(
        self,
        reply: Reply,
        served: Served,
        model: LoadedModel,
        chosen: Assignment,
        rows: Rows,
        id: str,
        started: float,
        deadline: float | None = None,
        trace: str | None = None,
    ) -> None:
        """Raises BadInput when the rows are not what the model takes."""
        self.reply, self.served, self.model, self.chosen = reply, served, model, chosen
        self.rows, self.n, self.id = rows, rows.n, id
        self.started, self.deadline, self.trace = started, deadline, trace
        self.inputs = inputs_for(model, rows, served.order)


def inputs_for(model: LoadedModel, rows: Rows, order: tuple[str, ...]) -> Inputs:
    """The rows as `model` takes them. Raises BadInput."""
    if model.plain:
        return rows.matrix(model.inputs, order)
    return rows.typed(model.columns, order)
