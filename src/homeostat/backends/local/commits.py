"""What was committed to a Delta table since: its log, read without opening the table.

Commit N of a table is the file `_delta_log/<N in 20 digits>.json`, one action a line; commits are
numbered without gaps and appear whole (Delta transaction log protocol). So whether there is
anything new is one look at one file name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec


def is_latest(table: Path, version: int) -> bool:
    """Whether nothing was committed after `version` (-1: whether there is no table)."""
    if version < 0:
        return not (table / "_delta_log").is_dir()
    # a log that was cleaned up begins with later commits: then nobody can tell
    return not _commit(table, version + 1).exists() and _commit(table, version).exists()


def added(table: Path, after: int) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Each commit after a version, and the files whose rows came with it (`add` actions, their
    path as the file system has it): what compaction joined is not among them. Raises
    FileNotFoundError when the log does not reach back so far."""
    if after >= 0:
        _commit(table, after).stat()
    version = after + 1
    while (path := _commit(table, version)).exists():
        actions = [msgspec.json.decode(line) for line in path.read_bytes().splitlines() if line]
        adds = [a["add"] for a in actions if "add" in a]
        yield version, [a | {"path": unquote(a["path"])} for a in adds if a["dataChange"]]
        version += 1


def _commit(table: Path, version: int) -> Path:
    return table / "_delta_log" / f"{version:020}.json"
