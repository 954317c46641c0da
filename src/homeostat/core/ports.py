"""What the stages need from their surroundings. Each port has a shipped contract suite in
`homeostat.testing.contracts` that every backend passes; its laws are in its docstring."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

import msgspec

from homeostat.core.events import Event, Recorded
from homeostat.core.route import Route
from homeostat.core.version import NewVersion, Version

if TYPE_CHECKING:
    import polars as pl


class EventStore(Protocol):
    """Append-only streams of events.

    Laws: `append` writes all of the events or none; it raises Conflict unless the stream's last
    seq is `after`, and returns the new last seq; `read` gives the events after a seq, in order,
    without gaps; what was appended is never changed and survives the process. Raises Unavailable
    when the store does not answer.
    """

    def append(self, stream: str, events: Sequence[Event], *, after: int, at: datetime) -> int: ...

    def read(self, stream: str, after: int = 0) -> list[Recorded]: ...

    def streams(self) -> list[str]: ...


class Leases(Protocol):
    """One holder at a time.

    Laws: `acquire` returns True to at most one holder until `ttl` after its last success (calling
    again renews); `now` is the machine's real time, not the loop's; `release` by a holder that
    has lost the lease does nothing.
    """

    def acquire(self, name: str, holder: str, *, ttl: timedelta, now: datetime) -> bool: ...

    def release(self, name: str, holder: str) -> None: ...


class Registry(Protocol):
    """Versions of models.

    Laws: versions of a model are "1", "2", ... in order of registration; `register` of a run that
    is registered returns the version it has; an alias names at most one version; setting an alias
    to None removes it; `get` of what does not exist raises NotFound.
    """

    def register(self, new: NewVersion) -> Version: ...

    def get(self, model: str, version: str) -> Version: ...

    def versions(self, model: str) -> list[Version]: ...

    def set_alias(self, model: str, alias: str, version: str | None) -> None: ...

    def aliases(self, model: str) -> dict[str, str]: ...


class PredictionLog(Protocol):
    """Every prediction and every error (columns: `core.records.PREDICTIONS`).

    Laws: `read` returns the records with since <= time < until, each exactly once, ordered by
    (time, id, arm), including those whose request was acknowledged a moment ago. `news` returns
    those with since <= time that came in after the call which gave `mark` (None: all), in the same
    order, and the next mark: none is left out, whatever its time, and one may be given again; while
    nothing comes in, there are none and the mark is the same. It costs in proportion to what is
    new. A mark means something to the object that gave it only.
    """

    def read(self, model: str, since: datetime, until: datetime) -> pl.DataFrame: ...

    def news(
        self, model: str, since: datetime, mark: object = None
    ) -> tuple[pl.DataFrame, object]: ...


class LabelLedger(Protocol):
    """Labels with their history (columns: `core.records.LABELS`).

    Laws: rows are facts (id, label, time, known) and are never changed; appending a row that is
    there does nothing, and `append` returns how many were new. Per id, rows are ordered by known
    (ties by arrival); a row that repeats the label before it adds nothing, another label is a
    correction from its own known time on. `as_known(at)` gives per id the latest label with
    known <= at, its `known` being when that value was first known; `ids` narrows the answer.
    `news` returns the facts that arrived after the first `mark` ones, in the order of arrival,
    and how many there are now.
    """

    def append(self, labels: pl.DataFrame) -> int: ...

    def as_known(self, at: datetime, ids: pl.Series | None = None) -> pl.DataFrame: ...

    def news(self, mark: int = 0) -> tuple[pl.DataFrame, int]: ...


class SnapshotStore(Protocol):
    """Content-addressed tables.

    Laws: `put(key, table)` is atomic (a reader sees all of it or nothing) and repeating it changes
    nothing; `get(key)` returns an equal table, or None; `digest` is of the content, so equal
    tables have equal digests on every backend. After `remove(key)` it is as if nothing had been
    put under the key; removing what is not there does nothing, and other keys stay. A full disk
    raises Unavailable and leaves nothing.
    """

    def put(self, key: str, table: pl.DataFrame) -> str: ...

    def get(self, key: str) -> pl.DataFrame | None: ...

    def digest(self, key: str) -> str | None: ...

    def remove(self, key: str) -> None: ...


class Jobs(Protocol):
    """Training runs outside the controller's process.

    Laws: `start` of a run that is alive does nothing; `alive` is False once the process has ended
    for whatever reason, a crash of the machine included; `stop` of what is not alive does nothing.
    """

    def start(self, run: str) -> None: ...

    def alive(self, run: str) -> bool: ...

    def stop(self, run: str) -> None: ...


class Observed(msgspec.Struct, frozen=True):
    """What the data plane is doing. generation: the oldest route any live worker applies (-1 with
    no worker); workers: how many are alive; failures: version -> why it cannot be loaded."""

    generation: int
    workers: int
    failures: dict[str, str] = {}


class Gauge(msgspec.Struct, frozen=True):
    """A figure of the loop to show at /metrics. kind: gauge | counter. help: what it is, in one
    line; all of one name have the same."""

    name: str
    value: float
    labels: dict[str, str] = {}
    kind: str = "gauge"
    help: str = ""


class DataPlane(Protocol):
    """Where routes are applied.

    Laws: `publish` is atomic, repeatable, and ignores a route whose generation is older than the
    published one; workers apply a route only once they can answer with every version in it, and
    serve the former one until then.
    """

    def publish(self, route: Route) -> None: ...

    def observed(self, model: str) -> Observed: ...

    def show(self, gauges: Sequence[Gauge]) -> None: ...


RESOLVED = "/resolved"
"""Ends the key of the notice that an alert is over."""


class Notice(msgspec.Struct, frozen=True):
    """Something a person should know. key: the same for repetitions of the same notice; the end
    of an alert has the alert's key with RESOLVED behind it. model: whom it is about. since: when
    what it tells of began. was: at the end of an alert, the severity that it had. incident: the
    key of the first alert of the same cause; empty: its own."""

    key: str
    title: str
    text: str
    severity: str  # info | warning | critical
    at: datetime
    model: str = ""
    since: datetime | None = None
    was: str = ""
    incident: str = ""

    @property
    def alert(self) -> str:
        """The key of the alert that it begins or ends."""
        return self.key.removesuffix(RESOLVED)

    @property
    def over(self) -> bool:
        return self.key.endswith(RESOLVED)


class Notifier(Protocol):
    """Tells people, and keeps what has to be reminded of the alerts that are open.

    Laws: both calls may be repeated; `renew` is given every open alert that people were told of,
    with the key, model, severity and since that `send` had, and tells nobody anything new.
    Raises Unavailable when it could not; the loop tries again.
    """

    def send(self, notice: Notice) -> None: ...

    def renew(self, alerts: Sequence[Notice]) -> None: ...
