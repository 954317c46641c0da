from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from homeostat.definition.example import scaffold

Homeostat = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def scaffolded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `homeostat init` writes; copy it, do not change it."""
    folder = tmp_path_factory.mktemp("scaffold") / "fraud"
    scaffold(folder)
    return folder


@pytest.fixture
def project(scaffolded: Path, tmp_path: Path) -> Path:
    """A project of the test's own."""
    return Path(shutil.copytree(scaffolded, tmp_path / "fraud"))


@pytest.fixture
def homeostat(project: Path) -> Homeostat:
    """Run a command of the project as a person would."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "homeostat", "-C", str(project), *words],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"COLUMNS": "200"},
        )

    return run
