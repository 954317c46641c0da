"""Follow the route files: load what is new off the event loop, then swap in one step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter

import msgspec

from homeostat.core.errors import HomeostatError, NotFound
from homeostat.core.names import Arm
from homeostat.core.route import Assignment, Route, Servable, assigner, shadows
from homeostat.core.servable import Format
from homeostat.serving.codec import v2_prefix
from homeostat.serving.layout import Layout, write_atomically
from homeostat.serving.residents import Entry, Usage, surplus
from homeostat.serving.runtime import SAFE, LoadedModel, load

_logger = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds until a version that could not be loaded is tried again."""


class Served:
    """A route with everything that answers it. Never changed, only replaced: a request that
    holds one keeps its models until it is answered."""

    def __init__(self, route: Route, loaded: dict[Servable, LoadedModel]) -> None:
        self.route, self.model, self.sticky = route, route.model, route.sticky
        self.champion = loaded[route.champion] if route.champion else None
        present = [loaded[s] for s in route.servables()]
        self.versions = {m.version: m for m in reversed(present)}
        self.prefixes = {v: v2_prefix(route.model, v) for v in self.versions}
        names = {name for m in present for name in m.inputs}
        if route.sticky:
            names.add(route.sticky)
        self.names = frozenset(names)
        self.order = self.champion.inputs if self.champion else ()
        self.where = {name: i for i, name in enumerate(self.order)}
        self.used = 0.0  # when it was last asked for, by `perf_counter`
        self.memory = sum(m.memory for m in present)
        self.paired = any(c.paired > 0 for c in route.challengers)
        self.widths = {m: m.width for m in present if m.plain and m.inputs == self.order}
        # who answers a key, as `core.route.assign` has it (only where there is a champion): one
        # object per version and way to get it, and the engine scores together what shares it
        self.assign = assigner(route, lambda one: (self._loaded(one), one))
        self._named = {v: self._name(m) for v, m in self.versions.items()}

    def _loaded(self, assigned: Assignment) -> LoadedModel:
        if assigned.arm is Arm.CHAMPION and self.champion is not None:
            return self.champion
        return self.versions[assigned.version]

    def named(self, version: str) -> tuple[LoadedModel, Assignment]:
        """The version that was asked for by name; the draw had no part in it."""
        return self._named[version]

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

    A model of which nothing is in memory is parked: because the others needed the room
    (`budget`, bytes; 0: no limit), and then it is loaded when somebody asks for it; or because
    somebody unloaded it, in all workers of the home folder, until somebody loads it.
    """

    def __init__(
        self,
        layout: Layout,
        changed: Callable[[], None],
        *,
        budget: int = 0,
        formats: Collection[Format] = SAFE,
    ) -> None:
        self.models: dict[str, Served] = {}
        self.parked: dict[str, Route] = {}
        self.generations: dict[str, int] = {}
        self.failures: dict[str, dict[str, str]] = {}
        self.known: set[str] = set()
        self._layout, self._folder, self._changed = layout, layout.routes, changed
        self._budget, self._formats = budget, formats
        self._blind = ""  # why the folders could not be read
        self._unloaded: set[str] = set()
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
        try:
            self._look()
            self._look_for_unloaded()
            self._blind = ""
        except OSError as error:  # out of file handles, say: what is served stays, look again
            if str(error) != self._blind:
                _logger.error("the routes cannot be read: %s", error)
            self._blind = str(error)
        for model, future in list(self._loading.items()):
            if future.done():
                del self._loading[model]
                self._finish(model, future, now)
        for model, route in list(self._wanted.items()):
            if model not in self._loading and now >= self._retry.get(model, now):
                self._start(model, route)
        usage = {name: Usage(served.memory, served.used) for name, served in self.models.items()}
        for model in surplus(usage, self._budget):
            _logger.info("model %s leaves the memory to others", model)
            self._park(model)
            if self._retry.pop(model, None) is not None:
                # what failed is tried again when somebody asks, or it would drive others out
                self.parked[model] = self._wanted.pop(model)

    def find(self, model: str) -> Served | None:
        """What is served under a name; what is parked is loaded, and there after a moment."""
        served = self.models.get(model)
        if served is None:
            route = self.parked.get(model)
            if route is not None and model not in self._unloaded:
                self._wanted.setdefault(model, route)
        return served

    def load(self, model: str) -> None:
        """Let all workers serve it again. Raises NotFound; OSError."""
        self._check(model)
        self._layout.unloaded(model).unlink(missing_ok=True)

    def unload(self, model: str) -> None:
        """Take it out of the memory of all workers, until `load`. Raises NotFound; OSError."""
        self._check(model)
        write_atomically(self._layout.unloaded(model), b"")

    def is_unloaded(self, model: str) -> bool:
        """Somebody took it out of service: no request brings it back."""
        return model in self._unloaded

    def is_marked(self, model: str) -> bool:
        """What `is_unloaded` will say once `poll` has looked: the last one who asked decides."""
        return self._layout.unloaded(model).exists()

    def index(self) -> list[Entry]:
        """Every version of every route, and the state it is in."""
        return [
            self._entry(name, servable)
            for name in sorted(self.known)
            for servable in self._route(name).servables()
        ]

    def _route(self, name: str) -> Route:
        served = self.models.get(name)
        found = served.route if served else self._wanted.get(name) or self.parked.get(name)
        return found or Route(name, 0, None)

    def _entry(self, name: str, servable: Servable) -> Entry:
        served, version = self.models.get(name), servable.version
        if served is not None and version in served.versions:
            return Entry(name, version, "READY", memory=served.versions[version].memory)
        why = self.failures.get(name, {}).get(version)
        if why is not None:
            return Entry(name, version, "UNAVAILABLE", why)
        if name in self._unloaded:
            return Entry(name, version, "UNAVAILABLE", "unloaded")
        if name in self._wanted:
            return Entry(name, version, "LOADING")
        return Entry(name, version, "UNAVAILABLE", "not in memory: loaded when it is asked for")

    def _check(self, model: str) -> None:
        if model not in self.known:
            names = ", ".join(sorted(self.known))
            raise NotFound(f"no model {model!r}", expected=f"one of: {names}" if names else None)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

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
            except OSError as error:  # it may be read the next time
                self._fail(model, {"route": f"{path.name} cannot be read: {error}"})
                continue
            except (msgspec.DecodeError, ValueError) as error:
                self._seen[model] = mark
                self._fail(model, {"route": f"{path.name} cannot be read: {error}"})
                continue
            self._seen[model] = mark
            self.known.add(model)
            if route.generation >= self.generations.get(model, -1):
                self._wanted[model] = route
                self._retry.pop(model, None)

    def _look_for_unloaded(self) -> None:
        marked = {path.stem for path in self._layout.unloads.glob("*.unloaded")}
        if marked == self._unloaded:
            return
        for model in self._unloaded - marked:
            if model in self.parked:
                self._wanted.setdefault(model, self.parked[model])
        self._unloaded = marked
        for model in marked & self.models.keys():
            self._park(model)

    def _park(self, model: str) -> None:
        """Requests in flight end on what they hold; then the memory is free."""
        self.parked[model] = self.models.pop(model).route
        self._changed()

    def _start(self, model: str, route: Route) -> None:
        if model in self._unloaded:
            self.parked[model] = route
            self._done(route)
            return
        ready = self._present(model)
        if all(s in ready for s in route.servables()):
            # nothing to load: a rollback or a new share is applied at once
            self._apply(route, ready)
            return
        self._loading[model] = self._thread.submit(_load, route, ready, self._formats)

    def _finish(self, model: str, future: Future[Outcome], now: float) -> None:
        route, loaded, failures = future.result()
        if self._wanted.get(model) is not route or model in self._unloaded:
            return  # a newer route arrived meanwhile, or somebody unloaded it: `_start` sees to it
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
            self._serve(alone, loaded)
            self._changed()

    def _apply(self, route: Route, loaded: dict[Servable, LoadedModel]) -> None:
        self._serve(route, loaded)
        self._done(route)

    def _serve(self, route: Route, loaded: dict[Servable, LoadedModel]) -> None:
        self.models[route.model] = made = Served(route, loaded)
        made.used = perf_counter()
        self.parked.pop(route.model, None)

    def _done(self, route: Route) -> None:
        model = route.model
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


def _load(route: Route, ready: dict[Servable, LoadedModel], formats: Collection[Format]) -> Outcome:
    """In a thread: load what a route needs and is not there yet."""
    loaded, failures = dict(ready), {}
    for servable in route.servables():
        if servable not in loaded:
            try:
                loaded[servable] = load(servable, formats)
            except HomeostatError as error:
                failures[servable.version] = str(error)
            except Exception as error:  # noqa: BLE001 - whatever it is, the other models go on
                failures[servable.version] = f"{servable.path}: {type(error).__name__}: {error}"
    return route, loaded, failures
