"""Clients of all kinds against a real server: what they are told, and each call counts once."""

from __future__ import annotations

import asyncio
import gzip
import random
import socket
import struct
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import grpc.aio
import numpy as np
import pytest

from homeostat.core.route import Route
from homeostat.serving import frames, grpc_call, heads, oip
from homeostat.serving.counters import total
from homeostat.serving.frames import DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, frame

from .conftest import Plane, two_outputs, wait_for
from .damage import damaged
from .test_drain import refuses, slow_to_load, worker
from .test_grpc import Response, asking

pytestmark = pytest.mark.slow

HELLO = PREFACE + frames.settings({frames.INITIAL_WINDOW: 2**30}) + frames.grow(0, 2**30)
HELLO += frame(frames.SETTINGS, frames.ACK, 0)
METHOD = f"/{oip.SERVICE}/ModelInfer"
ASK = asking([[1, 2]]).SerializeToString()
FIELDS = {
    b":method": b"POST",
    b":scheme": b"http",
    b":path": METHOD.encode(),
    b"te": b"trailers",
    b"content-type": b"application/grpc",
}


def head(**other: bytes | None) -> bytes:
    fields = {name.replace("_", "-").encode(): value for name, value in other.items()}
    path = fields.pop(b"path", None)
    merged = FIELDS | ({b":path": path} if path else {}) | fields
    return b"".join(heads.field(name, v) for name, v in merged.items() if v is not None)


def call(id: int, body: bytes | None = None, block: bytes | None = None) -> bytes:
    body = grpc_call.answer(ASK) if body is None else body
    begin = frame(HEADERS, END_HEADERS, id, head() if block is None else block)
    parts = [body[at : at + 16_384] for at in range(0, len(body), 16_384)] or [b""]
    data = [frame(DATA, 0, id, part) for part in parts[:-1]]
    return begin + b"".join(data) + frame(DATA, END_STREAM, id, parts[-1])


class Told(NamedTuple):
    status: bytes | None
    code: bytes | None
    message: bytes | None
    reset: int | None


class Raw:
    """A socket that speaks frames."""

    def __init__(self, plane: Plane) -> None:
        assert plane.server is not None
        assert plane.server.grpc_port is not None
        self.socket = socket.create_connection(("127.0.0.1", plane.server.grpc_port), timeout=60)
        self.socket.sendall(HELLO)
        self._rest = b""
        self._blocks = heads.Blocks(lambda _: None)

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def frame(self) -> tuple[int, int, int, bytes]:
        """The next. Raises EOFError."""
        while len(self._rest) < 9 or len(self._rest) < 9 + (frames.unpack(self._rest)[0] >> 8):
            data = self.socket.recv(1 << 18)
            if not data:
                raise EOFError
            self._rest += data
        about, flags, id = frames.unpack(self._rest)
        payload, self._rest = self._rest[9 : 9 + (about >> 8)], self._rest[9 + (about >> 8) :]
        return about & 0xFF, flags, id, payload

    def told(self, id: int) -> Told:
        """How the call ends."""
        fields: dict[bytes, bytes] = {}
        while True:
            kind, flags, stream, payload = self.frame()
            if kind == HEADERS:
                said = dict(self._blocks.fields(payload))
                fields |= said if stream == id else {}
            reset = int.from_bytes(payload, "big") if kind == frames.RST_STREAM else None
            if stream == id and (reset is not None or (kind == HEADERS and flags & END_STREAM)):
                get = fields.get
                return Told(get(b":status"), get(b"grpc-status"), get(b"grpc-message"), reset)

    def ask(self, id: int, body: bytes | None = None, block: bytes | None = None) -> Told:
        self.socket.sendall(call(id, body, block))
        return self.told(id)


def sums(plane: Plane) -> Counter[str]:
    return Counter(total(plane.layout.metrics).globals)


def under_way(plane: Plane) -> int:
    now = sums(plane)
    return now["requests"] - now["answered"] - now["shed"] - now["failed"]


ENDS: dict[str, tuple[bytes | None, bytes | None, tuple[bytes | None, bytes | None]]] = {
    "well": (None, None, (b"200", b"0")),
    "with a key": (None, head(x_homeostat_key=b"k"), (b"200", b"0")),
    "compressed": (
        b"\1" + grpc_call.answer(gzip.compress(ASK))[1:],
        head(grpc_encoding=b"gzip"),
        (b"200", b"0"),
    ),
    "no gRPC": (b"{}", head(content_type=b"application/json"), (b"415", None)),
    "no POST": (b"", head(**{":method": b"GET"}), (b"405", None)),
    "a proxy in between": (None, head(te=None), (b"200", b"3")),
    "no time": (None, head(grpc_timeout=b"soon"), (b"200", b"3")),
    "too late": (None, head(grpc_timeout=b"0n"), (b"200", b"4")),
    "an unknown compression": (None, head(grpc_encoding=b"br"), (b"200", b"12")),
    "an unknown method": (None, head(path=METHOD.encode() + b"2"), (b"200", b"12")),
    "an unknown service": (None, head(path=b"/grpc.health.v1.Health/Check"), (b"200", b"12")),
    "no message": (b"", None, (b"200", b"3")),
    "two messages": (grpc_call.answer(ASK) * 2, None, (b"200", b"3")),
    "half a message": (grpc_call.answer(ASK)[:-1], None, (b"200", b"3")),
    "nonsense": (grpc_call.answer(b"\xff\xff"), None, (b"200", b"3")),
    "no model": (grpc_call.answer(b"\x0a\x04none"), None, (b"200", b"5")),
    "too large": (grpc_call.answer(bytes(300_000)), None, (b"200", b"8")),
    "too large when unpacked": (
        b"\1" + grpc_call.answer(gzip.compress(bytes(300_000)))[1:],
        head(grpc_encoding=b"gzip"),
        (b"200", b"8"),
    ),
    "too large as it says": (b"\0\x7f\xff\xff\xff" + bytes(99), None, (b"200", b"3")),
}


@pytest.mark.parametrize("how", ENDS)
def test_each_call_is_told_how_it_ends_and_counted_once(one: Any, how: str) -> None:
    body, block, expected = ENDS[how]
    before = sums(one)
    with Raw(one) as raw:
        told = raw.ask(1, body, block)
        assert (told.status, told.code) == expected, told
        assert raw.ask(3).code == b"0"  # the connection goes on
    after = sums(one)
    well = 2 if expected == (b"200", b"0") else 1
    assert after["requests"] - before["requests"] == 2
    assert after["answered"] - before["answered"] == well
    assert under_way(one) == 0


def test_a_message_that_says_it_is_too_large_is_refused_before_it_comes(one: Any) -> None:
    with Raw(one) as raw:
        begin = frame(HEADERS, END_HEADERS, 1, head())
        raw.socket.sendall(begin + frame(DATA, 0, 1, b"\0\x7f\xff\xff\xff" + bytes(99)))
        told = raw.told(1)
        assert told.code == b"8"
        assert b"limited to" in (told.message or b"")
    assert under_way(one) == 0


def test_malformed_and_broken_calls_count_as_failed(one: Any) -> None:
    before = sums(one)
    with Raw(one) as raw:
        assert raw.ask(1, block=head(**{"Upper": b"x"})).reset == frames.Code.PROTOCOL_ERROR
        raw.socket.sendall(frame(HEADERS, END_HEADERS, 3, b"\xff"))  # no header block
        goaway = next(f for f in iter(raw.frame, None) if f[0] == frames.GOAWAY)
        assert int.from_bytes(goaway[3][4:8], "big") == frames.Code.COMPRESSION_ERROR
    after = sums(one)
    assert (after["requests"] - before["requests"], after["failed"] - before["failed"]) == (2, 2)


def test_who_leaves_or_takes_a_call_back_half_way_is_counted(one: Any) -> None:
    before = sums(one)
    with Raw(one) as raw:
        half = frame(HEADERS, END_HEADERS, 1, head()) + frame(DATA, 0, 1, bytes(50))
        raw.socket.sendall(half + frame(frames.RST_STREAM, 0, 1, struct.pack(">I", 8)))
        raw.socket.sendall(frame(HEADERS, END_HEADERS, 3, head()))
        assert raw.ask(5).code == b"0"
    wait_for(lambda: sums(one)["failed"] - before["failed"] == 2, "the end of both")
    assert under_way(one) == 0


SEEDS = [
    call(1)[: len(call(1))],
    call(3, block=head(grpc_timeout=b"5S", x_homeostat_key=b"k")),
    call(5, block=head(path=f"/{oip.SERVICE}/ServerLive".encode()), body=b"\0\0\0\0\0"),
    call(7)[:-30] + frame(frames.RST_STREAM, 0, 7, bytes(4)),
    frame(frames.PING, 0, 0, bytes(8)) + frames.settings({4: 0}) + frames.grow(0, 7),
]
TOKENS = [
    *(b"\0", b"\xff", b"\0\0\0\1", b"\x08score", b"\x1a\x02\x01\x02", b"\x40\x01x\x01y", b"\xbe"),
    *(frame(DATA, 1, 1, b"\0\0\0\0\0"), frame(HEADERS, 5, 9, head()), frames.grow(3, 2**31 - 1)),
]


def test_damaged_calls_never_hang_crash_or_reach_anothers_connection(one: Any) -> None:
    draw = random.Random(7)
    pids = one.server.pids()
    with Raw(one) as steady:
        for i in range(400):
            with Raw(one) as raw:
                raw.socket.sendall(damaged(draw, SEEDS, TOKENS))
                raw.socket.shutdown(socket.SHUT_WR)
                with suppress(EOFError, ConnectionResetError):
                    while True:
                        raw.frame()
            if i % 20 == 0:  # a connection beside them is served as ever
                assert steady.ask(2 * i + 1).code == b"0"
    assert one.server.pids() == pids
    wait_for(lambda: under_way(one) == 0, "the end of every call")


def test_a_client_that_gives_no_room_does_not_fill_the_memory_and_others_are_served(
    served: Plane,
) -> None:
    served.plane.publish(Route("m", 1, two_outputs(served.home / "models" / "1")))
    served.start(grpc=True, max_body=40_000_000)
    text = b"x" * 4_000_000
    asked = oip.message("ModelInferRequest")(model_name="m")
    asked.inputs.add(name="amount", datatype="FP32", shape=[1])
    asked.inputs.add(name="country", datatype="BYTES", shape=[1])
    asked.raw_input_contents.extend([bytes(4), struct.pack("<I", len(text)) + text])
    body = grpc_call.answer(asked.SerializeToString())
    with Raw(served) as raw, Raw(served) as other:
        raw.socket.sendall(frames.settings({frames.INITIAL_WINDOW: 0}))
        for id in range(1, 25, 2):
            raw.socket.sendall(call(id, body))
            wait_for(lambda: under_way(served) == 0 and sums(served)["requests"] > 0, "an answer")
        refused = raw.told(23)
        assert refused.code == b"14"
        assert b"take the answers" in (refused.message or b"")
        before = memory(served)
        for id in range(25, 125, 2):
            raw.socket.sendall(call(id, body))
        assert raw.told(123).code == b"14"
        assert memory(served) - before < 40_000_000
        assert other.ask(1, body).code == b"0"
        raw.socket.sendall(frames.settings({frames.INITIAL_WINDOW: 2**30}))
        assert raw.told(1).code == b"0"
    wait_for(lambda: under_way(served) == 0, "the end of every call")


def memory(plane: Plane) -> int:
    """Resident bytes of the worker."""
    pages = Path(f"/proc/{worker(plane).pid}/statm").read_text().split()[1]
    return int(pages) * 4096


# ---------------------------------------------------------------- real clients


def channel(plane: Plane, *options: tuple[str, Any]) -> grpc.Channel:
    assert plane.server is not None
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    own = [("grpc.use_local_subchannel_pool", 1), *unlimited, *options]
    return grpc.insecure_channel(f"127.0.0.1:{plane.server.grpc_port}", own)


KEEPALIVE = (
    ("grpc.keepalive_time_ms", 20),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_time_between_pings_ms", 10),
)


def test_many_calls_at_once_on_one_channel_and_on_many(one: Any) -> None:
    asked = [asking([[k, 2]], f"at-once-{k}").SerializeToString() for k in range(1000)]
    before = sums(one)
    with channel(one, *KEEPALIVE) as single:
        infer = single.unary_unary(METHOD)
        futures = [infer.future(message, timeout=60) for message in asked]
        ids = [Response.FromString(future.result()).id for future in futures]
    assert ids == [f"at-once-{k}" for k in range(1000)]

    def own(k: int) -> str:
        with channel(one) as mine:
            said = mine.unary_unary(METHOD)(asked[k], timeout=60)
            return str(Response.FromString(said).id)

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(own, range(64))) == ids[:64]
    assert sums(one)["answered"] - before["answered"] == 1064
    assert under_way(one) == 0


def test_calls_of_an_asynchronous_client_with_and_without_compression(one: Any) -> None:
    async def ask() -> list[str]:
        address = f"127.0.0.1:{one.server.grpc_port}"
        async with grpc.aio.insecure_channel(address) as it:
            infer = it.unary_unary(METHOD)
            kinds = [None, grpc.Compression.Gzip, grpc.Compression.Deflate]
            asked = [asking([[k % 7, 2]] * 100, f"aio-{k}").SerializeToString() for k in range(300)]
            calls = [
                infer(message, timeout=60, compression=kinds[k % 3])
                for k, message in enumerate(asked)
            ]
            return [Response.FromString(said).id for said in await asyncio.gather(*calls)]

    assert asyncio.run(ask()) == [f"aio-{k}" for k in range(300)]


def test_large_messages_come_and_go(served: Plane) -> None:
    served.plane.publish(Route("m", 1, two_outputs(served.home / "models" / "1")))
    served.start(grpc=True)  # 16 MB
    texts = [bytes([65 + k]) * 1_000_000 for k in range(12)]
    asked = oip.message("ModelInferRequest")(model_name="m")
    asked.inputs.add(name="amount", datatype="FP32", shape=[12])
    asked.inputs.add(name="country", datatype="BYTES", shape=[12])
    asked.raw_input_contents.append(np.arange(12, dtype=np.float32).tobytes())
    asked.raw_input_contents.append(b"".join(struct.pack("<I", len(t)) + t for t in texts))
    with channel(served) as it:
        infer = it.unary_unary(METHOD)
        for future in [infer.future(asked.SerializeToString(), timeout=60) for _ in range(4)]:
            said = Response.FromString(future.result())
            where = [output.name for output in said.outputs].index("where")
            assert said.raw_output_contents[where] == asked.raw_input_contents[1]
        with pytest.raises(grpc.RpcError) as caught:
            infer(bytes(17_000_000), timeout=60)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert infer.future(asked.SerializeToString(), timeout=60).result()
    assert sums(served)["answered"] == 5
    assert under_way(served) == 0


def test_calls_that_are_taken_back_are_counted(one: Any) -> None:
    before = sums(one)
    message = asking([[1, 2]] * 900).SerializeToString()
    with channel(one) as it:
        infer = it.unary_unary(METHOD)
        for _ in range(100):
            infer.future(message).cancel()
        assert infer(message, timeout=60)
    wait_for(lambda: under_way(one) == 0, "the end of every call")
    assert sums(one)["requests"] > before["requests"]


def test_who_waits_for_a_model_has_as_long_as_it_said(served: Plane) -> None:
    model, go_on = slow_to_load(served)
    served.start(grpc=True)
    served.plane.publish(Route("m", 1, model))
    wait_for(lambda: served.client.get("/v1/models").json()["models"], "the route")
    load = f"/{oip.SERVICE}/RepositoryModelLoad"
    asked, before = grpc_call.answer(b"\x12\x01m"), sums(served)
    with Raw(served) as raw:
        late = raw.ask(1, asked, head(path=load.encode(), grpc_timeout=b"50m"))
        assert late.code == b"4"
        raw.socket.sendall(call(3, asked, head(path=load.encode())))
        raw.socket.sendall(frame(frames.RST_STREAM, 0, 3, bytes(4)))
        raw.socket.sendall(call(5, asked, head(path=load.encode())))
        go_on()
        assert raw.told(5).code == b"0"
    found = sums(served) - before
    assert (found["requests"], found["answered"], found["shed"], found["failed"]) == (3, 1, 1, 1)


def test_a_drain_loses_no_call_of_a_channel_with_many_at_a_time(served: Plane) -> None:
    served.publish(served.model("1"))
    served.start(grpc=True, workers=2)
    assert served.server is not None
    stop = threading.Event()
    answered: list[str] = []

    def ask() -> None:
        with channel(served) as it:
            infer = it.unary_unary(METHOD)
            while not stop.is_set():
                futures = [infer.future(ASK, timeout=60) for _ in range(50)]
                answered.extend(Response.FromString(f.result()).id for f in futures)

    with ThreadPoolExecutor(4) as pool:
        asking_ = [pool.submit(ask) for _ in range(4)]
        wait_for(lambda: len(answered) > 500, "the calls")
        for slot in (0, 1):
            leaving = worker(served, slot)
            leaving.terminate()
            wait_for(lambda gone=leaving: gone.poll() is not None, "the end of a worker")
            wait_for(lambda: served.observed_workers() == 2, "the next worker")
        stop.set()
        for each in asking_:
            each.result()  # raises what a call raised
    assert under_way(served) == 0
    found = sums(served)
    assert found["answered"] == found["requests"] == len(answered)


def test_an_idle_client_does_not_hold_up_the_end(
    served: Plane, capfd: pytest.CaptureFixture[str]
) -> None:
    served.publish(served.model("1"))
    served.start(grpc=True)
    process = worker(served)
    with channel(served) as it:
        assert it.unary_unary(METHOD)(ASK, timeout=60)
        stopping = threading.Thread(target=served.stop)
        stopping.start()
        wait_for(lambda: process.poll() is not None or refuses(served), "the drain")
        stopping.join()
    assert process.returncode == 0
    assert "accept" not in capfd.readouterr().err
