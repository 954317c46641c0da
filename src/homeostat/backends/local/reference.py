"""What a version's monitors compare with, from the folder of its servable."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from homeostat.core.errors import Damaged
from homeostat.core.servable import MANIFEST, REFERENCE, Field, Manifest
from homeostat.core.version import Version

if TYPE_CHECKING:
    import polars as pl


def read_reference(version: Version) -> pl.DataFrame:
    """What was stored with a version, read once. Raises Damaged."""
    import polars as pl

    try:
        return _read(version.path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise Damaged(
            f"what version {version.version} is compared with cannot be read",
            path=str(Path(version.path) / REFERENCE),
            found=str(error).strip().splitlines()[0],
            remedy="restore the file, or promote another version",
        ) from error


def read_inputs(version: Version) -> tuple[Field, ...]:
    """The inputs of a version, in the model's order. Raises Damaged."""
    try:
        return Manifest.read(Path(version.path)).fields
    except (OSError, msgspec.MsgspecError) as error:
        raise Damaged(
            f"what version {version.version} takes cannot be read",
            path=str(Path(version.path) / MANIFEST),
            found=str(error).strip().splitlines()[0],
            remedy="restore the file, or promote another version",
        ) from error


@lru_cache(maxsize=16)
def _read(folder: str) -> pl.DataFrame:
    import polars as pl

    return pl.read_parquet(Path(folder) / REFERENCE)
