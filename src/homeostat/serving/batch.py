"""Rows on their way through a model: a float32 matrix, or arrays by name. Pure."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from homeostat.serving.runtime import SCORE, Columns, LoadedModel

Matrix = NDArray[np.float32]
Batch = Matrix | Columns
Inputs = list[float] | bytes | Matrix | Columns
"""What one request brings: flat numbers (also as float32 in bytes) or a matrix (n, d) for a plain
model, else arrays."""

_encode = msgspec.json.Encoder().encode
_LISTS = {list}
B = TypeVar("B", Matrix, Columns, Batch)


def stack(inputs: Sequence[Inputs], width: int) -> Matrix:
    """Numbers, bytes or matrices -> (n, width) float32; what does not fit becomes infinite."""
    first = inputs[0]
    if len(inputs) == 1 and isinstance(first, np.ndarray):
        return first
    try:  # twice as fast as np.array of the numbers
        alike = set(map(type, inputs)) == _LISTS and len(set(map(len, inputs))) == 1
        if alike:
            pack = _packer(len(first))
            packed = b"".join([pack(*one) for one in inputs])
        else:
            packed = b"".join([_bytes(one) for one in inputs])
    except OverflowError:
        with np.errstate(over="ignore"):
            return np.concatenate([_matrix(one).reshape(-1, width) for one in inputs])
    return np.frombuffer(packed, np.float32).reshape(-1, width)


def _bytes(one: Inputs) -> bytes:
    if type(one) is list:
        return _packer(len(one))(*one)
    return one if type(one) is bytes else _matrix(one).tobytes()


@lru_cache(1000)
def _packer(n: int) -> Callable[..., bytes]:
    """Packs n numbers as float32."""
    return struct.Struct(f"{n}f").pack


def _matrix(one: Inputs) -> Matrix:
    return np.frombuffer(one, np.float32) if type(one) is bytes else np.asarray(one, np.float32)


def finite(x: Matrix) -> bool:
    """Whether all are. The sum of squares is a third of the price of looking at each, and tells
    nearly always: only when it is not finite (from magnitudes of 1e19 on) is each looked at."""
    flat = x.ravel()
    return math.isfinite(flat.dot(flat)) or bool(np.isfinite(flat).all())


def join(inputs: Sequence[Inputs]) -> Columns:
    """Arrays by name of several requests, one after the other."""
    first = inputs[0]
    assert isinstance(first, dict)
    if len(inputs) == 1:
        return first
    return {name: np.concatenate([one[name] for one in inputs]) for name in first}  # type: ignore[call-overload]


def part(x: B, start: int, end: int) -> B:
    """Rows start to end."""
    if isinstance(x, dict):
        return {name: array[start:end] for name, array in x.items()}
    return x[start:end]


def own(x: Batch) -> Batch:
    """The rows without the batch, or the body, that they are a part of and would keep in memory."""
    return {name: array.copy() for name, array in x.items()} if isinstance(x, dict) else x.copy()


def rows_of(x: Batch) -> int:
    return len(next(iter(x.values()))) if isinstance(x, dict) else len(x)


def score(model: LoadedModel, x: Batch) -> tuple[Matrix, Columns]:
    """-> scores (n), further results. Raises HomeostatError when the model fails."""
    if isinstance(x, dict):
        found = model.run(x)
        return found.pop(SCORE), found
    return model.score(x), {}


def log_inputs(model: LoadedModel, x: Batch) -> tuple[list[bytes], list[str]]:
    """What the log says of each row's inputs: the float32 numbers as bytes, and the others as a
    JSON object (empty when there are no others)."""
    if not isinstance(x, dict):
        raw, width = x.tobytes(), x.shape[1] * 4
        return [raw[k * width : (k + 1) * width] for k in range(len(x))], []
    n = rows_of(x)
    plain = [x[f.name] for f in model.columns if f.plain]
    features = [b""] * n
    if plain:
        features, _ = log_inputs(model, np.stack(plain, axis=1))
    others = {f.name: x[f.name].tolist() for f in model.columns if not f.plain}
    if not others:
        return features, []
    objects = [{name: values[k] for name, values in others.items()} for k in range(n)]
    return features, [_encode(one).decode() for one in objects]
