"""The clients that people have, each in a process of its own: two of them register the same
protobuf package and cannot be imported together."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

pytestmark = pytest.mark.slow

COMMON = """
import sys
import numpy as np
url, grpc_url = sys.argv[1:3]
ROWS = np.array([[1, 2], [3, -4]], np.float32)
EXPECTED = 1 / (1 + np.exp(-(ROWS @ np.array([1.0, -2.0]))))

def refused(call, *said):
    try:
        call()
    except Exception as error:
        text = f"{error} {getattr(error, 'status', lambda: '')()}"
        assert all(word in text for word in said), text
    else:
        raise AssertionError(f"expected an error that says {said}")

def echo_values():
    values = {"BOOL": [True, False], "FP16": [0.5, -65504], "FP32": [0.1, 3e38], "BYTES": ["é", ""]}
    values["FP64"] = [0.1, -1e300]
    for bits in (8, 16, 32, 64):
        values[f"INT{bits}"] = [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1]
        values[f"UINT{bits}"] = [0, 2**bits - 1]
    return values
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, plane: Any) -> Iterator[Any]:
    """A server with two workers, HTTP and gRPC: model `m` (float32) and `echo` (everything)."""
    made = plane(tmp_path_factory.mktemp("both"))
    made.publish(made.model("1"))
    made.publish(made.echo("e1"), name="echo")
    made.start(workers=2, grpc=True, max_rows=1000, max_body=200_000)
    yield made
    made.stop()


def run(both: Any, program: str) -> None:
    """Run a client's program to its end; the assertions are inside."""
    words = [both.url, f"127.0.0.1:{both.server.grpc_port}"]
    done = subprocess.run(
        [sys.executable, "-c", COMMON + dedent(program), *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_tritons_http_client(both: Any) -> None:
    run(
        both,
        """
        import tritonclient.http as triton
        from tritonclient.utils import triton_to_np_dtype
        client = triton.InferenceServerClient(url.removeprefix("http://"))
        assert client.is_server_live() and client.is_server_ready()
        assert client.is_model_ready("m") and client.is_model_ready("m", "1")
        assert not client.is_model_ready("none")
        assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
        about = client.get_model_metadata("m", "1")
        assert about["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 2]}]
        index = client.get_model_repository_index()
        assert {"name": "m", "version": "1", "state": "READY", "reason": ""} in index

        def tensor(name, array, datatype, binary):
            made = triton.InferInput(name, list(array.shape), datatype)
            made.set_data_from_numpy(array, binary_data=binary)
            return made

        for sent in (True, False):
            for got in (True, False):
                given = tensor("input", ROWS, "FP32", sent)
                wanted = [triton.InferRequestedOutput("score", binary_data=got)]
                answer = client.infer("m", [given], outputs=wanted, request_id="t-1",
                                      headers={"x-homeostat-key": "k"})
                assert np.allclose(answer.as_numpy("score"), EXPECTED)
                said = answer.get_response()
                assert (said["id"], said["model_version"]) == ("t-1", "1"), said
        whole = client.infer("m", [tensor("input", ROWS.astype(np.int64), "INT64", True)])
        assert np.allclose(whole.as_numpy("score"), EXPECTED)
        for binary in (True, False):  # a column per feature, in any order, [n] or [n, 1]
            b = tensor("b", ROWS[:, 1].copy(), "FP32", binary)
            a = tensor("a", ROWS[:, :1].copy(), "FP32", not binary)
            assert np.allclose(client.infer("m", [b, a]).as_numpy("score"), EXPECTED)

        sent = []
        for datatype, values in echo_values().items():
            if datatype == "BYTES":
                array = np.array([v.encode() for v in values], object)
            else:
                array = np.array(values, triton_to_np_dtype(datatype))
            sent.append((datatype, array))
        for binary in (True, False):
            inputs = [
                tensor(f"in_{d.lower()}", a, d, binary or d == "FP16") for d, a in sent
            ]
            outputs = [
                triton.InferRequestedOutput(f"out_{d.lower()}", binary_data=binary or d == "FP16")
                for d, _ in sent
            ]
            answer = client.infer("echo", inputs, outputs=outputs)
            for datatype, array in sent:
                back = answer.as_numpy(f"out_{datatype.lower()}")
                expected = array if binary or datatype != "BYTES" else [v.decode() for v in array]
                assert list(back) == list(expected), (datatype, back, array)

        refused(lambda: client.infer("none", [given]), "no model 'none'")
        client.unload_model("echo")
        assert not client.is_model_ready("echo")
        states = {(e["name"], e["state"]) for e in client.get_model_repository_index()}
        assert states == {("m", "READY"), ("echo", "UNAVAILABLE")}, states
        client.load_model("echo")
        refused(lambda: client.load_model("echo", config="{}"), "as it was registered", "400")
        refused(lambda: client.load_model("none"), "no model 'none'", "404")
        bad = tensor("input", np.zeros((1, 3), np.float32), "FP32", True)
        refused(lambda: client.infer("m", [bad]), "wrong number of features", "400")
        wanted = [triton.InferRequestedOutput("other")]
        refused(lambda: client.infer("m", [given], outputs=wanted), "no such output")
        many = tensor("input", np.zeros((1001, 2), np.float32), "FP32", True)
        refused(lambda: client.infer("m", [many]), "at most 1000", "413")
        """,
    )


def test_tritons_grpc_client(both: Any) -> None:
    run(
        both,
        """
        import tritonclient.grpc as triton
        from homeostat.serving import oip  # beside theirs
        from tritonclient.utils import triton_to_np_dtype
        client = triton.InferenceServerClient(grpc_url)
        assert client.is_server_live() and client.is_server_ready()
        assert client.is_model_ready("m") and client.is_model_ready("m", "1")
        assert client.get_server_metadata().name == "homeostat"
        about = client.get_model_metadata("echo")
        assert {(t.name, t.datatype, tuple(t.shape)) for t in about.inputs} == {
            (f"in_{d.lower()}", d, (-1,)) for d in echo_values()
        }
        index = client.get_model_repository_index()
        assert {(m.name, m.version, m.state) for m in index.models} == {
            ("m", "1", "READY"), ("echo", "e1", "READY")
        }

        def tensor(name, array, datatype):
            made = triton.InferInput(name, list(array.shape), datatype)
            made.set_data_from_numpy(array)
            return made

        given = tensor("input", ROWS, "FP32")
        answer = client.infer("m", [given], model_version="1", request_id="g-1",
                              headers={"x-homeostat-key": "k"})
        assert np.allclose(answer.as_numpy("score"), EXPECTED)
        said = answer.get_response()
        assert (said.id, said.model_name, said.model_version) == ("g-1", "m", "1")

        for compressed in ("gzip", "deflate"):
            answer = client.infer("m", [given], compression_algorithm=compressed, client_timeout=30)
            assert np.allclose(answer.as_numpy("score"), EXPECTED)

        b, a = tensor("b", ROWS[:, 1].copy(), "FP32"), tensor("a", ROWS[:, :1].copy(), "FP32")
        assert np.allclose(client.infer("m", [b, a]).as_numpy("score"), EXPECTED)

        import asyncio
        import tritonclient.grpc.aio as aio

        async def at_once():
            options = triton.KeepAliveOptions(keepalive_time_ms=50, keepalive_timeout_ms=30_000,
                                              keepalive_permit_without_calls=True)
            async with aio.InferenceServerClient(grpc_url, keepalive_options=options) as client:
                assert await client.is_server_ready() and await client.is_model_ready("m")
                asked = [client.infer("m", [given], request_id=f"a-{k}") for k in range(200)]
                for k, answer in enumerate(await asyncio.gather(*asked)):
                    assert np.allclose(answer.as_numpy("score"), EXPECTED)
                    assert answer.get_response().id == f"a-{k}"
        asyncio.run(at_once())

        import queue
        heard = queue.Queue()
        client.start_stream(lambda result, error: heard.put((result, error)))
        result, error = heard.get(timeout=30)
        assert result is None and "no such method" in str(error), (result, error)
        client.stop_stream()

        inputs, sent = [], {}
        for datatype, values in echo_values().items():
            if datatype == "BYTES":
                array = np.array([v.encode() for v in values], object)
            else:
                array = np.array(values, triton_to_np_dtype(datatype))
            sent[datatype] = array
            inputs.append(tensor(f"in_{datatype.lower()}", array, datatype))
        answer = client.infer("echo", inputs)
        for datatype, array in sent.items():
            assert list(answer.as_numpy(f"out_{datatype.lower()}")) == list(array), datatype
        only = client.infer("echo", inputs, outputs=[triton.InferRequestedOutput("out_int8")])
        assert [t.name for t in only.get_response().outputs] == ["out_int8"]

        client.unload_model("echo")
        client.load_model("echo")

        # typed contents, which the client does not send by itself
        from tritonclient.grpc import service_pb2, service_pb2_grpc
        import grpc
        stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(grpc_url))
        request = service_pb2.ModelInferRequest(model_name="echo")
        where = {"BOOL": "bool", "INT8": "int", "INT16": "int", "INT32": "int", "INT64": "int64",
                 "UINT8": "uint", "UINT16": "uint", "UINT32": "uint", "UINT64": "uint64",
                 "FP32": "fp32", "FP64": "fp64", "BYTES": "bytes"}
        for datatype, field in where.items():
            name = f"in_{datatype.lower()}"
            tensor_ = request.inputs.add(name=name, datatype=datatype, shape=[2])
            values = [v.encode() if datatype == "BYTES" else v for v in echo_values()[datatype]]
            getattr(tensor_.contents, f"{field}_contents").extend(values)

        def code(request, metadata=()):
            try:
                stub.ModelInfer(request, metadata=metadata)
            except grpc.RpcError as error:
                return error.code().name, error.details()
            return "OK", ""
        status, said = code(request)
        assert status == "INVALID_ARGUMENT" and "missing; expected in_fp16" in said, said
        plain = service_pb2.ModelInferRequest(model_name="m", id="t-2")
        input_ = plain.inputs.add(name="input", datatype="FP32", shape=[2, 2])
        input_.contents.fp32_contents.extend(ROWS.ravel().tolist())
        answer = stub.ModelInfer(plain)
        assert np.allclose(answer.outputs[0].contents.fp32_contents, EXPECTED)
        assert not answer.raw_output_contents and answer.id == "t-2"

        input_.contents.fp32_contents.pop()
        assert code(plain)[0] == "INVALID_ARGUMENT"
        assert code(service_pb2.ModelInferRequest(model_name="none"))[0] == "NOT_FOUND"
        missing = service_pb2.ModelInferRequest(model_name="m", model_version="9")
        assert code(missing)[0] == "NOT_FOUND"
        many = service_pb2.ModelInferRequest(model_name="m", raw_input_contents=[b"\\0" * 8008])
        many.inputs.add(name="input", datatype="FP32", shape=[1001, 2])
        assert code(many)[0] == "RESOURCE_EXHAUSTED"
        many.raw_input_contents.append(b"")
        assert "raw_input_contents" in code(many)[1]
        huge = service_pb2.ModelInferRequest(model_name="m", raw_input_contents=[b"\\0" * 300_000])
        assert code(huge)[0] == "RESOURCE_EXHAUSTED"
        path = "/inference.GRPCInferenceService/ModelInfer"
        raw = grpc.insecure_channel(grpc_url).unary_unary(path)
        try:
            raw(b"\\xff\\xff")
        except grpc.RpcError as error:
            assert error.code().name == "INVALID_ARGUMENT" and "message" in error.details()
        else:
            raise AssertionError("nonsense was taken")
        """,
    )


def test_kserves_client_over_rest_and_grpc(both: Any) -> None:
    run(
        both,
        """
        import asyncio
        from kserve import (InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest,
                            RESTConfig)
        from homeostat.serving import oip  # beside theirs

        def given(name, array, datatype, binary):
            made = InferInput(name, list(array.shape), datatype)
            made.set_data_from_numpy(array, binary_data=binary)
            return made

        def columns(binary):
            b = given("b", ROWS[:, 1].copy(), "FP32", binary)
            return [b, given("a", ROWS[:, :1].copy(), "FP32", binary)]

        DTYPES = {"BOOL": bool, "BYTES": object, "FP16": np.float16, "FP32": np.float32,
                  "FP64": np.float64}
        def echoes(binary):
            made = []
            for datatype, values in echo_values().items():
                dtype = DTYPES.get(datatype) or np.dtype(datatype.lower())
                values = [v.encode() for v in values] if datatype == "BYTES" else values
                raw = binary or datatype == "FP16"
                made.append(given(f"in_{datatype.lower()}", np.array(values, dtype), datatype, raw))
            return made

        def echoed(answer):
            outputs = {output.name: output for output in answer.outputs}
            assert list(outputs)[0] == "score"
            for datatype, values in echo_values().items():
                back = outputs[f"out_{datatype.lower()}"].as_numpy()
                if datatype == "BYTES":
                    back = [v.decode() if isinstance(v, bytes) else v for v in back]
                    assert back == values, back
                else:
                    assert np.allclose(back.astype(float), np.array(values, float)), datatype

        async def rest():
            v1 = InferenceRESTClient(RESTConfig(protocol="v1", retries=0))
            assert await v1.is_server_live(url)
            assert await v1.is_model_ready(url, "m")
            answer = await v1.infer(url, {"instances": ROWS.tolist()}, model_name="m")
            assert np.allclose(answer["predictions"], EXPECTED)
            named = [{"b": float(b), "a": float(a)} for a, b in ROWS]
            answer = await v1.infer(url, {"instances": named}, model_name="m")
            assert np.allclose(answer["predictions"], EXPECTED)
            values = {d: v[0] for d, v in echo_values().items()}
            row = {f"in_{d.lower()}": v for d, v in values.items()}
            answer = await v1.infer(url, {"instances": [row, row]}, model_name="echo")
            first, second = answer["predictions"]
            assert first == second and 0.5 < first.pop("score") < 0.6
            assert first.keys() == {f"out_{d.lower()}" for d in values}
            assert all(np.isclose(first[f"out_{d.lower()}"], v)
                       for d, v in values.items() if d != "BYTES"), first
            assert first["out_bytes"] == values["BYTES"]
            v2 = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
            assert await v2.is_server_live(url) and await v2.is_server_ready(url)
            assert await v2.is_model_ready(url, "m")
            for binary in (False, True):
                tensor = InferInput("input", [2, 2], "FP32")
                tensor.set_data_from_numpy(ROWS, binary_data=binary)
                request = InferRequest("m", [tensor], request_id="r-1")
                answer = await v2.infer(url, request, model_name="m")
                assert np.allclose(answer.outputs[0].as_numpy(), EXPECTED)
                assert answer.id == "r-1"
                answer = await v2.infer(url, InferRequest("m", columns(binary)), model_name="m")
                assert np.allclose(answer.outputs[0].as_numpy(), EXPECTED)
                answer = await v2.infer(url, InferRequest("echo", echoes(binary)),
                                        model_name="echo")
                echoed(answer)
            try:
                await v1.infer(url, {"instances": [[1]]}, model_name="m")
            except Exception as error:
                assert "400" in str(error), error
            else:
                raise AssertionError("a row of one feature was taken")

        async def grpc():
            client = InferenceGRPCClient(grpc_url, retries=0)
            assert await client.is_server_live() and await client.is_server_ready()
            assert await client.is_model_ready("m")
            for binary in (False, True):
                tensor = InferInput("input", [2, 2], "FP32")
                tensor.set_data_from_numpy(ROWS, binary_data=binary)
                answer = await client.infer(InferRequest("m", [tensor], request_id="r-2"))
                assert np.allclose(answer.outputs[0].as_numpy(), EXPECTED)
                assert (answer.id, answer.model_version) == ("r-2", "1")
                answer = await client.infer(InferRequest("m", columns(binary)))
                assert np.allclose(answer.outputs[0].as_numpy(), EXPECTED)
            echoed(await client.infer(InferRequest("echo", echoes(True))))
            await client.close()

            from grpc import insecure_channel
            from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
            from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub
            stub = GRPCInferenceServiceStub(insecure_channel(grpc_url))
            asked = messages.RepositoryModelLoadRequest(model_name="m")
            assert stub.RepositoryModelLoad(asked).isLoaded

        asyncio.run(rest())
        asyncio.run(grpc())
        """,
    )


def curl(*words: str, input: bytes | None = None) -> bytes:
    done = subprocess.run(
        ["curl", "-sS", "--max-time", "10", *words], input=input, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_with_json_raw_bodies_chunks_and_continue(both: Any, tmp_path: Path) -> None:
    infer = f"{both.url}/v2/models/m/infer"
    head = b'{"inputs":[{"name":"input","shape":[1,2],"datatype":"FP32",'
    said = json.loads(curl(infer, "-d", (head + b'"data":[[1,2]]}]}').decode()))
    score = said["outputs"][0]["data"][0]

    raw = struct.pack("<2f", 1, 2)
    header = "Inference-Header-Content-Length: "
    answer = curl(infer, "-i", "-H", f"{header}0", "--data-binary", "@-", input=raw)
    lines, _, body = answer.partition(b"\r\n\r\n")
    length = int(lines.lower().split(b"inference-header-content-length: ")[1].split(b"\r\n")[0])
    assert struct.unpack("<f", body[length:]) == (pytest.approx(score),)

    mixed = head + b'"parameters":{"binary_data_size":8}}]}'
    answer = curl(infer, "-H", f"{header}{len(mixed)}", "--data-binary", "@-", input=mixed + raw)
    assert json.loads(answer)["outputs"][0]["data"] == [score]

    chunked = ["-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue"]
    file = tmp_path / "body"
    file.write_bytes(head + b'"data":[1,2]}]}' + b" " * 100_000)
    answer = curl(infer, *chunked, "--data-binary", f"@{file}")
    assert json.loads(answer)["outputs"][0]["data"] == [score]

    # h2c is offered with the body, as Java's client does: both requests go over one connection
    offer = ["--http2", "-w", " %{http_version} %{num_connects}\n", "-d", "@-", infer, infer]
    lines = curl(*offer, input=head + b'"data":[1,2]}]}').splitlines()
    assert [line.rpartition(b"}")[2] for line in lines] == [b" 1.1 1", b" 1.1 0"]
    assert [json.loads(line[:-6])["outputs"][0]["data"] for line in lines] == [[score]] * 2

    statuses = curl("-o", "/dev/null", "-w", "%{http_code} ", "-I", f"{both.url}/v2/health/live")
    assert statuses == b"200 "
    file.write_bytes(b" " * 300_000)
    too_large = curl("-w", " %{http_code}", infer, "--data-binary", f"@{file}")
    assert too_large.endswith(b" 413")


def test_every_call_over_either_protocol_is_counted_once(both: Any) -> None:
    counted = dict(
        line.split(" ")
        for line in both.client.get("/metrics").text.splitlines()
        if line.startswith("homeostat_requests_") and "{" not in line
    )
    ends = ("answered", "shed", "failed", "in_flight")
    sums = [int(float(counted[f"homeostat_requests_{name}_total"])) for name in ends[:3]]
    assert int(counted["homeostat_requests_total"]) == sum(sums) + 1  # the one that asks
