"""One request between the protocol that read it and the engine that answers it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from homeostat.core.route import Assignment
from homeostat.core.servable import Field
from homeostat.serving.batch import Inputs
from homeostat.serving.codec import OUTPUT, Outputs
from homeostat.serving.pieces import Cut
from homeostat.serving.routes import Served
from homeostat.serving.runtime import Columns, LoadedModel

R = TypeVar("R", contravariant=True)


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


class Request(Protocol):
    """One request for predictions, as it came over the wire, and where its answer goes.

    started, deadline: by `perf_counter`; once the deadline has passed it is not computed. key: what
    keeps a caller on one version. client: the address it comes from. trace: the caller's W3C
    `traceparent`. held: bytes of its body, where that is large. id: "" until it has been read.
    """

    id: str

    @property
    def started(self) -> float: ...

    @property
    def deadline(self) -> float | None: ...

    @property
    def key(self) -> str | None: ...

    @property
    def client(self) -> str: ...

    @property
    def trace(self) -> str | None: ...

    @property
    def held(self) -> int: ...

    def fail(self, status: int, message: str) -> None:
        """Send and count an error."""

    def write(self, answer: bytes) -> None:
        """Send what its dialect has made, which is in the log and counted."""


class Dialect(Protocol[R]):
    """How a protocol says the requests and answers that all of them have in common."""

    def pieces(self, request: R) -> Generator[None, None, Cut | None] | None:
        """The steps in which a large body is to be read before `read`; None for all others."""

    def read(
        self, request: R, served: Served, cut: Cut | None = None
    ) -> tuple[Rows, Outputs | None]:
        """The rows, and those outputs that are wanted (None: all of them). cut: what `pieces` has
        made. Raises BadInput."""

    def encode(self, job: Job, answers: Answers, at: int, explore: bool) -> bytes:
        """The answer, whose rows begin at `at`. explore: it is let through although a score is at
        or above the threshold, so that its true outcome becomes known. Raises whatever a value
        does that has no place in an answer."""


class Job(msgspec.Struct, eq=False):
    """A request that waits for its scores: who answers it, and what it brings.

    request: a `Request`, of the kind that its dialect reads. order: what positions in its rows
    mean, the inputs of the champion or of the version that was asked for by name.
    """

    request: Any
    dialect: Dialect[Any]
    served: Served
    model: LoadedModel
    chosen: Assignment
    rows: Rows
    order: tuple[str, ...]
    inputs: Inputs
    outputs: Outputs | None
    id: str
    n: int
    started: float
    deadline: float | None


def output_names(model: LoadedModel) -> tuple[str, ...]:
    """The outputs that a version gives: the score, and what it has beside it."""
    return (OUTPUT, *(field.name for field in model.results))


def inputs_for(model: LoadedModel, rows: Rows, order: tuple[str, ...]) -> Inputs:
    """The rows as `model` takes them. Raises BadInput."""
    if model.plain:
        return rows.matrix(model.inputs, order)
    return rows.typed(model.columns, order)
