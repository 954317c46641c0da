"""`homeostat up` as real processes: killed, starved of disk and locks, given damaged files."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from homeostat.app import open_project
from homeostat.control import commands
from homeostat.control.model import ChampionChanged, LoopEvent, load
from homeostat.control.platform import Platform
from homeostat.core.events import decode
from homeostat.core.version import NewVersion
from homeostat.rollout.model import Promoted, RolledBack, Started, Stepped

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

MODEL = "fraud-detector"
ROW = [60.0, 0.0, 1.0, 5.0, 55.0, 1.1]
EVER = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
QUICK = """\
rollout:
  steps: [20, 60, 100]
  bake: 1s
  guards: {error_rate: {margin: 0.3}}
"""


def eventually(condition: Callable[[], Any], what: str, within: float = 120.0) -> Any:
    """Poll until the condition holds; its value."""
    deadline = time.monotonic() + within
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen within {within:g} s"
        time.sleep(0.02)
    return value


def command(folder: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "homeostat", "-C", str(folder), *words]


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(folder, *words), capture_output=True, text=True, check=False)


# ---------------------------------------------------------------- a project with two versions


@pytest.fixture(scope="module")
def trained(scaffolded: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Where the project lives, and a copy of it: version 1 is the champion, 2 is as good."""
    place = tmp_path_factory.mktemp("up") / "fraud"
    shutil.copytree(scaffolded, place)
    definition = place / "homeostat.yaml"
    text = re.sub(r"(?ms)^rollout:.*?(?=^monitoring:)", QUICK + "\n", definition.read_text())
    definition.write_text(text)
    assert run(place, "run").returncode == 0
    platform = open_project(place)
    commands.rollout_start(platform, "1", "the test")
    first = platform.registry.get(MODEL, "1")
    again = NewVersion(MODEL, "again", first.path, first.digest, first.metrics, {}, {})
    assert platform.registry.register(again).version == "2"
    copy = place.with_name("as-trained")
    shutil.copytree(place, copy)
    return place, copy


@pytest.fixture
def folder(trained: tuple[Path, Path]) -> Path:
    """The project as it was trained: always in the same place, for the registry knows paths."""
    place, copy = trained
    home = place / ".homeostat"
    # the registry's database stays: this process has it open, and the tests do not change it
    for path in (*home.iterdir(), *place.glob("output-*")):
        if not path.name.startswith("mlflow.db"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(
        copy / ".homeostat", home, ignore=shutil.ignore_patterns("mlflow.db*"), dirs_exist_ok=True
    )
    return place


@pytest.fixture
def platform(folder: Path) -> Platform:
    return open_project(folder)


def decided(platform: Platform) -> list[LoopEvent]:
    return [decode(r, LoopEvent) for r in platform.events.read(platform.stream)]


class Server:
    """A running `homeostat up` (or `serve`) and its processes."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder
        self.client = httpx.Client(timeout=5.0)
        self.told = folder / f"output-{time.monotonic_ns()}.txt"
        with self.told.open("wb") as out:
            self.process = subprocess.Popen(
                command(folder, *(words or ("up", "--interval", "0.1")), "--port", "0"),
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def output(self) -> str:
        return self.told.read_text()

    def ready(self) -> Server:
        def port() -> str | None:
            assert self.process.poll() is None, self.output()
            found = re.search(r" at http://127\.0\.0\.1:(\d+)", self.output())
            return found and found[1]

        self.url = f"http://127.0.0.1:{eventually(port, 'the start')}"
        return self

    def predict(self, id: str, rows: int = 1) -> httpx.Response:
        body = {"instances": [ROW] * rows, "id": id}
        return self.client.post(f"{self.url}/v1/models/{MODEL}:predict", json=body)

    def metric(self, name: str) -> int:
        text = self.client.get(f"{self.url}/metrics").text
        return int(sum(float(v) for v in re.findall(rf"(?m)^{name}(?:{{.*}})? (\S+)$", text)))

    def children(self) -> dict[str, int]:
        """Name -> pid: worker, keeper, controller."""
        found = {}
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        for child in " ".join(path.read_text() for path in threads).split():
            try:
                words = Path(f"/proc/{child}/cmdline").read_text().split("\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            for name in ("homeostat.serving.worker", "keeper", "controller"):
                if name in words:
                    found[name.rpartition(".")[2]] = int(child)
        return found

    def stop(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Server]]:
    """Start a server in the project; all are stopped at the end."""
    servers: list[Server] = []

    def begin(*words: str) -> Server:
        servers.append(Server(folder, *words))
        return servers[-1]

    yield begin
    for server in servers:
        server.stop()


class Load:
    """Requests and labels, one after the other, that remembers what was acknowledged."""

    def __init__(self) -> None:
        self.server: Server | None = None
        self.predicted: list[str] = []
        self.labelled: list[str] = []
        self.refused: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        i = 0
        while not self._stop.is_set():
            i += 1
            server = self.server
            if server is None:
                self._stop.wait(0.01)
                continue
            try:
                answer = server.predict(f"p{i}")
                if answer.status_code == 200:
                    self.predicted.append(f"p{i}")
                else:
                    self.refused.append(answer.text)
                label = {
                    "labels": [{"id": f"p{i}", "label": i % 2, "time": "2026-01-01T00:00:00Z"}]
                }
                url = f"{server.url}/v1/models/{MODEL}/labels"
                if server.client.post(url, json=label).is_success:
                    self.labelled.append(f"p{i}")
            except httpx.TransportError:
                self._stop.wait(0.01)  # a process was killed under it: nothing was acknowledged


def everything_acknowledged_is_kept_once(platform: Platform, load: Load) -> None:
    log = platform.log.read(MODEL, *EVER)
    answered = log.filter(log["arm"] != "shadow")
    times = Counter(answered["id"].to_list())
    assert set(load.predicted) <= times.keys()
    assert max(times.values()) == 1
    assert answered["error"].null_count() == answered.height
    known = eventually(
        lambda: (
            (found := set(platform.labels.as_known(EVER[1])["id"])) >= set(load.labelled) and found
        ),
        "the labels' arrival in the ledger",
    )
    assert len(known) == platform.labels.as_known(EVER[1]).height


def the_rollout_went_through_once(platform: Platform) -> None:
    told = decided(platform)
    rollout = [e for e in told if isinstance(e, Started | Stepped | Promoted | RolledBack)]
    steps = [e.percent for e in rollout if isinstance(e, Stepped)]
    assert [type(e) for e in rollout[:1]] == [Started]
    assert steps == [20, 60, 100]
    assert [type(e) for e in rollout if not isinstance(e, Started | Stepped)] == [Promoted]
    assert isinstance(rollout[-1], Promoted)
    assert [e.version for e in told if isinstance(e, ChampionChanged)] == ["1", "2"]


def answers(server: Server) -> bool:
    try:
        return server.predict("again").status_code == 200
    except httpx.TransportError:
        return False


# ---------------------------------------------------------------- kill -9


@pytest.mark.parametrize("victim", ["worker", "keeper", "controller", "supervisor", "everything"])
def test_whatever_is_killed_nothing_acknowledged_is_lost_and_the_rollout_goes_on(
    victim: str, start: Callable[..., Server], platform: Platform
) -> None:
    server = start().ready()
    with Load() as load:
        load.server = server
        commands.rollout_start(platform, "2", "the test")
        eventually(lambda: len(load.predicted) > 30, "traffic")
        before = eventually(lambda: len(c := server.children()) == 3 and c, "three processes")
        if victim in ("supervisor", "everything"):
            server.process.kill()
            for pid in before.values() if victim == "everything" else ():
                os.kill(pid, signal.SIGKILL)
            server.process.wait()
            load.server = server = start().ready()
        else:
            os.kill(before[victim], signal.SIGKILL)
            eventually(lambda: server.children().get(victim, before[victim]) != before[victim],
                       f"another {victim}")  # fmt: skip
        eventually(lambda: answers(server), "an answer")
        seen = len(load.predicted)
        eventually(lambda: any(isinstance(e, Promoted) for e in decided(platform)), "promotion")
        eventually(lambda: len(load.predicted) > seen + 30, "traffic")
        eventually(lambda: server.predict("last").json()["model_version"] == "2", "the champion")
        load.server = None
    assert not load.refused
    everything_acknowledged_is_kept_once(platform, load)
    the_rollout_went_through_once(platform)
    server.stop()
    assert server.process.returncode == 0, server.output()
    everything_acknowledged_is_kept_once(platform, load)
    assert "Traceback" not in server.output()


# ---------------------------------------------------------------- damaged versions


def spoil_model(servable: Path) -> None:
    content = bytearray((servable / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (servable / "model.onnx").write_bytes(content)


def remove_folder(servable: Path) -> None:
    shutil.rmtree(servable)


def spoil_manifest(servable: Path) -> None:
    (servable / "servable.json").write_text('{"name": "fraud-detector", "inputs": [')


DAMAGE = pytest.mark.parametrize(
    ("damage", "says"),
    [
        (spoil_model, "not the one that was registered"),
        (remove_folder, "servable"),
        (spoil_manifest, "servable.json"),
    ],
)


def test_a_champion_that_cannot_be_loaded_is_told_where_people_look(
    start: Callable[..., Server], platform: Platform
) -> None:
    spoil_model(Path(platform.registry.get(MODEL, "1").path))
    says = "not the one that was registered"
    server = start("serve").ready()
    answer = server.predict("a")
    assert answer.status_code == 503, answer.text
    assert server.client.get(f"{server.url}/v2/health/ready").status_code == 503
    assert says in server.output()
    assert "Traceback" not in server.output()
    shown = run(platform.root, "status")
    assert shown.returncode == 0, shown.stderr
    assert says in shown.stdout
    assert "next        homeostat run   (without `gates.against_champion`" in shown.stdout
    eventually(lambda: "not ready: version 1 cannot be loaded: " in server.output(), "a word")


def test_a_server_without_a_version_says_what_is_next_and_when_it_is_ready(
    project: Path, folder: Path
) -> None:
    server = Server(project, "up", "--interval", "0.1")
    try:
        server.ready()
        missing = "not ready: no version is registered; next: homeostat run\n"
        eventually(lambda: missing in server.output(), "what is missing")
        made = run(project, "run")
        assert made.stdout.endswith("version 1 is registered; next: homeostat status\n")
        eventually(lambda: "ready: version 1 answers\n" in server.output(), "the word")
        assert server.predict("a").json()["model_version"] == "1"
        paused = run(project, "rollout", "pause")
        assert "there was no rollout yet, there is nothing to pause -> begin one" in paused.stderr
    finally:
        server.stop()
    assert server.process.returncode == 0, server.output()
    assert "posix_engine" not in server.output()


@DAMAGE
def test_a_candidate_that_cannot_be_loaded_is_rolled_back_and_the_champion_answers(
    damage: Callable[[Path], None], says: str, start: Callable[..., Server], platform: Platform
) -> None:
    damage(Path(platform.registry.get(MODEL, "2").path))
    server = start().ready()
    with Load() as load:
        load.server = server
        commands.rollout_start(platform, "2", "the test")
        (back,) = eventually(
            lambda: [e for e in decided(platform) if isinstance(e, RolledBack)], "a rollback"
        )
        eventually(lambda: len(load.predicted) > 20, "traffic")
        load.server = None
    assert back.reason.startswith("version 2 cannot be served")
    assert says in back.reason
    assert not load.refused
    log = platform.log.read(MODEL, *EVER)
    assert set(log["version"]) == {"1"}
    assert load_state(platform).champion == "1"
    assert "Traceback" not in server.output()


def load_state(platform: Platform) -> Any:
    return load(platform.events.read(platform.stream))


# ---------------------------------------------------------------- locks, disks, ports


def test_while_the_state_is_locked_requests_are_answered_and_then_the_loop_goes_on(
    start: Callable[..., Server], platform: Platform
) -> None:
    server = start().ready()
    commands.rollout_start(platform, "2", "the test")
    with Load() as load:
        holder = sqlite3.connect(platform.home / "state.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        before = len(decided(platform))
        load.server = server
        until = time.monotonic() + 10
        eventually(lambda: "locked by another process" in server.output(), "a word", within=10)
        eventually(lambda: time.monotonic() > until, "ten seconds", within=11)
        assert len(decided(platform)) == before
        assert len(load.predicted) > 100
        holder.close()
        eventually(lambda: any(isinstance(e, Promoted) for e in decided(platform)), "promotion")
        load.server = None
    assert not load.refused
    the_rollout_went_through_once(platform)
    everything_acknowledged_is_kept_once(platform, load)
    assert server.output().count("locked by another process") <= 2
    assert "Traceback" not in server.output()


@pytest.fixture
def small_log(folder: Path) -> Iterator[Path]:
    """The prediction log on a disk of its own with 64 MB."""
    place = folder / ".homeostat" / "log"
    place.mkdir(exist_ok=True)
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("only root can mount a small disk")
    words = [mount, "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)]
    if subprocess.run(words, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting is not allowed here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_with_a_full_disk_requests_are_answered_and_what_is_not_kept_is_counted(
    small_log: Path, start: Callable[..., Server], platform: Platform
) -> None:
    ballast = small_log / "ballast"
    space = os.statvfs(small_log)
    ballast.write_bytes(bytes(space.f_bavail * space.f_frsize - 1_000_000))
    server = start("serve").ready()
    answered = 0
    for i in range(20):
        assert server.predict(f"full{i}", rows=5).status_code == 200
        answered += 5
    assert server.metric("homeostat_log_dropped_total") == answered
    assert server.metric("model_predictions_total") == answered
    ballast.unlink()

    def kept() -> bool:
        nonlocal answered
        assert server.predict(f"again{answered}", rows=5).status_code == 200
        answered += 5
        return platform.log.read(MODEL, *EVER).height >= 50

    eventually(kept, "the log's recovery")
    # now fill a segment, with no room for the next
    space = os.statvfs(small_log)
    ballast.write_bytes(bytes(space.f_bavail * space.f_frsize))
    while server.metric("homeostat_log_dropped_total") < answered - 300_000 or answered < 200_000:
        assert server.predict(f"many{answered}", rows=5000).status_code == 200
        answered += 5000
    dropped = server.metric("homeostat_log_dropped_total")
    assert server.metric("model_predictions_total") == answered
    assert platform.log.read(MODEL, *EVER).height == answered - dropped
    ballast.unlink()
    server.stop()
    assert platform.log.read(MODEL, *EVER).height == answered - dropped
    assert "Traceback" not in server.output()


def test_a_port_in_use_is_one_line(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused = run(folder, "up", "--port", port)
    assert refused.returncode == 3
    assert refused.stdout == ""
    assert refused.stderr.count("\n") == 1
    assert f"cannot listen on 127.0.0.1:{port}" in refused.stderr


def test_of_two_servers_started_at_once_one_serves_and_the_other_says_so_in_a_line(
    start: Callable[..., Server],
) -> None:
    both = [start(), start()]
    (loser,) = eventually(lambda: [s for s in both if s.process.poll() is not None], "a refusal")
    (winner,) = (s for s in both if s is not loser)
    winner.ready()
    assert loser.process.returncode == 3
    assert loser.output().count("\n") == 1
    assert "this home folder is served already" in loser.output()
    eventually(lambda: answers(winner), "an answer")
    third = run(winner.folder, "up", "--port", "0")
    assert third.returncode == 3
    assert f"a server with pid {winner.process.pid}" in third.stderr
    assert third.stderr.count("\n") == 1
