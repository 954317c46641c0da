"""Is something in the features that could not be known when the row was scored?

Three ways in: the label or its copy is a feature; rows of the test set are in the training set;
a feature is computed from what came later (later rows, or labels that were not final yet).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from homeostat.core.errors import HomeostatError
from homeostat.core.verdict import Outcome, Verdict
from homeostat.data import transform
from homeostat.data.names import listed
from homeostat.data.spec import DataSpec

MAX_AUC = 0.999
MIN_CLASS = 20  # rows of each class below which a perfect separation may be chance
SAMPLE = 200_000  # rows of the label check and of the second run of the transform
TOLERANCE = 1e-6  # relative; sums may be added up in another order


def label_copies(table: pl.DataFrame, spec: DataSpec, features: Sequence[str]) -> Verdict:
    """The label among the features, or one feature that tells it: AUC over 0.999 either way."""
    name, label = "leakage.label", spec.label.column
    # as numbers: a label may be any kind of number, and what is neither 0 nor 1 is told elsewhere
    rows = table.filter(pl.col(label).cast(pl.Float64, strict=False).is_in([0.0, 1.0]))
    if rows.height > SAMPLE:
        rows = rows.gather_every(-(-rows.height // SAMPLE))
    y = rows[label].cast(pl.Float64).to_numpy() == 1
    least = min(int(y.sum()), int((~y).sum()))
    if least == 0:
        return Verdict(name, Outcome.INCONCLUSIVE, "leakage of the label: only one class", n=0)
    told: dict[str, float] = {}
    for feature in features:
        if feature == label:
            return Verdict(name, Outcome.FAIL, f"the label {label!r} itself is a feature")
        values = rows[feature]
        if values.dtype in (pl.String, pl.Categorical, pl.Enum):
            values = _positive_share(values, y)
        elif not (values.dtype.is_numeric() or values.dtype == pl.Boolean):
            continue
        told[feature] = separation(values, y)
    if not told:
        return Verdict(name, Outcome.INCONCLUSIVE, "leakage of the label: no feature to look at")
    worst = max(told, key=lambda f: told[f])
    bad = [f for f in told if told[f] > MAX_AUC]
    auc, n = told[worst], rows.height
    if not bad:
        sentence = f"no feature gives the label away (most: {worst})"
        return Verdict(name, Outcome.PASS, sentence, auc, MAX_AUC, n=n)
    outcome = Outcome.FAIL if least >= MIN_CLASS else Outcome.INCONCLUSIVE
    sentence = f"{listed(bad)} alone tells the label (AUC {auc:.4f}): is it computed from it?"
    return Verdict(name, outcome, sentence, auc, MAX_AUC, n=n)


def _positive_share(texts: pl.Series, positive: np.ndarray[Any, Any]) -> pl.Series:
    """Of the rows with the same text; of all rows, for a text so rare that chance may tell it."""
    table = pl.DataFrame({"text": texts, "y": positive})
    share = pl.when(pl.len().over("text") >= MIN_CLASS).then(pl.col("y").mean().over("text"))
    return table.select(share.fill_null(pl.col("y").mean())).to_series()


def separation(values: pl.Series, positive: np.ndarray[Any, Any]) -> float:
    """max(AUC, 1 - AUC) of the values, or of their being null, whichever tells more."""
    numbers = values.cast(pl.Float64).fill_nan(None)
    missing = numbers.is_null()
    told = [_auc(missing.cast(pl.Float64), positive)] if missing.any() else []
    if not missing.all():
        told.append(_auc(numbers.fill_null(-np.inf), positive))
    return max(max(a, 1 - a) for a in told)


def _auc(values: pl.Series, positive: np.ndarray[Any, Any]) -> float:
    """Mann-Whitney, ties counted half."""
    ranks = values.rank("average").to_numpy()
    n1 = int(positive.sum())
    n0 = len(positive) - n1
    return float((ranks[positive].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))


def shared_rows(
    train: pl.DataFrame, test: pl.DataFrame, spec: DataSpec, features: Sequence[str]
) -> list[Verdict]:
    """Keys, whole rows and periods that the training set and the test set have in common."""
    n = test.height
    if not n or not train.height:
        return [Verdict("leakage.split", Outcome.INCONCLUSIVE, "an empty train or test set", n=0)]
    keys = test.join(train.select(spec.key).unique(), on=spec.key, how="semi")
    content = [f for f in features if f != spec.key]
    both = [*dict.fromkeys([spec.time, *content])]
    rows = test.select(both).join(
        train.select(both).unique(), on=both, how="semi", nulls_equal=True
    )
    early = test.filter(pl.col(spec.time) <= train[spec.time].max()).height
    example = f" (such as {keys[spec.key][0]!r})" if keys.height else ""
    return [
        _none("leakage.keys", keys.height, n, f"test rows have a key of the training set{example}"),
        _none("leakage.rows", rows.height, n, "test rows are copies of training rows"),
        _none("leakage.time", early, n, "test rows are not later than the last training row"),
    ]


def _none(check: str, found: int, n: int, sentence: str) -> Verdict:
    outcome = Outcome.FAIL if found else Outcome.PASS
    return Verdict(check, outcome, f"{found:,} of {n:,} {sentence}", float(found), 0.0, n=n)


def from_later(
    raw: pl.DataFrame,
    table: pl.DataFrame,
    spec: DataSpec,
    features: Sequence[str],
    fn: Callable[[pl.DataFrame], Any],
) -> Verdict:
    """Run the transform as it would have run at an early time t: did a feature change?

    It is given the rows before t, with the labels that were not final at t (time + matures_after
    > t) set to null. A feature that knows only its past is the same as in the full run. Costs one
    run on at most 200,000 rows.
    """
    name = "leakage.later"
    if table[spec.key].is_duplicated().any():
        return Verdict(name, Outcome.INCONCLUSIVE, "not comparable: the key has duplicates", n=0)
    cut = cut_time(raw[spec.time])
    if cut is None:
        return Verdict(name, Outcome.INCONCLUSIVE, "too few rows to look at an early time", n=0)
    try:
        then = transform.apply(as_at(raw, spec, cut), fn, spec)
    except HomeostatError as error:
        return Verdict(
            name, Outcome.ERROR, f"the transform does not run on the rows before {cut}: {error}"
        )
    before = table.filter(pl.col(spec.time) < cut)
    compared = [f for f in features if f != spec.label.column]
    lacking = [f for f in compared if f not in then.columns]
    if lacking:
        return Verdict(
            name, Outcome.FAIL, f"features exist only with later data: {listed(lacking)}"
        )
    pairs = before.join(then, on=spec.key, how="inner", suffix="_then")
    if pairs.is_empty():
        return Verdict(
            name, Outcome.INCONCLUSIVE, f"no row before {cut:%Y-%m-%d %H:%M} to compare", n=0
        )
    changed = {c: n for c, n in _changes(pairs, compared) if n}
    if not changed:
        sentence = f"{len(compared)} features are the same when computed at {cut:%Y-%m-%d %H:%M}"
        return Verdict(name, Outcome.PASS, sentence, 0.0, 0.0, n=pairs.height)
    told = listed(f"{c} ({n:,} rows)" for c, n in changed.items())
    return Verdict(
        name,
        Outcome.FAIL,
        f"computed from what was not known yet: {told} of {pairs.height:,} before "
        f"{cut:%Y-%m-%d %H:%M} differ without later rows and labels",
        float(len(changed)),
        0.0,
        n=pairs.height,
    )


def cut_time(times: pl.Series) -> datetime | None:
    """An early time with rows on both sides: a fifth of the rows (half of few), 200,000 at most."""
    ordered = times.sort()
    n = len(ordered)
    place = min(SAMPLE, max(n // 5, min(n // 2, 20_000)))
    if n < 10 or ordered[place] == ordered[0]:
        return None
    cut = ordered[place]
    return cut if isinstance(cut, datetime) else None


def as_at(raw: pl.DataFrame, spec: DataSpec, cut: datetime) -> pl.DataFrame:
    """The source as it was at `cut`: rows before it, labels that were final."""
    final = pl.col(spec.time) <= cut - spec.label.matures_after
    label = spec.label.column
    return raw.filter(pl.col(spec.time) < cut).with_columns(
        pl.when(final).then(pl.col(label)).alias(label)
    )


def _changes(pairs: pl.DataFrame, features: Sequence[str]) -> Iterator[tuple[str, int]]:
    for feature in features:
        now, then = pairs[feature], pairs[f"{feature}_then"]
        if now.dtype.is_numeric() and then.dtype.is_numeric():
            a, b = now.cast(pl.Float64), then.cast(pl.Float64)
            far = ((a - b).abs() > TOLERANCE * (1 + a.abs())).fill_null(False)
            # NaN compares as large in Polars; two NaNs are the same
            same = (a.is_nan() & b.is_nan()) | a.eq_missing(b)
            differs = (~same.fill_null(False)) & (far | (a.is_null() != b.is_null()))
        else:
            differs = now.ne_missing(then.cast(now.dtype, strict=False))
        yield feature, int(differs.sum())
