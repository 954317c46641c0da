"""From the prediction log and the labels to what a rollout is judged on.

What is seen is kept as columns that grow at their end, in an order in which a later look only
ever adds to what an earlier one saw, so that guards may go on from where they were (`Evidence`).
What comes too late for that (a record, a label, a correction) is put where it belongs, and the
guards begin anew: the same records and labels lead to the same evidence, however they came in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from operator import is_not
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
Texts = NDArray[np.object_]
T = TypeVar("T")
NEVER = np.iinfo(np.int64).max
_UNLABELLED = ("pairs", "alerts")
_SIDES = 2
"""Of a request: 0 what the champion made of it, 1 the candidate."""
_OTHER, _CHAMPION, _CANARY = range(3)
"""Arms."""
_ARMS = {Arm.CHAMPION.value: _CHAMPION, Arm.CANARY.value: _CANARY}
_BY_CHAMPION, _BY_NOBODY, _BY_CANDIDATE, _BY_RIVALS, _BY_OTHERS = range(5)
"""Whose record it is; the first three are looked at."""
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
    groups: dict[str, Texts]

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
        rows, n = rows[in_order(counts, self._seen.ids[rows])], self._rows.n
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
        self._since, self._matures = _us(since), matures_after // timedelta(microseconds=1)
        self._groups = tuple(groups or ())
        self._read = {f"group:{name}": e.cast(pl.String) for name, e in (groups or {}).items()}
        if entity is not None:
            self._read["entity"] = entity.cast(pl.String)
        self._by = dict.fromkeys(rivals, _BY_RIVALS)
        self._by |= {"": _BY_NOBODY, champion: _BY_CHAMPION, candidate: _BY_CANDIDATE}
        self._row: dict[str, int] = defaultdict(count().__next__)
        kinds: dict[str, tuple[type, object]] = {
            "id": (object, None),
            "label": (np.float64, np.nan),
            "known": (np.int64, NEVER),
        }
        for side in range(_SIDES):
            kinds |= {
                f"time{side}": (np.int64, NEVER),
                f"score{side}": (np.float64, np.nan),
                f"propensity{side}": (np.float64, 1.0),
                f"arm{side}": (np.int8, _OTHER),
                **{f"{name}{side}": (object, None) for name in self._groups},
            }
        self._requests = Columns(**kinds)
        self._records = Columns(time=(np.int64, NEVER))  # three of each request: by whom
        self._corrected: dict[int, list[tuple[int, float]]] = {}  # all that was told of a row
        self._touched: list[NDArray[np.int64]] = []
        self._changed: list[int] = []
        self._until = NEVER - 1
        self._arms = _Arms(bool(rivals))
        self._evidence: dict[str, Evidence] = {}

    # -- what comes in ------------------------------------------------------------------------

    def add(self, log: pl.DataFrame) -> bool:
        """log: records (`core.records.PREDICTIONS`), in any order and any number of times. False
        when a record came after a later one of its id and version, or of its batch: it should have
        counted, so all of them have to be given anew, at once."""
        told = self._told(log)
        recent = told["time"] >= self._since
        foreign = told["time"][recent & (told["by"] == _BY_OTHERS) & (told["arm"] == _CANARY)]
        self._arms.before = int(foreign.max(initial=self._arms.before))
        which = np.flatnonzero((told["by"] < _BY_RIVALS) & recent)
        which = which[in_order(told["time"][which], told["id"][which])]
        rows, times = self._rows(told["id"][which]), told["time"][which]
        key, kept = 3 * rows + told["by"][which], self._records["time"]
        known = kept[key]
        if (times < known)[known < NEVER].any():
            return False
        new = _first(kept, key)
        kept[key[new]] = times[new]
        which = which[new]
        return self._take(rows[new], {name: values[which] for name, values in told.items()})

    def _told(self, log: pl.DataFrame) -> dict[str, NDArray[Any]]:
        """What is looked at of each record. request: the batch's id where it is a row of one."""
        if self._read:
            log = log.with_columns(**self._read)
        ids = log["id"].to_list()
        request = [_request(id) if "/" in id else id for id in ids]
        entity = request
        if "entity" in self._read:
            said = zip(log["entity"].to_list(), ids, request, strict=True)
            entity = [e if e and e != id else other for e, id, other in said]
        own, propensity = log["probability"].to_numpy(), log["propensity"].to_numpy()
        return {
            "id": np.array(ids, object),
            "request": np.array(request, object),
            "entity": np.array(entity, object),
            "batched": np.fromiter(map(is_not, request, ids), np.bool_, len(ids)),
            "time": log["time"].cast(pl.Int64).to_numpy(),
            "by": _codes(log["version"], self._by, _BY_OTHERS),
            "arm": _codes(log["arm"], _ARMS, _OTHER),
            "failed": _there(log["error"]),
            "scored": _there(log["score"]),
            "score": log["score"].to_numpy(),
            "latency": log["latency"].to_numpy(),
            "own": np.where(np.isnan(own), 0.0, own),
            "propensity": np.where(np.isnan(propensity), 1.0, propensity),
            **{f"group:{g}": np.array(log[f"group:{g}"].to_list(), object) for g in self._groups},
        }

    def _rows(self, ids: Texts) -> NDArray[np.int64]:
        """Of these requests; who has none yet gets one."""
        n = self._requests.n
        rows = np.fromiter(map(self._row.__getitem__, ids.tolist()), np.int64, len(ids))
        if len(self._row) > n:
            self._requests.grow(len(self._row))
            self._records.grow(3 * len(self._row))
            new = rows >= n
            self._requests["id"][rows[new]] = ids[new]
        return rows

    def _take(self, rows: NDArray[np.int64], told: dict[str, NDArray[Any]]) -> bool:
        """Records that are new, in the order of time. False: as `add`."""
        arm, by = told["arm"], told["by"]
        answered = (arm == _CHAMPION) & (by != _BY_CANDIDATE)
        answered |= (arm == _CANARY) & (by != _BY_CHAMPION)
        if not self._arms.add({name: values[answered] for name, values in told.items()}):
            return False
        scored = told["scored"] & (by != _BY_NOBODY)
        self._touched.append(rows[scored])
        for side, version in enumerate((_BY_CHAMPION, _BY_CANDIDATE)):
            those = scored & (by == version)
            at = rows[those]
            for name in ("time", "score", "propensity", "arm"):
                self._requests[f"{name}{side}"][at] = told[name][those]
            for name in self._groups:
                self._requests[f"{name}{side}"][at] = told[f"group:{name}"][those]
        return True

    def learn(self, facts: pl.DataFrame) -> None:
        """facts: labels (`core.records.LABELS`) in the order in which they arrived, none twice."""
        rows = self._rows(np.array(facts["id"].to_list(), object))
        since, told = facts["known"].cast(pl.Int64).to_numpy(), facts["label"].to_numpy()
        known, label = self._requests["known"], self._requests["label"]
        plain = _first(known, rows)
        known[rows[plain]], label[rows[plain]] = since[plain], told[plain]
        self._touched.append(rows)
        again = np.delete(np.arange(len(rows)), plain) if len(plain) < len(rows) else plain[:0]
        for i in again.tolist():  # more than one for a request
            row = int(rows[i])
            before = int(known[row]), float(label[row])
            history = self._corrected.setdefault(row, [before])
            history.append((int(since[i]), float(told[i])))
            if (now := _latest(history)) != before:
                self._changed.append(row)
                known[row], label[row] = now

    def settle(self, now: datetime | None = None, settled: datetime | None = None) -> None:
        """Look at what came in. now: over which time it was looked at, None where nobody said.
        settled: requests after it do not count for quality yet. Give it as `now - matures_after`:
        when frauds are reported sooner than honest payments are cleared, the labels known so far
        are not a fair sample of the requests, and only those that had their full time are."""
        self.now = now
        until = NEVER - 1 if settled is None else _us(settled) + self._matures
        self._until = until
        touched = np.empty(0, np.int64)
        if self._touched and self._evidence:
            touched = np.unique(np.concatenate(self._touched))
        for evidence in self._evidence.values():
            evidence.advance(touched, self._changed, until)
        self._touched.clear()
        self._changed.clear()

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
        return self._groups

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
    def ids(self) -> Texts:
        return self._requests["id"]

    @property
    def height(self) -> int:
        return self._requests.n

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
            request=(object, None),
            entity=(object, None),
            time=(np.int64, 0),
            canary=(np.bool_, False),
            failed=(np.bool_, False),
            latency=(np.float64, np.nan),
            own=(np.float64, 0.0),
            share=(np.float64, 0.0),
            first=(np.bool_, False),
        )
        self._batches: dict[tuple[str, bool], int] = {}
        self._derived = 0
        self._unordered = False
        self._drawn: dict[float, dict[str, int]] = {}  # share -> entity -> where it came first
        self._open: list[float | None] = [None, None]  # the arms' last own shares

    def add(self, told: dict[str, NDArray[Any]]) -> bool:
        """Records in the order of time. Of the rows of a batch, what is said of the first holds,
        the longest latency, and any failure. False: that first one came late."""
        column, n = self._columns, self._columns.n
        told["canary"] = told["arm"] == _CANARY
        fresh, rows = self._joined(told) if told["batched"].any() else (~told["batched"], None)
        column.grow(n + int(fresh.sum()))
        for name in _TOLD:
            column[name][n:] = told[name][fresh]
        failed, latency = column["failed"], column["latency"]
        if rows is not None:
            if (told["time"] < column["time"][rows]).any():
                return False
            failed[rows[told["failed"]]] = True
            np.fmax.at(latency, rows, told["latency"])
            latency[rows[failed[rows]]] = np.nan
            if (rows < self._derived).any():
                self.folds.clear()
        latency[n:][failed[n:]] = np.nan
        last = max(n - 1, 0)
        time, id = column["time"][last:], column["request"][last:]
        self._unordered |= bool((np.diff(time) < 0).any()) or not _ascend(time, id)
        return True

    def _joined(self, told: dict[str, NDArray[Any]]) -> tuple[Flags, NDArray[np.int64]]:
        """-> which records open a row, and the row of each."""
        fresh = ~told["batched"]
        at = np.flatnonzero(told["batched"])
        keys = list(zip(told["request"][at].tolist(), told["canary"][at].tolist(), strict=True))
        first = dict(zip(reversed(keys), at[::-1].tolist(), strict=True))
        new = {key: place for key, place in first.items() if key not in self._batches}
        fresh[list(new.values())] = True
        rows = self._columns.n - 1 + np.cumsum(fresh)
        self._batches |= {key: int(rows[place]) for key, place in new.items()}
        rows[at] = [self._batches[key] for key in keys]
        return fresh, rows

    def seen(self) -> Answers:
        column, n = self._columns, self._columns.n
        if self._derived < n:
            if self._unordered:
                self._sort()
                self._derived = 0
            self._derive(self._derived)
            self._derived = n
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
        order = in_order(self._columns["time"], self._columns["request"])
        self._columns.sort(order)
        place = np.argsort(order).tolist()
        self._batches = {key: place[row] for key, row in self._batches.items()}
        self._unordered = False

    def _derive(self, start: int) -> None:
        """The shares, and who is drawn for the first time, from a row on."""
        if start and self._begins(self._columns["canary"][start:]):
            start = 0
        if start == 0:
            self._open = [None, None]
            self._drawn.clear()
            self.folds.clear()
        canary, own = self._columns["canary"][start:], self._columns["own"][start:]
        # both arms' records must say the same share to the last bit
        share = self._columns["share"][start:]
        share[:] = np.round(self._shares(canary, own), 9)
        entity, first = self._columns["entity"][start:], self._columns["first"][start:]
        for p in np.unique(share).tolist():
            those = np.flatnonzero(share == p)
            drawn, rows = self._drawn.setdefault(p, {}), start + those
            came = map(drawn.setdefault, entity[those].tolist(), rows.tolist())
            first[those] = np.fromiter(came, np.int64, len(those)) == rows

    def _begins(self, canary: Flags) -> bool:
        """Whether an arm's share at the beginning is known only now."""
        return self._several and any(
            own is None and flag.any()
            for own, flag in zip(self._open, (canary, ~canary), strict=True)
        )

    def _shares(self, canary: Flags, own: Array) -> Array:
        """The candidate's probability (n), given that one of the two answers.

        With one candidate the champion's is the rest. With several, each record knows its own
        arm's; the other's is taken from the arm's record before it (or the first one, at the
        beginning).
        """
        if not self._several:
            return np.where(canary, own, 1.0 - own)
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


_TOLD = ("request", "entity", "time", "canary", "failed", "latency", "own")


def in_order(times: Times, ids: Texts, many: int = 1000) -> Index:
    """The places by time and id, and those that have the same of both as they are. many: from so
    many on Polars sorts texts, which is sooner done than by Python; the order is the same."""
    order = np.argsort(times, kind="stable")
    if not _ascend(times[order], ids[order]):
        later = times[order]
        same = np.diff(later) == 0
        tied = np.append(same, False) | np.insert(same, 0, False)
        those = order[tied]
        order[tied] = those[np.lexsort((_rank(ids[those].tolist(), many), times[those]))]
    return order


def _first(kept: Times, at: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of what is to be kept at these places: the first for each that has NEVER. Their places are
    marked, and have to be written."""
    unknown = np.flatnonzero(kept[at] == NEVER)
    np.minimum.at(kept, at[unknown], unknown)
    return np.asarray(unknown[kept[at[unknown]] == unknown])


def _ascend(times: Times, ids: Texts) -> bool:
    """Whether ids of the same time, one after the other, do."""
    same = np.flatnonzero(times[1:] == times[:-1])
    return not (ids[same] > ids[same + 1]).any()


def _rank(ids: list[str], many: int) -> NDArray[Any]:
    if len(ids) < many:
        place = {id: k for k, id in enumerate(sorted(ids))}
        return np.array([place[id] for id in ids])
    return pl.Series(ids).rank("dense").to_numpy()


def _request(id: str) -> str:
    """Of a row of a batch (`<id>/<number>`), the batch's."""
    batch, _, row = id.rpartition("/")
    return batch if row.isdecimal() else id


def _codes(column: pl.Series, codes: Mapping[str, int], other: int) -> NDArray[np.int8]:
    column = column.fill_null("") if column.null_count() else column
    found = np.full(len(column), other, np.int8)
    for text, code in codes.items():
        found[(column == text).to_numpy()] = code
    return found


def _there(column: pl.Series) -> Flags:
    """Where there is a value."""
    if not column.null_count():
        return np.ones(len(column), np.bool_)
    return np.array([value is not None for value in column.to_list()], np.bool_)


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
