"""Split to registry with the real parts, as the pipeline calls them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from homeostat.backends.memory.registry import MemoryRegistry
from homeostat.core.duration import Duration
from homeostat.core.servable import REFERENCE
from homeostat.core.version import NewVersion, Version
from homeostat.registry.lineage import lineage
from homeostat.training import environment, evaluate, export, fit, gates
from homeostat.training.score import score_servable
from homeostat.training.spec import AgainstChampion, Bias, Bound, GatesSpec, Split, TrainingSpec
from homeostat.training.split import split

FEATURES = ("amount", "count", "distance")
SPEC = TrainingSpec(fit="m:f", split=Split(*(Duration.parse(d) for d in ("10d", "2d", "6d"))), k=50)
GATES = GatesSpec(
    auc=Bound(min=0.7, confident=True),
    against_champion=AgainstChampion("auc", 0.01),
    bias=(Bias("segment", "demographic_parity_difference", 0.25),),
)


def boosted(train, params):
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_estimators=params["trees"], n_jobs=1, verbose=-1).fit(train.X, train.y)


def one_run(
    table: pl.DataFrame, registry: MemoryRegistry, home: Path, run: str, champion: Version | None
) -> tuple[bool, Version]:
    parts = split(table, SPEC.split, "time", label="label")
    train, test = (
        fit.TrainingSet.of(p, FEATURES, "label", seed=1) for p in (parts.train, parts.test)
    )
    model = fit.run(boosted, train, {"trees": 20})
    reference = parts.test.with_columns(score=pl.Series(fit.score(model, test.X)))
    folder = home / run
    manifest = export.export(
        model, FEATURES, test.X, folder, name="m", threshold=0.5, reference=reference
    )
    candidate = score_servable(folder, parts.test)
    groups = {"segment": parts.test["segment"]}
    measured = evaluate.evaluate(parts.test["label"], candidate, SPEC, groups)
    against = score_servable(Path(champion.path), parts.test) if champion else None
    verdict = gates.decide(
        GATES, measured, label=parts.test["label"], candidate=candidate, champion=against
    )
    version = registry.register(
        NewVersion(
            model="m",
            run=run,
            folder=str(folder),
            digest=manifest.digest,
            metrics={m: e.value for m, e in measured.metrics.items() if e.value is not None},
            params={"trees": "20"},
            tags={"parent": champion.version if champion else ""} | environment.describe(home),
            gates=verdict,
        )
    )
    return verdict.passed, version


def test_two_runs_make_two_versions_that_agree_and_know_of_each_other(table, tmp_path) -> None:
    registry = MemoryRegistry(tmp_path / "registry")
    passed, first = one_run(table, registry, tmp_path, "run-1", None)
    assert passed
    assert [p.check for p in first.gates.parts] == [
        "auc",
        "bias.segment.demographic_parity_difference",
    ]
    passed, second = one_run(table, registry, tmp_path, "run-2", first)
    assert passed
    against = second.gates.parts[1]
    assert (against.check, against.figure, against.low, against.high) == (
        "against_champion",
        *(pytest.approx(0.0, abs=1e-9),) * 3,
    )
    assert second.digest == first.digest  # equal data, code and seed: the same bytes
    reference = pl.read_parquet(Path(second.path) / REFERENCE)
    served = score_servable(Path(second.path), reference)
    assert np.abs(served - reference["score"].to_numpy()).max() < 1e-4
    tree = lineage("2", registry.versions("m"))
    assert tree.parent.version == "1"
    assert tree.changed == ()
