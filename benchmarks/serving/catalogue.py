"""Who takes part, how each is started and what it is asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.serving import ours, payloads
from benchmarks.serving.load import MakeWire
from benchmarks.serving.models import Model
from benchmarks.serving.payloads import Dialect, Payload
from benchmarks.serving.process import NotStarted, free_port

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

    environment: the name of a list in peers/; None is our own. two_workers: whether it can have
    them, or why not. checked: whether its answers are compared. brief: a variant, of which only
    the JSON of the headline is measured.
    """

    name: str
    title: str
    launch: Callable[[Place], Launch]
    ready: str
    json: Dialect
    binary: Dialect | str = NO_BINARY
    grpc: bool | str = NO_GRPC
    environment: str | None = None
    python: str | None = None
    two_workers: bool | str = True
    checked: bool = True
    brief: bool = False

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
            case kind:
                dialect = payloads.NAMED.get(kind, self.json)
                return payloads.http_wires(dialect, model, payload.rows)


def place(entry: Entry, model: Model, folder: Path, python: str, workers: int) -> Place:
    folder.mkdir(parents=True, exist_ok=True)
    return Place(model, folder, python, free_port(), free_port(), workers)


def ours_as(form: str) -> Callable[[Place], Launch]:
    def launch(at: Place) -> Launch:
        ours.prepare(at.folder / "home", at.model, form)
        home = at.folder / "home"
        return Launch(ours.command(form, home, at.port, at.grpc_port, at.workers), {})

    return launch


def _noop(at: Place) -> Launch:
    return Launch([sys.executable, "-m", "benchmarks.serving.noop", "--port", str(at.port)], {})


def _fastapi(at: Place) -> Launch:
    words = ["-m", "uvicorn", "fastapi_app:app", "--app-dir", str(PEERS), "--port", str(at.port)]
    quiet = ["--log-level", "warning", "--no-access-log", "--loop", "uvloop", "--http", "httptools"]
    return Launch([at.python, *words, *quiet, "--workers", str(at.workers)], at.env())


def _mlserver(batching: bool) -> Callable[[Place], Launch]:
    """settings.json and model-settings.json, and `mlserver start`."""

    def launch(at: Place) -> Launch:
        folder = at.folder / "models"
        folder.mkdir()
        server = {
            "host": "127.0.0.1",
            "http_port": at.port,
            "grpc_port": at.grpc_port,
            "metrics_port": free_port(),
            "parallel_workers": 0 if at.workers == 1 else at.workers,
            "debug": False,
        }
        model: dict[str, Any] = {
            "name": at.model.name,
            "implementation": "mlserver_model.OnnxModel",
            "parameters": {"version": "1"},
        }
        if batching:
            model |= {"max_batch_size": 128, "max_batch_time": 0.002}
        (folder / "settings.json").write_text(json.dumps(server))
        (folder / "model-settings.json").write_text(json.dumps(model))
        env = at.env() | {"PYTHONPATH": str(PEERS)}
        return Launch([str(Path(at.python).with_name("mlserver")), "start", str(folder)], env)

    return launch


def _bentoml(batching: bool) -> Callable[[Place], Launch]:
    def launch(at: Place) -> Launch:
        words = ["serve", "bentoml_app:Models", "--host", "127.0.0.1", "--port", str(at.port)]
        env = at.env() | {
            "BENTOML_HOME": str(at.folder / "bento"),
            "BENTOML_DO_NOT_TRACK": "True",
            "BATCHING": "1" if batching else "",
        }
        return Launch([str(Path(at.python).with_name("bentoml")), *words], env, PEERS)

    return launch


def _script(name: str) -> Callable[[Place], Launch]:
    """A module in peers/ that reads its settings from the environment."""

    def launch(at: Place) -> Launch:
        env = at.env() | {"METRICS_PORT": str(free_port())}
        return Launch([at.python, str(PEERS / name)], env, at.folder)

    return launch


def _mlflow(at: Place) -> Launch:
    saved = at.folder / "model"
    env = at.env() | {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    save = [at.python, str(PEERS / "mlflow_model.py"), str(saved)]
    done = subprocess.run(save, env=os.environ | env, capture_output=True, text=True)
    if done.returncode:
        raise NotStarted(f"its model could not be saved: {done.stderr.strip()[-300:]}")
    words = ["models", "serve", "--model-uri", str(saved), "--env-manager", "local"]
    where = ["--host", "127.0.0.1", "--port", str(at.port), "--workers", str(at.workers)]
    bin = str(Path(at.python).parent)
    path = f"{bin}:{os.environ.get('PATH', '')}"
    return Launch([f"{bin}/mlflow", *words, *where], env | {"PATH": path}, at.folder)


READY = "/v2/health/ready"
READY_MODEL = "/v2/models/{model}/ready"
OURS = Entry(
    "homeostat",
    "homeostat",
    ours_as(ours.AS_IS),
    READY,
    payloads.V2,
    payloads.V2_BINARY,
    True,
)
FORMS = tuple(
    OURS._replace(
        name=f"homeostat-{form}", title=f"homeostat, {title}", launch=ours_as(form),
        two_workers=False, brief=True,
    )
    for form, title in (
        (ours.UNLOGGED, "log off"),
        (ours.KEEPER, "with its keeper"),
        (ours.PAIRED, "10 % scored in pairs"),
    )
)  # fmt: skip
NOOP = Entry(
    "noop", "no-op on our HTTP stack", _noop, "/", payloads.V2, two_workers=False, checked=False
)
FASTAPI = Entry(
    "fastapi", "FastAPI + ONNX Runtime", _fastapi, READY, payloads.V2, environment="fastapi"
)
MLSERVER = Entry(
    "mlserver",
    "MLServer",
    _mlserver(False),
    READY_MODEL,
    payloads.V2,
    payloads.V2_BINARY,
    True,
    "mlserver",
)
BENTOML = Entry(
    "bentoml", "BentoML", _bentoml(False), "/readyz", payloads.BENTO, environment="bentoml"
)
KSERVE = Entry(
    "kserve",
    "KServe's server, V2",
    _script("kserve_app.py"),
    READY_MODEL,
    payloads.V2,
    payloads.V2_BINARY,
    True,
    "kserve",
    two_workers="its worker processes want the model pickled, which an ONNX session cannot be",
)
MLFLOW = Entry(
    "mlflow", "MLflow's server", _mlflow, "/health", payloads.MLFLOW, environment="mlflow"
)
PYTRITON = Entry(
    "pytriton",
    "PyTriton (it batches)",
    _script("pytriton_app.py"),
    READY_MODEL,
    payloads.V2,
    payloads.V2_BINARY,
    True,
    "pytriton",
    "/usr/bin/python3.11",
)
OTHER_FORMS = (
    MLSERVER._replace(
        name="mlserver-batching", title="MLServer, its batching on", launch=_mlserver(True),
        brief=True,
    ),
    BENTOML._replace(
        name="bentoml-batching", title="BentoML, its batching on", launch=_bentoml(True),
        brief=True,
    ),
    KSERVE._replace(
        name="kserve-v1", title="KServe's server, V1", json=payloads.V1, binary="V1 has none",
        grpc="V1 has none", brief=True,
    ),
)  # fmt: skip
QUICK = (OURS, NOOP, FASTAPI)
EVERYBODY = (
    OURS, NOOP, *FORMS, FASTAPI, PYTRITON, KSERVE, MLSERVER, BENTOML, MLFLOW, *OTHER_FORMS
)  # fmt: skip
