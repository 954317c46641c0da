"""Where a server listens, and with which certificate."""

from __future__ import annotations

import ssl
from pathlib import Path

import msgspec

from homeostat.core.errors import BadInput


class Tls(msgspec.Struct, frozen=True):
    """PEM files: the certificate with its chain, and its key without a password."""

    certificate: Path
    key: Path

    def context(self, protocol: str = "http/1.1") -> ssl.SSLContext:
        """For a server of a protocol as ALPN calls it; TLS 1.2 or newer. Raises BadInput that says
        which file is wrong."""
        for path in (self.certificate, self.key):
            try:
                path.read_bytes()
            except OSError as error:
                raise BadInput("cannot be read", path=str(path), found=error.strerror) from error
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols([protocol])
        try:
            context.load_cert_chain(self.certificate, self.key, password=_no_password)
        except ssl.SSLError as error:
            raise BadInput(
                "not a certificate and the key that belongs to it",
                path=f"{self.certificate}, {self.key}",
                expected="PEM files, the key without a password",
                found=error.reason or str(error),
            ) from error
        return context


class Address(msgspec.Struct, frozen=True):
    """port, grpc_port: 0 takes a free one; grpc_port None: no gRPC. tls: for both of them."""

    host: str = "127.0.0.1"
    port: int = 8080
    grpc_port: int | None = None
    tls: Tls | None = None


def _no_password() -> str:
    """Instead of asking at the terminal."""
    return ""
