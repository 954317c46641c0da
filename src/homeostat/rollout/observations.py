"""From the prediction log and the labels to what a rollout is judged on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.names import Arm

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
GROUP = "group:"
"""Columns of the tables below that hold what a guard is broken down by: `group:<column>`."""
BATCH = r"/\d+$"


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

    time: NDArray[np.int64]
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


class Observations(msgspec.Struct, frozen=True):
    """scored: id, time, arm, version, score, propensity, label, known, counts, group:* of what
    either version scored, at most one row per id and version, in the order of time. label, known
    and counts (from when on it is evidence) are null where it does not count yet.
    versions, thresholds: of the champion and the candidate; thresholds: alerts start there.
    since, now: over which time it was looked at; now is None where nobody said.
    """

    answers: Answers
    scored: pl.DataFrame
    versions: tuple[str, str]
    thresholds: tuple[float, float] = (0.5, 0.5)
    since: datetime | None = None
    now: datetime | None = None

    @property
    def champion(self) -> ArmSeen:
        return self.answers.arm(False)

    @property
    def candidate(self) -> ArmSeen:
        return self.answers.arm(True)

    @property
    def pairs(self) -> pl.DataFrame:
        """id, time, champion, candidate (their scores), label, known, counts, propensity, group:*
        of every request that both have scored, labelled or not, in the order of time."""
        version = self.scored["version"]
        first, second = (self.scored.filter(version == v) for v in self.versions)
        # a shadow decides nothing: the record of the answer says whether its label can be known
        both = first.rename({"score": "champion"}).join(
            second.select("id", candidate="score", other="propensity"),
            on="id",
            maintain_order="left",
        )
        return both.with_columns(propensity=pl.min_horizontal("propensity", "other"))

    @property
    def paired(self) -> pl.DataFrame:
        """The `pairs` whose label counts, in the order in which they came to count."""
        return labelled(self.pairs)

    @property
    def single(self) -> pl.DataFrame:
        """What counts of each arm's own answers, in the order in which they came to count."""
        champion, candidate = self.versions
        arm, version = pl.col("arm"), pl.col("version")
        answered = self.scored.filter(
            ((arm == Arm.CHAMPION.value) & (version == champion))
            | ((arm == Arm.CANARY.value) & (version == candidate))
        )
        return labelled(answered.filter(pl.col("id").is_first_distinct()))


def labelled(rows: pl.DataFrame) -> pl.DataFrame:
    """Those that count, in the order in which they came to count."""
    return rows.filter(pl.col("counts").is_not_null()).sort("counts", "id")


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
    """Join what was predicted from `since` on with what is known of it.

    log: columns of `core.records.PREDICTIONS`; labels: of `LABELS`, one row per id.
    settled: requests after it are left out of quality. Give it as `now - matures_after`: when
    frauds are reported sooner than honest payments are cleared, the labels known so far are not
    a fair sample of the requests, and only those that had their full time are.
    matures_after: a request counts once it has settled and its label is known, whichever is later.
    Evidence is in that order, so that a later look only ever adds to the end of what an earlier
    one saw, as bounds that hold at every look ask for.
    groups: column name -> expression over the log's columns that guards are broken down by.
    rivals: the other challengers of an experiment.
    entity: expression of what keeps a caller on one version, where that is not the request's id.
    Each request counts once: of repeated ids, the first record of a version. Of the rows of a
    batch, answered as one, the arms count one request, failed if any row failed.
    """
    extra = [e.cast(pl.String).alias(GROUP + name) for name, e in (groups or {}).items()]
    columns = ("id", "time", "version", "arm", "probability", "latency", "score", "error")
    asked = [*columns, "propensity", *extra, (pl.lit(None) if entity is None else entity).alias(_E)]
    recent, version = pl.col("time") >= since, pl.col("version")
    versions = [champion, candidate, ""]
    records = (
        log.filter(recent, version.is_in(versions))
        .select(asked)
        .sort("time", "id")
        .unique(["id", "version"], keep="first", maintain_order=True)
    )
    counts = pl.col("label").is_not_null()
    if settled is not None:
        counts &= pl.col("time") <= settled
    kept = [c for c in records.columns if c not in ("latency", "error", "probability", _E)]
    scored = (
        records.filter(pl.col("score").is_not_null(), version != "")[kept]
        .join(labels[["id", "known", "label"]], on="id", how="left", maintain_order="left")
        .with_columns(
            label=pl.when(counts).then("label"),
            known=pl.when(counts).then("known"),
            counts=pl.when(counts).then(pl.max_horizontal("known", pl.col("time") + matures_after)),
        )
    )
    other = (pl.col("arm") == Arm.CANARY.value) & ~version.is_in([*versions, *rivals])
    before = log.select(pl.col("time").filter(recent & other).max()).item()
    return Observations(
        answers=_answers(records, champion, candidate, bool(rivals), before),
        scored=scored,
        versions=(champion, candidate),
        thresholds=thresholds,
        since=since,
        now=now,
    )


_E = "entity"


def logged(name: str, features: Sequence[str]) -> pl.Expr:
    """An input's value in the prediction log, as text. features: the names of those that are
    plain numbers, in the model's order. Null where the log does not have it."""
    found = pl.col("inputs").str.json_path_match(f'$["{name}"]')
    if name not in features:
        return found
    number = pl.col("features").list.get(features.index(name), null_on_oob=True)
    return pl.coalesce(found, number.cast(pl.String))


def _answers(
    records: pl.DataFrame, champion: str, candidate: str, several: bool, before: object
) -> Answers:
    """version "" is a request that no version could answer; it is counted to its arm.
    before: the last that a candidate of an earlier rollout answered, on a route that was not
    replaced yet; up to then the champion's are no independent draws."""
    arm, version = pl.col("arm"), pl.col("version")
    rows = records.filter(
        ((arm == Arm.CHAMPION.value) & (version != candidate))
        | ((arm == Arm.CANARY.value) & (version != champion))
    ).select(
        "id",
        "time",
        "arm",
        "probability",
        "latency",
        _E,
        failed=pl.col("error").is_not_null(),
        batched=pl.col("id").str.contains("/", literal=True),
    )
    if rows["batched"].any():
        request = pl.col("id").str.replace(BATCH, "")
        rows = rows.group_by(request, "arm", maintain_order=True).agg(
            pl.col("time", "probability", _E).first(),
            pl.col("latency").max(),
            pl.col("failed").any(),
        )
    canary = (rows["arm"] == Arm.CANARY.value).to_numpy()
    # both arms' records must say the same share to the last bit
    share = np.round(_shares(rows, canary, several), 9)
    failed = rows["failed"].to_numpy()
    latency = rows["latency"].to_numpy()  # NaN where there is none
    first = pl.lit(True) if before is None else pl.col("time") > pl.lit(before)
    entity = pl.struct(pl.coalesce(pl.col(_E).cast(pl.String), "id"), pl.Series("share", share))
    return Answers(
        time=rows["time"].cast(pl.Int64).to_numpy(),
        canary=canary,
        failed=failed,
        latency=np.where(failed, np.nan, latency),
        share=share,
        first=rows.select(first & entity.is_first_distinct()).to_series().to_numpy(),
    )


def _shares(rows: pl.DataFrame, canary: Flags, several: bool) -> Array:
    """The candidate's probability (n), given that one of the two answers.

    With one candidate the champion's is the rest. With several, each record knows its own arm's;
    the other's is taken from the arm's record before it (or the first one, at the beginning).
    """
    own: Array = np.nan_to_num(rows["probability"].to_numpy(), nan=0.0)
    if not several:
        return np.where(canary, own, 1.0 - own)
    mine, theirs = (
        pl.Series(np.where(flag, own, np.nan))
        .fill_nan(None)
        .fill_null(strategy="forward")
        .fill_null(strategy="backward")
        .fill_null(0.0)
        .to_numpy()
        for flag in (canary, ~canary)
    )
    both = mine + theirs
    return np.where(both > 0, mine / np.where(both > 0, both, 1.0), 0.0)
