"""The whole declared project: YAML in, frozen typed objects out, cross-checks between stages.

find_root(dir)  -> the project's folder, upwards from here
load(root)      -> Project, or BadDefinition with every mistake
check(root)     -> Report: every mistake and warning, the named functions imported too
schema()        -> the published JSON Schema of homeostat.yaml
"""

from __future__ import annotations

from homeostat.definition.document import FILE, find_root
from homeostat.definition.functions import code_digest, load_function
from homeostat.definition.load import Report, check, definition_digest, load
from homeostat.definition.mistakes import Mistake
from homeostat.definition.project import Project, RetrainingSpec, Schedule, Trigger
from homeostat.definition.schema import schema

__all__ = [
    "FILE",
    "Mistake",
    "Project",
    "Report",
    "RetrainingSpec",
    "Schedule",
    "Trigger",
    "check",
    "code_digest",
    "definition_digest",
    "find_root",
    "load",
    "load_function",
    "schema",
]
