"""Who takes part, how each is started and what it is asked."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.serving import ours, payloads
from benchmarks.serving.load import MakeWire
from benchmarks.serving.models import Model
from benchmarks.serving.payloads import Dialect, Payload
from benchmarks.serving.process import free_port

PEERS = Path(__file__).parent / "peers"
NO_GRPC = "it has no gRPC"
NO_BINARY = "it has no binary tensors"


class Place(NamedTuple):
    """What a server is started with. folder: its own, empty. python: of its environment."""

    model: Model
    folder: Path
    python: str
    port: int
    grpc_port: int
    workers: int

    def env(self) -> dict[str, str]:
        """What the peers' modules read."""
        return {
            "MODEL_NAME": self.model.name,
            "MODEL_FILE": str(self.model.file),
            "MODEL_FEED": self.model.feed,
            "MODEL_OUTPUT": self.model.output,
            "PORT": str(self.port),
            "GRPC_PORT": str(self.grpc_port),
            "WORKERS": str(self.workers),
        }


class Launch(NamedTuple):
    """A command line, what is added to the environment, and where it runs."""

    command: list[str]
    env: dict[str, str]
    cwd: Path | None = None


class Entry(NamedTuple):
    """launch(place) prepares the folder and says how to start. ready: a path that succeeds once
    the model answers. json, binary, grpc: how it is asked, or why it cannot be.
    environment: the name of a list in peers/; None is our own environment."""

    name: str
    title: str
    launch: Callable[[Place], Launch]
    ready: str
    json: Dialect
    binary: Dialect | str = NO_BINARY
    grpc: bool | str = NO_GRPC
    environment: str | None = None
    python: str | None = None
    two_workers: bool = True
    checked: bool = True

    def wires(self, payload: Payload, model: str) -> MakeWire | str:
        """Connections that send the payload, or why there are none."""
        match payload.kind:
            case "grpc":
                if self.grpc is not True:
                    return str(self.grpc)
                return payloads.grpc_wires(model, payload.rows)
            case "binary":
                if isinstance(self.binary, str):
                    return self.binary
                return payloads.http_wires(self.binary, model, payload.rows)
            case _:
                return payloads.http_wires(self.json, model, payload.rows)


def place(entry: Entry, model: Model, folder: Path, python: str, workers: int) -> Place:
    folder.mkdir(parents=True, exist_ok=True)
    return Place(model, folder, python, free_port(), free_port(), workers)


def ours_as(form: str) -> Callable[[Place], Launch]:
    def launch(at: Place) -> Launch:
        ours.prepare(at.folder / "home", at.model, form)
        return Launch(ours.command(form, at.folder / "home", at.port, at.workers), {})

    return launch


def _noop(at: Place) -> Launch:
    return Launch([sys.executable, "-m", "benchmarks.serving.noop", "--port", str(at.port)], {})


def _fastapi(at: Place) -> Launch:
    words = ["-m", "uvicorn", "fastapi_app:app", "--app-dir", str(PEERS), "--port", str(at.port)]
    quiet = ["--log-level", "warning", "--no-access-log", "--loop", "uvloop", "--http", "httptools"]
    return Launch([at.python, *words, *quiet, "--workers", str(at.workers)], at.env())


READY = "/v2/health/ready"
OURS = Entry(
    "homeostat",
    "homeostat",
    ours_as(ours.AS_IS),
    READY,
    payloads.V2,
    payloads.V2_BINARY,
    "not built yet",
)
NOOP = Entry(
    "noop", "no-op on our HTTP stack", _noop, "/", payloads.V2, two_workers=False, checked=False
)
FASTAPI = Entry(
    "fastapi", "FastAPI + ONNX Runtime", _fastapi, READY, payloads.V2, environment="fastapi"
)
FORMS = tuple(
    OURS._replace(
        name=f"homeostat-{form}",
        title=f"homeostat, {title}",
        launch=ours_as(form),
        two_workers=False,
    )
    for form, title in (
        (ours.UNLOGGED, "log off"),
        (ours.KEEPER, "with its keeper"),
        (ours.PAIRED, "10 % scored in pairs"),
    )
)
QUICK = (OURS, NOOP, FASTAPI)
EVERYBODY = (OURS, NOOP, *FORMS, FASTAPI)
