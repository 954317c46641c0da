"""Labels from a file that somebody sends: CSV, Parquet or JSON lines."""

from __future__ import annotations

import io
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from homeostat.core.errors import BadInput, NotFound
from homeostat.core.records import LABELS, TIME
from homeostat.data.ingest import parsed_time
from homeostat.data.names import listed, suggestion

SUFFIXES = (".csv", ".csv.gz", ".parquet", ".jsonl", ".ndjson")
_VALUES = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "false": 0.0, "true": 1.0}
_SHOWN = 5


def read_label_file(path: Path, now: datetime) -> pl.DataFrame:
    """The file's labels (schema core.records.LABELS), in its order.

    Columns `id` and `label` (0, 1, true or false), and where they are given `time` (when the
    outcome happened) and `known` (when it reached you); both are `now` where they are not. Rows
    are counted from 1, without the header. Raises NotFound, and BadInput with all mistakes.
    """
    rows = _read(path)
    if rows.is_empty():
        raise BadInput("there are no labels in the file", path=str(path))
    for name in ("id", "label"):
        if name not in rows.columns:
            raise BadInput(
                f"there is no column {name!r}",
                path=str(path),
                expected="id, label and, if known, time and known",
                found=listed(rows.columns, 20),
                remedy=suggestion(name, rows.columns),
            )
    unknown = [c for c in rows.columns if c not in LABELS]
    if unknown:
        raise BadInput(
            f"unknown columns {listed(unknown)}",
            path=str(path),
            expected=listed(LABELS),
            remedy=suggestion(unknown[0], LABELS),
        )
    given = rows.select(pl.all().cast(pl.String).str.strip_chars().replace("", None))
    value = (
        given["label"]
        .str.to_lowercase()
        .replace_strict(_VALUES, default=None, return_dtype=pl.Float64)
    )
    times = {name: _time(rows, given, name, now) for name in ("time", "known")}
    labels = pl.DataFrame({"id": given["id"], "label": value, **times}, schema=LABELS)
    _check(path, given, labels, now)
    return labels


def _time(rows: pl.DataFrame, given: pl.DataFrame, name: str, now: datetime) -> pl.Series:
    """The column as UTC, `now` where nothing was given, null where it cannot be read."""
    if name not in rows.columns:
        return pl.Series(name, [now], dtype=TIME).new_from_index(0, rows.height)
    kind = rows.schema[name]
    if isinstance(kind, pl.Datetime):
        zoned = rows[name].dt.replace_time_zone("UTC") if kind.time_zone is None else rows[name]
        read = zoned.dt.convert_time_zone("UTC").cast(TIME)
    else:
        read = parsed_time(given[name])
    return read.zip_with(given[name].is_not_null(), pl.Series([now], dtype=TIME))


def _check(path: Path, given: pl.DataFrame, labels: pl.DataFrame, now: datetime) -> None:
    mistakes: list[tuple[int, str]] = []

    def note(wrong: pl.Series, words: str, column: str | None = None) -> None:
        for row in wrong.fill_null(False).arg_true():
            what = words.format(given[column][row]) if column else words
            mistakes.append((int(row) + 1, what))

    note(given["id"].is_null(), "no id")
    note(given["label"].is_null(), "no label")
    wrong = labels["label"].is_null() & given["label"].is_not_null()
    note(wrong, "label {!r} is not 0 or 1", "label")
    for name in ("time", "known"):
        if name in given.columns:
            note(labels[name].is_null(), name + " {!r} cannot be read", name)
            note(labels[name] > now, name + " {!r} is in the future", name)
    # without their own known times nobody could say which of two labels came later
    pairs = labels.select("id", "known", "label").drop_nulls().unique()
    twice = pairs.select("id", "known").is_duplicated()
    if twice.any():
        both = pairs.filter(twice)["id"].implode()
        note(labels["id"].is_in(both), "id {!r} has both 0 and 1, known at one time", "id")
    if not mistakes:
        return
    mistakes.sort()
    told = "; ".join(f"row {row}: {what}" for row, what in mistakes[:_SHOWN])
    more = f"; and {len(mistakes) - _SHOWN:,} more" if len(mistakes) > _SHOWN else ""
    raise BadInput(
        f"{len(mistakes):,} mistake{'s' if len(mistakes) > 1 else ''}",
        path=str(path),
        found=told + more,
        remedy="nothing was imported: correct the file and import it again",
    )


def _read(path: Path) -> pl.DataFrame:
    if not path.is_file():
        beside = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = suggestion(path.name, beside)
        raise NotFound("there is no such file", path=str(path), remedy=near)
    if not path.name.endswith(SUFFIXES):
        raise BadInput("not a kind of label file", path=str(path), expected=" or ".join(SUFFIXES))
    data = path.read_bytes()
    if not data.strip():
        raise BadInput("the file is empty", path=str(path))
    if path.suffix in {".jsonl", ".ndjson"}:
        return _json_lines(path, data)
    try:
        if path.suffix == ".parquet":
            return pl.read_parquet(io.BytesIO(data))
        return pl.read_csv(data, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        found = str(error).strip().splitlines()[0]
        raise BadInput("the file cannot be read", path=str(path), found=found) from error


def _json_lines(path: Path, data: bytes) -> pl.DataFrame:
    columns: dict[str, list[str | None]] = {}
    decoder = msgspec.json.Decoder(dict[str, Any])
    lines = [(n, line) for n, line in enumerate(data.splitlines(), 1) if line.strip()]
    for row, (number, line) in enumerate(lines):
        try:
            entry = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadInput(
                f"line {number} is not a JSON object", path=str(path), found=str(error)
            ) from error
        for name, value in entry.items():
            text = None if value is None else str(value)
            columns.setdefault(name, [None] * len(lines))[row] = text
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))
