"""Processes are killed, databases are locked and disks are full; nothing is lost."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from homeostat.app import open_project
from homeostat.control import pipeline
from homeostat.control.model import load
from homeostat.control.platform import Platform
from homeostat.core.version import Version
from homeostat.testing.contracts.jobs import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
Homeostat = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def platform(project: Path) -> Platform:
    return open_project(project)


@pytest.fixture(scope="module")
def undisturbed(scaffolded: Path, tmp_path_factory: pytest.TempPathFactory) -> Version:
    """What a run that nothing happened to registers."""
    folder = shutil.copytree(scaffolded, tmp_path_factory.mktemp("undisturbed") / "fraud")
    platform = open_project(Path(folder))
    pipeline.run(platform)
    return platform.registry.get(platform.stream, "1")


def same(found: Version, expected: Version) -> None:
    assert (found.version, found.run) == (expected.version, expected.run)
    assert found.digest == expected.digest
    assert found.metrics == expected.metrics
    assert found.tags["snapshot"] == expected.tags["snapshot"]


@pytest.mark.parametrize("seed", range(3))
def test_a_training_process_killed_at_random_moments_registers_the_same_version_once(
    platform: Platform, undisturbed: Version, seed: int
) -> None:
    moments = random.Random(seed)
    run = pipeline.begin(platform)
    record = platform.home / "runs" / run / "process"
    for _ in range(5):
        platform.jobs.start(run)
        eventually(lambda: record.exists() or not platform.jobs.alive(run))
        until = time.monotonic() + moments.uniform(0.3, 4.0)
        while platform.jobs.alive(run) and time.monotonic() < until:
            time.sleep(0.01)
        if platform.jobs.alive(run):
            os.kill(int(record.read_text().split()[0]), signal.SIGKILL)
            eventually(lambda: not platform.jobs.alive(run))
    platform.jobs.start(run)
    eventually(lambda: not platform.jobs.alive(run), within=120)
    state = load(platform.events.read(platform.stream))
    told = (platform.home / "runs" / run / "output.log").read_text()
    assert state.runs[run].outcome == "registered", told
    same(platform.registry.get(platform.stream, "1"), undisturbed)
    assert len(platform.registry.versions(platform.stream)) == 1


def test_a_locked_state_is_told_and_the_run_continues_where_it_was(
    platform: Platform, homeostat: Homeostat, undisturbed: Version
) -> None:
    run = pipeline.begin(platform)
    holder = sqlite3.connect(platform.home / "state.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    refused = homeostat("run", "--run", run)
    assert refused.returncode == 3
    assert "locked by another process" in refused.stderr
    assert "Traceback" not in refused.stderr
    holder.close()
    done = homeostat("run", "--run", run)
    assert done.returncode == 0, done.stderr
    same(platform.registry.get(platform.stream, "1"), undisturbed)


@pytest.fixture
def small_disk(project: Path) -> Iterator[Path]:
    """The project's home on a disk of its own with 24 MB."""
    home = project / ".homeostat"
    home.mkdir()
    mount = shutil.which("mount")
    words = [str(mount), "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(home)]
    if os.geteuid() != 0 or mount is None:
        pytest.skip("only root can mount a small disk")
    if subprocess.run(words, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting is not allowed here")
    yield home
    subprocess.run(["umount", "--lazy", str(home)], check=True)


@pytest.mark.parametrize("free", [0, 100_000, 1_000_000])
def test_a_full_disk_is_told_and_the_run_continues_when_there_is_space(
    project: Path, small_disk: Path, homeostat: Homeostat, undisturbed: Version, free: int
) -> None:
    platform = open_project(project)
    run = pipeline.begin(platform)
    ballast = small_disk / "ballast"
    space = os.statvfs(small_disk)
    ballast.write_bytes(bytes(max(0, space.f_bavail * space.f_frsize - free)))
    refused = homeostat("run", "--run", run)
    if refused.returncode != 0:
        assert refused.returncode == 3, refused.stderr
        assert "Traceback" not in refused.stderr
        assert "space" in refused.stderr or "full" in refused.stderr
    ballast.unlink()
    done = homeostat("run", "--run", run)
    assert done.returncode == 0, done.stderr
    same(platform.registry.get(platform.stream, "1"), undisturbed)


def test_a_state_that_is_no_database_is_told_and_left_alone(
    project: Path, homeostat: Homeostat
) -> None:
    (project / ".homeostat").mkdir()
    state = project / ".homeostat" / "state.db"
    state.write_bytes(b"not a database, but somebody's notes\n" * 200)
    before = state.read_bytes()
    told = homeostat("status")
    assert told.returncode == 3
    assert "backup" in told.stderr
    assert "Traceback" not in told.stderr
    assert state.read_bytes() == before


def test_a_disk_that_cannot_be_written_is_told(project: Path, homeostat: Homeostat) -> None:
    (project / ".homeostat").write_text("a file in the way")
    told = homeostat("run")
    assert told.returncode in (2, 3)
    assert "Traceback" not in told.stderr
    assert ".homeostat" in told.stderr
