"""One worker process: `python -m homeostat.serving.worker --home DIR --port P --slot K`.

Imports nothing that a prediction does not need (no Polars, no MLflow): it starts in a second and
stays small.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import uvloop

from homeostat.core.clock import ScaledClock
from homeostat.core.duration import Duration
from homeostat.core.errors import BadInput, HomeostatError
from homeostat.core.ports import Gauge
from homeostat.serving.address import Tls
from homeostat.serving.api import Api
from homeostat.serving.counters import Counters, total
from homeostat.serving.engine import Engine
from homeostat.serving.explain import Explainer
from homeostat.serving.http import Connection, Limits, Server
from homeostat.serving.intake import Intake
from homeostat.serving.layout import Layout
from homeostat.serving.listener import emptied, listen
from homeostat.serving.log import SegmentLog
from homeostat.serving.metrics import memory_gauges, render
from homeostat.serving.routes import Routes
from homeostat.serving.spec import ServingSpec
from homeostat.serving.status import Slot, WorkerStatus, living
from homeostat.serving.tracing import traces

if TYPE_CHECKING:
    from homeostat.serving import http2

POLL = 0.05
"""Seconds between looks at the route files."""
HANDSHAKE = 10.0
"""Seconds that a client has to agree on TLS."""
SWITCH = 0.0001
"""Seconds after which Python code in another thread (a challenger's, say) lets the event loop go
on. With Python's own 5 ms a model that computes in Python makes answers wait that long, each time
that the loop comes back from a wait."""
DRAIN = 10.0
"""Seconds that requests in flight have to end after SIGTERM."""

_logger = logging.getLogger("homeostat.worker")


class Worker:
    """Wires the parts of one worker and runs its timers."""

    def __init__(
        self, layout: Layout, spec: ServingSpec, slot: int, clock: ScaledClock, workers: int = 1
    ) -> None:
        """Raises Unavailable when the slot is taken, OSError when the disk is full."""
        self._layout = layout
        self._slot = Slot(layout, slot)
        self._clock = clock
        self._started = clock.now().isoformat()
        self._accepting = False
        self._second = 0.0
        self._counters = Counters(layout.metrics / str(slot))
        self._log = SegmentLog(
            layout.live,
            layout.sealed,
            f"{slot}-{uuid.uuid4().hex[:12]}",
            seal=spec.seal.total_seconds(),
            dropped=lambda n: self._counters.add("log_dropped", n),
        )
        loop = asyncio.get_running_loop()
        self._engine = Engine(
            loop, self._log, self._counters, self._now_us, spec, workers, traces()
        )
        self._routes = Routes(
            layout, self._report, budget=spec.memory * 1_000_000, formats=spec.formats
        )
        self._intake = Intake(spec, self._routes, self._engine)
        self._explainer = Explainer(loop)
        api = Api(
            self._intake,
            self._engine,
            self._log,
            self._counters,
            self._now_us,
            self._metrics,
            self._explainer,
        )
        limits = Limits(body=spec.max_body, bodies=spec.max_bodies)
        self._server = Server(api.find, api.refused, limits, self._counters.ended)
        self._grpc: http2.Server | None = None

    def _now_us(self) -> int:
        return self._clock.now_ns() // 1000

    async def run(
        self,
        listener: socket.socket,
        parent: int | None,
        grpc: tuple[str, int] | None = None,
        tls: Tls | None = None,
    ) -> None:
        """Serve until SIGTERM or SIGINT, or until `parent` is gone; then drain. grpc: host and
        port. Raises Unavailable when that port cannot be had."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await self._first_routes()
        accepting = []
        if grpc is not None:
            called = listen(*grpc)
            accepting.append((called, await self._accept(self.calls(), called, tls, "h2")))
        requests = await self._accept(lambda: Connection(self._server), listener, tls)
        accepting.append((listener, requests))
        self._accepting = True
        gc.collect()
        gc.freeze()  # what is here now stays: the collector need not look at it between requests
        self._report()
        while not stop.is_set():
            try:
                await asyncio.wait_for(stop.wait(), POLL)
            except TimeoutError:
                self._tick(time.monotonic())
            if parent is not None and os.getppid() != parent:
                _logger.warning("the supervisor is gone: stopping")
                break
        for opened, server in accepting:
            await emptied(opened)
            server.close()
        await self._drain()

    async def _accept(
        self,
        connection: Callable[[], asyncio.Protocol],
        listener: socket.socket,
        tls: Tls | None,
        protocol: str = "http/1.1",
    ) -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(
            connection,
            sock=listener,
            backlog=1024,
            ssl=tls.context(protocol) if tls is not None else None,
            ssl_handshake_timeout=HANDSHAKE if tls is not None else None,
        )

    def calls(self) -> Callable[[], asyncio.Protocol]:
        """What makes a connection for gRPC."""
        # what costs memory and time is imported by those only who want it
        from homeostat.serving import http2
        from homeostat.serving.grpc_front import MESSAGE, GrpcFront

        spec = self._intake.spec
        limits = Limits(body=spec.max_body + MESSAGE, bodies=spec.max_bodies)
        front = GrpcFront(self._intake, self._counters)
        self._grpc = made = http2.Server(front, limits, self._server.bodies)
        return lambda: http2.Connection(made)

    async def _first_routes(self) -> None:
        """Be ready before the port is open, within reason."""
        deadline = time.monotonic() + 10.0
        self._routes.poll(time.monotonic())
        while not (self._routes.settled and self._log.settled) and time.monotonic() < deadline:
            self._counters.beat()
            await asyncio.sleep(0.005)
            self._routes.poll(time.monotonic())

    def _tick(self, now: float) -> None:
        self._counters.beat()
        self._routes.poll(now)
        self._engine.expire()
        self._log.tick(now)
        if now - self._second >= 1.0:
            self._second = now
            self._server.tick(now)
            if self._grpc is not None:
                self._grpc.tick(now)

    async def _drain(self) -> None:
        """Part with the clients, as long as DRAIN lets them; finish what is computed however long
        it takes (who cannot wait kills us, and then it is counted as lost)."""
        deadline = time.monotonic() + DRAIN
        while True:
            now = time.monotonic()
            for _ in range(2):  # what had come by now has been read when we go on
                await asyncio.sleep(0)
            self._server.drain(now)
            clients = bool(self._server.connections)
            if self._grpc is not None:
                self._grpc.drain(now)
                clients = clients or bool(self._grpc.connections)
            self._tick(now)  # somebody may wait for a model to be loaded
            if now >= deadline:
                clients = False
                self._engine.shadows.give_up()
            if not clients and not self._engine.busy and not self._explainer.waiting:
                break
            await asyncio.sleep(0.01)
        self._routes.close()
        self._engine.close()
        self._explainer.close()
        self._log.close()
        self._slot.leave()

    def _report(self) -> None:
        if not self._accepting:  # who sees the status may send requests
            return
        memory = {
            name: {version: model.memory for version, model in served.versions.items()}
            for name, served in self._routes.models.items()
        }
        status = WorkerStatus(
            os.getpid(),
            self._started,
            dict(self._routes.generations),
            dict(self._routes.failures),
            memory,
        )
        try:
            self._slot.write(status)
        except OSError as error:
            _logger.error("the status cannot be written: %s", error)

    def _metrics(self) -> bytes:
        gauges = [*memory_gauges(living(self._layout)), *read_gauges(self._layout.gauges)]
        return render(total(self._layout.metrics), gauges)


def read_gauges(path: Path) -> list[Gauge]:
    """What the monitors want shown; nothing when the file is missing or damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Gauge])
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError) as error:
        _logger.error("%s: %s", path, error)
        return []


def read_config(path: Path) -> ServingSpec:
    """The `serving:` section as JSON. Raises BadInput."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ServingSpec, dec_hook=_duration)
    except (OSError, msgspec.DecodeError) as error:
        raise BadInput("not a serving configuration", path=str(path), found=str(error)) from error


def _duration(kind: type[Any], value: Any) -> Any:
    if kind is Duration:
        return Duration.parse(value)
    raise NotImplementedError(kind)


def main(arguments: list[str] | None = None) -> int:
    """-> exit code: 0 after a drain, 3 when it could not start."""
    parser = argparse.ArgumentParser(prog="homeostat-worker")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int)
    parser.add_argument("--tls-cert", type=Path)
    parser.add_argument("--tls-key", type=Path)
    parser.add_argument("--slot", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="how many share the port")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--parent", type=int, help="stop when this process is gone")
    given = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s worker %(levelname)s %(message)s", level="INFO")
    try:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a file for each connection
        clock = ScaledClock.parse(os.environ.get("HOMEOSTAT_CLOCK"), time.time_ns)
        spec = read_config(given.config) if given.config else ServingSpec()
        layout = Layout(given.home).make()
        listener = listen(given.host, given.port)
        sys.setswitchinterval(SWITCH)
        uvloop.run(_serve(layout, spec, given, clock, listener))
    except (HomeostatError, OSError, ValueError) as error:
        print(f"worker {given.slot}: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, HomeostatError) else 3
    return 0


async def _serve(
    layout: Layout,
    spec: ServingSpec,
    given: argparse.Namespace,
    clock: ScaledClock,
    listener: socket.socket,
) -> None:
    grpc = None if given.grpc_port is None else (given.host, given.grpc_port)
    tls = None if given.tls_cert is None else Tls(given.tls_cert, given.tls_key)
    worker = Worker(layout, spec, given.slot, clock, given.workers)
    await worker.run(listener, given.parent, grpc, tls)


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    os._exit(code)  # everything is put away: a model that is still being loaded is not waited for
