"""The demo's stage: a project in a folder, its processes, the traffic, and a watcher that reads
the model's events as anybody could."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import TypeVar

import polars as pl

from homeostat.app import CLOCK, HOME, homeostat, open_project
from homeostat.control.history import quiet, sentence
from homeostat.control.model import LoopEvent, State, evolve
from homeostat.core.clock import ScaledClock
from homeostat.core.errors import Unavailable
from homeostat.core.events import decode
from homeostat.core.records import TIME
from homeostat.definition import load
from homeostat.demo.client import Client
from homeostat.demo.picture import Mark
from homeostat.demo.tally import Tally
from homeostat.demo.traffic import Traffic
from homeostat.demo.view import Scene, View
from homeostat.demo.world import World
from homeostat.monitoring.model import WindowObserved

START = datetime(2026, 3, 16, tzinfo=UTC)
HISTORY = timedelta(days=14)
DELAY = timedelta(hours=6)
"""How long after a payment its outcome is known."""
RATE = 7200.0
"""Two virtual hours pass in a second."""
PER_HOUR = 300.0
SMOOTH = timedelta(hours=6)
READY = 60.0
LEAD = 12.0
"""Seconds the processes are given to come up before the clock starts."""
POLL = 0.2
MODEL = "fraud-detector"

E = TypeVar("E")


class Stage:
    """folder: the project's. seen: (time, event) of the model's stream, as far as read."""

    def __init__(self, folder: Path, world: World, view: View, *, patience: float) -> None:
        self.folder, self.world, self.view = folder, world, view
        self.tally, self.marks = Tally(), list[Mark]()
        self.seen: list[tuple[datetime, LoopEvent]] = []
        self.state = State()
        self.phase = "the world is quiet"
        self._deadline = time.monotonic() + patience
        self.clock = ScaledClock(time.time_ns, start=START, rate=0.0)

    # -- set-up ------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Lay out the project and its history, made anew."""
        shutil.rmtree(self.folder, ignore_errors=True)
        warehouse = self.folder / "data"
        warehouse.mkdir(parents=True)
        for name in ("homeostat.yaml", "fraud.py"):
            text = resources.files("homeostat.demo.project").joinpath(name).read_text()
            (self.folder / name).write_text(text)
        past = self.world.transactions(START - HISTORY, START)
        past.write_parquet(warehouse / "payments-history.parquet")

    def command(self, *words: str) -> subprocess.Popen[bytes]:
        """A command of this project, in the demo's time; its output goes to a file."""
        log = (self.folder / f"{words[0]}.log").open("ab")
        with log:
            return subprocess.Popen(
                homeostat(*words, root=self.folder),
                env=os.environ | {CLOCK: str(self.clock)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def complete(self, process: subprocess.Popen[bytes], name: str) -> None:
        if process.wait() != 0:
            tail = (self.folder / f"{name}.log").read_text().strip().splitlines()[-1:]
            raise Unavailable(
                f"`homeostat {name}` ended with {process.returncode}", found=str(tail)
            )

    @contextmanager
    def up(self) -> Iterator[int]:
        """`homeostat up` for as long as the context lasts; -> its port."""
        self.clock = ScaledClock(
            time.time_ns, start=START, rate=RATE, origin_ns=time.time_ns() + int(LEAD * 1e9)
        )
        (self.folder / "clock").write_text(str(self.clock))
        process = self.command("up", "--port", "0", "--workers", "1", "--interval", "0.25")
        try:
            yield self._ready(process)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()

    def _ready(self, process: subprocess.Popen[bytes]) -> int:
        import httpx

        server = self.folder / HOME / "serving" / "server.json"
        until = time.monotonic() + READY
        while time.monotonic() < until:
            if process.poll() is not None:
                self.complete(process, "up")
            if server.exists():
                port = int(json.loads(server.read_text())["port"])
                try:
                    url = f"http://127.0.0.1:{port}/v2/models/{MODEL}/ready"
                    if httpx.get(url, timeout=1).status_code == 200:
                        return port
                except httpx.TransportError:
                    pass  # not listening yet
            time.sleep(0.1)
        raise Unavailable(f"`homeostat up` was not ready within {READY:.0f} s")

    # -- while it runs -----------------------------------------------------------------------

    async def play(self, script: Callable[[Stage], Coroutine[None, None, None]], port: int) -> None:
        """Traffic and watcher beside the script; ends with it, or with what failed first."""
        client, stop = Client("127.0.0.1", port), asyncio.Event()
        await client.connect()
        traffic = Traffic(
            self.world,
            self.clock,
            client,
            model=MODEL,
            start=START,
            delay=DELAY,
            warehouse=self.folder / "data",
            threshold=load(self.folder).training.threshold,
        )
        self.tally = traffic.tally
        world = [asyncio.create_task(traffic.run(stop)), asyncio.create_task(self._watch(stop))]
        told = asyncio.ensure_future(script(self))
        await asyncio.wait([told, *world], return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        for task in world:
            await task
        await told
        client.close()

    async def _watch(self, stop: asyncio.Event) -> None:
        platform = open_project(self.folder, clock=str(self.clock))
        while not stop.is_set():
            for record in platform.events.read(platform.stream, self.state.seq):
                event: LoopEvent = decode(record, LoopEvent)
                self.state = evolve(self.state, event, record.at, record.seq)
                self.seen.append((record.at, event))
                if not quiet(event):
                    self.view.line(sentence(event), record.at)
            self._show()
            await asyncio.sleep(POLL)

    def _show(self) -> None:
        now = self.clock.now()
        recent = self.tally.detection(now - SMOOTH, now)[0]
        table = self.tally.detection_table(SMOOTH)
        split = self.tally.traffic_table()
        last = split.filter(pl.col("time") == split["time"].max()) if split.height else split
        drift = self.drift_table()
        self.view.show(
            Scene(
                title=self.view.scene.title,
                at=now,
                phase=self.phase,
                sent=self.tally.sent,
                failed=self.tally.failed.total(),
                detection=recent,
                drift=drift["effect"][-1] if drift.height else 0.0,
                traffic=dict(zip(last["version"], last["percent"], strict=True)),
                spark=table["detection"].to_list()[::2],
            )
        )

    # -- what the script waits for --------------------------------------------------------------

    async def until(self, ready: Callable[[], bool], what: str) -> None:
        """Poll until `ready`; raises Unavailable when the demo's patience is over."""
        while not ready():
            if time.monotonic() > self._deadline:
                raise Unavailable(
                    f"the demo gave up waiting for {what}",
                    remedy=f"see {self.folder / 'up.log'} and `homeostat history`",
                )
            await asyncio.sleep(POLL)

    async def event(
        self, kind: type[E], what: str, since: datetime, where: Callable[[E], bool] = lambda e: True
    ) -> tuple[datetime, E]:
        """The first event of a kind from `since` on."""
        found: list[tuple[datetime, E]] = []

        def look() -> bool:
            for at, event in self.seen:
                if isinstance(event, kind) and at >= since and where(event):
                    found.append((at, event))
                    return True
            return False

        await self.until(look, what)
        return found[0]

    def mark(self, at: datetime, text: str) -> None:
        self.marks.append(Mark(at, text))

    def drift_table(self) -> pl.DataFrame:
        """Rows: time (end of a window), effect of the most moved feature."""
        rows = [
            (event.end, event.largest_effect or 0.0)
            for _, event in self.seen
            if isinstance(event, WindowObserved)
        ]
        schema = {"time": TIME, "effect": pl.Float64()}
        return pl.DataFrame(rows, schema=schema, orient="row")
