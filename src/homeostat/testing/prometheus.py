"""A real Prometheus and a real Alertmanager for tests, beside the servers of `services`.

Each runs on a free port of 127.0.0.1 with its data in a temporary folder, needs no root, and is
stopped also when the body fails. Raises NotInstalled where the binary is missing.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from homeostat.core.errors import Unavailable
from homeostat.testing.services import NotInstalled

STARTING_S = 60.0
_PACKAGES = {
    "amtool": "prometheus-alertmanager",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "prometheus": "prometheus",
    "promtool": "prometheus",
}
_LISTENS = re.compile(r'msg="Listening on"[^\n]* address=(\S+)')

Series = tuple[dict[str, str], list[float]]
"""Labels (with `__name__`) and the values over time."""


class Prometheus:
    """A running Prometheus. url: without a slash at the end."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **parameters: str | float) -> Any:
        """`data` of an answer of the HTTP API, such as get("rules"). Raises Unavailable with what
        Prometheus has against it."""
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=10)
        body = answer.json()
        if body["status"] != "success":
            raise Unavailable(f"Prometheus refused {path} {parameters}", found=body["error"])
        return body["data"]

    def query(self, expr: str) -> list[tuple[dict[str, str], float]]:
        """An instant vector, now."""
        found = self.get("query", query=expr)
        if found["resultType"] == "scalar":
            return [({}, float(found["result"][1]))]
        return [(one["metric"], float(one["value"][1])) for one in found["result"]]

    def over_time(self, expr: str, seconds: float, step: float = 1.0) -> list[Series]:
        """What a chart of the last so many seconds shows."""
        now = time.time()
        found = self.get("query_range", query=expr, start=now - seconds, end=now, step=step)
        return [(one["metric"], [float(v) for _, v in one["values"]]) for one in found["result"]]


@contextlib.contextmanager
def prometheus(config: Path) -> Iterator[Prometheus]:
    """Prometheus with this configuration."""
    command = [_binary("prometheus"), f"--config.file={config}", "--storage.tsdb.path=data"]
    with _running(command) as url:
        yield Prometheus(url)


@contextlib.contextmanager
def alertmanager(config: str) -> Iterator[str]:
    """Alertmanager with this configuration (YAML); -> its URL."""
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        file.write(config)
        file.flush()
        command = [_binary("prometheus-alertmanager"), f"--config.file={file.name}",
                   "--storage.path=data", "--cluster.listen-address="]  # fmt: skip
        with _running(command) as url:
            yield url


def tool(name: str, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run `promtool` or `amtool` to its end; given: its stdin."""
    return subprocess.run(
        [_binary(name), *words],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def _binary(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        package = _PACKAGES[name]
        raise NotInstalled(f"no {name} on this machine", remedy=f"apt-get install {package}")
    return found


@contextlib.contextmanager
def _running(command: Sequence[str]) -> Iterator[str]:
    """The server until the body ends; -> the URL that it tells in its log."""
    with tempfile.TemporaryDirectory(prefix="homeostat-", ignore_cleanup_errors=True) as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--web.listen-address=127.0.0.1:0"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            yield f"http://{_ready(process, log)}"
        finally:
            process.terminate()
            process.wait()


def _ready(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + STARTING_S
    while process.poll() is None and time.monotonic() < deadline:
        if listens := _LISTENS.search(log.read_text(errors="replace")):
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"http://{listens[1]}/-/ready", timeout=5).status_code == 200:
                    return listens[1]
        time.sleep(0.02)
    told = log.read_text(errors="replace")[-500:]
    raise Unavailable(f"{Path(str(process.args[0])).name} did not start", found=told)  # type: ignore[index]
