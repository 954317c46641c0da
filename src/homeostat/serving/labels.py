"""The body of a labels request. Pure: all mistakes in one answer, nothing half accepted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from homeostat.core.clock import to_ns
from homeostat.core.errors import BadInput
from homeostat.serving.rows import TooManyRows
from homeostat.serving.segment import LabelRecord

_SHOWN = 20
_FIELDS = {"id", "label", "time"}


class _Request(msgspec.Struct):
    labels: list[Any]


_decode = msgspec.json.Decoder(_Request).decode


def read_labels(body: bytes, model: str, known: int, max_rows: int) -> list[LabelRecord]:
    """`{"labels": [{"id", "label", "time"?}, ...]}`; label is 0 or 1, time ISO 8601 (UTC when it
    says no zone) and `known` when it is left out. known: microseconds since the epoch.

    Raises BadInput that names every mistake with its path.
    """
    try:
        rows = _decode(body).labels
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(
            "the body is not a list of labels",
            expected='{"labels": [{"id": "...", "label": 0}]}',
            found=str(error),
        ) from error
    if not rows:
        raise BadInput("no labels", path="$.labels", expected="at least one")
    if len(rows) > max_rows:
        raise TooManyRows(
            "too many labels",
            path="$.labels",
            expected=f"at most {max_rows}",
            found=str(len(rows)),
            remedy="split the request",
        )
    mistakes: list[str] = []
    records = [_label(row, f"$.labels[{i}]", model, known, mistakes) for i, row in enumerate(rows)]
    if mistakes:
        more = f"; and {len(mistakes) - _SHOWN} more" if len(mistakes) > _SHOWN else ""
        raise BadInput("; ".join(mistakes[:_SHOWN]) + more)
    return records


def _label(row: Any, path: str, model: str, known: int, mistakes: list[str]) -> LabelRecord:
    def wrong(field: str, expected: str, found: object) -> None:
        mistakes.append(f"{path}{field}: expected {expected}, found {_short(found)}")

    if not isinstance(row, dict):
        wrong("", "an object with id and label", row)
        return LabelRecord("", 0.0, known, known, model)
    mistakes += [
        f"{path}: unknown field {_short(name)}, expected id, label, time"
        for name in sorted(row.keys() - _FIELDS)
    ]
    id, label, time = row.get("id"), row.get("label"), row.get("time")
    if not isinstance(id, str) or not 0 < len(id) <= 300:
        wrong(".id", "the id of a prediction", id)
    if not isinstance(label, int | float) or label not in (0, 1):
        wrong(".label", "0 or 1", label)
        label = 0
    at = known
    if time is not None:
        try:
            moment = datetime.fromisoformat(time)
            at = to_ns(moment if moment.tzinfo else moment.replace(tzinfo=UTC)) // 1000
        except (TypeError, ValueError, OverflowError):
            wrong(".time", "an ISO 8601 time such as 2026-01-31T12:00:00Z", time)
    return LabelRecord(str(id), float(label), at, known, model)


def _short(value: object) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
