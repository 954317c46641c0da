"""Where the data plane keeps its files under the home folder: its contract with the loop."""

from __future__ import annotations

import os
from pathlib import Path


class Layout:
    """Paths under `home`.

    serving/routes/<model>.json    what to serve, written by the loop
    serving/unloaded/<model>       a model that was taken out of memory, until it is loaded
    serving/workers/<slot>.json    what each worker does, beside the lock that shows it is alive
    serving/metrics/<slot>         counters that outlive a worker
    serving/gauges.json            figures of the monitors to show at /metrics
    serving/server.json            host, port, pid of the running server
    serving/server.lock            held as long as that server lives
    log/live, log/sealed           segments of the prediction log, growing and finished
    log/predictions                the Delta table they become
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.serving = home / "serving"
        self.routes = self.serving / "routes"
        self.unloads = self.serving / "unloaded"
        self.workers = self.serving / "workers"
        self.metrics = self.serving / "metrics"
        self.gauges = self.serving / "gauges.json"
        self.server = self.serving / "server.json"
        self.server_lock = self.serving / "server.lock"
        self.config = self.serving / "config.json"
        self.log = home / "log"
        self.live = self.log / "live"
        self.sealed = self.log / "sealed"
        self.table = self.log / "predictions"
        self.keeper_lock = self.log / "keeper.lock"

    def make(self) -> Layout:
        """Create the folders that are missing."""
        serving = (self.routes, self.unloads, self.workers, self.metrics)
        for folder in (*serving, self.live, self.sealed):
            folder.mkdir(parents=True, exist_ok=True)
        return self

    def route(self, model: str) -> Path:
        return self.routes / f"{model}.json"

    def unloaded(self, model: str) -> Path:
        return self.unloads / f"{model}.unloaded"

    def status(self, slot: int) -> Path:
        return self.workers / f"{slot}.json"

    def lock(self, slot: int) -> Path:
        return self.workers / f"{slot}.lock"


def write_atomically(path: Path, content: bytes) -> None:
    """A reader sees the former content or all of the new one. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
