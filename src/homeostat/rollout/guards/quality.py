"""Quality: the mean excess of the candidate's loss, on all requests and in the worst slice."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.names import Arm
from homeostat.core.verdict import Outcome, Verdict
from homeostat.rollout import sequences
from homeostat.rollout.guards.common import Alpha, between, judged, nothing, subtract
from homeostat.rollout.guards.estimate import SPENT, narrowed
from homeostat.rollout.guards.losses import harm_support, largest, losses
from homeostat.rollout.observations import GROUP, Observations, labelled
from homeostat.rollout.sequences import Bounds
from homeostat.rollout.spec import QualityGuard, RolloutSpec

Array = NDArray[np.float64]


def judge(guard: QualityGuard, plan: RolloutSpec, seen: Observations, alpha: Alpha) -> Verdict:
    """The verdict on all requests; with `by`, made worse by the slices, which are its parts.

    With slices, the whole and they have half of the rollback alpha each; the k-th slice to appear
    gets 1/(k(k+1)) of it, so that their number need not be known. Promotion needs all of them.
    """
    own = alpha if guard.by is None else of_whole(alpha)
    scores = _scores(guard, seen)
    harm, how = _harm(guard, plan, seen, scores, own)
    unit = "paired labelled requests" if guard.paired else "labelled requests of the candidate"
    if harm.n == 0:
        return nothing("quality", guard.margin, f"no {unit} yet")
    name = guard.metric.replace("_", " ")
    sentence = (
        f"quality: the candidate's {name} is {harm.point:+.4f} against the champion's "
        f"({between(harm)}; margin {guard.margin:g}) on {harm.n:,} {unit}{how}"
    )
    whole = judged("quality", harm, guard.margin, 0.0, sentence, "labelled requests", seen)
    if guard.by is None:
        return whole
    return _with_slices(whole, guard, plan, seen, scores, alpha)


# -- the harm of some requests -----------------------------------------------------------------


class Scores(NamedTuple):
    """all: the rows that both scored (paired) or that either answered, labelled or not.
    known: those whose label counts, in the order in which they came to."""

    all: pl.DataFrame
    known: pl.DataFrame


def _scores(guard: QualityGuard, seen: Observations) -> Scores:
    if guard.paired:
        pairs = seen.pairs
        return Scores(pairs, labelled(pairs))
    single = seen.single
    return Scores(single, single)


def _harm(
    guard: QualityGuard, plan: RolloutSpec, seen: Observations, scores: Scores, alpha: Alpha
) -> tuple[Bounds, str]:
    """-> bounds, and what beside labels they rest on."""
    if not guard.paired:
        return _single(guard, plan, seen, scores.known, alpha), ""
    if not guard.estimate:
        return _paired(guard, plan, seen, scores.known, alpha), ""
    bounds = _paired(guard, plan, seen, scores.known, alpha.times(1 - SPENT))
    if bounds.n == 0:
        return bounds, ""
    rest = alpha.times(SPENT)
    return narrowed(guard.metric, seen, scores.all, scores.known, plan.block, bounds, rest)


def _paired(
    guard: QualityGuard, plan: RolloutSpec, seen: Observations, rows: pl.DataFrame, alpha: Alpha
) -> Bounds:
    rows, block = in_order(rows, plan, seen)
    label = rows["label"].to_numpy().astype(np.float64)
    loss = [
        losses(guard.metric, label, rows[column].to_numpy().astype(np.float64), threshold)
        for column, threshold in zip(("champion", "candidate"), seen.thresholds, strict=True)
    ]
    support = harm_support(guard.metric)
    return sequences.mean(
        loss[1] - loss[0], support, alpha=alpha, label=label, weight=weight(rows), block=block
    )


def _single(
    guard: QualityGuard, plan: RolloutSpec, seen: Observations, every: pl.DataFrame, alpha: Alpha
) -> Bounds:
    arms = []
    for arm, threshold in zip((Arm.CHAMPION, Arm.CANARY), seen.thresholds, strict=True):
        rows, block = in_order(every.filter(every["arm"] == arm.value), plan, seen)
        label = rows["label"].to_numpy().astype(np.float64)
        loss = losses(guard.metric, label, rows["score"].to_numpy().astype(np.float64), threshold)
        low, high = alpha.part(2)
        if arm is Arm.CHAMPION:  # its low bound belongs to promotion, its high to rollback
            low, high = high, low
        support, w = (0.0, largest(guard.metric)), weight(rows)
        arms.append(
            sequences.mean(loss, support, alpha=(low, high), label=label, weight=w, block=block)
        )
    return subtract(arms[0], arms[1])


def weight(rows: pl.DataFrame) -> Array | None:
    """How many requests each labelled one stands for: one over the chance of its label to become
    known (inverse propensity; Horvitz & Thompson 1952). None where all are known."""
    if "propensity" not in rows.columns:
        return None
    chance = rows["propensity"].fill_null(1.0).to_numpy()
    return None if not len(chance) or chance.min() >= 1.0 else 1.0 / np.maximum(chance, 1e-6)


def in_order(
    rows: pl.DataFrame, plan: RolloutSpec, seen: Observations
) -> tuple[pl.DataFrame, NDArray[np.int64] | None]:
    """The rows by block, and their block numbers: those that were answered within `plan.block` of
    each other and came to count within it. A block that is not over yet is left out."""
    size = int(plan.block.total_seconds() * 1e6)
    if not size or not rows.height:
        return rows, None
    counted = rows["counts"].cast(pl.Int64).to_numpy() // size
    if seen.now is not None:
        over = counted < int(seen.now.timestamp() * 1e6) // size
        rows, counted = rows.filter(over), counted[over]
    asked = rows["time"].cast(pl.Int64).to_numpy() // size
    order = np.lexsort((asked, counted))
    counted, asked = counted[order], asked[order]
    new = (np.diff(counted, prepend=counted[:1]) != 0) | (np.diff(asked, prepend=asked[:1]) != 0)
    return rows[order], np.cumsum(new)


# -- slices ------------------------------------------------------------------------------------


def of_whole(alpha: Alpha) -> Alpha:
    """Of a guard's alpha, what all requests have where slices have the rest."""
    return Alpha(alpha.rollback / 2, alpha.promotion)


def of_slice(alpha: Alpha, k: int) -> Alpha:
    """Of a guard's alpha, what the k-th slice to appear (from 1) has."""
    return Alpha(alpha.rollback / 2 / (k * (k + 1)), alpha.promotion)


def _with_slices(
    whole: Verdict,
    guard: QualityGuard,
    plan: RolloutSpec,
    seen: Observations,
    scores: Scores,
    alpha: Alpha,
) -> Verdict:
    column, margin = f"{GROUP}{guard.by}", guard.slice_margin or 3 * guard.margin
    if column not in scores.known.columns:
        sentence = f"quality: the prediction log has no column {guard.by} to tell slices apart"
        return msgspec.structs.replace(whole, outcome=Outcome.ERROR, sentence=sentence)
    values = scores.known[column].fill_null("(none)")
    parts, waiting = [], []
    for k, value in enumerate(values.unique(maintain_order=True).to_list(), start=1):
        mine = of_slice(alpha, k)
        rows = scores.known.filter(values == value)
        part = _slice(f"quality[{guard.by}={value}]", guard, plan, seen, rows, margin, mine)
        parts.append(part)
        if not part.passed and rows.height >= guard.min_share * scores.known.height:
            waiting.append(part)
    failed = [p for p in parts if p.failed]
    worst = failed or ([] if whole.failed else waiting)
    if not worst or worst[0].outcome.rank <= whole.outcome.rank:
        return msgspec.structs.replace(whole, parts=tuple(parts))
    found = max(worst, key=lambda p: p.figure or 0.0)
    return msgspec.structs.replace(
        whole, outcome=found.outcome, sentence=found.sentence, parts=tuple(parts)
    )


def _slice(
    check: str,
    guard: QualityGuard,
    plan: RolloutSpec,
    seen: Observations,
    rows: pl.DataFrame,
    margin: float,
    alpha: Alpha,
) -> Verdict:
    harm = (_paired if guard.paired else _single)(guard, plan, seen, rows, alpha)
    if harm.n == 0:
        return nothing(check, margin, "no labelled requests yet")
    sentence = (
        f"{check}: {guard.metric.replace('_', ' ')} {harm.point:+.4f} against the champion's "
        f"({between(harm)}; margin {margin:g}) on {harm.n:,} labelled requests"
    )
    return judged(check, harm, margin, 0.0, sentence, "labelled requests of this slice", seen)
