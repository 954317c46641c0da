"""The demo, as a command: where it plays, and whether the loop closed."""

from __future__ import annotations

import sys
from pathlib import Path

from homeostat.cli.output import document
from homeostat.core.errors import BadInput
from homeostat.definition.mistakes import did_you_mean, one_of

LOG = "run.log"  # what every demo writes first


def play(act: str, folder: Path, *, seed: int, picture: Path | None, as_json: bool) -> int:
    """0 when the loop closed, 1 when it did not. Raises BadInput, Unavailable."""
    from rich.console import Console

    from homeostat.demo.run import run
    from homeostat.demo.story import Act

    acts = [a.value for a in Act]
    if act not in acts:
        raise BadInput(f"no act `{act}`", expected=one_of(acts), remedy=did_you_mean(act, acts))
    _ours(folder)
    console = Console(stderr=as_json)
    if not console.is_terminal:
        console = Console(file=sys.stderr if as_json else sys.stdout, width=120)
    facts = run(folder, act=Act(act), seed=seed, console=console, picture=picture)
    if as_json:
        document(facts)
    return 0 if facts.closed else 1


def _ours(folder: Path) -> None:
    """The demo empties its folder; it must be one of its own, or nothing is lost by it."""
    if not folder.exists():
        return
    theirs = not folder.is_dir() or any(folder.iterdir())
    if theirs and not (folder / LOG).exists():
        raise BadInput(
            f"{folder} holds something that is not the demo's",
            expected="a new or an empty folder",
            remedy="name another with --folder",
        )
