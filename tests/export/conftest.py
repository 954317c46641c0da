"""A declared project, and what was written for it when somebody last looked at it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from homeostat.definition import Project, load

GOLDEN = Path(__file__).with_name("golden")
DEFINITION = """\
name: fraud-detector
data: {source: a.parquet, time: t, key: k, label: {column: y, matures_after: 7d}}
training: {fit: "fraud:fit", split: {train: 28d, gap: 7d, test: 7d}}
monitoring:
  window: 1h
  drift: {min_effect: 0.1, false_alarms_per_month: 1}
  quality: {metric: auc, min: 0.8, window: 1d}
  notify: [alertmanager]
retraining: {per_week: 3, stop_after_no_gain: 2}
"""


@pytest.fixture
def declared(tmp_path: Path) -> Callable[..., Project]:
    """The project, with texts in its definition replaced."""

    def declare(**replaced: str) -> Project:
        text = DEFINITION
        for old, new in replaced.items():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "homeostat.yaml").write_text(text)
        return load(tmp_path)

    return declare


@pytest.fixture
def golden() -> Callable[[str, dict[str, str]], None]:
    """Compares files with those in golden/<folder>; UPDATE_GOLDEN=1 writes them, to be read in
    the diff."""

    def compare(folder: str, files: dict[str, str]) -> None:
        for name, text in files.items():
            path = GOLDEN / folder / name
            if os.environ.get("UPDATE_GOLDEN"):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            assert path.read_text() == text, f"{path} differs; UPDATE_GOLDEN=1 writes it anew"
        kept = [p for p in (GOLDEN / folder).rglob("*") if p.is_file()]
        assert sorted(str(p.relative_to(GOLDEN / folder)) for p in kept) == sorted(files)

    return compare
