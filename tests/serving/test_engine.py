"""Which batch comes next, without a server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np

from homeostat.core.route import Route, Servable
from homeostat.core.servable import Manifest
from homeostat.serving.codec import read_v1
from homeostat.serving.counters import Counters
from homeostat.serving.engine import Engine
from homeostat.serving.jobs import Answers, Job, Rows
from homeostat.serving.layout import Layout
from homeostat.serving.log import SegmentLog
from homeostat.serving.routes import Served
from homeostat.serving.runtime import LoadedModel
from homeostat.serving.spec import ServingSpec


class Zeros:
    """A model that is run beside the event loop."""

    def score(self, x: Any) -> Any:
        return np.zeros(len(x), np.float32)

    def run(self, columns: Any) -> Any:
        raise NotImplementedError


class Heard(Job):
    """Notes who was answered, in order."""

    client, key, trace = "", None, None

    def __init__(self, ids: list[str]) -> None:
        super().__init__(started=0.0)
        self._ids = ids

    def read(self, served: Served) -> Rows:
        raise NotImplementedError

    def check(self, model: LoadedModel) -> None:
        pass

    def answer(self, answers: Answers, at: int, explore: bool) -> None:
        self._ids.append(self.id)

    def fail(self, status: int, message: str) -> None:
        self._ids.append(message)


def test_who_names_a_version_does_not_wait_behind_all_who_do_not(tmp_path: Path) -> None:
    layout = Layout(tmp_path).make()
    servable = Servable("1", "f", "sha256:0")
    manifest = Manifest("m", ("a",), "f", servable.digest, "score", 0.5, format="pyfunc")
    served = Served(Route("m", 1, servable), {servable: LoadedModel(servable, manifest, Zeros())})
    heard: list[str] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        log = SegmentLog(layout.live, layout.sealed, "0-w", seal=60.0, dropped=lambda n: None)
        engine = Engine(loop, log, Counters(layout.metrics / "0"), lambda: 0, ServingSpec())

        def submit(id: str, found: tuple[Any, Any]) -> None:
            rows = read_v1(b'{"instances": [%b]}' % b",".join([b"[1.0]"] * 200), 200)
            job = Heard(heard)
            job.give(served, rows, id, found)
            engine.submit(job)

        for k in range(4):  # no two of them fit into one batch
            submit(f"drawn {k}", served.assign("key"))
        submit("named", served.named("1"))
        while engine.in_flight:
            await asyncio.sleep(0.001)
        engine.close()
        log.close()

    asyncio.run(asyncio.wait_for(scenario(), 10))
    assert heard == ["drawn 0", "named", "drawn 1", "drawn 2", "drawn 3"]
