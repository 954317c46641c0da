"""The demo, as a person plays it: real processes, real HTTP, and the loop closes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PATIENCE = 450.0  # seconds; the demo itself gives up earlier


def played(folder: Path) -> subprocess.CompletedProcess[str]:
    """In a process group of its own, which is ended with all it started."""
    # conftest.py's setting for tests is not one that a person has
    person = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    command = [sys.executable, "-m", "homeostat", "demo", "--json", "--folder", str(folder)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=person | {"COLUMNS": "200", "NO_COLOR": "1"},
    )
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(PATIENCE + 20)
def test_the_loop_closes_while_one_watches(tmp_path: Path) -> None:
    done = played(tmp_path / "demo")
    assert done.returncode == 0, done.stderr + done.stdout
    facts = json.loads(done.stdout)
    act = facts["recovery"]
    assert act["before"] >= 0.80, facts
    assert act["during"] <= 0.45, facts
    assert act["after"] > 0.80, facts
    assert 0 < act["alarm_seconds"] < act["canary_seconds"] < act["promoted_seconds"], facts
    bad = facts["bad_candidate"]
    assert bad["champion_kept"], facts
    assert bad["largest_percent"] <= 10, facts
    assert bad["version"] != act["version"], facts
    assert bad["decision"].startswith(f"Version {bad['version']} was rolled back"), facts
    page = (tmp_path / "demo" / "dossier.html").read_text()
    assert "would have changed the decision" in page
    assert "sha256:" in page
    assert facts["failed"] == 0, facts
    assert facts["requests"] > 10_000, facts
    assert (tmp_path / "demo" / "demo.svg").stat().st_size > 1000
