"""Follow the route files: load what is new off the event loop, then swap in one step."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec

from homeostat.core.errors import HomeostatError
from homeostat.core.names import Arm
from homeostat.core.route import Assignment, Route, Servable, assign, shadows
from homeostat.serving.codec import v2_prefix
from homeostat.serving.runtime import LoadedModel, load

_logger = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds until a version that could not be loaded is tried again."""


class Served:
    """A route with everything that answers it. Never changed, only replaced: a request that
    holds one keeps its models until it is answered."""

    def __init__(self, route: Route, loaded: dict[Servable, LoadedModel]) -> None:
        self.route, self.model = route, route.model
        self.champion = loaded[route.champion] if route.champion else None
        present = [loaded[s] for s in route.servables()]
        self.versions = {m.version: m for m in reversed(present)}
        self.prefixes = {v: v2_prefix(route.model, v) for v in self.versions}
        names = {name for m in present for name in m.inputs}
        if route.sticky:
            names.add(route.sticky)
        self.names = frozenset(names)
        self.order = self.champion.inputs if self.champion else ()
        # one object per version and way to get it: the engine scores together what shares it
        self._drawn: dict[str, tuple[LoadedModel, Assignment]] = {}
        self._named = {v: self._name(m) for v, m in self.versions.items()}

    def assign(self, key: str) -> tuple[LoadedModel, Assignment] | None:
        """Who answers this key; None when nobody does."""
        chosen = assign(self.route, key)
        if chosen is None or self.champion is None:
            return None
        found = self._drawn.get(chosen.version)
        if found is None or found[1].arm is not chosen.arm:
            champion = chosen.arm is Arm.CHAMPION
            found = self.champion if champion else self.versions[chosen.version], chosen
            self._drawn[chosen.version] = found
        return found

    def named(self, version: str) -> tuple[LoadedModel, Assignment] | None:
        """The version that was asked for by name; the draw had no part in it."""
        return self._named.get(version)

    def _name(self, model: LoadedModel) -> tuple[LoadedModel, Assignment]:
        arm = Arm.CHAMPION if model is self.champion else Arm.CANARY
        return model, Assignment(model.version, arm, 1.0)

    def shadows(self, model: LoadedModel, id: str) -> list[LoadedModel]:
        """The versions that score request `id` in pairs with `model`, which answered it."""
        return [self.versions[s.version] for s in shadows(self.route, model.version, id)]


Outcome = tuple[Route, dict[Servable, LoadedModel], dict[str, str]]


class Routes:
    """The routes in force. `models`: name -> what is served; `known`: every name with a route.

    Call `poll(now)` from the event loop every few tens of milliseconds. A route is applied once
    every version in it can answer; until then, and when one cannot, the former one stays.
    """

    def __init__(self, folder: Path, changed: Callable[[], None]) -> None:
        self.models: dict[str, Served] = {}
        self.generations: dict[str, int] = {}
        self.failures: dict[str, dict[str, str]] = {}
        self.known: set[str] = set()
        self._folder, self._changed = folder, changed
        self._seen: dict[str, tuple[int, int, int]] = {}
        self._wanted: dict[str, Route] = {}
        self._retry: dict[str, float] = {}
        self._loading: dict[str, Future[Outcome]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="models")

    @property
    def settled(self) -> bool:
        """Every route that was found has been applied, or has failed."""
        return not self._loading and not (self._wanted.keys() - self._retry.keys())

    def poll(self, now: float) -> None:
        """Notice changes, finish and start loads. now: monotonic seconds."""
        self._look()
        for model, future in list(self._loading.items()):
            if future.done():
                del self._loading[model]
                self._finish(model, future, now)
        for model, route in list(self._wanted.items()):
            if model not in self._loading and now >= self._retry.get(model, now):
                self._start(model, route)

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _look(self) -> None:
        for path in self._folder.glob("*.json"):
            model = path.stem
            if model.startswith("."):
                continue
            try:
                stat = path.stat()
                mark = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
                if self._seen.get(model) == mark:
                    continue
                route = msgspec.json.decode(path.read_bytes(), type=Route)
                if route.model != model:
                    raise ValueError(f"the file is for {model!r}, the route for {route.model!r}")
            except FileNotFoundError:
                continue
            except (msgspec.DecodeError, ValueError, OSError) as error:
                self._seen[model] = mark
                self._fail(model, {"route": f"{path.name} cannot be read: {error}"})
                continue
            self._seen[model] = mark
            self.known.add(model)
            if route.generation >= self.generations.get(model, -1):
                self._wanted[model] = route
                self._retry.pop(model, None)

    def _start(self, model: str, route: Route) -> None:
        ready = self._present(model)
        if all(s in ready for s in route.servables()):
            # nothing to load: a rollback or a new share is applied at once
            self._apply(route, ready)
            return
        self._loading[model] = self._thread.submit(_load, route, ready)

    def _finish(self, model: str, future: Future[Outcome], now: float) -> None:
        route, loaded, failures = future.result()
        if self._wanted.get(model) is not route:
            return  # a newer route arrived meanwhile
        if not failures:
            self._apply(route, loaded)
            return
        self._fail(model, failures)
        self._retry[model] = now + RETRY
        if model not in self.models and route.champion in loaded:
            # nothing was served before: the champion alone is better than nobody
            alone = Route.split(
                model, route.generation, route.champion, (), salt=route.salt, sticky=route.sticky
            )
            self.models[model] = Served(alone, loaded)

    def _apply(self, route: Route, loaded: dict[Servable, LoadedModel]) -> None:
        model = route.model
        self.models[model] = Served(route, loaded)
        self.generations[model] = route.generation
        self.failures.pop(model, None)
        self._wanted.pop(model, None)
        self._retry.pop(model, None)
        self._changed()

    def _fail(self, model: str, failures: dict[str, str]) -> None:
        if self.failures.get(model) != failures:
            for version, why in failures.items():
                _logger.error("model %s, version %s: %s", model, version, why)
            self.failures[model] = failures
            self._changed()

    def _present(self, model: str) -> dict[Servable, LoadedModel]:
        served = self.models.get(model)
        return {m.servable: m for m in served.versions.values()} if served else {}


def _load(route: Route, ready: dict[Servable, LoadedModel]) -> Outcome:
    """In a thread: load what a route needs and is not there yet."""
    loaded, failures = dict(ready), {}
    for servable in route.servables():
        if servable not in loaded:
            try:
                loaded[servable] = load(servable)
            except HomeostatError as error:
                failures[servable.version] = str(error)
            except OSError as error:
                failures[servable.version] = f"{servable.path}: {error}"
    return route, loaded, failures
