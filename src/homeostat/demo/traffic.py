"""The world around the server, over real HTTP: payments come in as they happen, their outcomes
become known later, and the warehouse gets its files."""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import polars as pl

from homeostat.core.clock import ScaledClock
from homeostat.core.errors import Unavailable
from homeostat.demo.client import Answer, Client
from homeostat.demo.project.fraud import FEATURES, features
from homeostat.demo.tally import Tally
from homeostat.demo.world import World

STEP = 0.05
"""Seconds between two looks at the clock: payments are sent in that many small gulps."""
LABEL_BATCH = 2000
FILE_EVERY = timedelta(hours=3)


class _Output(msgspec.Struct):
    data: list[float]


class _Infer(msgspec.Struct):
    model_version: str
    outputs: list[_Output]


_decoder = msgspec.json.Decoder(_Infer)


class Traffic:
    """Sends what happens in `world` from `start` on, in the clock's time, until stopped.

    warehouse: folder that gets a Parquet file of raw payments now and then, labels left out:
    those are told to the server when they become known, `delay` after the payment.
    """

    def __init__(
        self,
        world: World,
        clock: ScaledClock,
        client: Client,
        *,
        model: str,
        start: datetime,
        delay: timedelta,
        warehouse: Path,
        threshold: float,
    ) -> None:
        self.tally = Tally()
        self._world, self._clock, self._client = world, clock, client
        self._model, self._start, self._delay = model, start, delay
        self._warehouse, self._threshold = warehouse, threshold
        self._unknown: deque[tuple[datetime, str, int]] = deque()
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; then waits for what is under way. Raises Unavailable when labels are
        not taken, and what the sending tasks raise."""
        sent, filed = self._start, self._start
        while not stop.is_set():
            now = self._clock.now()
            for row in features_with_truth(self._world.transactions(sent, now)):
                self._spawn(row)
            sent = max(sent, now)
            await self._tell_labels(now)
            if now - filed >= FILE_EVERY:
                self._file(filed, now)
                filed = now
            await asyncio.sleep(STEP)
        await asyncio.gather(*self._under_way)

    def _spawn(self, row: tuple[str, datetime, int, list[float]]) -> None:
        task = asyncio.create_task(self._pay(*row))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _pay(self, id: str, at: datetime, fraud: int, values: list[float]) -> None:
        tensor = {"name": "x", "shape": [1, len(values)], "datatype": "FP32", "data": values}
        body = {"id": id, "inputs": [tensor]}
        answer = await self._client.post(f"/v2/models/{self._model}/infer", body)
        self._unknown.append((at, id, fraud))
        if answer.status != 200:
            why = f"{answer.status} {answer.body[:200].decode(errors='replace')}"
            self.tally.count(at, fraud=bool(fraud), alarm=False, version=None, why=why)
            return
        result = _decoder.decode(answer.body)
        score = result.outputs[0].data[-1]
        alarm = score >= self._threshold
        self.tally.count(at, fraud=bool(fraud), alarm=alarm, version=result.model_version)

    async def _tell_labels(self, now: datetime) -> None:
        ripe = []
        while self._unknown and self._unknown[0][0] + self._delay <= now:
            at, id, fraud = self._unknown.popleft()
            ripe.append({"id": id, "label": fraud, "time": at.isoformat()})
        for first in range(0, len(ripe), LABEL_BATCH):
            body = {"labels": ripe[first : first + LABEL_BATCH]}
            answer: Answer = await self._client.post(f"/v1/models/{self._model}/labels", body)
            if answer.status != 200:
                raise Unavailable("labels were not taken", found=answer.body[:200].decode())

    def _file(self, since: datetime, until: datetime) -> None:
        rows = self._world.transactions(since, until)
        rows = rows.with_columns(TX_FRAUD=pl.lit(None, dtype=rows.schema["TX_FRAUD"]))
        part = self._warehouse / f"payments-{until:%Y%m%dT%H%M%S}.parquet"
        unfinished = part.with_suffix(".tmp")
        rows.write_parquet(unfinished)
        unfinished.rename(part)


def features_with_truth(rows: pl.DataFrame) -> list[tuple[str, datetime, int, list[float]]]:
    """-> (id, time, fraud, the model's features in order) per payment."""
    if rows.is_empty():
        return []
    table = features(rows)
    values = table.select(FEATURES.keys()).to_numpy().tolist()
    truth = rows.select("TRANSACTION_ID", "TX_DATETIME", "TX_FRAUD").rows()
    return [(*known, x) for known, x in zip(truth, values, strict=True)]
