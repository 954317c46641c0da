"""Documents as tests: their blocks, and a shell in which their sessions are typed.

```console            `$ command` lines run one after the other in one shell; what follows a command
                      is its output. `...` stands for any text, on a line of its own for any lines.
```console background the command is left running; its output is awaited, and it is ended at last;
                      `homeostat up` and `homeostat serve` are always run like this
```console fails=2    the last command ends with that code (0 otherwise)
```python             runs in the folder of the sessions; names are shared within the document
```yaml               a definition, or sections of one, has to load
<!-- not run: why --> before a block leaves it out; <!-- tests: slow --> marks the document
Ports 8080 and 8081 are replaced by free ones. `$ make ...` is not run: the repository does that.
A document that starts a server is slow. Blocks within comments prepare what the others need.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(
    r"(?P<skip><!-- not run:[^\n]*-->\n+)?^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```\s*$",
    re.MULTILINE | re.DOTALL,
)


SERVES = re.compile(r"\bhomeostat (?:-C \S+ )?(?:up|serve)\b(?!.*--help)")


class Block(NamedTuple):
    language: str
    flags: tuple[str, ...]
    body: str
    line: int
    skipped: bool


def documents() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def is_slow(document: Path) -> bool:
    if "<!-- tests: slow -->" in document.read_text(encoding="utf-8"):
        return True
    sessions = [b for b in blocks(document) if b.language == "console" and not b.skipped]
    return any(SERVES.search(step.command) for b in sessions for step in steps(b.body))


def blocks(document: Path) -> Iterator[Block]:
    text = document.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        language, *flags = match["info"].split() or [""]
        line = text.count("\n", 0, match.start("info")) + 1
        yield Block(language, tuple(flags), match["body"], line, match["skip"] is not None)


class Step(NamedTuple):
    """A command and the output that is written below it."""

    command: str
    expected: str


def steps(body: str) -> list[Step]:
    found: list[Step] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            found.append(Step(line[2:], ""))
        elif line.startswith("> ") and found and found[-1].expected == "":
            found[-1] = Step(f"{found[-1].command}\n{line[2:]}", "")
        elif found:
            found[-1] = Step(found[-1].command, f"{found[-1].expected}{line}\n")
    return found


def matches(expected: str, actual: str) -> bool:
    """Equal but for `...` and for spaces at the ends of lines."""
    pattern = ""
    for line in expected.rstrip().splitlines():
        if line.strip() == "...":
            pattern += r"(?:[^\n]*\n)*?"
        else:
            pattern += ".*?".join(re.escape(p) for p in line.rstrip().split("...")) + r"[ ]*\n"
    text = "\n".join(line.rstrip() for line in actual.strip("\n").splitlines()) + "\n"
    return re.fullmatch(pattern, text) is not None


class Shell:
    """One bash in an empty folder; commands see the `homeostat` of this environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.grpc_port = _free_port(), _free_port()
        binaries = Path(sys.executable).parent
        self._environment = os.environ | {
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(folder),
            "NO_COLOR": "1",
            "PYTHONWARNINGS": "ignore",
        }
        self._background: list[subprocess.Popen[bytes]] = []
        self.where = folder

    def run(self, command: str, timeout: float = 200.0) -> tuple[str, int]:
        """-> (what was printed, exit code)."""
        note = self.folder / ".where"
        process = subprocess.Popen(
            ["bash", "-c", f"{self._here(command)}\ncode=$?; pwd > '{note}'; exit $code"],
            cwd=self.where,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            printed, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)
            self._end(process)
            pytest.fail(f"$ {command}\ndid not end in {timeout:g} s")
        self.where = Path(note.read_text().strip())
        return self._told(printed.decode()), process.returncode

    def start(self, command: str, expected: str, timeout: float = 90.0) -> None:
        """Leave a command running once it has printed what is expected (anything, if nothing)."""
        output = self.folder / f".background-{len(self._background)}"
        with output.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {self._here(command)}"],
                cwd=self.where,
                env=self._environment | {"PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._background.append(process)
        until = time.monotonic() + timeout
        printed = ""
        while time.monotonic() < until:
            printed = self._told(output.read_text())
            if matches(expected, printed) if expected.strip() else printed:
                return
            if process.poll() is not None:
                break
            time.sleep(0.05)
        pytest.fail(f"$ {command}\nprinted\n{printed}\nand not\n{expected}")

    def close(self) -> None:
        for process in self._background:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in self._background:
            self._end(process)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for what was asked to end; end what does not, with all it has started."""
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _here(self, command: str) -> str:
        command = command.replace(".venv/bin/", "").replace("8080", str(self.port))
        if "--port" in command:
            return command
        return SERVES.sub(rf"\g<0> --port {self.port} --grpc-port {self.grpc_port}", command)

    def _told(self, printed: str) -> str:
        """With the ports that the documents name."""
        return printed.replace(str(self.port), "8080").replace(str(self.grpc_port), "8081")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    opened = Shell(tmp_path)
    yield opened
    opened.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
