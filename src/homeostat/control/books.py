"""What is on record of a project: enough to say how things stand, and quick to open."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from homeostat.core.clock import Clock
from homeostat.core.ports import DataPlane, EventStore, Registry
from homeostat.definition import Project


@dataclass(frozen=True)
class Books:
    """root: the project's folder; home: its `.homeostat`."""

    project: Project
    root: Path
    home: Path
    clock: Clock
    events: EventStore
    registry: Registry
    plane: DataPlane

    @property
    def stream(self) -> str:
        """The model's name: one stream of events holds all that was decided about it."""
        return self.project.name
