"""What a file of a model says of itself: its format, its inputs and its outputs."""

from __future__ import annotations

from pathlib import Path

import msgspec

from homeostat.core.errors import BadInput
from homeostat.core.servable import Field, Format


class Declared(msgspec.Struct, frozen=True):
    """inputs: by name; empty where the model takes a matrix of columns without names, or does not
    say. width: how many columns those are, when it is known. outputs: by name; empty: one that is
    the score. A model's own names are kept; datatypes are those of the protocol."""

    inputs: tuple[Field, ...] = ()
    width: int | None = None
    outputs: tuple[Field, ...] = ()


def format_of(path: Path) -> Format:
    """Raises BadInput for what is no model that can be served."""
    if path.is_dir() and (path / "MLmodel").is_file():
        return "pyfunc"
    if path.is_file() and path.suffix in (".onnx", ".skops"):
        return "onnx" if path.suffix == ".onnx" else "skops"
    raise BadInput(
        "not a model that can be served",
        path=str(path),
        expected="a file NAME.onnx or NAME.skops, or a folder that MLflow saved (with MLmodel)",
        found="another file" if path.is_file() else "a folder" if path.is_dir() else "nothing",
    )


def declared(path: Path, format: Format) -> Declared:
    """Ask before whether the format is trusted: of `skops` this builds the model. Raises BadInput,
    Damaged, Refused."""
    if format == "onnx":
        from homeostat.serving.runtimes import onnx

        return onnx.declared(path)
    if format == "skops":
        from homeostat.serving.runtimes import skops

        return skops.declared(path)
    from homeostat.serving.runtimes import pyfunc

    return pyfunc.declared(path)
