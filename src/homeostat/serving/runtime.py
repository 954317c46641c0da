"""Load a servable: check its files against the registered digest, open it, warm it up."""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from homeostat.core.errors import BadInput, Damaged, HomeostatError, NotFound, Refused
from homeostat.core.route import Servable
from homeostat.core.servable import MANIFEST, Field, Format, Manifest, file_digest
from homeostat.serving.pace import Pace

Matrix = NDArray[np.float32]
Columns = dict[str, NDArray[Any]]
"""Arrays by name, (n, *shape) each, of the dtype of their `core.servable.Field`."""

SCORE = "score"
"""Name of the score among what `run` returns."""

SAFE: tuple[Format, ...] = ("onnx",)
"""Formats that cannot run code of their own; the others only when `serving.formats` says so."""


class Runtime(Protocol):
    """What reads one format. Both raise whatever their library raises."""

    def score(self, x: Matrix) -> Matrix:
        """x (n, d) -> (n), (n, 1) or (n, 2)."""

    def run(self, columns: Columns) -> Columns:
        """An array per input -> SCORE (as `score` gives it) and an array per result."""


class LoadedModel:
    """A version that can answer.

    inputs: names in the model's order; columns: the same with their types; plain: all of them
    are float32 numbers and there are no results, so `score` takes a matrix; results: further
    outputs beside the score. aside: it runs beside the event loop, never in it. memory: bytes
    that loading took, about.
    """

    def __init__(self, servable: Servable, manifest: Manifest, runtime: Runtime) -> None:
        self.servable, self.version = servable, servable.version
        self.inputs = manifest.inputs
        self.columns: tuple[Field, ...] = manifest.fields
        self.results: tuple[Field, ...] = manifest.results
        self.plain = manifest.plain and not manifest.results
        self.width = len(manifest.inputs)
        self.threshold = manifest.threshold
        self.format = manifest.format
        self.pace = Pace()
        self.aside = manifest.format != "onnx"  # Python code: of unknown speed
        self.memory = 0
        self._runtime = runtime

    def score(self, x: Matrix) -> Matrix:
        """x (n, d) -> probability of the positive class (n); NaN where there is none.
        Raises HomeostatError when the model fails."""
        try:
            answer = np.asarray(self._runtime.score(x))
        except Exception as error:  # runtimes raise whatever their library does
            raise HomeostatError("the model failed", found=str(error)) from error
        return _scores(answer, len(x))

    def run(self, columns: Columns) -> Columns:
        """One array (n, *shape) per input -> SCORE (n) and one array (n, *shape) per result.

        For every model; the only way for those that are not plain. Raises HomeostatError when
        the model fails.
        """
        if self.plain:
            return {SCORE: self.score(np.stack([columns[name] for name in self.inputs], axis=1))}
        try:
            found = self._runtime.run(columns)
            answer = np.asarray(found[SCORE])
            others = [np.asarray(found.get(field.name)) for field in self.results]
        except Exception as error:  # runtimes raise whatever their library does
            raise HomeostatError("the model failed", found=str(error)) from error
        n = len(columns[self.inputs[0]])
        results = {
            field.name: _result(array, field, n)
            for field, array in zip(self.results, others, strict=True)
        }
        return {SCORE: _scores(answer, n), **results}


def _scores(answer: NDArray[Any], n: int) -> NDArray[Any]:
    """-> the positive class's scores (n). Raises HomeostatError for anything else: requests that
    are scored together are told apart by their places, so a row too few would shift the answers."""
    scores = answer[:, -1] if answer.ndim == 2 and answer.shape[1] else answer
    if scores.shape != (n,) or scores.dtype.kind not in "fiub":
        raise HomeostatError(
            "the model does not give one score per row",
            expected=f"({n}, 2) or ({n}, 1) numbers",
            found=f"{answer.shape} of type {answer.dtype}",
        )
    return scores


def _result(array: NDArray[Any], field: Field, n: int) -> NDArray[Any]:
    """A further output as (n, *shape). Raises HomeostatError when it is not."""
    shape = (n, *field.shape)
    known = array.dtype.kind != "O" or field.datatype == "BYTES"
    if array.shape[:1] != (n,) or array.size != math.prod(shape) or not known:
        raise HomeostatError(
            f"output {field.name!r} is not as the manifest says",
            expected=f"{shape} of {field.datatype}",
            found=f"{array.shape} of type {array.dtype}",
        )
    return array.reshape(shape)


def load(servable: Servable, formats: Collection[Format] = SAFE) -> LoadedModel:
    """Check the files against the registered digest, load and warm up.

    formats: what may be read; anything else is refused. Raises NotFound, Damaged, BadInput,
    Refused: each says which file and why.
    """
    folder = Path(servable.path)
    manifest = _manifest(folder)
    path = folder / manifest.file
    if not path.exists():
        raise NotFound("the model file is missing", path=str(path))
    digest = file_digest(path)
    if digest != servable.digest:
        raise Damaged(
            "the model file is not the one that was registered",
            path=str(path),
            expected=servable.digest,
            found=digest,
        )
    check_trusted(path, manifest.format, formats)
    kind = _kind(manifest.format)  # its library is nobody's own memory
    before = resident()
    model = LoadedModel(servable, manifest, kind(path, manifest))
    _warm(model)
    model.memory = max(resident() - before, _size(path))
    return model


def check_trusted(path: Path, format: Format, formats: Collection[Format]) -> None:
    """Raises Refused for a format that nobody has opted into."""
    if format not in formats:
        raise Refused(
            f"models of format {format} may run code of their own when they are loaded",
            path=str(path),
            expected=f"one of: {', '.join(formats)}",
            remedy=f"export to ONNX, or trust this format: `serving.formats: [onnx, {format}]`",
        )


def resident() -> int:
    """Bytes of memory this process has in use."""
    pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    return pages * mmap.PAGESIZE


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _kind(format: Format) -> Callable[[Path, Manifest], Runtime]:
    """What opens a format; its library is imported only now."""
    if format == "onnx":
        from homeostat.serving.runtimes.onnx import OnnxModel

        return OnnxModel
    if format == "skops":
        from homeostat.serving.runtimes.skops import SkopsModel

        return SkopsModel
    from homeostat.serving.runtimes.pyfunc import PyfuncModel

    return PyfuncModel


def _manifest(folder: Path) -> Manifest:
    try:
        return Manifest.read(folder)
    except FileNotFoundError:
        raise NotFound("the version has no manifest", path=str(folder / MANIFEST)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
        raise Damaged(
            "the manifest cannot be read", path=str(folder / MANIFEST), found=str(error)
        ) from error


def _warm(model: LoadedModel) -> None:
    """Raises BadInput when it does not answer rows of zeros as a model should."""
    try:
        for rows in (1, 32):
            if model.plain:
                model.score(np.zeros((rows, model.width), np.float32))
            else:
                model.run({f.name: _blank(f, rows) for f in model.columns})
    except HomeostatError as error:
        raise BadInput(f"not a model to serve: {error}", path=model.servable.path) from error


def _blank(field: Field, rows: int) -> NDArray[Any]:
    shape = (rows, *field.shape)
    return np.full(shape, "", object) if field.datatype == "BYTES" else np.zeros(shape, field.dtype)
