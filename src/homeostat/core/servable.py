"""What lies in the folder of a version: the contract between training and serving.

servable.json     this manifest
model.onnx        the model (digest in the manifest and in the registry)
reference.parquet the test set: features, `score`, `label`; what the monitors compare with
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

MANIFEST = "servable.json"
REFERENCE = "reference.parquet"


class Manifest(msgspec.Struct, frozen=True):
    """name: the model's. inputs: feature names in the order of the model's columns (float32).
    file: of the model, beside the manifest. digest: `sha256:...` of that file.
    output: name of the ONNX output with the scores: (n, 2) class probabilities or (n, 1).
    threshold: a score from it on is an alert."""

    name: str
    inputs: tuple[str, ...]
    file: str
    digest: str
    output: str
    threshold: float
    format: str = "onnx"

    def write(self, folder: Path) -> None:
        (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(self)))

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Raises FileNotFoundError, msgspec.ValidationError."""
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=cls)


def file_digest(path: Path) -> str:
    """`sha256:<hex>` of a file's bytes."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
