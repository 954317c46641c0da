"""What every test may use: real servers, the shared data, one way to draw examples."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings

from homeostat.testing import services

# the same examples on every run: a test that fails here fails for the next person too
settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
# HYPOTHESIS_PROFILE=explore draws new ones, and more of them
settings.register_profile("explore", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# before anything loads OpenMP: threads that wait by spinning take the cores from each other's work,
# and from the servers under test; on two cores boosting is five times slower for it
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

T = TypeVar("T")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A real PostgreSQL, one for the session; skipped where no server is installed."""
    with ExitStack() as stack:
        yield _started(stack, services.postgres())


@pytest.fixture(scope="session")
def s3() -> Iterator[services.S3]:
    """A real S3 server, one for the session; make a bucket of your own in it."""
    with ExitStack() as stack:
        yield _started(stack, services.s3())


def _started(stack: ExitStack, service: AbstractContextManager[T]) -> T:
    """`make test` installs the servers: in CI a missing one is an error, elsewhere a skip."""
    try:
        return stack.enter_context(service)
    except services.NotInstalled as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with `transactions.parquet`: HOMEOSTAT_SHARED_DATA, or `../shared/data`."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("HOMEOSTAT_SHARED_DATA", beside))
    if not (folder / "transactions.parquet").is_file():
        pytest.skip(f"no transactions.parquet in {folder}; set HOMEOSTAT_SHARED_DATA")
    return folder
