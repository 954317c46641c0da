"""What must hold after every turn, told by an observer that shares no code with what it watches:
it reads the raw events and the answers that callers got."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import polars as pl

from homeostat.core.events import Recorded
from homeostat.core.route import Route


class Broken(Exception):
    """A law does not hold."""

    def __init__(self, law: str, what: str) -> None:
        self.law, self.what = law, what
        super().__init__(f"{law}: {what}")


class Observer:
    """Follows the stream and the traffic.

    era: grows whenever the world changes. harmful: whether a candidate does much harm compared
    with a champion in the present era; then only a person may promote it.
    """

    def __init__(self, era: Callable[[], int], harmful: Callable[[str, str], bool]) -> None:
        self.era, self.harmful = era, harmful
        self.started_in = 0
        self.seq = 0
        self.champion: str | None = None
        self.live: dict[str, Any] | None = None
        self.step = -1
        self.percent = 0.0
        self.paused = False
        self.ended: list[tuple[str, str, str]] = []  # rollout, candidate, how
        self.generation = -1
        self._needs_champion: str | None = None

    # -- what was decided ----------------------------------------------------------------------

    def follow(self, records: list[Recorded]) -> None:
        """records: what was appended since the last call."""
        for record in records:
            require("the log has no gaps", record.seq == self.seq + 1, f"seq {record.seq}")
            self.seq = record.seq
            body = json.loads(record.body)
            if self._needs_champion is not None:
                found = body.get("version") if record.type == "champion.changed" else None
                told = f"{self._needs_champion} was promoted, then came {record.type} {found}"
                require("a promotion changes the champion", found == self._needs_champion, told)
                self._needs_champion = None
            self._event(record.type, body)

    def _event(self, kind: str, body: dict[str, Any]) -> None:
        if kind == "champion.changed":
            self.champion = body["version"]
        if not kind.startswith("rollout."):
            return
        if kind == "rollout.started":
            law = "never two rollouts of one model"
            require(law, self.live is None, f"{body['rollout']} started during {self.live}")
            self.live, self.step, self.percent, self.paused = body, -1, 0.0, False
            self.started_in = self.era()
            return
        live = self.live
        if live is None or body["rollout"] != live["rollout"]:
            raise Broken("only a live rollout moves", f"{kind} of {body['rollout']}")
        if kind == "rollout.stepped":
            self._stepped(live, body)
        elif kind == "rollout.paused":
            self.paused = True
        elif kind == "rollout.resumed":
            self.paused = False
        elif kind == "rollout.promoted":
            self._promoted(live, body)
        elif kind == "rollout.rolled_back":
            self._end(live, "rolled back")

    def _stepped(self, live: dict[str, Any], body: dict[str, Any]) -> None:
        steps = live["plan"]["steps"]
        told = f"from step {self.step} to step {body['step']}"
        require("no step is skipped or taken twice", body["step"] == self.step + 1, told)
        require("the plan says the percent", body["percent"] == steps[body["step"]], str(body))
        require("a paused rollout does not move", not self.paused, told)
        if body["step"] > 0:
            self._evidence(live, body, f"step {body['step']} of {live['rollout']}")
        self.step, self.percent = body["step"], body["percent"]

    def _promoted(self, live: dict[str, Any], body: dict[str, Any]) -> None:
        name = live["candidate"]
        require("the candidate is what is promoted", body["candidate"] == name, str(body))
        if body["by"] == "policy":
            self._evidence(live, body, f"promotion of {name}")
            law = "promoted only after the last step"
            require(law, self.percent == 100, f"{name} at {self.percent} %")
            # evidence from before a change speaks for what was right before it
            harm = self.started_in == self.era() and self.harmful(name, live["champion"])
            require("harm is not promoted", not harm, f"version {name}")
        self._end(live, "promoted" if body["by"] == "policy" else "promoted by hand")
        self._needs_champion = name

    def _evidence(self, live: dict[str, Any], body: dict[str, Any], what: str) -> None:
        declared = {g for g, spec in live["plan"]["guards"].items() if spec is not None}
        verdicts = body.get("verdicts", [])
        passed = {v["check"] for v in verdicts if v["outcome"] == "pass" and v.get("n", 0) > 0}
        law = "no step and no promotion without evidence"
        require(law, bool(declared) and declared <= passed, f"{what} on {sorted(passed)}")

    def _end(self, live: dict[str, Any], how: str) -> None:
        self.ended.append((live["rollout"], live["candidate"], how))
        self.live, self.step, self.percent, self.paused = None, -1, 0.0, False

    # -- what is done --------------------------------------------------------------------------

    def route(self, route: Route | None, *, settled: bool) -> None:
        """settled: a whole turn went well since the last event."""
        if route is None:
            require("a champion serves", not settled or self.champion is None, "no route")
            return
        total = sum(route.weights().values())
        require("weights sum to 100", abs(total - 100) < 1e-9, f"{route.weights()}")
        law = "routes do not go back"
        require(law, route.generation >= self.generation, f"{route.generation}")
        self.generation = route.generation
        if not settled:
            return
        wanted = {self.champion: 100.0}
        if self.live is not None:
            wanted = {self.live["champion"]: 100.0 - self.percent}
            wanted[self.live["candidate"]] = self.percent
        shown = {v: w for v, w in route.weights().items() if w > 0}
        asked = {v: w for v, w in wanted.items() if w > 0}
        require("the traffic is split as decided", shown == asked, f"{shown}, not {asked}")

    def answers(self, answered: pl.DataFrame, *, settled: bool) -> None:
        """answered: log records of what callers got."""
        versions = set(answered["version"].to_list())
        law = "every request is answered"
        require(law, "" not in versions or self.generation < 0, f"{answered.height} requests")
        if not settled or self.champion is None:
            return
        allowed = {self.champion}
        if self.live is not None:
            allowed = {self.live["champion"]} | (
                {self.live["candidate"]} if self.percent else set()
            )
        law = "after a rollback no traffic reaches the candidate"
        require(law, versions <= allowed, f"{sorted(versions)} answered, {sorted(allowed)} may")


def require(law: str, holds: bool, what: str) -> None:
    if not holds:
        raise Broken(law, what)
