from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import trustme

from homeostat.core.errors import BadInput
from homeostat.serving import oip
from homeostat.serving.address import Tls


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Tls:
    folder = tmp_path_factory.mktemp("tls")
    issued = authority.issue_cert("localhost", "127.0.0.1")
    made = Tls(folder / "cert.pem", folder / "key.pem")
    issued.private_key_pem.write_to_path(made.key)
    for blob in issued.cert_chain_pems:
        blob.write_to_path(made.certificate, append=True)
    return made


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, plane: Any, tls: Tls) -> Iterator[Any]:
    made = plane(tmp_path_factory.mktemp("secured"))
    made.publish(made.model("1"))
    made.start(grpc=True, tls=tls)
    yield made
    made.stop()


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.mark.slow
def test_https_serves_a_client_that_trusts_the_authority(
    secured: Any, authority: trustme.CA
) -> None:
    port = secured.server.port
    body = {"instances": [[1, 2]] * 500}
    with httpx.Client(verify=trusting(authority), base_url=f"https://localhost:{port}") as client:
        for _ in range(3):  # on one connection
            answer = client.post("/v1/models/m:predict", json=body)
            assert len(answer.json()["predictions"]) == 500
        assert client.post("/v1/models/m:predict", content=b"{").status_code == 400
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"https://localhost:{port}/v2")
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"http://localhost:{port}/v2")


@pytest.mark.slow
def test_a_client_that_leaves_before_its_answer_is_nothing_to_complain_of(
    served: Any, tls: Tls, authority: trustme.CA, capfd: pytest.CaptureFixture[str]
) -> None:
    served.publish(served.model("1"))
    served.start(tls=tls)
    body = json.dumps({"instances": [[1, 2]] * 9000}).encode()
    head = b"POST /v1/models/m:predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"
    for _ in range(5):
        plain = socket.create_connection(("127.0.0.1", served.server.port), timeout=60)
        with trusting(authority).wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(head % len(body) + body)
            with contextlib.suppress(OSError):
                client.unwrap()  # TLS says that nothing more comes
    served.stop()
    assert "eof_received" not in capfd.readouterr().err


@pytest.mark.slow
def test_grpc_is_served_with_the_same_certificate(secured: Any, authority: trustme.CA) -> None:
    root = authority.cert_pem.bytes()
    target = f"localhost:{secured.server.grpc_port}"
    with grpc.secure_channel(target, grpc.ssl_channel_credentials(root)) as channel:
        call = channel.unary_unary(f"/{oip.SERVICE}/ServerLive")
        said = oip.message("ServerLiveResponse").FromString(call(b"", timeout=60))
    assert said.live
    context = trusting(authority)
    context.set_alpn_protocols(["http/1.1", "h2"])
    for port, protocol in ((secured.server.grpc_port, "h2"), (secured.server.port, "http/1.1")):
        plain = socket.create_connection(("127.0.0.1", port), timeout=60)
        with context.wrap_socket(plain, server_hostname="localhost") as client:
            assert client.selected_alpn_protocol() == protocol
    with grpc.insecure_channel(target) as channel:
        call = channel.unary_unary(f"/{oip.SERVICE}/ServerLive")
        with pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
            call(b"", timeout=60)


def test_a_bad_certificate_is_told_before_anything_starts(
    tmp_path: Path, plane: Any, tls: Tls, authority: trustme.CA
) -> None:
    other = tmp_path / "other.pem"
    authority.issue_cert("localhost").private_key_pem.write_to_path(other)
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("no PEM")
    for pair, said in (
        (Tls(tmp_path / "none.pem", tls.key), "none.pem: cannot be read; found No such file"),
        (Tls(tls.certificate, nonsense), "not a certificate and the key that belongs to it"),
        (Tls(tls.certificate, other), "not a certificate and the key that belongs to it"),
    ):
        with pytest.raises(BadInput, match=said):
            plane(tmp_path / "home").start(tls=pair)
