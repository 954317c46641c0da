"""Homeostat keeps models true while the world moves.

ingest -> transform -> validate -> train -> evaluate (gates) -> register -> roll out -> serve
   ^                                                                  |            |
   |                                          canary 10>25>50>75>100, shadow       |
   |                                                                               v
   +---- retrain (admitted, budgeted) <---- decide <---- monitor (drift, quality, latency, errors)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from homeostat.app import open_project as open_project
    from homeostat.control.history import history as history
    from homeostat.control.platform import Platform as Platform
    from homeostat.control.status import status as status
    from homeostat.control.tick import Controller as Controller
    from homeostat.core.clock import ScaledClock as ScaledClock
    from homeostat.core.duration import Duration as Duration
    from homeostat.core.errors import BadDefinition as BadDefinition
    from homeostat.core.errors import BadInput as BadInput
    from homeostat.core.errors import HomeostatError as HomeostatError
    from homeostat.core.errors import Refused as Refused
    from homeostat.core.errors import Unavailable as Unavailable
    from homeostat.core.metrics import Estimate as Estimate
    from homeostat.core.metrics import measure as measure
    from homeostat.core.route import Route as Route
    from homeostat.core.verdict import Outcome as Outcome
    from homeostat.core.verdict import Verdict as Verdict
    from homeostat.core.version import Version as Version
    from homeostat.definition import Project as Project
    from homeostat.definition import check as check
    from homeostat.definition import load as load
    from homeostat.monitoring.report.report import drift as drift
    from homeostat.training.fit import TrainingSet as TrainingSet

__version__ = "0.1.0"

# read when first asked for: a serving worker imports this package and needs none of them
_HOMES = {
    "BadDefinition": "homeostat.core.errors",
    "BadInput": "homeostat.core.errors",
    "Controller": "homeostat.control.tick",
    "Duration": "homeostat.core.duration",
    "Estimate": "homeostat.core.metrics",
    "HomeostatError": "homeostat.core.errors",
    "Outcome": "homeostat.core.verdict",
    "Platform": "homeostat.control.platform",
    "Project": "homeostat.definition",
    "Refused": "homeostat.core.errors",
    "Route": "homeostat.core.route",
    "ScaledClock": "homeostat.core.clock",
    "TrainingSet": "homeostat.training.fit",
    "Unavailable": "homeostat.core.errors",
    "Verdict": "homeostat.core.verdict",
    "Version": "homeostat.core.version",
    "check": "homeostat.definition",
    "drift": "homeostat.monitoring.report.report",
    "history": "homeostat.control.history",
    "load": "homeostat.definition",
    "measure": "homeostat.core.metrics",
    "open_project": "homeostat.app",
    "status": "homeostat.control.status",
}

__all__ = [*sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
