"""An environment for each peer, from the pinned list in peers/, made once and kept."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.serving.catalogue import PEERS, Entry

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "homeostat-bench"
PATIENCE = 600.0


class NotInstalled(Exception):
    """Says why an environment could not be made."""


def python(entry: Entry) -> str:
    """The interpreter of the entry's environment, made if need be. Raises NotInstalled."""
    if entry.environment is None:
        return sys.executable
    wanted = PEERS / f"{entry.environment}.txt"
    return environment(entry.environment, wanted, entry.python or sys.executable)


def environment(name: str, wanted: Path, base: str = sys.executable) -> str:
    """The interpreter of an environment with what `wanted` lists. Raises NotInstalled."""
    mark = hashlib.sha256(wanted.read_bytes() + base.encode()).hexdigest()
    folder = CACHE / name
    done = folder / ".done"
    interpreter = folder / "bin" / "python"
    if done.exists() and done.read_text() == mark and interpreter.exists():
        return str(interpreter)
    if not Path(base).exists():
        raise NotInstalled(f"it needs {base}, which is not here")
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    _run([uv, "venv", "--quiet", "--seed", "--python", base, str(folder)])
    _run([uv, "pip", "install", "--quiet", "--python", str(interpreter), "-r", str(wanted)])
    done.write_text(mark)
    return str(interpreter)


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE)
    except FileNotFoundError as error:
        raise NotInstalled(f"uv is needed to install it: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise NotInstalled(f"installing took longer than {PATIENCE:.0f} s") from error
    except subprocess.CalledProcessError as error:
        lines = [line.strip() for line in error.stderr.splitlines() if line.strip()]
        raise NotInstalled(" ".join(lines[-3:])[:300]) from error
