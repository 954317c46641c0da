"""A model version: the noun that training makes, the registry keeps and serving loads."""

from __future__ import annotations

from datetime import datetime

import msgspec

from homeostat.core.route import Servable
from homeostat.core.verdict import Verdict

MADE_OF = (
    ("data", "snapshot"),
    ("raw data", "raw"),
    ("transform code", "code"),
    ("fit code", "fit_code"),
    ("definition", "definition"),
    ("environment", "environment"),
    ("git commit", "git_commit"),
    ("trained on", "train_period"),
    ("tested on", "test_period"),
    ("model file", "file"),
)
"""What a version was made of: how people call it, and the lineage tag that holds it."""


class NewVersion(msgspec.Struct, frozen=True):
    """What is handed to the registry.

    run: the pipeline run that made it; registering the same run twice gives the same version.
    folder: the servable (see `homeostat.training.export`), copied by the registry.
    metrics: on the test set. params: as given to `fit`.
    tags: lineage: snapshot, definition, code, environment, champion_at_training, ...
    gates: the evidence on which it was let through.
    """

    model: str
    run: str
    folder: str
    digest: str
    metrics: dict[str, float]
    params: dict[str, str]
    tags: dict[str, str]
    gates: Verdict | None = None


class Version(msgspec.Struct, frozen=True):
    """What the registry remembers. version: "1", "2", ...; path: folder of the servable."""

    model: str
    version: str
    run: str
    created: datetime
    path: str
    digest: str
    metrics: dict[str, float]
    params: dict[str, str]
    tags: dict[str, str]
    gates: Verdict | None = None

    def servable(self) -> Servable:
        return Servable(self.version, self.path, self.digest)
