"""What must hold after every turn, told by an observer that shares no code with what it watches:
it reads the raw events and the answers that callers got."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
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
    with a champion in the present era; then only a person may promote it. frozen: whether nothing
    may advance at a time.
    """

    def __init__(
        self,
        era: Callable[[], int],
        harmful: Callable[[str, str], bool],
        frozen: Callable[[datetime], bool] = lambda at: False,
    ) -> None:
        self.era, self.harmful, self.frozen = era, harmful, frozen
        self.started_in = 0
        self.seq = 0
        self.champion: str | None = None
        self.live: dict[str, Any] | None = None
        self.step = -1
        self.percent = 0.0
        self.paused = False
        self.tried: list[str] = []
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
            self._event(record.type, body, record.at)

    def _event(self, kind: str, body: dict[str, Any], at: datetime) -> None:
        if kind == "champion.changed":
            self.champion = body["version"]
        if not kind.startswith("rollout."):
            return
        if kind == "rollout.started":
            law = "never two rollouts of one model"
            require(law, self.live is None, f"{body['rollout']} started during {self.live}")
            self.live, self.step, self.percent, self.paused = body, -1, 0.0, False
            self.tried = body.get("candidates") or [body["candidate"]]
            self.started_in = self.era()
            return
        live = self.live
        if live is None or body["rollout"] != live["rollout"]:
            raise Broken("only a live rollout moves", f"{kind} of {body['rollout']}")
        advances = kind == "rollout.stepped" or kind == "rollout.promoted"
        if advances and body.get("by", "policy") == "policy":
            require("nothing advances in a freeze", not self.frozen(at), f"{kind} at {at}")
        if kind == "rollout.stepped":
            self._stepped(live, body)
        elif kind == "rollout.retired":
            require("only what is tried is retired", body["candidate"] in self.tried, str(body))
            self.tried = [v for v in self.tried if v != body["candidate"]]
        elif kind == "rollout.paused":
            self.paused = True
        elif kind == "rollout.resumed":
            self.paused = False
        elif kind == "rollout.promoted":
            self._promoted(live, body)
        elif kind == "rollout.rolled_back":
            self._end(live, "rolled back")

    def _stepped(self, live: dict[str, Any], body: dict[str, Any]) -> None:
        steps = _steps(live)
        told = f"from step {self.step} to step {body['step']}"
        require("no step is skipped or taken twice", body["step"] == self.step + 1, told)
        require("there is such a step", body["step"] < len(steps), told)
        right = abs(body["percent"] - steps[body["step"]]) < 1e-9
        require("the plan says the percent", right, str(body))
        require("a paused rollout does not move", not self.paused, told)
        if body["step"] > 0:
            self._evidence(live, body, f"step {body['step']} of {live['rollout']}")
        elif live["plan"]["strategy"] in ("shadow", "blue_green"):
            passed = [v["check"] for v in body["verdicts"] if v["outcome"] == "pass"]
            require("the shadow has to pass", "quality" in passed, str(body))
        self.step, self.percent = body["step"], body["percent"]

    def _promoted(self, live: dict[str, Any], body: dict[str, Any]) -> None:
        name = body["candidate"]
        experiment = live["plan"]["strategy"] == "experiment"
        allowed = self.tried if body["by"] == "policy" else [*_all(live)]
        require("a candidate is what is promoted", name in allowed, str(body))
        if body["by"] == "policy":
            self._evidence(live, body, f"promotion of {name}")
            law = "promoted only after the last step"
            last = self.step >= 0 if experiment else self.percent == 100
            require(law, last, f"{name} at {self.percent} %")
            if experiment:
                (high,) = [v.get("high", 1.0) for v in body["verdicts"] if v["check"] == "quality"]
                require("only what is better wins an experiment", high < 0, f"{name}: {high}")
            # evidence from before a change speaks for what was right before it
            harm = self.started_in == self.era() and self.harmful(name, live["champion"])
            require("harm is not promoted", not harm, f"version {name}")
        self._end(live, "promoted" if body["by"] == "policy" else "promoted by hand", name)
        self._needs_champion = name

    def _evidence(self, live: dict[str, Any], body: dict[str, Any], what: str) -> None:
        declared = {g for g, spec in live["plan"]["guards"].items() if spec is not None}
        verdicts = body.get("verdicts", [])
        passed = {v["check"] for v in verdicts if v["outcome"] == "pass" and v.get("n", 0) > 0}
        law = "no step and no promotion without evidence"
        require(law, bool(declared) and declared <= passed, f"{what} on {sorted(passed)}")

    def _end(self, live: dict[str, Any], how: str, version: str = "") -> None:
        self.ended.append((live["rollout"], version or live["candidate"], how))
        self.live, self.step, self.percent, self.paused = None, -1, 0.0, False
        self.tried = []

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
            wanted = {self.live["champion"]: 100.0 - len(self.tried) * self.percent}
            wanted |= dict.fromkeys(self.tried, self.percent)
        shown = {v: round(w, 6) for v, w in route.weights().items() if w > 1e-9}
        asked = {v: round(w, 6) for v, w in wanted.items() if w > 1e-9}
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
            allowed = {self.live["champion"]} | (set(self.tried) if self.percent else set())
        law = "after a rollback no traffic reaches the candidate"
        require(law, versions <= allowed, f"{sorted(versions)} answered, {sorted(allowed)} may")


def _all(live: dict[str, Any]) -> list[str]:
    return list(live.get("candidates") or [live["candidate"]])


def _steps(live: dict[str, Any]) -> list[float]:
    """The shares that the declared strategy gives a candidate, in order."""
    plan = live["plan"]
    match plan["strategy"]:
        case "blue_green":
            return [100.0]
        case "dark":
            return []
        case "experiment":
            return [100.0 / (len(_all(live)) + 1)]
        case _:
            return list(plan["steps"])


def require(law: str, holds: bool, what: str) -> None:
    if not holds:
        raise Broken(law, what)
