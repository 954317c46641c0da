"""Requests per second, ours beside a FastAPI app as a user would write it, in one run.

    python benchmarks/serving_smoke.py [--seconds 5] [--connections 32] [--repeats 3]

Closed loop, single-row V2 JSON, an MLP of 30 features (128-64-32), server on the first core,
client on the second. Ours runs with log, metrics and routing on. The peer needs fastapi, uvicorn
and onnxruntime; without them it is skipped and the output says so.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httptools
import httpx
import uvloop

from homeostat.backends.local.plane import LocalDataPlane
from homeostat.core.route import Route, Servable
from homeostat.serving.layout import Layout
from homeostat.testing.models import tiny_servable

FEATURES = 30
PEER = """
import numpy as np, onnxruntime as ort, uuid
from fastapi import FastAPI
from pydantic import BaseModel

class Tensor(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]

class Request(BaseModel):
    id: str | None = None
    inputs: list[Tensor]

options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(MODEL, options)
app = FastAPI()

@app.get("/v2/health/ready")
async def ready():
    return {"ready": True}

@app.post("/v2/models/m/infer")
async def infer(request: Request):
    tensor = request.inputs[0]
    x = np.array(tensor.data, dtype=np.float32).reshape(tensor.shape)
    score = session.run(None, {"X": x})[0][:, 1]
    return {"model_name": "m", "model_version": "1", "id": request.id or uuid.uuid4().hex,
            "outputs": [{"name": "score", "shape": [len(score)], "datatype": "FP32",
                         "data": score.tolist()}]}
"""


class Client(asyncio.Protocol):
    """One connection that asks again as soon as it is answered."""

    def __init__(self, request: bytes, latencies: list[float], until: float) -> None:
        self._request, self._latencies, self._until = request, latencies, until
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._parser = httptools.HttpResponseParser(self)
        self._ask()

    def _ask(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        now = time.perf_counter()
        if self._parser.get_status_code() != 200:
            self.done.set_exception(RuntimeError(f"status {self._parser.get_status_code()}"))
            self._transport.close()
            return
        self._latencies.append(now - self._sent)
        if now < self._until:
            self._ask()
        else:
            self._transport.close()
            self.done.set_result(None)


async def drive(port: int, connections: int, seconds: float) -> tuple[float, float, float]:
    """-> requests/s, p50 and p99 in milliseconds."""
    tensor = {"name": "input", "shape": [1, FEATURES], "datatype": "FP32"}
    tensor["data"] = [round(0.1 * i - 1.5, 3) for i in range(FEATURES)]
    body = json.dumps({"inputs": [tensor]}).encode()
    request = (
        b"POST /v2/models/m/infer HTTP/1.1\r\nhost: localhost\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    )
    latencies: list[float] = []
    loop, started = asyncio.get_running_loop(), time.perf_counter()
    clients = [Client(request, latencies, started + seconds) for _ in range(connections)]
    for client in clients:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)
    await asyncio.gather(*(client.done for client in clients))
    rate = len(latencies) / (time.perf_counter() - started)
    latencies.sort()
    p50, p99 = (latencies[int(len(latencies) * q)] * 1000 for q in (0.5, 0.99))
    return rate, p50, p99


def ours(home: Path, model: Servable, port: int) -> list[str]:
    LocalDataPlane(home).publish(Route("m", 1, model))
    Layout(home).make()
    command = [sys.executable, "-m", "homeostat.serving.worker"]
    return [*command, "--home", str(home), "--port", str(port)]


def peer(home: Path, model: Servable, port: int) -> list[str] | None:
    if not all(importlib.util.find_spec(m) for m in ("fastapi", "uvicorn", "onnxruntime")):
        return None
    source = PEER.replace("MODEL", repr(str(Path(model.path) / "model.onnx")))
    (home / "peer.py").write_text(source)
    command = [sys.executable, "-m", "uvicorn", "peer:app", "--app-dir", str(home)]
    return [*command, "--port", str(port), "--log-level", "warning", "--no-access-log"]


Figures = tuple[float, float, float, float]
"""requests/s, p50 and p99 in milliseconds, the server's processor time per request in us (which
holds still when the machine is busy with other things)."""


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(argv: list[str], port: int, given: argparse.Namespace) -> Figures:
    server = subprocess.Popen(argv, preexec_fn=lambda: os.sched_setaffinity(0, {0}))
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/v2/health/ready").raise_for_status()
                break
            except httpx.HTTPError:
                if time.monotonic() > deadline or server.poll() is not None:
                    raise
                time.sleep(0.05)
        uvloop.run(drive(port, given.connections, 0.5))
        before = cpu_seconds(server.pid)
        rate, p50, p99 = uvloop.run(drive(port, given.connections, given.seconds))
        cost = (cpu_seconds(server.pid) - before) / (rate * given.seconds) * 1e6
        return rate, p50, p99, cost
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {1})
    names = [f"f{i}" for i in range(FEATURES)]
    rates: dict[str, list[Figures]] = {}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        model = tiny_servable(
            home / "model", inputs=names, weights=[0.1] * 32, hidden=(128, 64, 32), name="m"
        )
        commands = {"homeostat": ours(home, model, 18731), "fastapi": peer(home, model, 18732)}
        for _ in range(given.repeats):  # interleaved: the machine drifts
            for port, (name, argv) in zip((18731, 18732), commands.items(), strict=True):
                if argv is not None:
                    rates.setdefault(name, []).append(measure(argv, port, given))
    print(f"{given.connections} connections, single-row V2 JSON, MLP {FEATURES}-128-64-32-1")
    for name, runs in rates.items():
        rate, p50, p99, cost = (statistics.median(x) for x in zip(*runs, strict=True))
        spread = f"{min(r[0] for r in runs):,.0f} to {max(r[0] for r in runs):,.0f}"
        print(
            f"{name:10} {rate:8,.0f} requests/s ({spread})  p50 {p50:.2f} ms  p99 {p99:.2f} ms  "
            f"{cost:.0f} us of processor per request"
        )
    if "fastapi" in rates:
        ratio = statistics.median(
            a[0] / b[0] for a, b in zip(rates["homeostat"], rates["fastapi"], strict=True)
        )
        print(f"ratio      {ratio:8.1f}")
    else:
        print("fastapi    skipped: fastapi, uvicorn or onnxruntime cannot be imported here")


if __name__ == "__main__":
    main()
