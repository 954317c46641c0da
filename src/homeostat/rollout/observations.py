"""From the prediction log and the labels to what a rollout is judged on."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.names import Arm

Array = NDArray[np.float64]


class ArmSeen(msgspec.Struct, frozen=True):
    """What one arm did with the requests it answered (never those it only shadowed).

    n: requests. errors: how many failed. latencies: seconds of the others, ascending.
    """

    n: int
    errors: int
    latencies: Array


class Observations(msgspec.Struct, frozen=True):
    """judged: id, known, version, arm, score, label of what either version scored and whose
    label is known, in the order in which they came to count, at most one row per id and version.
    versions, thresholds: of the champion and the candidate; thresholds: alerts start there.
    """

    champion: ArmSeen
    candidate: ArmSeen
    judged: pl.DataFrame
    versions: tuple[str, str]
    thresholds: tuple[float, float] = (0.5, 0.5)

    @property
    def paired(self) -> pl.DataFrame:
        """id, known, champion, candidate (their scores), label of what both have scored."""
        first, second = (self.judged.filter(pl.col("version") == v) for v in self.versions)
        return first.join(
            second.select("id", candidate="score"), on="id", maintain_order="left"
        ).select("id", "known", "candidate", "label", champion="score")

    @property
    def single(self) -> pl.DataFrame:
        """id, known, arm (champion | canary), score, label, by the arm that answered."""
        champion, candidate = self.versions
        arm, version = pl.col("arm"), pl.col("version")
        answered = self.judged.filter(
            ((arm == Arm.CHAMPION.value) & (version == champion))
            | ((arm == Arm.CANARY.value) & (version == candidate))
        )
        once = pl.col("id").is_first_distinct()
        return answered.filter(once).select("id", "known", "arm", "score", "label")


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
) -> Observations:
    """Join what was predicted from `since` on with what is known of it.

    log: columns of `core.records.PREDICTIONS`; labels: of `LABELS`, one row per id.
    settled: requests after it are left out of quality. Give it as `now - matures_after`: when
    frauds are reported sooner than honest payments are cleared, the labels known so far are not
    a fair sample of the requests, and only those that had their full time are.
    matures_after: a request counts once it has settled and its label is known, whichever is later.
    Evidence is in that order, so that a later look only ever adds to the end of what an earlier
    one saw, as bounds that hold at every look ask for.
    Each request counts once: of repeated ids, the first record of a version.
    """
    records = (
        log.select("id", "time", "version", "arm", "latency", "score", "error")
        .filter(pl.col("version").is_in([champion, candidate, ""]), pl.col("time") >= since)
        .sort("time", "id")
        .unique(["id", "version"], keep="first", maintain_order=True)
    )
    scored = pl.col("score").is_not_null()
    known = labels.select("id", "known", "label")
    judged = (
        records.filter(scored if settled is None else scored & (pl.col("time") <= settled))
        .join(known, on="id")
        .filter(pl.col("label").is_not_null())
        .sort(pl.max_horizontal("known", pl.col("time") + matures_after), "id")
    )
    return Observations(
        champion=_arm(records, Arm.CHAMPION, candidate),
        candidate=_arm(records, Arm.CANARY, champion),
        judged=judged,
        versions=(champion, candidate),
        thresholds=thresholds,
    )


def _arm(records: pl.DataFrame, arm: Arm, other: str) -> ArmSeen:
    """version "" is a request that no version could answer; it is counted to its arm."""
    mine = ((records["arm"] == arm.value) & (records["version"] != other)).to_numpy()
    failed = records["error"].is_not_null().to_numpy()
    latencies = records["latency"].to_numpy()[mine & ~failed]
    return ArmSeen(
        int(mine.sum()), int((mine & failed).sum()), np.sort(latencies[np.isfinite(latencies)])
    )
