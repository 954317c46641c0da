"""The example's modules import each other by their plain names, as the project folder has them."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

PROJECT = Path(__file__).parents[2] / "examples" / "fraud"
MODULES = frozenset(file.stem for file in PROJECT.glob("*.py"))


@pytest.fixture(scope="session")
def project() -> Path:
    return PROJECT


@pytest.fixture(autouse=True, scope="module")
def _plain_names() -> Iterator[None]:
    """Other tests of the process have a `fraud` too: neither sees the other's."""
    _forget()
    sys.path.insert(0, str(PROJECT))
    yield
    while str(PROJECT) in sys.path:  # also when a definition of this folder was loaded
        sys.path.remove(str(PROJECT))
    _forget()


def _forget() -> None:
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture(scope="session")
def raw() -> pl.DataFrame:
    """The whole benchmark file, where it is."""
    # by its path: a session's fixture may come before a module's, or amid one
    source = runpy.run_path(str(PROJECT / "source.py"))
    path = source["shared_file"]()
    if path is None:
        pytest.skip(source["ABSENT"])
    return source["transactions"](path)
