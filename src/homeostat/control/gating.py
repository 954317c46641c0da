"""Hold a candidate against the gates, on the rows of a test set."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from homeostat.control.model import load
from homeostat.control.platform import Platform
from homeostat.control.scores import scores
from homeostat.core.errors import BadInput
from homeostat.core.servable import Manifest
from homeostat.core.verdict import Verdict
from homeostat.core.version import Version
from homeostat.data import files
from homeostat.training import evaluate, gates


def ask_gates(
    platform: Platform, folder: Path, test: pl.DataFrame, champion: Version | None
) -> tuple[Verdict, dict[str, float]]:
    """-> what the gates say of the servable in `folder`, and its metrics. test: a column for each
    input, the label, and what `gates.bias` groups by. Raises BadInput, NotFound, Damaged,
    Refused."""
    project, formats = platform.project, platform.project.serving.formats
    label = test[project.data.label.column]
    segments = [bias.by for bias in project.gates.bias]
    missing = [by for by in segments if by not in test.columns]
    if missing:
        raise BadInput(
            f"the test rows have no column {missing[0]!r}",
            expected="a column for each of `gates.bias`",
            found=", ".join(test.columns),
        )
    candidate = scores(folder, test, formats)
    measured = evaluate.evaluate(
        label, candidate, project.training, {by: test[by] for by in segments}
    )
    against = None
    if champion is not None and project.gates.against_champion is not None:
        against = scores(Path(champion.path), test, formats)
    verdict = gates.decide(
        project.gates,
        measured,
        label=label,
        candidate=candidate,
        champion=against,
        anchored=_anchored(platform, folder, champion),
    )
    return verdict, {m: e.value for m, e in measured.metrics.items() if e.value is not None}


def champion_of(platform: Platform) -> Version | None:
    """Who answers now. Raises NotFound."""
    state = load(platform.events.read(platform.stream))
    if state.champion is None:
        return None
    return platform.registry.get(platform.stream, state.champion)


def _anchored(platform: Platform, folder: Path, champion: Version | None) -> gates.Anchored | None:
    """The golden set, scored. Raises NotFound, BadInput."""
    project, formats = platform.project, platform.project.serving.formats
    anchor, label = project.gates.anchor, project.data.label.column
    if anchor is None:
        return None
    rows = files.read(anchor.source, platform.root)
    missing = [c for c in (*Manifest.read(folder).inputs, label) if c not in rows.columns]
    if missing:
        raise BadInput(
            f"the golden set has no column {missing[0]!r}",
            path=anchor.source,
            expected="the features and the label, as the transform leaves them",
            found=", ".join(rows.columns),
        )
    rows = rows.drop_nulls(label)
    before = scores(Path(champion.path), rows, formats) if champion is not None else None
    return gates.Anchored(rows[label], scores(folder, rows, formats), before)
