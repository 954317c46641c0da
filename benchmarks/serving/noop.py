"""Our own HTTP stack with a handler that knows the answer already: what is left of a server when
its work is taken away. `python -m benchmarks.serving.noop --port P`."""

from __future__ import annotations

import argparse
import asyncio
import signal

import uvloop
from benchmarks.serving.process import free_port

from homeostat.serving.exchange import Exchange
from homeostat.serving.http import Connection, Limits, Server

ANSWER = (
    b'{"model_name":"mlp","model_version":"1","id":"00000000000000000000000000000000","outputs":'
    b'[{"name":"score","shape":[1],"datatype":"FP32","data":[0.4799216389656067]}]}'
)


async def serve(port: int) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = Server(lambda method, target: _answer, lambda: None, Limits(body=16 * 1024 * 1024))
    await loop.create_server(lambda: Connection(server), "127.0.0.1", port, backlog=1024)
    await stop.wait()


def _answer(exchange: Exchange) -> None:
    exchange.send(200, ANSWER)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=free_port())
    uvloop.run(serve(parser.parse_args().port))
