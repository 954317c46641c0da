"""The `serving:` section."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from homeostat.core.duration import Duration, default
from homeostat.core.names import Format

BODIES = 256 * 1024 * 1024
Count = Annotated[int, Meta(ge=1)]


class Replicas(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """On one machine `min` (bounded by the cores) is the number of workers."""

    min: Count = 1
    max: Count = 1


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    cpu: Annotated[int, Meta(ge=1, le=100)] = 70


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Requests a second; what comes beyond is refused with 429 (0: no limit).

    per_second: in all, a part of it in each worker. per_client: from one address, in each worker.
    """

    per_second: Annotated[float, Meta(ge=0)] = 0.0
    per_client: Annotated[float, Meta(ge=0)] = 0.0


class ServingSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """concurrency: requests in flight per replica before others are shed (0: no limit).
    sticky: the feature that keeps a caller on one version when no key header is sent.
    formats: what models may be read. ONNX cannot run code; `skops` (scikit-learn's types only) and
        `pyfunc` (MLflow's, any code) have to be listed to be loaded.
    memory: megabytes of models that a worker keeps loaded (0: no limit); the model that was asked
        for least recently is unloaded, and loaded again when it is asked for.
    explore: share of the requests at or above the threshold that are let through all the same,
        so that their true outcome becomes known (drawn from a hash of the id, and logged).
    max_rows, max_body: larger requests are refused with 413 (body in bytes).
    max_bodies: of all bodies that a worker holds at a time; beyond it some are refused with 503.
    seal: how long a segment of the prediction log stays open before it becomes Parquet."""

    replicas: Replicas = Replicas()
    target: Target = Target()
    concurrency: Annotated[int, Meta(ge=0)] = 0
    limit: Limit = Limit()
    sticky: str | None = None
    formats: tuple[Format, ...] = ("onnx",)
    memory: Annotated[int, Meta(ge=0)] = 0
    explore: Annotated[float, Meta(ge=0, le=1)] = 0.0
    max_rows: Count = 10_000
    max_body: Count = 16 * 1024 * 1024
    max_bodies: Count = BODIES
    seal: Duration = default("60s")

    def __post_init__(self) -> None:
        if self.max_bodies < self.max_body:
            raise ValueError(
                f"max_bodies ({self.max_bodies}) is less than max_body ({self.max_body}): nothing "
                "as large as that could come in"
            )
