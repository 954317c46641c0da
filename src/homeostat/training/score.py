"""The scores that a servable gives to rows of a table, whatever the types of its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from homeostat.core.errors import BadInput, Damaged, NotFound, Refused
from homeostat.core.records import input_type
from homeostat.core.servable import Field, Manifest, file_digest
from homeostat.training.fit import matrix, positive

Column = NDArray[Any]
_BATCH = 50_000


def score_servable(folder: Path, frame: pl.DataFrame) -> NDArray[np.float64]:
    """Scores (n,) that the servable in `folder` gives to the rows of `frame`.

    `frame` has a column for each of the manifest's inputs, of a type whose every value has a place
    in the input's; null becomes NaN in float inputs and "" in text, and has no place elsewhere.
    Raises NotFound, Damaged (the model is not the one in the manifest), Refused (a format other
    than ONNX), BadInput.
    """
    manifest = manifest_in(folder)
    path = folder / manifest.file
    if not path.exists() or file_digest(path) != manifest.digest:
        raise Damaged(
            "the model file is not the one that was exported",
            path=str(path),
            expected=manifest.digest,
            found=file_digest(path) if path.exists() else "no file",
            remedy="put the file back, or return to another version: homeostat rollout abort --to "
            "VERSION",
        )
    if manifest.format != "onnx":
        raise Refused(
            f"models of format {manifest.format} are not opened to compare with",
            path=str(path),
            expected="onnx",
            remedy="promote an ONNX model first, or leave out `gates.against_champion` and "
            "`gates.anchor.margin` for this run",
        )
    return run(folder, manifest, inputs(frame, manifest))


def manifest_in(folder: Path) -> Manifest:
    """Raises NotFound, Damaged."""
    try:
        return Manifest.read(folder)
    except FileNotFoundError as error:
        raise NotFound("there is no servable here", path=str(folder)) from error
    except msgspec.MsgspecError as error:
        raise Damaged(f"servable.json cannot be read: {error}", path=str(folder)) from error


def inputs(frame: pl.DataFrame, manifest: Manifest) -> Column | dict[str, Column]:
    """What `run` takes of a table. Raises BadInput."""
    missing = [name for name in manifest.inputs if name not in frame.columns]
    if missing:
        raise BadInput(
            f"the table lacks {len(missing)} of the {len(manifest.inputs)} features of the model",
            found=f"no column {', '.join(map(repr, missing[:5]))}",
            remedy="keep in the table what the champion was fitted on, or leave out "
            "`gates.against_champion` and `gates.anchor.margin` for this run",
        )
    if manifest.plain:
        return matrix(frame, manifest.inputs)
    plain = [field.name for field in manifest.fields if field.plain]
    numbers = dict(zip(plain, matrix(frame, plain).T, strict=True)) if plain else {}
    return {
        f.name: numbers[f.name] if f.plain else _typed(frame[f.name], f) for f in manifest.fields
    }


def run(
    folder: Path, manifest: Manifest, rows: Column | Mapping[str, Column]
) -> NDArray[np.float64]:
    """rows: a matrix (n, d), or an array (n, *shape) per input. -> scores (n,)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(
        str(folder / manifest.file), options, providers=["CPUExecutionProvider"]
    )
    if isinstance(rows, np.ndarray):
        rows = {session.get_inputs()[0].name: rows}
    # converters describe a column as (n, 1)
    feeds = {k: v.reshape(-1, 1) if v.ndim == 1 else v for k, v in rows.items()}
    n = len(next(iter(feeds.values())))
    parts: list[Column] = []
    for at in range(0, n, _BATCH):
        some = {name: values[at : at + _BATCH] for name, values in feeds.items()}
        parts.append(positive(np.asarray(session.run([manifest.output], some)[0])))
    return np.concatenate(parts) if parts else np.empty(0)


def _typed(column: pl.Series, field: Field) -> Column:
    """(n, *shape) of the field's type."""
    if field.shape:
        return _shaped(column, field)
    text = field.datatype == "BYTES"
    kind = column.dtype
    known = not (kind.is_nested() or kind == pl.Object) if text else kind.is_numeric()
    if not known and kind != pl.Boolean:
        raise BadInput(
            f"column {column.name!r} is not of the type of the model's input",
            expected=field.datatype,
            found=str(kind),
        )
    if text:
        # a file may have codes of digits as numbers
        return column.cast(pl.String).fill_null("").to_numpy().astype(object)
    cast = column.cast(input_type(field), strict=False)
    exact = column.cast(pl.Float64)
    if field.datatype.startswith("FP"):
        values = cast.to_numpy().astype(field.dtype)
        wrong = pl.Series(np.isinf(values)) & exact.is_finite().fill_null(value=False)
    else:
        whole = cast.cast(pl.UInt8) if cast.dtype == pl.Boolean else cast
        values = whole.fill_null(0).to_numpy().astype(field.dtype)
        wrong = (cast.cast(pl.Float64) != exact).fill_null(value=True)
    if wrong.any():
        raise BadInput(
            f"{wrong.sum():,} values of column {column.name!r} have no place in the model's input",
            expected=field.datatype,
            found=f"{column.filter(wrong)[0]} in row {wrong.arg_true()[0]}",
            remedy="fill or round it in the transform, as it was when the model was fitted",
        )
    return values


def _shaped(column: pl.Series, field: Field) -> Column:
    try:
        return np.array(column.to_list(), field.dtype).reshape(len(column), *field.shape)
    except (ValueError, TypeError) as error:
        raise BadInput(
            f"column {column.name!r} is not of the shape of the model's input",
            expected=f"{field.datatype} of shape {field.shape} in every row",
            found=str(error).splitlines()[0],
        ) from error
