"""Movement that no column shows by itself; slices; and what movement cost."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from homeostat.core.errors import BadInput
from homeostat.monitoring.drift.attribution import attribute
from homeostat.monitoring.drift.joint import joint_drift
from homeostat.monitoring.report.report import drift


def pair(n: int, seed: int, *, turned: bool = False) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    z = random.normal(size=n)
    y = (-z if turned else z) + random.normal(0, 0.3, n)
    return pl.DataFrame({"x": z, "y": y, "word": random.choice(["a", "b"], n)})


def test_columns_that_turn_against_each_other_are_seen_together() -> None:
    found = drift(pair(3_000, 0), pair(3_000, 1, turned=True))
    assert not found.drifted
    assert found.verdict.failed
    assert found.joint is not None
    assert found.joint.auc_low > 0.9
    assert {name for name, _ in found.joint.told_by[:2]} == {"x", "y"}
    assert "but together they moved" in found.verdict.sentence


def test_nothing_together_is_a_pass_and_identifiers_are_not_told_apart() -> None:
    def table(seed: int) -> pl.DataFrame:
        names = [f"{seed}-{i}" for i in range(3_000)]
        return pair(3_000, seed).with_columns(id=pl.Series(names))

    found = drift(table(0), table(1))
    assert found.verdict.passed
    assert found.joint is not None
    assert found.joint.auc_low < 0.55


def test_too_few_rows_or_columns_are_not_judged_together() -> None:
    small = pair(100, 0)
    assert joint_drift(small, small, ["x", "y"], min_effect=0.1, alpha=0.05) is None
    large = pair(1_000, 0)
    assert joint_drift(large, large, ["x"], min_effect=0.1, alpha=0.05) is None


def test_a_slice_that_moved_alone_is_named() -> None:
    before, after = pair(8_000, 0), pair(8_000, 1)
    away = pl.when(pl.col("word") == "a").then(pl.col("x") + 1.2).otherwise(pl.col("x") - 1.2)
    found = drift(before, after.with_columns(x=away), by=["word"], joint=False)
    assert {s.slice for s in found.slices if s.columns} == {"word = a", "word = b"}
    assert found.slices[0].columns[0].column == "x"
    with pytest.raises(BadInput, match="no column 'country'"):
        drift(before, after, by=["country"])


def test_the_cost_of_movement_is_parted_from_that_of_a_changed_world() -> None:
    random = np.random.default_rng(0)

    def table(hard: float, worse: float) -> pl.DataFrame:
        where = random.random(4_000) < hard
        wrong = random.random(4_000) < np.where(where, 0.4, 0.1) + worse
        truth = random.choice(["yes", "no"], 4_000)
        other = np.where(truth == "yes", "no", "yes")
        said = np.where(wrong, other, truth)
        kind = np.where(where, "hard", "easy")
        return pl.DataFrame({"kind": kind, "noise": random.normal(size=4_000),
                             "said": said, "truth": truth})  # fmt: skip

    moved = attribute(table(0.2, 0), table(0.7, 0), ["noise", "kind"], "said", "truth")
    assert moved.loss == "error rate"
    assert moved.parts[0].column == "kind"
    assert moved.parts[0].moved == pytest.approx(0.15, abs=0.04)
    assert moved.parts[0].within == pytest.approx(0, abs=0.03)
    assert "the movement of kind alone explains" in moved.sentence
    changed = attribute(table(0.2, 0), table(0.2, 0.2), ["kind"], "said", "truth")
    assert changed.parts[0].moved == pytest.approx(0, abs=0.02)
    assert changed.parts[0].within == pytest.approx(0.2, abs=0.04)
