"""Distances of two tables beside SciPy's, and their limits."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon

from homeostat.monitoring.drift.baseline import Baseline
from homeostat.monitoring.drift.column import look
from homeostat.monitoring.drift.compare import compare
from homeostat.monitoring.drift.distances import (
    BINNED,
    CURVES,
    Curves,
    at_shift,
    binned,
    curve,
    measure,
)
from homeostat.monitoring.drift.source import Parquet, Where, opened, sample
from homeostat.monitoring.spec import Drift

ALL = ("ks", "psi", "js", "hellinger", "chi2", "g", "wasserstein", "cvm", "ad")


def normal(n: int, shift: float = 0.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, n)


def curves(a: np.ndarray, b: np.ndarray) -> Curves:
    base = Baseline.build(pl.DataFrame({"x": a})).columns[0]
    seen = look(base, [pl.Series(b)], b.size)
    n, m = a.size, b.size
    return Curves(
        base.values, base.upto, base.below, seen.upto / m, seen.below / m, n, m, base.scale,  # type: ignore[union-attr]
        seen.excess / m,  # type: ignore[union-attr]
    )  # fmt: skip


@pytest.mark.parametrize("ties", [False, True])
def test_distances_are_scipys(ties: bool) -> None:
    a, b = normal(900), normal(700, 0.4, 1)
    if ties:
        a, b = a.round(1), b.round(1)
    both = curves(a, b)
    assert both.ks == pytest.approx(stats.ks_2samp(a, b).statistic)
    found = curve("wasserstein", both, 0.1, 0.05)
    assert found is not None
    assert found.statistic == pytest.approx(stats.wasserstein_distance(a, b) / a.std(), rel=0.02)
    n, m = a.size, b.size
    if not ties:
        t = stats.cramervonmises_2samp(a, b).statistic
        found = curve("cvm", both, 0.1, 0.05)
        assert found is not None
        assert found.statistic * n * m / (n + m) == pytest.approx(t, rel=0.02)
        ad = stats.anderson_ksamp([a, b], variant="right", method=_permutation()).statistic
        spread = _anderson_spread(n, m)
        found = curve("ad", both, 0.1, 0.05)
        assert found is not None
        assert found.statistic * n * m / (n + m) == pytest.approx(ad * spread + 1, rel=0.05)


def _permutation() -> stats.PermutationMethod:
    return stats.PermutationMethod(n_resamples=9)


def _anderson_spread(n: int, m: int) -> float:
    """Standard deviation of the two-sample statistic (Scholz & Stephens 1987)."""
    total = n + m
    inverse = 1 / n + 1 / m
    hs = 1 / np.arange(total - 1, 0, -1)
    h = hs.sum()
    g = (np.cumsum(hs)[:-1] / np.arange(2, total)).sum()
    k = 2
    a = (4 * g - 6) * (k - 1) + (10 - 6 * g) * inverse
    b = (2 * g - 4) * k**2 + 8 * h * k + (2 * g - 14 * h - 4) * inverse - 8 * h + 4 * g - 6
    c = (6 * h + 2 * g - 2) * k**2 + (4 * h - 4 * g + 6) * k + (2 * h - 6) * inverse + 4 * h
    d = (2 * h + 6) * k**2 - 4 * h * k
    variance = (a * total**3 + b * total**2 + c * total + d) / (
        (total - 1) * (total - 2) * (total - 3)
    )
    return float(np.sqrt(variance))


def test_distances_of_counts_are_scipys() -> None:
    p, q = np.array([40.0, 30.0, 20.0, 10.0]), np.array([25.0, 25.0, 25.0, 25.0])
    assert measure("js", p, q) == pytest.approx(jensenshannon(p, q, base=2))
    n, m = p.sum(), q.sum()
    pearson = stats.chi2_contingency([p, q], correction=False)
    assert measure("chi2", p, q) * n * m / (n + m) == pytest.approx(pearson.statistic)
    g = stats.chi2_contingency([p, q], correction=False, lambda_="log-likelihood")
    assert measure("g", p, q) * n * m / (n + m) == pytest.approx(g.statistic)
    point = binned("chi2", p, q, 0.0, 0.05)
    assert point is not None
    assert point.p_value == pytest.approx(pearson.pvalue)


@pytest.mark.parametrize("name", ALL)
def test_every_test_calls_the_same_movement_drift(name: str) -> None:
    spec = Drift(tests=(name,), min_effect=0.1)  # type: ignore[arg-type]
    before = pl.DataFrame({"x": normal(60_000)})
    small = pl.DataFrame({"x": normal(60_000, 0.2, 1)})  # a KS distance of 0.08
    large = pl.DataFrame({"x": normal(60_000, 0.6, 2)})
    assert not compare(before, small, spec, alpha=0.01).drifted
    found = compare(before, large, spec, alpha=0.01).columns[0]
    assert found.drifted
    test = found.tests[0]
    assert test.limit < test.low <= test.statistic
    assert test.p_value < 0.01


@pytest.mark.parametrize("name", ALL)
def test_limits_grow_with_the_minimum_effect(name: str) -> None:
    assert at_shift(name, 0.0) == pytest.approx(0, abs=1e-9)
    assert 0 < at_shift(name, 0.1) < at_shift(name, 0.2)
    assert name in (*BINNED, *CURVES)


def test_instants_are_compared_by_their_hour_and_texts_by_their_length_too() -> None:
    random = np.random.default_rng(0)
    hours = random.integers(0, 24, 3_000)

    def table(days: int, hour: np.ndarray, words: int) -> pl.DataFrame:
        at = pl.Series((days * 24 + hour) * 3_600_000_000).cast(pl.Datetime("us"))
        note = ["x" * (words + int(h) % 3) + str(i) for i, h in enumerate(hour)]
        return pl.DataFrame({"at": at, "note": note})

    before = table(100, hours, 5)
    later = compare(before, table(400, hours, 5), alpha=0.05)
    assert not later.drifted
    assert [c.column for c in later.columns] == ["at", "note", "length of note"]
    night = compare(before, table(400, hours % 6, 50), alpha=0.05)
    assert {c.column for c in night.drifted} == {"at", "length of note"}


def test_a_file_in_pieces_is_compared_as_the_table_is(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from homeostat.monitoring.drift import baseline, source

    random = np.random.default_rng(6)

    def table(shift: float) -> pl.DataFrame:
        x = random.normal(shift, 1, 5_000)
        word = random.choice(["a", "b", "c"], 5_000)
        return pl.DataFrame({"x": x, "word": word}).with_columns(
            x=pl.when(pl.int_range(pl.len()) % 40 == 0).then(None).otherwise("x")
        )

    before, after = table(0), table(0.5)
    before.write_parquet(tmp_path / "before.parquet")
    after.head(2_000).write_parquet(tmp_path / "a1.parquet")
    after.tail(3_000).write_parquet(tmp_path / "a2.parquet")
    whole = compare(before, after, alpha=0.05)
    monkeypatch.setattr(source, "PIECE", 700)
    with opened(tmp_path / "before.parquet") as a, opened(str(tmp_path / "a*.parquet")) as b:
        assert compare(a, b, alpha=0.05) == whole
        drawn = sample(b, ["x", "word"], 400, seed=1)
    assert drawn.shape == (400, 2)
    # a column too long to be sorted whole keeps exact shares at fewer points
    monkeypatch.setattr(baseline, "WHOLE", 2_000)
    with opened(tmp_path / "before.parquet") as a:
        found = compare(a, after, alpha=0.05)
    assert found.columns[0].effect == pytest.approx(whole.columns[0].effect, abs=0.01)
    assert found.columns[1] == whole.columns[1]
    half = Where(Parquet([tmp_path / "before.parquet"]), np.arange(5_000) < 900)
    assert pl.concat(half.pieces("x")).equals(before["x"].head(900))
