"""Scores that a servable of any format gives to a table."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.route import Servable
from homeostat.core.servable import Format, Manifest
from homeostat.serving.runtime import SCORE, LoadedModel, load
from homeostat.training.score import Column, inputs, manifest_in, score_servable

ROWS = 10_000
"""Scored at a time."""


def scores(folder: Path, table: pl.DataFrame, formats: Collection[Format]) -> NDArray[np.float64]:
    """(n,). table: a column for each input. formats: those that are trusted. Raises NotFound,
    Damaged, BadInput, Refused."""
    manifest = manifest_in(folder)
    if manifest.format == "onnx":
        return score_servable(folder, table)
    model = load(Servable("", str(folder), manifest.digest), formats)
    return scored(model, columns(inputs(table, manifest), manifest))


def columns(rows: Column | dict[str, Column], manifest: Manifest) -> dict[str, Column]:
    """What `training.score.inputs` made as an array (n, *shape) per input."""
    if isinstance(rows, dict):
        return rows
    return {name: rows[:, i] for i, name in enumerate(manifest.inputs)}


def scored(model: LoadedModel, rows: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    """(n,), as the data plane would give them. Raises HomeostatError when the model fails."""
    n = len(rows[model.inputs[0]])
    parts = [
        model.run({name: values[at : at + ROWS] for name, values in rows.items()})[SCORE]
        for at in range(0, n, ROWS)
    ]
    return np.concatenate(parts).astype(np.float64) if parts else np.empty(0)
