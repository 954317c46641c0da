"""The repository extension: which versions there are, and models taken in and out of memory.

The route says what is served; loading and unloading only says whether it is in memory, for all
workers of the home folder.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

import msgspec

from homeostat.core.errors import BadInput, Unavailable
from homeostat.serving.routes import Routes

PATIENCE = 60.0
"""Seconds that a caller waits at most until a model is there or gone."""
LOOK = 0.01
_UNDERSTOOD = frozenset({"unload_dependents"})


class _Index(msgspec.Struct):
    ready: bool = False


class _Change(msgspec.Struct):
    parameters: dict[str, Any] = {}


_read_index = msgspec.json.Decoder(_Index).decode
_read_change = msgspec.json.Decoder(_Change).decode


def read_index(body: bytes) -> bool:
    """-> whether only ready versions are wanted. Raises BadInput."""
    try:
        return _read_index(body or b"{}").ready
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput("not a request", expected='{"ready": true}', found=str(error)) from error


def read_change(body: bytes) -> None:
    """Raises BadInput: a model is loaded as it was registered, and in no other way."""
    try:
        given = set(_read_change(body or b"{}").parameters)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput("not a request", expected="{}", found=str(error)) from error
    check_parameters(given)


def check_parameters(given: set[str]) -> None:
    if unknown := sorted(given - _UNDERSTOOD):
        raise BadInput(
            "a model is loaded as it was registered",
            path="$.parameters",
            expected="none",
            found=", ".join(unknown),
        )


def index(routes: Routes, *, ready: bool = False) -> list[dict[str, str]]:
    """Every version of every route with its state (READY, LOADING, UNAVAILABLE) and the reason;
    ready: only those that answer."""
    return [
        {
            "name": entry.name,
            "version": entry.version,
            "state": entry.state,
            "reason": entry.reason,
        }
        for entry in routes.index()
        if entry.state == "READY" or not ready
    ]


async def load(routes: Routes, model: str) -> None:
    """Return once this worker answers for the model; the others follow within moments. Raises
    NotFound; Unavailable: it cannot be loaded, or somebody unloaded it meanwhile."""
    try:
        routes.load(model)
    except OSError as error:
        raise Unavailable(f"{model} cannot be loaded", found=str(error)) from error
    deadline = perf_counter() + PATIENCE
    while (served := routes.find(model)) is None or served.champion is None:
        if routes.is_marked(model):
            raise Unavailable(f"{model} was unloaded again while it was loaded")
        if not routes.is_unloaded(model) and (why := routes.failures.get(model)):
            raise Unavailable(f"{model} cannot be loaded", found="; ".join(why.values()))
        if served is not None or perf_counter() > deadline:
            raise Unavailable(f"no version of {model} is ready")
        await asyncio.sleep(LOOK)


async def unload(routes: Routes, model: str) -> None:
    """Return once this worker has let go of the model; the others follow within moments. Raises
    NotFound; Unavailable: it cannot be unloaded, or somebody loaded it meanwhile."""
    try:
        routes.unload(model)
    except OSError as error:
        raise Unavailable(f"{model} cannot be unloaded", found=str(error)) from error
    deadline = perf_counter() + PATIENCE
    while model in routes.models or not routes.is_unloaded(model):
        if not routes.is_marked(model):
            raise Unavailable(f"{model} was loaded again while it was unloaded")
        if perf_counter() > deadline:
            raise Unavailable(f"{model} is still in memory")
        await asyncio.sleep(LOOK)
