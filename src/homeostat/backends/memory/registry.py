"""A registry in memory; the servables are copied into a folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from homeostat.core.errors import NotFound
from homeostat.core.version import NewVersion, Version
from homeostat.registry.check import check_servable


class MemoryRegistry:
    """The Registry port for tests and rehearsals. now: tells the time of registration."""

    def __init__(self, folder: Path, now: Callable[[], datetime] | None = None) -> None:
        self._folder = folder
        self._now = now or (lambda: datetime(1970, 1, 1, tzinfo=UTC))
        self._versions: dict[str, list[Version]] = {}
        self._aliases: dict[str, dict[str, str]] = {}

    def register(self, new: NewVersion) -> Version:
        versions = self._versions.setdefault(new.model, [])
        for version in versions:
            if version.run == new.run:
                return version
        check_servable(Path(new.folder), new.digest)
        number = str(len(versions) + 1)
        path = self._folder / new.model / number
        shutil.copytree(new.folder, path, dirs_exist_ok=True)
        fields = msgspec.structs.asdict(new)
        del fields["folder"]
        version = Version(**fields, version=number, created=self._now(), path=str(path))
        versions.append(version)
        return version

    def get(self, model: str, version: str) -> Version:
        for found in self._versions.get(model, []):
            if found.version == version:
                return found
        raise NotFound(f"{model} has no version {version!r}")

    def versions(self, model: str) -> list[Version]:
        return list(self._versions.get(model, []))

    def set_alias(self, model: str, alias: str, version: str | None) -> None:
        aliases = self._aliases.setdefault(model, {})
        if version is None:
            aliases.pop(alias, None)
        else:
            aliases[alias] = self.get(model, version).version

    def aliases(self, model: str) -> dict[str, str]:
        return dict(self._aliases.get(model, {}))
