"""What the server and its models say about themselves (Open Inference Protocol). Pure."""

from __future__ import annotations

from typing import Any

from homeostat import __version__
from homeostat.core.errors import BadInput
from homeostat.core.servable import Field
from homeostat.serving.codec import OUTPUT
from homeostat.serving.routes import Served
from homeostat.serving.runtime import LoadedModel

TABLE = "input"
"""Name of the one tensor [n, d] that carries all features of a model by position."""
EXTENSIONS = ["binary_tensor_data", "model_repository"]


def server() -> dict[str, Any]:
    return {"name": "homeostat", "version": __version__, "extensions": EXTENSIONS}


def model(name: str, served: Served, loaded: LoadedModel) -> dict[str, Any]:
    """Tensors of a version; -1 is the number of rows. `parameters.features`: the inputs' names
    in order, each of which is also taken as a tensor of its own."""
    return {
        "name": name,
        "versions": sorted(served.versions),
        "platform": f"homeostat_{loaded.format}",
        "inputs": [_tensor(field) for field in inputs(loaded)],
        "outputs": [_tensor(Field(OUTPUT)), *map(_tensor, loaded.results)],
        "parameters": {"features": list(loaded.inputs), "version": loaded.version},
    }


def inputs(loaded: LoadedModel) -> list[Field]:
    """The tensors of a request: one of all features where they are all float32 numbers."""
    if all(field.plain for field in loaded.columns):
        return [Field(TABLE, "FP32", (loaded.width,))]
    return list(loaded.columns)


def only_input(served: Served) -> Field:
    """The input of a request that is nothing but its bytes. Raises BadInput when there are
    several, or when it has no fixed size."""
    assert served.champion is not None
    fields = inputs(served.champion)
    if len(fields) != 1 or fields[0].datatype == "BYTES":
        raise BadInput(
            "a body without JSON needs a model with one input of numbers",
            found=", ".join(f"{field.name} ({field.datatype})" for field in fields),
        )
    return fields[0]


def _tensor(field: Field) -> dict[str, Any]:
    return {"name": field.name, "datatype": field.datatype, "shape": [-1, *field.shape]}
