"""What lies in the folder of a version: the contract between training and serving.

servable.json     this manifest
model.onnx        the model (digest in the manifest and in the registry)
reference.parquet the test set: features, `score`, `label`; what the monitors compare with
background.json   a few rows of the test set, by input; what explanations compare with
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from homeostat.core.errors import Damaged
from homeostat.core.names import Format as Format

MANIFEST = "servable.json"
REFERENCE = "reference.parquet"
BACKGROUND = "background.json"

Datatype = Literal[
    "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64",
    "FP16", "FP32", "FP64", "BYTES"
]  # fmt: skip
"""Names of the Open Inference Protocol (V2). BYTES is text in UTF-8."""

DTYPES: dict[Datatype, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(object),
}
"""Arrays of BYTES hold `str` objects."""


class Field(msgspec.Struct, frozen=True):
    """One named input or output of a model. shape: of one row, without the batch dimension."""

    name: str
    datatype: Datatype = "FP32"
    shape: tuple[int, ...] = ()

    @property
    def dtype(self) -> np.dtype[Any]:
        return DTYPES[self.datatype]

    @property
    def plain(self) -> bool:
        """One float32 number per row: a column of the matrix."""
        return self.datatype == "FP32" and not self.shape


class Manifest(msgspec.Struct, frozen=True):
    """name: the model's. inputs: names of the inputs, in the model's order.
    file: the model's file or folder, beside the manifest. digest: `sha256:...` of it.
    output: name of the model's output with the scores: (n, 2) class probabilities or (n, 1).
    threshold: a score from it on is an alert. format: what reads the file.
    columns: types of `inputs`, in their order; empty: all of them float32 numbers.
    results: further outputs beside the score."""

    name: str
    inputs: tuple[str, ...]
    file: str
    digest: str
    output: str
    threshold: float
    format: Format = "onnx"
    columns: tuple[Field, ...] = ()
    results: tuple[Field, ...] = ()

    def __post_init__(self) -> None:
        names = tuple(field.name for field in self.columns)
        if names and names != self.inputs:
            raise ValueError(f"columns {names} are not those of inputs {self.inputs}")

    @property
    def fields(self) -> tuple[Field, ...]:
        """The inputs with their types."""
        return self.columns or tuple(Field(name) for name in self.inputs)

    @property
    def plain(self) -> bool:
        """All inputs are float32 numbers: rows make one matrix (n, d)."""
        return all(field.plain for field in self.columns)

    def write(self, folder: Path) -> None:
        (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(self)))

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Raises FileNotFoundError, msgspec.ValidationError."""
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=cls)


def write_background(folder: Path, columns: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """columns: (n, *shape) per input, finite. Raises OSError."""
    lists = {name: values.tolist() for name, values in columns.items()}
    (folder / BACKGROUND).write_bytes(msgspec.json.encode(lists))


def read_background(folder: Path, fields: tuple[Field, ...]) -> dict[str, np.ndarray[Any, Any]]:
    """An array (n, *shape) per input, n >= 1. Raises FileNotFoundError, Damaged."""
    path = folder / BACKGROUND
    try:
        lists = msgspec.json.decode(path.read_bytes(), type=dict[str, list[Any]])
        n = len(lists[fields[0].name])
        if n < 1:
            raise ValueError("no rows")
        return {
            field.name: np.array(lists[field.name], field.dtype).reshape(n, *field.shape)
            for field in fields
        }
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Damaged("not rows of the model's inputs", path=str(path), found=str(error)) from error


def file_digest(path: Path) -> str:
    """`sha256:<hex>` of a file's bytes; of a folder's, those of all its files with their names."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        lines = [f"{file.relative_to(path).as_posix()} {file_digest(file)}\n" for file in files]
        return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
