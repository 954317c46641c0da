"""From the prediction log and the labels to what a rollout is judged on.

What is seen is kept as columns that grow at their end, in an order in which a later look only
ever adds to what an earlier one saw, so that guards may go on from where they were (`Evidence`).
What comes too late for that (a record, a label, a correction) is put where it belongs, and the
guards begin anew: the same records and labels lead to the same evidence, however they came in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, TypeVar

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.names import Arm

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Times = NDArray[np.int64]
"""Microseconds since 1970."""
Index = NDArray[np.intp]
T = TypeVar("T")
BATCH = re.compile(r"/\d+$")
NEVER = np.iinfo(np.int64).max
_UNLABELLED = ("pairs", "alerts")
_SIDES = 2
"""Of a request: 0 what the champion made of it, 1 the candidate."""
_NO_ARM, _CHAMPION, _CANARY, _SHADOW = range(4)
_ARMS = {Arm.CHAMPION.value: _CHAMPION, Arm.CANARY.value: _CANARY, Arm.SHADOW.value: _SHADOW}
_CHAMPION_NAME, _CANARY_NAME = Arm.CHAMPION.value, Arm.CANARY.value
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ArmSeen(msgspec.Struct, frozen=True):
    """What one arm did with the requests it answered (never those it only shadowed).

    n: requests. errors: how many failed. latencies: seconds of the others, ascending.
    """

    n: int
    errors: int
    latencies: Array


class Answers(msgspec.Struct, frozen=True):
    """The requests that were answered by either version, in the order of time (all of length n).

    time: microseconds since 1970. canary: answered by the candidate. failed: with an error.
    latency: seconds, NaN where it failed. share: the probability with which the candidate was
    drawn, of the two. first: the first of its entity; only these are independent draws.
    """

    time: Times
    canary: Flags
    failed: Flags
    latency: Array
    share: Array
    first: Flags

    def arm(self, canary: bool) -> ArmSeen:
        mine = self.canary == canary
        latencies = self.latency[mine & ~self.failed]
        return ArmSeen(
            int(mine.sum()),
            int((mine & self.failed).sum()),
            np.sort(latencies[np.isfinite(latencies)]),
        )


class Rows(msgspec.Struct, frozen=True):
    """Scored requests, one per id (all of length n).

    row: which of `Observations.ids`. time: of the champion's record if there is one. champion,
    candidate: scores, NaN where there is none. label: NaN where it does not count. counts: from
    when on it is evidence (NEVER: not yet). propensity: the chance of the label to become known.
    canary: what is looked at is the candidate's. groups: column -> text, or None, that a guard
    may be broken down by.
    """

    row: NDArray[np.int64]
    time: Times
    champion: Array
    candidate: Array
    label: Array
    counts: Times
    propensity: Array
    canary: Flags
    groups: dict[str, NDArray[np.object_]]

    def __len__(self) -> int:
        return len(self.row)

    def take(self, which: Index | Flags | slice) -> Rows:
        return Rows(
            self.row[which],
            self.time[which],
            self.champion[which],
            self.candidate[which],
            self.label[which],
            self.counts[which],
            self.propensity[which],
            self.canary[which],
            {name: group[which] for name, group in self.groups.items()},
        )


class Columns:
    """Arrays of one length that grow at their end in amortised constant time."""

    def __init__(self, **kinds: tuple[type, object]) -> None:
        """kinds: name -> (type, what a new row has)."""
        self._fill = {name: fill for name, (_, fill) in kinds.items()}
        self._kept: dict[str, NDArray[Any]] = {
            name: np.full(16, fill, kind) for name, (kind, fill) in kinds.items()
        }
        self.n = 0

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._kept[name][: self.n]

    @property
    def names(self) -> Collection[str]:
        return self._kept.keys()

    def grow(self, n: int) -> None:
        """To n rows."""
        for name, kept in self._kept.items():
            if n > len(kept):
                more = np.full(max(n, 2 * len(kept)) - len(kept), self._fill[name], kept.dtype)
                self._kept[name] = np.concatenate((kept, more))
        self.n = n

    def sort(self, order: Index) -> None:
        for kept in self._kept.values():
            kept[: self.n] = kept[: self.n][order]


class Evidence:
    """The requests of one kind whose label counts, in the order in which they came to count.

    Guards fold it: `fold` gives them what they kept, made anew whenever the order is another one.
    """

    def __init__(self, seen: Observations, kind: str) -> None:
        self._seen, self._kind = seen, kind
        self._folds: dict[Any, Any] = {}
        self._rows = Columns(row=(np.int64, 0))
        self._inside = Columns(yes=(np.bool_, False))
        self._waiting: NDArray[np.int64] = np.empty(0, np.int64)
        self._due: Times = np.empty(0, np.int64)  # when each of them counts
        self._until = -1

    def __len__(self) -> int:
        return self._rows.n

    def rows(self, start: int = 0) -> Rows:
        """From the `start`-th on."""
        return self._seen.gather(self._kind, self._rows["row"][start:])

    def fold(self, key: object, make: Callable[[], T]) -> T:
        return _kept(self._folds, key, make)

    def next_at(self, block: int) -> int:
        """When what counts is another than now, if nothing comes in (microseconds since 1970):
        the next request to count, or the end of the block of the last one."""
        due = int(self._due.min(initial=NEVER))
        if block and self._rows.n:
            last = int(self._seen.counts(self._kind, self._rows["row"][-1:])[0])
            end = (last // block + 1) * block
            due = min(due, end) if end > self._until else due
        return due

    def advance(self, touched: NDArray[np.int64], changed: Collection[int], until: int) -> None:
        """Called by `Observations.settle`. touched: rows of which something is new; changed:
        those whose label was another one. until: what counts by then is evidence."""
        total = self._seen.height
        self._inside.grow(total)
        inside = self._inside["yes"]
        if until < self._until or (changed and inside[list(changed)].any()):
            return self.anew(until)
        rows = (
            np.unique(np.concatenate((self._waiting, touched))) if len(touched) else self._waiting
        )
        rows = rows[~inside[rows]]
        counts = self._seen.counts(self._kind, rows)
        now = counts <= until
        if (counts[now] <= self._until).any():
            return self.anew(until)
        later = ~now & (counts < NEVER)
        self._waiting, self._due, self._until = rows[later], counts[later], until
        self._append(rows[now], counts[now])
        return None

    def anew(self, until: int) -> None:
        self._folds.clear()
        self._rows.grow(0)
        self._inside["yes"][:] = False
        self._waiting, self._until = np.arange(self._seen.height), -1
        self.advance(np.empty(0, np.int64), (), until)

    def _append(self, rows: NDArray[np.int64], counts: Times) -> None:
        if not len(rows):
            return
        ids = np.array([self._seen.ids[r] for r in rows.tolist()])
        rows, n = rows[np.lexsort((ids, counts))], self._rows.n
        self._rows.grow(n + len(rows))
        self._rows["row"][n:] = rows
        self._inside["yes"][rows] = True


class Observations:
    """What was predicted from `since` on, joined with what is known of it.

    champion, candidate: versions; thresholds: theirs, alerts start there. matures_after: a request
    counts once it has settled and its label is known, whichever is later (a pair: once both have
    scored it). groups: column name -> expression over the log's columns that guards are broken
    down by. entity: expression of what keeps a caller on one version, where that is not the
    request's id. rivals: the other challengers of an experiment.
    Each request counts once: of repeated ids, the first record of a version. Of the rows of a
    batch, answered as one, the arms count one request, failed if any row failed.
    """

    def __init__(
        self,
        champion: str,
        candidate: str,
        since: datetime,
        *,
        matures_after: timedelta = timedelta(0),
        thresholds: tuple[float, float] = (0.5, 0.5),
        groups: Mapping[str, pl.Expr] | None = None,
        entity: pl.Expr | None = None,
        rivals: Collection[str] = (),
    ) -> None:
        self.versions, self.thresholds = (champion, candidate), thresholds
        self.since: datetime | None = since
        self.now: datetime | None = None
        self.ids: list[str] = []
        self._since, self._matures = _us(since), matures_after // timedelta(microseconds=1)
        self._groups, self._entity, self._rivals = dict(groups or {}), entity, frozenset(rivals)
        self._row: dict[str, int] = {}
        kinds: dict[str, tuple[type, object]] = {
            "label": (np.float64, np.nan),
            "known": (np.int64, NEVER),
        }
        for side in range(_SIDES):
            kinds |= {
                f"time{side}": (np.int64, NEVER),
                f"score{side}": (np.float64, np.nan),
                f"propensity{side}": (np.float64, 1.0),
                f"arm{side}": (np.int8, _NO_ARM),
                **{f"{name}{side}": (object, None) for name in self._groups},
            }
        self._requests = Columns(**kinds)
        self._facts: dict[str, list[tuple[int, float]]] = {}
        self._touched: list[int] = []
        self._until = NEVER - 1
        self._records: dict[tuple[str, str], int] = {}
        self._arms = _Arms(bool(self._rivals))
        self._evidence: dict[str, Evidence] = {}

    # -- what comes in ------------------------------------------------------------------------

    def add(self, log: pl.DataFrame) -> bool:
        """log: records (`core.records.PREDICTIONS`), in any order and any number of times. False
        when a record came after a later one of its id and version: it should have counted, so
        all of them have to be given anew, at once."""
        extra = [e.cast(pl.String).alias(f"group:{name}") for name, e in self._groups.items()]
        if self._entity is not None:
            extra.append(self._entity.cast(pl.String).alias("entity"))
        if extra:
            log = log.with_columns(extra)
        columns = ("id", "version", "arm", "score", "error", "latency", "probability", "propensity")
        ids, versions, arms, scores, errors, latencies, probabilities, propensities = (
            log[c].to_list() for c in columns
        )
        times = log["time"].cast(pl.Int64).to_list()
        entities = ids if self._entity is None else log["entity"].to_list()
        champion, candidate = self.versions
        found: tuple[list[tuple[int, int]], ...] = ([], [])  # by side: (row, place in the log)
        for i in _in_order(times, ids):
            time, id, version, arm = times[i], ids[i], versions[i], arms[i]
            if time < self._since:
                continue
            if version == candidate:
                side = 1
            elif version == champion or not version:
                side = 0
            else:
                if arm == _CANARY_NAME and version not in self._rivals:
                    self._arms.before = max(self._arms.before, time)
                continue
            if (known := self._records.get((id, version))) is not None:
                if time < known:
                    return False
                continue
            self._records[id, version] = time
            failed = errors[i] is not None
            if (arm == _CHAMPION_NAME and version != candidate) or (
                arm == _CANARY_NAME and version != champion
            ):
                self._arms.add(
                    id, time, arm, failed, latencies[i], probabilities[i], entities[i] or id
                )
            if version and scores[i] is not None:
                row = self._row.get(id)
                if row is None:
                    row = self._row[id] = len(self.ids)
                    self.ids.append(id)
                found[side].append((row, i))
        self._requests.grow(len(self.ids))
        for side, pairs in enumerate(found):
            if not pairs:
                continue
            rows, at = (list(x) for x in zip(*pairs, strict=True))
            self._touched += rows
            self._set(f"time{side}", rows, [times[i] for i in at])
            self._set(f"score{side}", rows, [scores[i] for i in at])
            chances = [propensities[i] for i in at]
            self._set(f"propensity{side}", rows, [1.0 if c is None else c for c in chances])
            self._set(f"arm{side}", rows, [_ARMS.get(arms[i], _NO_ARM) for i in at])
            for name in self._groups:
                values = log[f"group:{name}"].to_list()
                self._set(f"{name}{side}", rows, [values[i] for i in at])
        return True

    def _set(self, column: str, rows: list[int], values: list[Any]) -> None:
        self._requests[column][rows] = values

    def learn(self, facts: pl.DataFrame) -> None:
        """facts: labels (`core.records.LABELS`) in the order in which they arrived, none twice."""
        known = facts["known"].cast(pl.Int64).to_list()
        for id, at, label in zip(
            facts["id"].to_list(), known, facts["label"].to_list(), strict=True
        ):
            self._facts.setdefault(id, []).append((at, label))
            if (row := self._row.get(id)) is not None:
                self._touched.append(row)

    def settle(self, now: datetime | None = None, settled: datetime | None = None) -> None:
        """Look at what came in. now: over which time it was looked at, None where nobody said.
        settled: requests after it do not count for quality yet. Give it as `now - matures_after`:
        when frauds are reported sooner than honest payments are cleared, the labels known so far
        are not a fair sample of the requests, and only those that had their full time are."""
        self.now = now
        until = NEVER - 1 if settled is None else _us(settled) + self._matures
        self._until = until
        label, known, changed = self._requests["label"], self._requests["known"], list[int]()
        for row in self._touched:
            history = self._facts.get(self.ids[row])
            if history is None:
                continue
            at, value = history[0] if len(history) == 1 else _latest(history)
            if known[row] not in (NEVER, at) or (known[row] == at and label[row] != value):
                changed.append(row)
            label[row], known[row] = value, at
        if self._touched:
            touched = np.unique(np.array(self._touched, np.int64))
            self._touched.clear()
        else:
            touched = np.empty(0, np.int64)
        for evidence in self._evidence.values():
            evidence.advance(touched, changed, until)

    def next_at(self, block: timedelta) -> datetime | None:
        """When something is seen that is not now, if nothing comes in; None: never."""
        size = block // timedelta(microseconds=1)
        due = min((e.next_at(size) for e in self._evidence.values()), default=NEVER)
        return None if due == NEVER else _EPOCH + timedelta(microseconds=due)

    # -- what is seen -------------------------------------------------------------------------

    @property
    def answers(self) -> Answers:
        return self._arms.seen()

    def fold(self, key: object, make: Callable[[], T]) -> T:
        """What a guard kept of the answers, made anew whenever their order is another one."""
        self._arms.seen()
        return _kept(self._arms.folds, key, make)

    @property
    def champion(self) -> ArmSeen:
        return self.answers.arm(False)

    @property
    def candidate(self) -> ArmSeen:
        return self.answers.arm(True)

    @property
    def paired(self) -> Evidence:
        """Requests that both have scored, and whose label counts."""
        return self._of("paired")

    @property
    def single(self) -> Evidence:
        """Requests that either version answered, and whose label counts."""
        return self._of("single")

    @property
    def scored(self) -> Evidence:
        """Requests that the candidate scored, in the shadow too, and whose label counts."""
        return self._of("scored")

    @property
    def alerts(self) -> Evidence:
        """Requests that the candidate scored, labelled or not."""
        return self._of("alerts")

    @property
    def pairs(self) -> Evidence:
        """Requests that both have scored, labelled or not."""
        return self._of("pairs")

    @property
    def groups(self) -> Collection[str]:
        """The columns that there are to break guards down by."""
        return self._groups.keys()

    @property
    def no_draws_until(self) -> int:
        """When a candidate of an earlier rollout answered last, on a route that was not replaced
        yet: up to then the champion's are no independent draws. -1: none did."""
        return self._arms.before

    def _of(self, kind: str) -> Evidence:
        if kind not in self._evidence:
            self._evidence[kind] = Evidence(self, kind)
            self._evidence[kind].anew(self._until)
        return self._evidence[kind]

    @property
    def height(self) -> int:
        return len(self.ids)

    def counts(self, kind: str, rows: NDArray[np.int64]) -> Times:
        """From when on each of the rows is evidence of a kind; NEVER where it is none yet."""
        column = self._requests
        known, first, second = (column[c][rows] for c in ("known", "time0", "time1"))
        if kind in ("paired", "pairs"):
            asked, seen = first, np.maximum(first, second)
        elif kind == "single":
            answered = self._answered(rows)
            asked = np.where(answered == 1, second, first)
            seen = np.where(answered >= 0, asked, NEVER)
        else:
            asked = seen = second
        if kind in _UNLABELLED:  # a record of this very moment is seen in the next
            return np.asarray(np.where(seen < NEVER, seen, NEVER - 1) + 1)
        there = (seen < NEVER) & (known < NEVER)
        settled = np.where(there, asked, 0) + self._matures
        return np.asarray(np.where(there, np.maximum(np.maximum(known, settled), seen), NEVER))

    def _answered(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which version's answer was given: 0 the champion's, 1 the candidate's, -1 none."""
        column = self._requests
        mine, theirs = column["arm1"][rows] == _CANARY, column["arm0"][rows] == _CHAMPION
        later = column["time1"][rows] >= column["time0"][rows]
        return np.asarray(np.where(theirs & (later | ~mine), 0, np.where(mine, 1, -1)))

    def gather(self, kind: str, rows: NDArray[np.int64]) -> Rows:
        column = {name: self._requests[name][rows] for name in self._requests.names}
        n, counts = len(rows), self.counts(kind, rows)
        canary = np.full(n, kind in ("scored", "alerts"))
        if kind == "single":
            canary = self._answered(rows) == 1

        def own(name: str) -> NDArray[Any]:
            return np.where(canary, column[f"{name}1"], column[f"{name}0"])

        propensity = own("propensity")
        if kind in ("paired", "pairs"):
            # a shadow decides nothing: the record of the answer says whether its label can be known
            propensity = np.minimum(column["propensity0"], column["propensity1"])
        return Rows(
            row=rows,
            time=own("time"),
            champion=column["score0"],
            candidate=column["score1"],
            label=np.where(counts <= self._until, column["label"], np.nan),
            counts=np.where(counts <= self._until, counts, NEVER),
            propensity=propensity,
            canary=canary,
            groups={name: own(name) for name in self._groups},
        )


class _Arms:
    """The answers, as they come, in the order of time once they are looked at."""

    def __init__(self, several: bool) -> None:
        self.before = -1  # `Observations.no_draws_until`
        self.folds: dict[Any, Any] = {}
        self._several = several
        self._columns = Columns(
            time=(np.int64, 0),
            canary=(np.bool_, False),
            failed=(np.bool_, False),
            latency=(np.float64, np.nan),
            own=(np.float64, 0.0),
            share=(np.float64, 0.0),
            first=(np.bool_, False),
        )
        self._ids: list[str] = []
        self._entities: list[str] = []
        self._batches: dict[tuple[str, str], int] = {}
        self._new: list[tuple[int, bool, bool, float, float]] = []
        self._last = (-1, "")
        self._unordered = False
        self._drawn: set[tuple[str, float]] = set()
        self._open: list[float | None] = [None, None]  # the arms' last own shares

    def add(
        self,
        id: str,
        time: int,
        arm: str,
        failed: bool,
        latency: float | None,
        probability: float | None,
        entity: str,
    ) -> None:
        """Of the rows of a batch, what is said of the first holds, the longest latency, and any
        failure."""
        row, took = len(self._ids), np.nan if latency is None else latency
        if "/" in id and BATCH.search(id):
            request = BATCH.sub("", id)
            at = self._batches.setdefault((request, arm), row)
            if at < row:
                self._join(at, failed, took)
                return
            id, entity = request, request if entity == id else entity
        self._unordered |= (time, id) < self._last
        self._last = (time, id)
        self._ids.append(id)
        self._entities.append(entity)
        self._new.append((time, arm == _CANARY_NAME, failed, took, probability or 0.0))

    def _join(self, row: int, failed: bool, took: float) -> None:
        there = self._columns.n
        if row >= there:
            time, canary, broken, longest, own = self._new[row - there]
            self._new[row - there] = (time, canary, broken or failed, max(longest, took), own)
            return
        latency, wrong = self._columns["latency"], self._columns["failed"]
        self.folds.clear()
        wrong[row] |= failed
        latency[row] = np.nan if wrong[row] else max(latency[row], took)

    def seen(self) -> Answers:
        column, n = self._columns, self._columns.n
        if self._new:
            column.grow(len(self._ids))
            for name, values in zip(
                ("time", "canary", "failed", "latency", "own"),
                zip(*self._new, strict=True),
                strict=True,
            ):
                column[name][n:] = values
            column["latency"][n:][column["failed"][n:]] = np.nan
            self._new.clear()
            if self._unordered:
                self._sort()
                n = 0
            self._derive(n)
        first = column["first"]
        return Answers(
            column["time"],
            column["canary"],
            column["failed"],
            column["latency"],
            column["share"],
            first if self.before < 0 else first & (column["time"] > self.before),
        )

    def _sort(self) -> None:
        order = np.lexsort((np.array(self._ids), self._columns["time"]))
        self._columns.sort(order)
        place = np.argsort(order).tolist()
        self._ids = [self._ids[i] for i in order.tolist()]
        self._entities = [self._entities[i] for i in order.tolist()]
        self._batches = {key: place[row] for key, row in self._batches.items()}
        self._last, self._unordered = (int(self._columns["time"][-1]), self._ids[-1]), False

    def _derive(self, start: int) -> None:
        """The shares, and who is drawn for the first time, from a row on."""
        if start == 0:
            self._open = [None, None]
            self._drawn.clear()
            self.folds.clear()
        canary, own = self._columns["canary"][start:], self._columns["own"][start:]
        # both arms' records must say the same share to the last bit
        share = np.round(self._shares(canary, own, start), 9)
        self._columns["share"][start:] = share
        first, drawn = [], self._drawn
        for key in zip(self._entities[start:], share.tolist(), strict=True):
            first.append(key not in drawn)
            drawn.add(key)
        self._columns["first"][start:] = first

    def _shares(self, canary: Flags, own: Array, start: int) -> Array:
        """The candidate's probability (n), given that one of the two answers.

        With one candidate the champion's is the rest. With several, each record knows its own
        arm's; the other's is taken from the arm's record before it (or the first one, at the
        beginning).
        """
        if not self._several:
            return np.where(canary, own, 1.0 - own)
        late = [
            a for a, flag in enumerate((canary, ~canary)) if self._open[a] is None and flag.any()
        ]
        if start and late:  # now the beginning is known
            self._derive(0)
            return self._columns["share"][start:]
        found = []
        for arm, flag in enumerate((canary, ~canary)):
            last = np.maximum.accumulate(np.where(flag, np.arange(len(own)), -1))
            begin = self._open[arm]
            if begin is None:
                begin = float(own[flag][0]) if flag.any() else 0.0
            found.append(np.where(last >= 0, own[last], begin))
            if flag.any():
                self._open[arm] = float(own[flag][-1])
        mine, theirs = found
        both = mine + theirs
        return np.where(both > 0, mine / np.where(both > 0, both, 1.0), 0.0)


def observe(
    log: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    champion: str,
    candidate: str,
    since: datetime,
    settled: datetime | None = None,
    matures_after: timedelta = timedelta(0),
    thresholds: tuple[float, float] = (0.5, 0.5),
    now: datetime | None = None,
    groups: Mapping[str, pl.Expr] | None = None,
    entity: pl.Expr | None = None,
    rivals: Collection[str] = (),
) -> Observations:
    """`Observations` of all records (columns of `core.records.PREDICTIONS`) and all labels
    (`LABELS`, one row per id) at once. settled, now: as in `Observations.settle`."""
    seen = Observations(
        champion,
        candidate,
        since,
        matures_after=matures_after,
        thresholds=thresholds,
        groups=groups,
        entity=entity,
        rivals=rivals,
    )
    seen.add(log)
    seen.learn(labels)
    seen.settle(now, settled)
    return seen


def logged(name: str, features: Sequence[str]) -> pl.Expr:
    """An input's value in the prediction log, as text. features: the names of those that are
    plain numbers, in the model's order. Null where the log does not have it."""
    found = pl.col("inputs").str.json_path_match(f'$["{name}"]')
    if name not in features:
        return found
    number = pl.col("features").list.get(features.index(name), null_on_oob=True)
    return pl.coalesce(found, number.cast(pl.String))


def _in_order(times: list[int], ids: list[str]) -> Sequence[int]:
    """The places by time and id; that is how the port gives them, a table made by hand may not."""
    keys = list(zip(times, ids, strict=True))
    places = range(len(keys))
    if all(a <= b for a, b in pairwise(keys)):
        return places
    return sorted(places, key=keys.__getitem__)


def _latest(history: list[tuple[int, float]]) -> tuple[int, float]:
    """-> since when the present label is known, and the label (as `LabelLedger.as_known`)."""
    told = None
    for fact in sorted(history, key=lambda fact: fact[0]):
        if told is None or fact[1] != told[1]:
            told = fact
    assert told is not None
    return told


def _us(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def _kept(folds: dict[Any, Any], key: object, make: Callable[[], T]) -> T:
    if key not in folds:
        folds[key] = make()
    found: T = folds[key]
    return found
