"""Real servers for the tests of the data plane."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest

from homeostat.backends.local.plane import LocalDataPlane
from homeostat.backends.local.prediction_log import DeltaPredictionLog
from homeostat.core.records import LABELS
from homeostat.core.route import Route, Servable
from homeostat.core.servable import DTYPES, Field, Manifest, file_digest
from homeostat.serving.address import Tls
from homeostat.serving.layout import Layout
from homeostat.serving.spec import ServingSpec
from homeostat.serving.supervisor import PATIENCE, Supervisor
from homeostat.testing.models import tiny_servable

EVER = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """Poll until the condition holds; its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.005)
    return value


class Plane:
    """A home folder with a server on it."""

    def __init__(self, home: Path) -> None:
        self.home, self.layout = home, Layout(home).make()
        self.plane, self.log = LocalDataPlane(home), DeltaPredictionLog(home)
        self.generation = 0
        self.server: Supervisor | None = None
        self.client = httpx.Client(base_url="http://invalid", timeout=60)

    def model(self, version: str, **how: Any) -> Servable:
        folder = self.home / "models" / version
        given = {"inputs": ("a", "b"), "weights": (1.0, -2.0), "name": "m"} | how
        return tiny_servable(folder, version=version, **given)

    def echo(self, version: str) -> Servable:
        """A model with an input of every datatype, and an output that says it again."""
        return echo_servable(self.home / "models" / version, version)

    def start(
        self,
        workers: int = 1,
        clock: str | None = None,
        grpc: bool = False,
        tls: Tls | None = None,
        patience: float = PATIENCE,
        **spec: Any,
    ) -> Plane:
        self.server = Supervisor(
            self.home,
            ServingSpec(**spec),
            port=0,
            workers=workers,
            clock_text=clock,
            grpc_port=0 if grpc else None,
            tls=tls,
            patience=patience,
        )
        self.server.start()
        self.connect()
        return self

    @property
    def url(self) -> str:
        assert self.server is not None
        return f"http://127.0.0.1:{self.server.port}"

    def connect(self) -> None:
        self.client.close()
        self.client = httpx.Client(base_url=self.url, timeout=60)

    def publish(self, champion: Servable | None, name: str = "m", **route: Any) -> Route:
        """Publish the next generation of a model and wait until all workers apply it."""
        self.generation += 1
        made = Route(name, self.generation, champion, **route)
        self.plane.publish(made)
        if self.server is not None:
            wait_for(lambda: self.plane.observed(name).generation == made.generation, "a new route")
        return made

    def observed_workers(self) -> int:
        return self.plane.observed("m").workers

    def predict(self, *rows: Any, **header: str) -> httpx.Response:
        headers = {k.replace("_", "-"): v for k, v in header.items()}
        body = {"instances": list(rows)}
        return self.client.post("/v1/models/m:predict", json=body, headers=headers)

    def logged(self) -> pl.DataFrame:
        return self.log.read("m", *EVER)

    def stop(self) -> None:
        self.client.close()
        if self.server is not None:
            self.server.stop()
            self.server = None


def sigmoid(z: float) -> float:
    return float(1 / (1 + np.exp(-z)))


def v2(n: int = 1, data: list[float] | None = None, **other: Any) -> dict[str, Any]:
    tensor = {"name": "input", "shape": [n, 2], "datatype": "FP32", "data": data or [1.0, 0.5] * n}
    return {"inputs": [tensor], **other}


def metric(text: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples that carry all of `labels`."""
    lines = [x for x in text.splitlines() if x.startswith((f"{name}{{", f"{name} "))]
    wanted = [f'{k}="{v}"' for k, v in labels.items()]
    return sum(float(x.rsplit(" ", 1)[1]) for x in lines if all(w in x for w in wanted))


class Ledger:
    def __init__(self, into: list[Any]) -> None:
        self.into = into

    def append(self, labels: pl.DataFrame) -> int:
        assert dict(labels.schema) == LABELS
        self.into += labels.to_dicts()
        return labels.height

    def as_known(self, at: datetime, ids: pl.Series | None = None) -> pl.DataFrame:
        raise NotImplementedError


class Load:
    """Clients that ask without pause, and remember what was acknowledged."""

    def __init__(self, plane: Plane, clients: int = 4) -> None:
        self.url, self.stop = plane.url, threading.Event()
        self.acknowledged: list[str] = []
        self.failed: list[str] = []
        self.broken = 0
        self.threads = [threading.Thread(target=self._ask, args=(k,)) for k in range(clients)]

    def __enter__(self) -> Load:
        for thread in self.threads:
            thread.start()
        wait_for(lambda: len(self.acknowledged) > 50, "the load")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def _ask(self, k: int) -> None:
        client = httpx.Client(base_url=self.url, timeout=60)
        n = 0
        while not self.stop.is_set():
            n += 1
            id = f"{k}-{n}"
            try:
                answer = client.post("/v2/models/m/infer", json=v2(id=id))
            except httpx.TransportError:
                self.broken += 1
                client.close()
                client = httpx.Client(base_url=self.url, timeout=60)
                continue
            if answer.status_code == 200:
                self.acknowledged.append(answer.json()["id"])
            else:
                self.failed.append(answer.text)
        client.close()


def echo_servable(folder: Path, version: str) -> Servable:
    """Inputs `in_<datatype>` of every datatype, one value per row; score: a sigmoid of in_fp32;
    outputs `out_<datatype>`: what came in."""
    from onnx import TensorProto, helper, save

    kinds = {"BOOL": "BOOL", "FP16": "FLOAT16", "FP32": "FLOAT", "FP64": "DOUBLE"}
    kinds |= {"BYTES": "STRING"} | {t: t for t in DTYPES if "INT" in t}
    nodes = [helper.make_node("Sigmoid", ["in_fp32"], ["score"])]
    ins, outs = [], [helper.make_tensor_value_info("score", TensorProto.FLOAT, [None, 1])]
    for datatype, kind in kinds.items():
        name, element = datatype.lower(), getattr(TensorProto, kind)
        ins.append(helper.make_tensor_value_info(f"in_{name}", element, [None, 1]))
        outs.append(helper.make_tensor_value_info(f"out_{name}", element, [None, 1]))
        nodes.append(helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]))
    graph = helper.make_graph(nodes, "echo", ins, outs)
    opset = helper.make_opsetid("", 17)
    folder.mkdir(parents=True)
    save(helper.make_model(graph, ir_version=9, opset_imports=[opset]), folder / "model.onnx")
    digest = file_digest(folder / "model.onnx")
    columns = tuple(Field(f"in_{t.lower()}", t) for t in kinds)  # type: ignore[arg-type]
    Manifest(
        name="echo",
        inputs=tuple(field.name for field in columns),
        file="model.onnx",
        digest=digest,
        output="score",
        threshold=0.5,
        columns=columns,
        results=tuple(Field(f"out_{t.lower()}", t) for t in kinds),  # type: ignore[arg-type]
    ).write(folder)
    return Servable(version, str(folder), digest)


def two_outputs(folder: Path) -> Servable:
    """score = sigmoid(amount); `where` = the country as it came; `double` = 2 * amount."""
    from onnx import TensorProto, helper, save

    folder.mkdir(parents=True)
    number, text = TensorProto.FLOAT, TensorProto.STRING
    graph = helper.make_graph(
        [
            helper.make_node("Sigmoid", ["amount"], ["p"]),
            helper.make_node("Identity", ["country"], ["where"]),
            helper.make_node("Add", ["amount", "amount"], ["double"]),
        ],
        "typed",
        [
            helper.make_tensor_value_info("amount", number, [None, 1]),
            helper.make_tensor_value_info("country", text, [None, 1]),
        ],
        [
            helper.make_tensor_value_info("p", number, [None, 1]),
            helper.make_tensor_value_info("where", text, [None, 1]),
            helper.make_tensor_value_info("double", number, [None, 1]),
        ],
    )
    opsets = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, ir_version=9, opset_imports=opsets), str(folder / "model.onnx"))
    digest = file_digest(folder / "model.onnx")
    Manifest(
        "m",
        ("amount", "country"),
        "model.onnx",
        digest,
        "p",
        0.5,
        columns=(Field("amount"), Field("country", "BYTES")),
        results=(Field("where", "BYTES"), Field("double")),
    ).write(folder)
    return Servable("1", str(folder), digest)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Plane]:
    """A server that is not started yet."""
    plane = Plane(tmp_path / "home")
    yield plane
    plane.stop()


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """One worker that serves version 1 of `m`, for tests that change nothing."""
    plane = Plane(tmp_path_factory.mktemp("one"))
    plane.publish(plane.model("1"))
    plane.start(max_rows=1000, max_body=200_000, grpc=True)
    yield plane
    plane.stop()


@pytest.fixture(scope="session")
def plane() -> type[Plane]:
    """Makes home folders with servers on them."""
    return Plane
