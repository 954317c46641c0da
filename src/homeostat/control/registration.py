"""Take in a model that was made elsewhere: what the pipeline does for its own, from a file."""

from __future__ import annotations

import hashlib
import io
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import polars as pl

from homeostat.control.gating import ask_gates, champion_of
from homeostat.control.model import LoopEvent, State, VersionRegistered
from homeostat.control.platform import Platform
from homeostat.control.record import settle
from homeostat.control.scores import columns, scored
from homeostat.core.errors import BadInput, Damaged, HomeostatError, Refused
from homeostat.core.records import input_type
from homeostat.core.route import Servable
from homeostat.core.servable import DTYPES, REFERENCE, Field, Format, Manifest, file_digest
from homeostat.core.verdict import Verdict
from homeostat.core.version import NewVersion, Version
from homeostat.data import files
from homeostat.serving.declared import Declared, declared, format_of
from homeostat.serving.runtime import LoadedModel, check_trusted, load
from homeostat.training import export
from homeostat.training.score import Column, inputs

SCORES = ("score", "scores", "probabilities", "probability")
"""Names under which exporters put the scores, where a model has several outputs."""


class Given(msgspec.Struct, frozen=True):
    """What is said of a model beside its file. inputs, results: `NAME` or `NAME:TYPE`. digest: of
    the file, as its maker told it. threshold: None: that of the definition."""

    inputs: tuple[str, ...] = ()
    output: str | None = None
    results: tuple[str, ...] = ()
    digest: str | None = None
    threshold: float | None = None


class Registered(msgspec.Struct, frozen=True):
    """gates: what the version has shown on the test rows."""

    version: Version
    gates: Verdict


def register(platform: Platform, path: Path, test: str, given: Given, by: str) -> Registered:
    """Check a model file, measure it on the rows of `test` (a table with its inputs and the
    label), hold it against the gates and register it. The same again gives the same version.

    Raises BadInput (no model, a signature that does not fit, no such rows), Damaged (not the
    digest that was told), Refused (a format that is not trusted, a gate that says no).
    """
    path, project = path.resolve(), platform.project
    format = format_of(path)
    check_trusted(path, format, project.serving.formats)
    digest = file_digest(path)
    if given.digest is not None and given.digest != digest:
        raise Damaged(
            "the file is not the one that was meant",
            path=str(path),
            expected=given.digest,
            found=digest,
            remedy="fetch it again from who made it",
        )
    said = declared(path, format)
    threshold = project.training.threshold if given.threshold is None else given.threshold
    manifest = manifest_of(project.name, path, format, digest, threshold, said, given)
    label = project.data.label.column
    table = files.read(test, Path.cwd())  # as the path of the model, not of the project
    if label not in table.columns:
        raise BadInput(
            f"the table has no column {label!r}",
            path=test,
            expected="the inputs of the model and the label, a row for each test",
            found=", ".join(table.columns),
        )
    table = table.drop_nulls(label)
    with tempfile.TemporaryDirectory(prefix="homeostat-register-") as scratch:
        folder = Path(scratch)
        model = _opened(path, folder, manifest, project.serving.formats)
        rows = _read(table, manifest, test)
        champion = champion_of(platform)
        try:
            verdict, metrics = ask_gates(platform, folder, table, champion)
        except BadInput as error:
            error.path = error.path or test  # the rows, which the champion is to score too
            raise
        if not verdict.passed:
            raise Refused(
                f"not registered: {verdict.sentence}",
                remedy="train a better one, or change `gates` in homeostat.yaml",
            )
        _keep(folder, model, rows, table, label)
        version = platform.registry.register(
            NewVersion(
                model=project.name,
                run=f"file-{_name(folder)}",
                folder=str(folder),
                digest=digest,
                metrics=metrics,
                params={},
                tags={
                    "kind": format,
                    "file": str(path),
                    "parent": champion.version if champion else "",
                    "trigger": f"registered by {by}",
                },
                gates=verdict,
            )
        )
    settle(platform, lambda state: _announced(state, version.version, by, path))
    return Registered(version, verdict)


def _announced(state: State, version: str, by: str, path: Path) -> Sequence[LoopEvent]:
    """That it waits for a rollout, unless that is known or it is being tried already."""
    live = state.live_rollout.candidates if state.live_rollout else ()
    if version in (state.champion, *live, *state.candidates, *state.registered):
        return []
    return [VersionRegistered(version, by, str(path))]


def manifest_of(
    name: str,
    path: Path,
    format: Format,
    digest: str,
    threshold: float,
    said: Declared,
    given: Given,
) -> Manifest:
    """What the model says of itself, and what was given where it says nothing. Raises BadInput."""
    fields = _inputs(path, said, given.inputs)
    output = _output(path, format, said, given.output)
    return Manifest(
        name,
        tuple(field.name for field in fields),
        path.name,
        digest,
        output,
        threshold,
        format=format,
        columns=() if all(field.plain for field in fields) else fields,
        results=_results(path, format, said, given.results),
    )


def _inputs(path: Path, said: Declared, given: Sequence[str]) -> tuple[Field, ...]:
    told = {field.name: field for field in map(_field, given)}
    if said.inputs:
        if strange := told.keys() - {field.name for field in said.inputs}:
            raise BadInput(
                f"the model has no input {min(strange)!r}",
                path=str(path),
                expected=f"some of: {', '.join(field.name for field in said.inputs)}",
                remedy="leave out --input: the model says what it takes",
            )
        return tuple(told.get(field.name, field) for field in said.inputs)
    n = "" if said.width is None else f"{said.width} "
    if not told or said.width not in (None, len(told)):
        raise BadInput(
            "the model does not say what its inputs are called",
            path=str(path),
            expected=f"the names of its {n}columns, in their order",
            found=f"{len(told)} names",
            remedy="add --input NAME (or NAME:TYPE) for each column",
        )
    return tuple(told.values())


def _output(path: Path, format: Format, said: Declared, given: str | None) -> str:
    """The name of the output with the scores."""
    if format == "skops":
        if given is not None:
            raise BadInput("a skops model answers with predict_proba", remedy="leave out --output")
        return "score"
    names = [field.name for field in said.outputs]
    if given is not None:
        if names and given not in names:
            raise BadInput(
                f"the model has no output {given!r}",
                path=str(path),
                expected=f"one of: {', '.join(names)}",
            )
        return given
    if not names:
        return "score"
    numbers = [field.name for field in said.outputs if field.dtype.kind == "f"]
    found = [name for name in numbers if name in SCORES] or numbers
    if len(found) != 1:
        raise BadInput(
            "it is not clear which output is the score",
            path=str(path),
            expected="the probability of the positive class",
            found=", ".join(names),
            remedy="say which one: --output NAME",
        )
    return found[0]


def _results(path: Path, format: Format, said: Declared, given: Sequence[str]) -> tuple[Field, ...]:
    there = {field.name: field for field in said.outputs}
    if given and format == "skops":
        raise BadInput("a skops model has no further outputs", remedy="leave out --result")
    told = [_field(text) for text in given]
    for field in told:
        if there and field.name not in there:
            raise BadInput(
                f"the model has no output {field.name!r}",
                path=str(path),
                expected=f"one of: {', '.join(there)}",
            )
    return tuple(there.get(field.name, field) for field in told)


def _field(text: str) -> Field:
    """`NAME` or `NAME:TYPE`."""
    name, _, kind = text.rpartition(":")
    if name and kind in DTYPES:
        return Field(name, kind)
    if name and kind.isupper():
        raise BadInput(
            f"no such type: {kind!r}", path=text, expected=f"one of: {', '.join(DTYPES)}"
        )
    return Field(text)


def _opened(path: Path, folder: Path, manifest: Manifest, formats: Sequence[Format]) -> LoadedModel:
    """Put the servable into `folder` and load it as a worker would: digest, signature, and an
    answer to rows of zeros. Raises BadInput, Damaged."""
    if path.is_dir():
        shutil.copytree(path, folder / path.name)
    else:
        shutil.copyfile(path, folder / path.name)
    manifest.write(folder)
    try:
        return load(Servable("", str(folder), manifest.digest), formats)
    except HomeostatError as error:
        error.path = str(path)  # people know this one, not our copy
        raise


def _read(table: pl.DataFrame, manifest: Manifest, test: str) -> dict[str, Column]:
    """The test rows as the model takes them. Raises BadInput."""
    missing = [name for name in manifest.inputs if name not in table.columns]
    if missing:
        raise BadInput(
            f"the table lacks {len(missing)} of the {len(manifest.inputs)} inputs of the model",
            path=test,
            expected=", ".join(map(repr, missing[:5])),
            found=", ".join(table.columns),
        )
    try:
        return columns(inputs(table, manifest), manifest)
    except BadInput as error:
        error.path = test
        raise


def _keep(
    folder: Path, model: LoadedModel, rows: dict[str, Column], table: pl.DataFrame, label: str
) -> None:
    """The test rows beside the model: what monitors, rollouts and explanations compare with."""
    kept = table.select(
        *(pl.col(field.name).cast(input_type(field)) for field in model.columns),
        score=pl.Series(scored(model, rows)),
        label=pl.col(label).cast(pl.Float64),
    )
    (folder / REFERENCE).write_bytes(_parquet(export.stretches(kept, export.REFERENCE_ROWS)))
    export.background(rows, folder)


def _parquet(table: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()  # Polars would tell of a full disk as of a malformed file
    table.write_parquet(buffer)
    return buffer.getvalue()


def _name(folder: Path) -> str:
    """Of all that lies in it: the same servable has the same."""
    return hashlib.sha256(file_digest(folder).encode()).hexdigest()[:16]
