"""Runs keep their laws in memory and as real processes, whoever dies when."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from homeostat.backends.local.jobs import LocalJobs
from homeostat.backends.memory.jobs import MemoryJobs
from homeostat.core.errors import BadInput, Unavailable
from homeostat.testing.contracts.jobs import JobsContract, eventually

# begins by saying so, and ends when told
RUN = 'echo $$ >> "$0"; while [ ! -e "$0.finish" ]; do sleep 0.02; done'


class Processes:
    """Runs that are shell processes."""

    def __init__(self, home: Path, script: str = RUN) -> None:
        self.home = home
        self.script = script
        self.jobs = LocalJobs(home, self.argv, grace=2.0)

    def argv(self, run: str) -> list[str]:
        return ["sh", "-c", self.script, str(self.home / run)]

    def pids(self, run: str) -> list[int]:
        file = self.home / run
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def attempts(self, run: str) -> int:
        return len(self.pids(run))

    def finish(self, run: str) -> None:
        (self.home / f"{run}.finish").touch()

    def crash(self, run: str) -> None:
        os.kill(self.pids(run)[-1], signal.SIGKILL)


class Calls:
    """Runs that are calls in virtual time."""

    def __init__(self) -> None:
        self.at = datetime(2026, 1, 1, tzinfo=UTC)
        self.begun: dict[str, int] = {}
        self.done: list[str] = []
        self.jobs = MemoryJobs(self.done.append, clock=self, takes=self.takes)

    def now(self) -> datetime:
        return self.at

    def takes(self, run: str) -> timedelta:
        self.begun[run] = self.begun.get(run, 0) + 1
        return timedelta(hours=1 if run == "run-1" else 2)

    def attempts(self, run: str) -> int:
        return self.begun.get(run, 0)

    def finish(self, run: str) -> None:
        self.at += timedelta(hours=1)

    def crash(self, run: str) -> None:
        self.jobs.crash(run)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    world = Processes(tmp_path)
    yield world
    for run in ("run-1", "run-2"):
        world.jobs.stop(run)


class TestLocalJobs(JobsContract):
    @pytest.fixture
    def world(self, processes: Processes) -> Processes:
        return processes


class TestMemoryJobs(JobsContract):
    @pytest.fixture
    def world(self) -> Calls:
        return Calls()

    def test_the_work_is_done_once_and_not_after_a_crash(self, world: Calls) -> None:
        world.jobs.start("run-1")
        world.jobs.start("run-2")
        world.finish("run-1")
        world.jobs.crash("run-2")
        world.at += timedelta(hours=5)
        assert not world.jobs.alive("run-1")
        assert not world.jobs.alive("run-2")
        assert world.done == ["run-1"]

    def test_without_a_clock_the_work_is_done_at_once(self) -> None:
        done: list[str] = []
        jobs = MemoryJobs(done.append)
        jobs.start("run-1")
        assert done == ["run-1"]
        assert not jobs.alive("run-1")


def test_another_controller_sees_the_run_and_does_not_start_it_again(processes: Processes) -> None:
    processes.jobs.start("run-1")
    other = LocalJobs(processes.home, processes.argv)
    assert other.alive("run-1")
    other.start("run-1")
    processes.finish("run-1")
    eventually(lambda: not other.alive("run-1") and not processes.jobs.alive("run-1"))
    assert processes.attempts("run-1") == 1


CONTROLLER = """
import sys, os
from pathlib import Path
from homeostat.backends.local.jobs import LocalJobs
home, script = Path(sys.argv[1]), sys.argv[2]
jobs = LocalJobs(home, lambda run: ["sh", "-c", script, str(home / run)])
print("ready", flush=True)
sys.stdin.readline()
jobs.start("run-1")
print(jobs.alive("run-1"), flush=True)
sys.stdin.readline()
"""


@pytest.mark.slow
def test_of_controllers_that_start_a_run_at_once_one_starts_it(processes: Processes) -> None:
    controllers = [
        subprocess.Popen(
            [sys.executable, "-c", CONTROLLER, str(processes.home), RUN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        for _ in range(4)
    ]
    try:
        for c in controllers:
            assert c.stdout is not None
            assert c.stdout.readline() == b"ready\n"
        for c in controllers:
            assert c.stdin is not None
            c.stdin.write(b"go\n")
        for c in controllers:
            assert c.stdout is not None
            assert c.stdout.readline() == b"True\n"
    finally:
        for c in controllers:
            c.kill()
            c.communicate()
    # they are dead by kill -9, and the run goes on
    assert processes.jobs.alive("run-1")
    processes.finish("run-1")
    eventually(lambda: not processes.jobs.alive("run-1"))
    assert processes.attempts("run-1") == 1


def test_a_run_that_ignores_the_request_to_stop_is_killed(tmp_path: Path) -> None:
    world = Processes(tmp_path, "trap '' TERM; " + RUN)
    world.jobs = LocalJobs(tmp_path, world.argv, grace=0.2)
    world.jobs.start("run-1")
    eventually(lambda: world.attempts("run-1") == 1)
    world.jobs.stop("run-1")
    assert not world.jobs.alive("run-1")
    assert not Path(f"/proc/{world.pids('run-1')[0]}").exists()


def test_stopping_a_run_stops_what_it_has_started(tmp_path: Path) -> None:
    world = Processes(tmp_path, 'sleep 600 & echo $! >> "$0"; wait')
    world.jobs.start("run-1")
    eventually(lambda: world.attempts("run-1") == 1)
    world.jobs.stop("run-1")
    eventually(lambda: _gone(world.pids("run-1")[0]))


def test_what_a_crashed_run_left_running_does_not_count_as_the_run(tmp_path: Path) -> None:
    world = Processes(tmp_path, 'sleep 600 & echo $$ >> "$0"; wait')
    world.jobs.start("run-1")
    eventually(lambda: world.attempts("run-1") == 1)
    world.crash("run-1")
    eventually(lambda: not world.jobs.alive("run-1"))
    world.jobs.start("run-1")
    assert world.jobs.alive("run-1")
    eventually(lambda: world.attempts("run-1") == 2)
    world.jobs.stop("run-1")


def test_a_recycled_pid_is_not_taken_for_the_run(tmp_path: Path) -> None:
    world = Processes(tmp_path)
    world.jobs.start("run-1")
    eventually(lambda: world.attempts("run-1") == 1)
    world.finish("run-1")
    eventually(lambda: not world.jobs.alive("run-1"))
    # as if our own pid had been the run's once
    record = tmp_path / "runs" / "run-1" / "process"
    stat = record.read_text().split(" ", 1)[1]
    record.write_text(f"{os.getpid()} {stat}")
    assert not world.jobs.alive("run-1")
    world.jobs.stop("run-1")  # or this test would end here


def test_the_output_of_all_attempts_is_kept(tmp_path: Path) -> None:
    jobs = LocalJobs(tmp_path, lambda run: ["sh", "-c", "echo out; echo err >&2; exit 3"])
    for _ in range(2):
        jobs.start("run-1")
        eventually(lambda: not jobs.alive("run-1"))
    assert (jobs.folder("run-1") / "output.log").read_text() == "out\nerr\nout\nerr\n"


def test_a_command_that_does_not_exist_says_so_in_the_output(tmp_path: Path) -> None:
    jobs = LocalJobs(tmp_path, lambda run: ["/no/such/program"])
    jobs.start("run-1")
    eventually(lambda: not jobs.alive("run-1"))
    assert "/no/such/program" in (jobs.folder("run-1") / "output.log").read_text()


def test_no_zombie_is_left(processes: Processes) -> None:
    processes.jobs.start("run-1")
    eventually(lambda: processes.attempts("run-1") == 1)
    processes.finish("run-1")
    eventually(lambda: not processes.jobs.alive("run-1"))
    eventually(lambda: not processes.jobs.alive("x") and _gone(processes.pids("run-1")[0]))


@pytest.mark.parametrize("run", ["", "..", "../other", "a/b", ".hidden"])
def test_a_name_that_would_leave_the_folder_is_refused(tmp_path: Path, run: str) -> None:
    with pytest.raises(BadInput, match="not the name of a run"):
        LocalJobs(tmp_path, lambda _: ["true"]).start(run)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file in the way")
    with pytest.raises(Unavailable, match="folder of a run"):
        LocalJobs(tmp_path, lambda _: ["true"]).start("run-1")


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True
