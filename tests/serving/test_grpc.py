"""The gRPC front on a real server; `test_clients` has what people use to talk to it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from homeostat.core.errors import Unavailable
from homeostat.serving import oip
from homeostat.serving.counters import total
from homeostat.serving.spec import ServingSpec
from homeostat.serving.supervisor import Supervisor

from .conftest import wait_for

Request, Response = oip.message("ModelInferRequest"), oip.message("ModelInferResponse")


def asking(rows: Any, id: str = "", *, raw: bool = True, model: str = "m") -> Any:
    array = np.asarray(rows, np.float32)
    message = Request(model_name=model, id=id)
    tensor = message.inputs.add(name="input", datatype="FP32", shape=array.shape)
    if raw:
        message.raw_input_contents.append(array.tobytes())
    else:
        tensor.contents.fp32_contents.extend(array.ravel().tolist())
    return message


class Caller:
    def __init__(self, port: int) -> None:
        # several channels: otherwise all calls share a connection, and so a worker
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channels = [grpc.insecure_channel(f"127.0.0.1:{port}", options) for _ in range(8)]
        self._next = 0

    def infer(self, message: Any, **how: Any) -> Any:
        self._next += 1
        channel = self._channels[self._next % len(self._channels)]
        call = channel.unary_unary(f"/{oip.SERVICE}/ModelInfer")
        return Response.FromString(call(message.SerializeToString(), **{"timeout": 10, **how}))

    def close(self) -> None:
        for channel in self._channels:
            channel.close()


@pytest.fixture
def caller(served: Any) -> Iterator[Caller]:
    served.publish(served.model("1"))
    served.start(grpc=True, workers=2)
    made = Caller(served.server.grpc_port)
    yield made
    made.close()


@pytest.mark.slow
def test_calls_are_logged_and_routed_as_those_over_http_are(served: Any, caller: Caller) -> None:
    canary = served.model("2", weights=(9.0, 9.0))
    served.publish(served.model("1"), canary=canary, percent=50.0)
    versions = {
        key: {
            caller.infer(
                asking([[1, 2]], f"{key}-{i}"), metadata=[("x-homeostat-key", key)]
            ).model_version
            for i in range(4)
        }
        for key in map(str, range(20))
    }
    assert all(len(seen) == 1 for seen in versions.values())
    assert set.union(*versions.values()) == {"1", "2"}
    over_http = {
        key: served.predict([1, 2], **{"x-homeostat-key": key}).json()["model_version"]
        for key in versions
    }
    assert {key: {version} for key, version in over_http.items()} == versions
    log = served.logged()
    assert {f"{key}-{i}" for key in versions for i in range(4)} <= set(log["id"])


@pytest.mark.slow
def test_a_deadline_that_has_passed_is_no_answer(caller: Caller) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        caller.infer(asking([[1, 2]] * 5000), timeout=0.0005)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert caller.infer(asking([[1, 2]])).model_version == "1"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "data", "code"),
    [
        ("ModelInfer", b"\0" * 300_000, grpc.StatusCode.RESOURCE_EXHAUSTED),
        ("ModelInfer", b"\xff\xff", grpc.StatusCode.INVALID_ARGUMENT),
        ("ModelDream", b"", grpc.StatusCode.UNIMPLEMENTED),
    ],
)
def test_what_grpc_itself_turns_away_is_a_request_that_failed(
    one: Any, method: str, data: bytes, code: grpc.StatusCode
) -> None:
    def counted() -> tuple[int, int]:
        sums = total(one.layout.metrics).globals
        return sums["requests"], sums["failed"]

    requests, failed = counted()
    with grpc.insecure_channel(f"127.0.0.1:{one.server.grpc_port}") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(f"/{oip.SERVICE}/{method}")(data, timeout=60)
        assert caught.value.code() is code
        wait_for(lambda: counted() == (requests + 1, failed + 1), "the end of the call")


@pytest.mark.slow
def test_nobody_ready_is_unavailable(served: Any, caller: Caller) -> None:
    served.publish(None)
    with pytest.raises(grpc.RpcError) as caught:
        caller.infer(asking([[1, 2]]))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "no version of m is ready" in caught.value.details()


@pytest.mark.slow
def test_a_grpc_port_in_use_is_told_before_anything_starts(served: Any, caller: Caller) -> None:
    with pytest.raises(Unavailable, match="another --grpc-port, or 0 for a free one"):
        Supervisor(
            served.home.parent / "other",
            ServingSpec(),
            port=0,
            grpc_port=served.server.grpc_port,
        ).start()


def test_a_server_without_grpc_does_not_import_it() -> None:
    code = "import sys, homeostat.serving.worker as w; sys.exit('grpc' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


_COMPARE = """
import importlib.util, sys
from homeostat.serving import oip
from homeostat.serving.counters import total
# the file alone: the packages around it take ten seconds to import
spec = importlib.util.spec_from_file_location("theirs", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
theirs = module.DESCRIPTOR.message_types_by_name

def same(ours, other, path):
    for field in ours.fields:
        twin = other.fields_by_name.get(field.name)
        if twin is not None and "RepositoryModel" not in path:
            assert (field.number, field.type) == (twin.number, twin.type), (path, field.name)
    for nested in ours.nested_types:
        if nested.name in other.nested_types_by_name:
            same(nested, other.nested_types_by_name[nested.name], f"{path}.{nested.name}")

compared = [name for name in oip.MESSAGES if name in theirs]
for name in compared:
    same(oip.message(name).DESCRIPTOR, theirs[name], name)
assert len(compared) >= 16, compared
"""


@pytest.mark.parametrize(
    ("package", "module"),
    [("tritonclient", "grpc/service_pb2.py"), ("kserve", "protocol/grpc/grpc_predict_v2_pb2.py")],
)
def test_our_messages_agree_with_those_of_the_clients(package: str, module: str) -> None:
    found = importlib.util.find_spec(package)
    assert found is not None
    assert found.origin is not None
    file = Path(found.origin).parent / module
    done = subprocess.run(
        [sys.executable, "-c", _COMPARE, str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
