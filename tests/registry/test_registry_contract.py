from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from homeostat.backends.local.mlflow_registry import MlflowRegistry
from homeostat.backends.memory.registry import MemoryRegistry
from homeostat.core.errors import Unavailable
from homeostat.testing.contracts.registry import RegistryContract, new_version

pytestmark = [
    # raised while MLflow 3.17 is imported and used with SQLAlchemy 2.1, Pydantic and NumPy 2.4
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="module")
def sqlite_registry(home: Path) -> MlflowRegistry:
    return MlflowRegistry(f"sqlite:///{home / 'mlflow.db'}", home / "artifacts")


class TestMemoryRegistry(RegistryContract):
    @pytest.fixture
    def registry(self, tmp_path: Path) -> MemoryRegistry:
        return MemoryRegistry(tmp_path / "registry")


class TestMlflowOnSqlite(RegistryContract):
    @pytest.fixture
    def registry(self, sqlite_registry: MlflowRegistry) -> MlflowRegistry:
        return sqlite_registry


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[str]:
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1"]
    command += ["--port", url.rpartition(":")[2]]
    command += ["--backend-store-uri", f"sqlite:///{home / 'server.db'}"]
    command += ["--artifacts-destination", str(home / "server-artifacts")]
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            cwd=home,
            env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
        )
        try:
            wait_for(f"{url}/health", process, home / "server.log")
            yield url
        finally:
            process.terminate()
            process.wait(30)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.2)
    raise AssertionError(f"the MLflow server did not start:\n{log.read_text()[-2000:]}")


@pytest.mark.slow
class TestMlflowServer(RegistryContract):
    @pytest.fixture
    def registry(self, server: str, home: Path) -> MlflowRegistry:
        return MlflowRegistry(server, home / "copies")


@pytest.mark.slow
class TestMlflowOnPostgres(RegistryContract):
    @pytest.fixture
    def registry(self, postgres_url: str, home: Path) -> MlflowRegistry:
        return MlflowRegistry(postgres_url, home / "postgres-artifacts")


class Killed(BaseException):
    """The process ends here."""


class KilledAt:
    """A client that dies before its nth call."""

    def __init__(self, client: object, calls: int) -> None:
        self.client, self.left = client, calls

    def __getattr__(self, name: str) -> object:
        method = getattr(self.client, name)

        def call(*args: object, **kwargs: object) -> object:
            if self.left == 0:
                raise Killed(name)
            self.left -= 1
            return method(*args, **kwargs)

        return call


@pytest.mark.slow
def test_registering_may_be_killed_between_any_two_steps_and_repeated(
    sqlite_registry: MlflowRegistry, home: Path, tmp_path: Path
) -> None:
    client = sqlite_registry._client
    died_in = []
    for calls in range(60):
        new = new_version(tmp_path / str(calls), "run-7", f"killed-{calls}")
        dying = MlflowRegistry(sqlite_registry._uri, home / "artifacts")
        dying.__dict__["_client"] = KilledAt(client, calls)
        try:
            dying.register(new)
        except Killed as where:
            died_in.append(str(where))
        else:
            break
        made = sqlite_registry.register(new)
        assert made.version == "1"
        assert (made.metrics, made.params, made.gates) == (new.metrics, new.params, new.gates)
        assert sqlite_registry.versions(new.model) == [made]
        experiment = client.get_experiment_by_name(new.model)
        (run,) = client.search_runs([experiment.experiment_id])
        assert run.info.status == "FINISHED"
        assert len(client.get_metric_history(run.info.run_id, "auc")) == 1
    assert {"create_run", "log_artifacts", "create_model_version", "set_terminated"} <= set(died_in)


def test_people_find_figures_evidence_and_files_in_mlflow(
    sqlite_registry: MlflowRegistry, tmp_path: Path
) -> None:
    new = new_version(tmp_path / "s", "run-1", "shown")
    sqlite_registry.register(new)
    client = sqlite_registry._client
    version = client.get_model_version("shown", "1")
    run = client.get_run(version.run_id)
    assert run.data.metrics == new.metrics
    assert run.data.params == new.params
    assert run.data.tags["snapshot"] == "sha256:abc"
    assert {a.path for a in client.list_artifacts(run.info.run_id)} == {
        "gates.json",
        "servable",
        "version.json",
    }


def test_a_new_registry_on_the_same_store_remembers(
    sqlite_registry: MlflowRegistry, home: Path, tmp_path: Path
) -> None:
    made = sqlite_registry.register(new_version(tmp_path / "s", "run-1", "remembered"))
    again = MlflowRegistry(f"sqlite:///{home / 'mlflow.db'}", home / "artifacts")
    assert again.get("remembered", "1") == made


def test_a_project_that_was_moved_says_so_and_works_when_its_former_place_leads_to_it(
    tmp_path: Path,
) -> None:
    def opened(project: Path) -> MlflowRegistry:
        home = project / ".homeostat"
        return MlflowRegistry(f"sqlite:///{home / 'mlflow.db'}", home / "artifacts")

    before, after = tmp_path / "before", tmp_path / "after"
    (before / ".homeostat").mkdir(parents=True)
    opened(before).register(new_version(tmp_path / "new", run="one", model="m"))
    before.rename(after)
    link = f"ln -s {after} {before}"
    with pytest.raises(Unavailable, match=link):
        opened(after).get("m", "1")
    with pytest.raises(Unavailable, match=link):
        opened(after).register(new_version(tmp_path / "new", run="two", model="m"))
    assert not before.exists(), "nothing was written where the project was"
    before.symlink_to(after)
    assert opened(after).get("m", "1").run == "one"
    assert (
        opened(after).register(new_version(tmp_path / "new", run="two", model="m")).version == "2"
    )


def test_a_file_that_is_no_database_is_unavailable_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"not a database" * 100)
    registry = MlflowRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts")
    with pytest.raises(Unavailable) as found:
        registry.versions("m")
    assert found.value.remedy


@pytest.mark.slow
def test_a_locked_database_is_unavailable_and_says_so(
    sqlite_registry: MlflowRegistry, home: Path, tmp_path: Path
) -> None:
    new = new_version(tmp_path / "s", "run-1", "locked")
    sqlite_registry.versions("locked")
    other = sqlite3.connect(home / "mlflow.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(Unavailable, match="another process holds the database"):
            sqlite_registry.register(new)
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert sqlite_registry.register(new).version == "1"


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_unavailable_within_seconds(tmp_path: Path) -> None:
    registry = MlflowRegistry(f"http://127.0.0.1:{free_port()}", tmp_path)
    began = time.monotonic()
    with pytest.raises(Unavailable, match="MLflow server runs"):
        registry.versions("m")
    assert time.monotonic() - began < 60


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    registry = MlflowRegistry("postgresql://me:secret@127.0.0.1:1/none", tmp_path)
    with pytest.raises(Unavailable) as found:
        registry.versions("m")
    assert "secret" not in found.value.line()
