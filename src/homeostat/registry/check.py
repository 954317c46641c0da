"""What every registry asks of a servable before it takes it."""

from __future__ import annotations

from pathlib import Path

from homeostat.core.errors import Damaged, NotFound
from homeostat.core.servable import Manifest, file_digest


def check_servable(folder: Path, digest: str) -> None:
    """Raises NotFound without a servable in `folder`, Damaged when its model is not `digest`."""
    try:
        found = file_digest(folder / Manifest.read(folder).file)
    except FileNotFoundError as error:
        raise NotFound("there is no whole servable here", path=str(folder)) from error
    if found != digest:
        raise Damaged(
            "the model file is not the one that was exported",
            path=str(folder),
            expected=digest,
            found=found,
            remedy="run the pipeline again from train",
        )
