"""One request between the protocol that read it and the engine that answers it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from homeostat.core.route import Assignment
from homeostat.core.servable import Field
from homeostat.serving.batch import Inputs
from homeostat.serving.codec import OUTPUT, Outputs
from homeostat.serving.routes import Served
from homeostat.serving.rows import Positional
from homeostat.serving.runtime import Columns, LoadedModel


class Refusal(Protocol):
    """Where the refusal of a request goes."""

    def fail(self, status: int, message: str) -> None: ...


class Rows(Protocol):
    """The rows of a request as they were sent; all methods raise BadInput. `order` is what
    positions mean (the champion's inputs), `where` the same as places. id: the caller's, or None.
    """

    @property
    def id(self) -> str | None: ...

    @property
    def n(self) -> int: ...

    def matrix(
        self, inputs: tuple[str, ...], order: tuple[str, ...]
    ) -> list[float] | bytes | NDArray[np.float32]:
        """Flat values (n x d), as numbers or as float32 in bytes, or a matrix (n, d), in the
        order of `inputs`."""

    def typed(self, fields: tuple[Field, ...], order: tuple[str, ...]) -> Columns:
        """An array per field, (n, *shape) of its dtype."""

    def value(self, name: str, where: dict[str, int]) -> str | None:
        """A feature of the first row as text; None when it is not there."""

    def check_names(self, known: frozenset[str]) -> None:
        """Refuse names that are no feature of any served version."""


class Answers:
    """What a version said to the requests of one run, row after row.

    scores (n) as Python numbers, and `array` the same as float32; results: further outputs,
    (n, *shape) each.
    """

    __slots__ = ("array", "prefix", "results", "scores", "version")

    def __init__(
        self,
        served: Served,
        version: str,
        scores: list[float],
        array: NDArray[np.float32],
        results: Columns,
    ) -> None:
        self.version, self.prefix = version, served.prefixes[version]
        self.scores, self.array, self.results = scores, array, results


class Job(ABC):
    """One request for predictions. A protocol makes it and says how it is read and answered; the
    intake draws who answers it; then it waits for its scores.

    started, deadline: by `perf_counter`; once the deadline has passed it is not computed. key: what
    keeps a caller on one version. pieces: the steps in which a large body is to be read before
    `read`. id: "" until it has been read; and outputs: those that are wanted, None for all of them.
    """

    __slots__ = (
        "chosen", "deadline", "id", "inputs", "key", "model", "n", "outputs", "pieces", "rows",
        "served", "started",
    )  # fmt: skip

    served: Served
    model: LoadedModel
    chosen: Assignment
    rows: Rows
    inputs: Inputs
    id: str
    n: int

    def __init__(self, started: float, key: str | None = None) -> None:
        self.started, self.key = started, key
        self.id = ""
        self.deadline: float | None = None
        self.pieces: Iterator[None] | None = None
        self.outputs: Outputs | None = None

    @property
    @abstractmethod
    def client(self) -> str:
        """The address it comes from."""

    @property
    @abstractmethod
    def trace(self) -> str | None:
        """The caller's W3C `traceparent`."""

    @abstractmethod
    def read(self, served: Served) -> Rows:
        """The rows, and until when an answer is of use (`deadline`). Raises BadInput."""

    @abstractmethod
    def encode(self, answers: Answers, at: int, explore: bool) -> bytes:
        """The answer, whose rows begin at `at`. explore: it is let through although a score is at
        or above the threshold, so that its true outcome becomes known. Raises whatever a value
        does that has no place in an answer."""

    @abstractmethod
    def send(self, answer: bytes) -> None:
        """Send what `encode` made; called once, after it is in the log and counted."""

    @abstractmethod
    def fail(self, status: int, message: str) -> None:
        """Send and count an error instead."""

    def give(self, served: Served, rows: Rows, found: tuple[LoadedModel, Assignment]) -> None:
        """Who answers which rows. Raises BadInput when they are not what the model takes, or when
        outputs are wanted that it does not give."""
        self.served, self.rows, self.n = served, rows, rows.n
        model, self.chosen = found
        self.model = model
        if self.outputs is not None:
            self.outputs.check(output_names(model))
        if type(rows) is Positional and rows.width == served.widths.get(model):
            self.inputs = rows.flat  # as nearly always, and as it came
        else:
            self.inputs = inputs_for(model, rows, served.order)


def output_names(model: LoadedModel) -> tuple[str, ...]:
    """The outputs that a version gives: the score, and what it has beside it."""
    return (OUTPUT, *(field.name for field in model.results))


def inputs_for(model: LoadedModel, rows: Rows, order: tuple[str, ...]) -> Inputs:
    """The rows as `model` takes them. Raises BadInput."""
    if model.plain:
        return rows.matrix(model.inputs, order)
    return rows.typed(model.columns, order)
