"""The registry on MLflow 3: SQLite beside the project by default, a tracking server when named.

One version is one MLflow run (parameters, metrics, tags, and as artifacts the servable, the gates'
evidence and `version.json`, the exact record) and one registered model version pointing at it.
Everything is found again by the tag `homeostat.run`, so registering may be killed between any two
steps and repeated.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import msgspec

from homeostat.core.clock import from_ns
from homeostat.core.errors import NotFound, Unavailable
from homeostat.core.version import NewVersion, Version

RUN = "homeostat.run"
DIGEST = "homeostat.digest"
RECORD = "version.json"
GATES = "gates.json"
SERVABLE = "servable"
WITHIN = 2
"""How deep the folder of the servables lies in a project: `.homeostat/artifacts`."""

# what MLflow keeps of a parameter and of a tag; the exact values are in version.json
_PARAM, _TAG, _BATCH = 6000, 5000, 100


class MlflowRegistry:
    """The Registry port on an MLflow store.

    tracking_uri: `sqlite:///...`, `postgresql://...` or `http(s)://...`. artifacts: folder for
    the servables when the store is a database (a server decides itself where they go), and for
    local copies of what a server keeps elsewhere. Nothing is opened before it is used.
    Every method raises Unavailable when the store does not answer.
    """

    def __init__(self, tracking_uri: str, artifacts: Path) -> None:
        # the driver that this project brings; SQLAlchemy's default is another
        dialect, separator, rest = tracking_uri.partition("://")
        if dialect in ("postgresql", "postgres"):
            dialect = "postgresql+psycopg"
        self._uri = f"{dialect}{separator}{rest}"
        self._artifacts = artifacts

    def register(self, new: NewVersion) -> Version:
        """Raises NotFound or Damaged when `new.folder` is not the servable of `new.digest`."""
        with self._store(new.model):
            registered = self._registered(new.model, new.run)
            if registered is None:
                from homeostat.registry.check import check_servable

                check_servable(Path(new.folder), new.digest)
                run = self._run(new)
                self._log(run, new)
                registered = self._create_version(new, run)
            self._finish(registered.run_id)
            return self._read(registered)

    def get(self, model: str, version: str) -> Version:
        with self._store(model):
            return self._read(self._find(model, version))

    def versions(self, model: str) -> list[Version]:
        with self._store(model):
            found = [v for v in self._search(f"name = {_quoted(model)}") if RUN in v.tags]
            return [self._read(v) for v in sorted(found, key=lambda v: int(v.version))]

    def set_alias(self, model: str, alias: str, version: str | None) -> None:
        with self._store(model):
            if version is not None:
                self._find(model, version)
                self._client.set_registered_model_alias(model, alias, version)
            elif alias in self._aliases(model):
                self._client.delete_registered_model_alias(model, alias)

    def aliases(self, model: str) -> dict[str, str]:
        with self._store(model):
            return self._aliases(model)

    # -- the steps of a registration; each looks first whether it has been done ---------------

    def _run(self, new: NewVersion) -> Any:
        experiment = self._experiment(new.model)
        query = f"tags.`{RUN}` = {_quoted(new.run)}"
        runs = self._client.search_runs([experiment], query, order_by=["start_time ASC"])
        if runs:
            return runs[0]
        return self._client.create_run(experiment, run_name=new.run, tags={RUN: new.run})

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is not None:
            self._not_moved(found.artifact_location, self._artifacts / name)
            return str(found.experiment_id)
        location = None if self._is_server else (self._artifacts.resolve() / name).as_uri()
        try:
            return str(self._client.create_experiment(name, artifact_location=location))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return self._experiment(name)  # somebody else made it since we looked

    def _log(self, run: Any, new: NewVersion) -> None:
        from mlflow.entities import Metric, Param, RunTag

        identity, at = run.info.run_id, run.info.start_time
        # a metric logged twice would be two points of a curve
        fresh = {k: v for k, v in new.metrics.items() if k not in run.data.metrics}
        tags = {DIGEST: new.digest, **new.tags}
        for some in _chunks([Metric(k, v, at, 0) for k, v in fresh.items()]):
            self._client.log_batch(identity, metrics=some)
        for some in _chunks([Param(k, v[:_PARAM]) for k, v in new.params.items()]):
            self._client.log_batch(identity, params=some)
        for some in _chunks([RunTag(k, v[:_TAG]) for k, v in tags.items()]):
            self._client.log_batch(identity, tags=some)
        self._client.log_artifacts(identity, new.folder, SERVABLE)
        self._log_text(identity, RECORD, new)
        if new.gates is not None:
            self._log_text(identity, GATES, new.gates)

    def _log_text(self, run: str, name: str, value: Any) -> None:
        text = msgspec.json.format(msgspec.json.encode(value)).decode()
        self._client.log_text(run, text, name)

    def _create_version(self, new: NewVersion, run: Any) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(new.model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return self._client.create_model_version(
            new.model,
            source=f"{run.info.artifact_uri}/{SERVABLE}",
            run_id=run.info.run_id,
            tags={RUN: new.run, DIGEST: new.digest},
        )

    def _finish(self, run: str) -> None:
        if self._client.get_run(run).info.status != "FINISHED":
            self._client.set_terminated(run)

    # -- reading ------------------------------------------------------------------------------

    def _registered(self, model: str, run: str) -> Any | None:
        found = self._search(f"name = {_quoted(model)} AND tags.`{RUN}` = {_quoted(run)}")
        return min(found, key=lambda v: int(v.version), default=None)

    def _search(self, query: str) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = self._client.search_model_versions(query, max_results=1000, page_token=token)
            found += page
            token = page.token
            if not token:
                return found

    def _find(self, model: str, version: str) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            if version.isdecimal():
                return self._client.get_model_version(model, version)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        raise NotFound(f"{model} has no version {version!r}", remedy="homeostat status")

    def _aliases(self, model: str) -> dict[str, str]:
        from mlflow.exceptions import MlflowException

        try:
            found = self._client.get_registered_model(model).aliases
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return {}
        return {str(alias): str(version) for alias, version in found.items()}

    def _read(self, found: Any) -> Version:
        folder = self._folder(found)
        record = msgspec.json.decode((folder / RECORD).read_bytes(), type=NewVersion)
        fields = msgspec.structs.asdict(record)
        del fields["folder"]
        return Version(
            **fields,
            version=str(found.version),
            created=from_ns(found.creation_timestamp * 1_000_000),
            path=str(folder / SERVABLE),
        )

    def _folder(self, found: Any) -> Path:
        """Local folder with the artifacts of a version; fetched once when they are elsewhere."""
        source = urlparse(found.source)
        if source.scheme in ("file", ""):
            folder = Path(unquote(source.path)).parent
            if (folder / RECORD).exists():
                return folder
        run = self._artifacts / found.name / str(found.run_id)
        self._not_moved(found.source, run / "artifacts" / SERVABLE)
        copy = self._artifacts.resolve() / "fetched" / str(found.run_id)
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(dir=copy.parent, prefix=".partial-"))
            try:
                self._client.download_artifacts(found.run_id, SERVABLE, str(partial))
                self._client.download_artifacts(found.run_id, RECORD, str(partial))
                os.replace(partial, copy)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        return copy

    def _not_moved(self, location: str, here: Path) -> None:
        """Raises Unavailable where files are not at their location, but at our place: MLflow keeps
        whole paths, and would read nothing and write somewhere else."""
        source, ours = urlparse(location), here.resolve()
        before = Path(unquote(source.path))
        if source.scheme not in ("file", "") or before.exists() or not ours.exists():
            return
        project = WITHIN + len(ours.relative_to(self._artifacts.resolve()).parts) - 1
        raise Unavailable(
            "the project was moved, and MLflow knows its files by where they were",
            path=str(before),
            remedy="move it back, or let its former place lead here: "
            f"ln -s {ours.parents[project]} {before.parents[project]}",
        )

    # -- the store ----------------------------------------------------------------------------

    @property
    def _is_server(self) -> bool:
        return urlparse(self._uri).scheme in ("http", "https")

    @cached_property
    def _client(self) -> Any:
        quiet()
        from mlflow import MlflowClient

        quiet()  # importing it sets its loggers up

        if self._uri.startswith("sqlite:///"):
            _make_whole(Path(self._uri.removeprefix("sqlite:///")))
        elif not self._is_server:
            _answers(self._uri)
        return MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)

    @contextmanager
    def _store(self, model: str) -> Iterator[None]:
        """Turns what MLflow raises into our errors."""
        with warnings.catch_warnings():
            # MLflow 3.17 on SQLAlchemy 2.1 and Pydantic; nothing that a user could act on
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", category=FutureWarning)
            warnings.filterwarnings("ignore", message=".*noload.*")
            try:
                yield
            except Exception as error:
                if not isinstance(error, _store_errors()):
                    raise  # ours, or a mistake in this module
                reason = next(iter(str(error).splitlines()), type(error).__name__)
                raise Unavailable(
                    f"the registry could not be used for {model!r}",
                    path=_without_password(self._uri),
                    found=reason[:300],
                    remedy=_remedy(self._uri, reason),
                ) from error


def quiet() -> None:
    """MLflow without telemetry, progress bars, banners or minutes of retries. What the user has
    set in the environment stands; errors and warnings are shown as before."""
    for name, value in {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
        "GIT_PYTHON_REFRESH": "quiet",
    }.items():
        os.environ.setdefault(name, value)
    for name, level in {
        "alembic": logging.WARNING,
        "mlflow": logging.WARNING,
        # it logs with a traceback what it then raises, and we tell in one line
        "mlflow.store.db.utils": logging.CRITICAL,
    }.items():
        logging.getLogger(name).setLevel(level)


def _make_whole(path: Path) -> None:
    """A new SQLite store appears with all of its tables or not at all. MLflow makes them in some
    seconds of steps that it cannot repeat: a crash or a full disk among them would leave a file
    that no run can ever use again."""
    if path.exists():
        return
    import sqlalchemy
    from mlflow.store.db.utils import _initialize_tables

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".mlflow-") as folder:
        engine = sqlalchemy.create_engine(f"sqlite:///{folder}/new.db")
        try:
            _initialize_tables(engine)
        finally:
            engine.dispose()
        with suppress(FileExistsError):  # somebody else made it since we looked
            os.link(f"{folder}/new.db", path)


def _answers(uri: str) -> None:
    """Raises SQLAlchemyError at once, where MLflow would try again for over a minute."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri, connect_args={"connect_timeout": 5})
    try:
        engine.connect().close()
    finally:
        engine.dispose()


def _store_errors() -> tuple[type[Exception], ...]:
    """What MLflow raises when its store, its server or a disk fails."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, RequestException, SQLAlchemyError, OSError


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _chunks(items: list[Any]) -> Iterator[list[Any]]:
    for at in range(0, len(items), _BATCH):
        yield items[at : at + _BATCH]


def _without_password(uri: str) -> str:
    password = urlparse(uri).password
    return uri.replace(f":{password}@", ":***@") if password else uri


def _remedy(uri: str, reason: str) -> str:
    if "locked" in reason:
        return "another process holds the database: end it, or try again"
    if uri.startswith("http"):
        return "see that the MLflow server runs and MLFLOW_TRACKING_URI names it, then try again"
    if uri.startswith("sqlite"):
        return "see that the file is a database of this MLflow and its disk can be written to"
    return "see that the database runs and MLFLOW_TRACKING_URI names it, then try again"
