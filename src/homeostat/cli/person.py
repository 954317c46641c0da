"""Who gives a command."""

from __future__ import annotations

import getpass
import os
from typing import Annotated

import typer

By = Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who decides (default: you).")]


def person() -> str:
    """The name of whoever runs the command."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"user {os.getuid()}"
