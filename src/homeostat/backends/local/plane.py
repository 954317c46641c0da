"""The data plane on this machine: routes, status and gauges are files in the home folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from homeostat.core.errors import BadInput, Damaged, Unavailable
from homeostat.core.ports import Gauge, Observed
from homeostat.core.route import Route
from homeostat.serving.layout import Layout, write_atomically
from homeostat.serving.status import living

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


class LocalDataPlane:
    """Implements `core.ports.DataPlane` for the workers of `homeostat.serving`.

    Workers notice a published route within about 50 ms. Raises Unavailable when the disk is full.
    """

    def __init__(self, home: Path) -> None:
        self._layout = Layout(home).make()

    def publish(self, route: Route) -> None:
        """Raises BadInput for a name that cannot be part of a URL, Damaged when what was published
        before cannot be read (it might be newer)."""
        if not _NAME.fullmatch(route.model):
            raise BadInput(
                "unusable model name",
                expected="letters, digits, `.`, `_`, `-`",
                found=repr(route.model),
            )
        path = self._layout.route(route.model)
        content = msgspec.json.encode(route)
        try:
            former = path.read_bytes()
        except FileNotFoundError:
            former = None
        if former == content:
            return
        if former is not None and _generation(path, former) > route.generation:
            return
        self._write(path, content)

    def published(self, model: str) -> Route | None:
        """The route in the file; None when there is none. Raises Damaged."""
        path = self._layout.route(model)
        try:
            return msgspec.json.decode(path.read_bytes(), type=Route)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise _damaged(path, error) from error

    def observed(self, model: str) -> Observed:
        workers = living(self._layout)
        failures: dict[str, str] = {}
        for worker in workers:
            failures.update(worker.failures.get(model, {}))
        generations = [worker.generation.get(model, -1) for worker in workers]
        return Observed(min(generations, default=-1), len(workers), failures)

    def show(self, gauges: Sequence[Gauge]) -> None:
        self._write(self._layout.gauges, msgspec.json.encode(list(gauges)))

    @staticmethod
    def _write(path: Path, content: bytes) -> None:
        try:
            write_atomically(path, content)
        except OSError as error:
            raise Unavailable("cannot write", path=str(path), found=str(error)) from error


def _generation(path: Path, content: bytes) -> int:
    try:
        return msgspec.json.decode(content, type=Route).generation
    except msgspec.DecodeError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> Damaged:
    return Damaged(
        "the published route cannot be read",
        path=str(path),
        found=str(error),
        remedy="remove the file; the loop publishes it again",
    )
