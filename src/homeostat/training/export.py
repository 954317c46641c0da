"""The servable: what training hands to serving, checked to answer as the original does."""

from __future__ import annotations

import io
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.errors import BadInput, Refused, Unavailable
from homeostat.core.records import input_type
from homeostat.core.servable import REFERENCE, Field, Manifest, file_digest, write_background
from homeostat.training.fit import FittedModel, Inputs, fields_of, inputs_of, score
from homeostat.training.onnx import convert
from homeostat.training.score import run

MODEL = "model.onnx"
TOLERANCE = 1e-4
"""By how much the score of the exported model may differ from the original's."""

REFERENCE_ROWS = 50_000
BACKGROUND_ROWS = 100


def export(
    model: FittedModel,
    features: Sequence[str],
    X: Inputs,
    folder: Path,
    *,
    name: str,
    threshold: float,
    reference: pl.DataFrame,
) -> Manifest:
    """Write `model.onnx`, `servable.json`, `reference.parquet` and `background.json` into
    `folder`, which appears whole or not at all (one that is there is replaced).

    X: rows to compare the exported model and the original on, n > 0; BACKGROUND_ROWS of those that
    lack no value become the background, drawn with a fixed seed. reference: rows with columns
    `features`, `score` and `label` (the last two null in rows that the model was fitted on); at
    most REFERENCE_ROWS of it are kept, as `stretches`, with the scores that the exported model
    gives. Raises Refused, showing the worst row, when a score differs by more than TOLERANCE,
    BadInput when the model cannot be expressed in ONNX, and Unavailable when the disk is full.
    """
    if len(X) == 0:
        raise BadInput("there are no rows to compare the exported model with the original on")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        fields = fields_of(X, features)
        plain = all(field.plain for field in fields)
        output = convert(model, fields, partial / MODEL)
        manifest = Manifest(
            name=name,
            inputs=tuple(features),
            file=MODEL,
            digest=file_digest(partial / MODEL),
            output=output,
            threshold=threshold,
            columns=() if plain else fields,
        )
        check_parity(score(model, X), _run(partial, manifest, X), X, features)
        manifest.write(partial)
        background(_columns(X, fields), partial)
        # through memory: Polars would tell of a full disk as of a malformed file
        parquet = io.BytesIO()
        _reference(reference, partial, manifest).write_parquet(parquet)
        (partial / REFERENCE).write_bytes(parquet.getvalue())
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    except OSError as error:
        raise Unavailable(
            "the servable could not be written",
            path=str(folder),
            found=str(error),
            remedy="see that the disk has room and the folder may be written to, then run again",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def check_parity(
    original: NDArray[np.float64],
    exported: NDArray[np.float64],
    X: Inputs,
    features: Sequence[str],
) -> None:
    """Raises Refused when the scores (n,) of the same n rows X differ beyond TOLERANCE."""
    apart = np.abs(original - exported)
    apart[np.isnan(apart)] = np.inf  # an answer that is no number agrees with nothing
    worst = int(np.argmax(apart))
    if apart[worst] <= TOLERANCE:
        return
    values = X[worst] if isinstance(X, np.ndarray) else X.iloc[worst].tolist()
    row = ", ".join(f"{f}={_shown(v)}" for f, v in zip(features, values, strict=True))
    raise Refused(
        f"the exported model does not answer as the original does: "
        f"{int((apart > TOLERANCE).sum()):,} of {len(apart):,} test rows differ by more than "
        f"{TOLERANCE:g}",
        expected=f"score {original[worst]:.6f} in the worst row ({worst}: {row})",
        found=f"{exported[worst]:.6f}",
        remedy="leave out scaling before trees (they need none, and rounding flips their "
        "branches); give other models features of moderate size",
    )


def _shown(value: object) -> str:
    return value if isinstance(value, str) else f"{value:.9g}"


def _run(folder: Path, manifest: Manifest, X: Inputs) -> NDArray[np.float64]:
    """The scores of the exported model."""
    if isinstance(X, np.ndarray):
        return run(folder, manifest, X)
    return run(folder, manifest, {name: X[name].to_numpy() for name in manifest.inputs})


def _columns(X: Inputs, fields: Sequence[Field]) -> dict[str, NDArray[Any]]:
    return {
        field.name: X[:, i] if isinstance(X, np.ndarray) else X[field.name].to_numpy()
        for i, field in enumerate(fields)
    }


def background(columns: Mapping[str, NDArray[Any]], folder: Path) -> None:
    """Write what explanations compare with: BACKGROUND_ROWS of the rows that lack no number,
    nothing when there are none. columns: (n, *shape) by input."""
    n = len(next(iter(columns.values())))
    whole = np.ones(n, bool)
    for values in columns.values():
        if values.dtype.kind == "f":
            whole &= np.isfinite(values.reshape(n, -1)).all(axis=1)
    at = np.flatnonzero(whole)
    if len(at) > BACKGROUND_ROWS:
        at = np.sort(np.random.default_rng(0).choice(at, BACKGROUND_ROWS, replace=False))
    if len(at):
        write_background(folder, {name: values[at] for name, values in columns.items()})


def _reference(table: pl.DataFrame, folder: Path, manifest: Manifest) -> pl.DataFrame:
    kinds: Mapping[str, Any] = {field.name: input_type(field) for field in manifest.fields} | {
        "score": pl.Float64,
        "label": pl.Float64,
    }
    chosen = table.select(pl.col(name).cast(kind) for name, kind in kinds.items())
    chosen = stretches(chosen, REFERENCE_ROWS)
    # scores of trees are few values that many rows share: the exported model's are what the log
    # will have, and the original's next to them would look like a move
    scores = chosen["score"].to_numpy().copy()
    tested = chosen["score"].is_not_null()
    rows = inputs_of(chosen.filter(tested), manifest.inputs)
    scores[tested.to_numpy()] = _run(folder, manifest, rows)
    return chosen.with_columns(score=pl.Series(scores, nan_to_null=True))


def stretches(table: pl.DataFrame, rows: int) -> pl.DataFrame:
    """At most `rows` rows of a table, in their order: stretches of about sqrt(rows) consecutive
    ones, one somewhere in each of as many equal parts, drawn with a fixed seed."""
    n, length = table.height, math.isqrt(rows)
    if n <= rows or not length:
        return table.head(rows)
    count = rows // length
    # where in its part each begins, beyond what the stretches before it take up
    room = (np.arange(count) + np.random.default_rng(0).random(count)) * (n / count - length)
    starts = room.astype(np.int64) + np.arange(count) * length
    return table[(starts[:, None] + np.arange(length)).ravel()]
